"""Each damage of the field: the guard that names it, and that nothing else would have."""

from __future__ import annotations

import pytest

from swarmrun.merging import guards
from swarmrun.merging.guards import bodies, names, testcases, texts
from swarmrun.merging.guards.files import GUARDS, inspect
from swarmrun.merging.guards.finding import Versions

BASE = '''import os


def total(items):
    """Sum."""
    result = 0
    for item in items:
        result += item.price
    return result


def label(item):
    return os.path.join(item.kind, item.name)


def test_total():
    assert total([]) == 0
    assert total([item(1)]) == 1
    assert total([item(1), item(2)]) == 3
'''
OURS = BASE.replace("result = 0", "result = start()").replace(
    "import os\n", "import os\nfrom a import start, item\n"
)
OURS += "\n\ndef ours_new(a):\n    b = a + 1\n    return b\n"
THEIRS = BASE.replace("return os.path.join(item.kind, item.name)", "return item.kind.lower()")
THEIRS = THEIRS.replace("import os\n", "import os\nfrom b import item\n")
RIGHT = OURS.replace("return os.path.join(item.kind, item.name)", "return item.kind.lower()")


def versions(result: str | bytes, path: str = "tests/test_m.py") -> Versions:
    data = result.encode() if isinstance(result, str) else result
    return Versions(path, BASE.encode(), OURS.encode(), THEIRS.encode(), data)


DAMAGE = [
    (texts.markers, "conflict-marker", RIGHT.replace("def label", "<<<<<<< ours\n>>>>>>> theirs\ndef label")),
    (texts.parses, "parse", RIGHT.replace("def label(item):", "def label(item:")),
    (texts.one_parent, "one-parent", THEIRS.replace("def label", "def label")),
    (names.missing, "missing-symbol", RIGHT[: RIGHT.index("\n\ndef ours_new")] + "\n"),
    (names.duplicates, "duplicate", RIGHT + "\n\ndef label(item):\n    return item.kind.lower()\n"),
    (names.undefined, "undefined-name", RIGHT.replace("from a import start, item", "from a import item")),
    (names.stubbed, "stub", RIGHT.replace("    return item.kind.lower()", "    pass  # TODO")),
    (
        bodies.shrunk,
        "body-shrunk",
        RIGHT.replace(
            "    result = start()\n    for item in items:\n        result += item.price\n    return result",
            "    return start(items)",
        ),
    ),
    (
        testcases.weakened,
        "test-skipped",
        RIGHT.replace("def test_total", "@pytest.mark.skip\ndef test_total"),
    ),
    (
        testcases.weakened,
        "test-emptied",
        RIGHT.replace(
            "    assert total([]) == 0\n    assert total([item(1)]) == 1\n    assert total([item(1), item(2)]) == 3",
            "    total([])\n    total([item(1)])\n    return",
        ),
    ),
    (
        testcases.weakened,
        "test-loosened",
        RIGHT.replace(
            "    assert total([]) == 0\n    assert total([item(1)]) == 1\n",
            "    total([])\n    total([item(1)])\n",
        ),
    ),
]


def test_the_right_resolution_passes():
    assert [f for f in inspect(versions(RIGHT)) if f.severity == "hard"] == []


@pytest.mark.parametrize(("guard", "kind", "damaged"), DAMAGE, ids=[kind for _, kind, _ in DAMAGE])
def test_each_damage_is_found_by_its_guard_and_passes_without_it(guard, kind, damaged):
    hard = {f.kind for f in inspect(versions(damaged)) if f.severity == "hard"}
    assert kind in hard
    others = [g for g in GUARDS if g is not guard]
    assert kind not in {f.kind for f in inspect(versions(damaged), others)}


def test_messages_name_the_place_and_end_with_the_next_action():
    for _, kind, damaged in DAMAGE:
        (first, *_) = [f for f in inspect(versions(damaged)) if f.kind == kind]
        assert first.message.startswith("tests/test_m.py")
        assert first.message.rstrip().endswith(".")


def test_a_deleted_test_is_hard():
    damaged = RIGHT[: RIGHT.index("def test_total")] + RIGHT[RIGHT.index("def ours_new") :]
    assert "test-deleted" in {f.kind for f in inspect(versions(damaged)) if f.severity == "hard"}


def test_an_assertion_that_accepts_any_exception_is_hard():
    strict = RIGHT + "\n\ndef test_x():\n    with pytest.raises(KeyError):\n        total(1)\n"
    loose = strict.replace("KeyError", "Exception")
    v = Versions("test_m.py", strict.encode(), strict.encode() + b"a = 1\n", strict.encode(), loose.encode())
    assert "test-loosened" in {f.kind for f in inspect(v)}


def test_lines_that_all_three_held_and_a_lost_hunk_escalate():
    findings = inspect(
        versions(
            RIGHT.replace(
                "    for item in items:\n        result += item.price\n",
                "    result += sum(items)\n    result += 0\n",
            )
        )
    )
    assert {f.severity for f in findings if f.kind == "lines-vanished"} == {"escalate"}


def test_a_renamed_function_is_not_missing():
    renamed = RIGHT.replace("def ours_new(", "def better_name(")
    assert "missing-symbol" not in {f.kind for f in inspect(versions(renamed))}


def test_a_side_that_only_changed_white_space_does_not_make_one_parent():
    v = Versions("m.py", b"a = 1\nb = 2\n", b"a = 1\nb = 3\n", b"a = 1\n\nb  =  2\n", b"a = 1\nb = 3\n")
    assert inspect(v) == []


TYPESCRIPT = "export function f(a: number): number {\n  const b = a + 1;\n  log(b);\n  return b;\n}\n"


def test_typescript_and_go_stubs_missing_symbols_and_skipped_tests_are_found():
    stub = 'export function f(a: number): number {\n  throw new Error("not implemented");\n}\n'
    ours, theirs = TYPESCRIPT + "const x = 1;\n", TYPESCRIPT + "export class K {}\n"
    found = inspect(Versions("m.ts", TYPESCRIPT.encode(), ours.encode(), theirs.encode(), stub.encode()))
    assert {"stub", "missing-symbol"} <= {f.kind for f in found}
    go = b"package x\n\nfunc F() int {\n\ta := 1\n\treturn a\n}\n"
    bad = b'package x\n\nfunc F() int {\n\tpanic("not implemented")\n}\n'
    assert "stub" in {f.kind for f in inspect(Versions("m.go", go, go + b"// a\n", go + b"// b\n", bad))}
    test = b'it("adds", () => {\n  expect(add(1, 2)).toBe(3);\n});\n'
    skipped = test.replace(b"it(", b"it.skip(")
    kinds = {f.kind for f in inspect(Versions("m.test.ts", test, test + b"//a\n", test + b"//b\n", skipped))}
    assert "test-skipped" in kinds


# ---------------------------------------------------------------- trees


def test_a_clean_result_over_the_whole_tree_has_no_findings(repo):
    base = repo.commit({"m.py": BASE, "n.py": "x = 1\n"})
    ours, theirs = repo.commit({"m.py": OURS}, base), repo.commit({"m.py": THEIRS, "n.py": "x = 2\n"}, base)
    result = repo.commit({"m.py": RIGHT, "n.py": "x = 2\n"}, ours, theirs)
    found = guards.check(repo.path, result, ours=ours, theirs=theirs)
    # Two imports of one name cannot both stay: that is asked about, not stopped.
    assert [(f.kind, f.severity) for f in found] == [("hunk-lost", "escalate")]


def test_a_file_that_is_gone_from_the_result_is_hard_unless_it_is_allowed(repo):
    base = repo.commit({"m.py": BASE, "n.py": "x = 1\n", "gone.py": "y = 1\n"})
    ours, theirs = repo.commit({"new.py": "z = 1\n"}, base), repo.commit({"gone.py": None}, base)
    result = repo.commit({"n.py": None, "new.py": None, "gone.py": None}, ours, theirs)
    found = {f.path: f.severity for f in guards.check(repo.path, result, ours=ours, theirs=theirs)}
    assert found == {"n.py": "hard", "new.py": "hard"}
    allowed = guards.check(repo.path, result, ours=ours, theirs=theirs, allowed_deletions=["n.py", "new.py"])
    assert allowed == []


def test_a_restored_side_is_found_in_the_committed_tree(repo):
    base = repo.commit({"m.py": BASE})
    ours, theirs = repo.commit({"m.py": OURS}, base), repo.commit({"m.py": THEIRS}, base)
    result = repo.commit({}, ours, theirs)
    assert "one-parent" in {f.kind for f in guards.check(repo.path, result, ours=ours, theirs=theirs)}


def test_a_function_that_moved_to_another_file_is_not_missing(repo):
    base = repo.commit({"m.py": BASE})
    ours, theirs = repo.commit({"m.py": OURS}, base), repo.commit({"m.py": THEIRS}, base)
    moved = RIGHT[RIGHT.index("def ours_new") :].replace("b = a + 1", "b = 1 + a")
    left = RIGHT[: RIGHT.index("\n\ndef ours_new")] + "\n"
    result = repo.commit({"m.py": left, "n.py": moved}, ours, theirs)
    assert [
        f for f in guards.check(repo.path, result, ours=ours, theirs=theirs) if f.severity == "hard"
    ] == []


def test_a_rename_of_one_side_is_compared_with_the_file_it_was(repo):
    base = repo.commit({"old.py": BASE})
    ours = repo.commit({"old.py": None, "new.py": BASE}, base)
    theirs = repo.commit({"old.py": THEIRS}, base)
    right = repo.commit({"new.py": THEIRS}, ours, theirs)
    assert [f for f in guards.check(repo.path, right, ours=ours, theirs=theirs) if f.severity == "hard"] == []


def test_files_merged_already_are_locked(repo):
    base = repo.commit({"m.py": BASE, "n.py": "x = 1\n"})
    edited = repo.commit({"m.py": RIGHT, "n.py": "x = 2\n"}, base)
    (finding,) = guards.locked_changed(repo.path, base, edited, ["m.py"])
    assert (finding.path, finding.severity) == ("n.py", "hard")


# ---------------------------------------------------------------- branches and rounds


def test_an_agents_clean_branch_has_no_findings(repo):
    base = repo.commit({"app/m.py": BASE})
    head = repo.commit({"app/m.py": OURS}, base)
    assert guards.check_branch(repo.path, base, head, owned=["app/"]) == []


def test_paths_of_other_tasks_are_hard_and_nobodys_paths_escalate(repo):
    base = repo.commit({"app/m.py": BASE, "lib/n.py": "x = 1\n", "README.md": "r\n"})
    head = repo.commit({"lib/n.py": "x = 2\n", "README.md": "q\n"}, base)
    found = guards.check_branch(repo.path, base, head, owned=["app/**/*.py"], others={"t2": ["lib"]})
    assert {f.path: f.severity for f in found if f.kind == "ownership"} == {
        "lib/n.py": "hard",
        "README.md": "escalate",
    }
    assert "task t2" in found[0].message


def test_a_scaffold_stub_left_in_ones_own_paths_is_hard(repo):
    stub = "def f(a):\n    raise NotImplementedError\n"
    scaffold = repo.commit({"a/m.py": stub, "b/m.py": stub})
    head = repo.commit({"a/n.py": "x = 1\n"}, scaffold)
    found = guards.check_branch(repo.path, scaffold, head, owned=["a/"], scaffold=scaffold)
    assert [(f.kind, f.path, f.severity) for f in found] == [("scaffold-stub", "a/m.py", "hard")]


def test_weakening_tests_that_are_not_ones_own_is_hard_and_changing_ones_own_is_not(repo):
    test = "def test_a():\n    assert f() == 1\n    assert g() == 2\n"
    base = repo.commit({"tests/test_a.py": test, "m.py": "x = 1\n"})
    head = repo.commit(
        {"tests/test_a.py": test.replace("def", "@pytest.mark.skip\ndef"), "m.py": "x = 2\n"}, base
    )
    kinds = {
        f.kind for f in guards.check_branch(repo.path, base, head, owned=["m.py"]) if f.severity == "hard"
    }
    assert kinds == {"test-skipped"}
    assert guards.check_branch(repo.path, base, head, owned=["m.py", "tests/"]) == []


def test_a_fixers_round_may_not_delete_or_weaken_tests_or_stub_code_out(repo):
    test = "def test_a():\n    assert f() == 1\n\n\ndef test_b():\n    assert f() == 2\n"
    before = repo.commit({"tests/test_a.py": test, "m.py": "def f():\n    a = 1\n    return a\n"})
    after = repo.commit(
        {"tests/test_a.py": test[: test.index("\n\ndef test_b")], "m.py": "def f():\n    return None\n"},
        before,
    )
    kinds = {f.kind for f in guards.check_round(repo.path, before, after) if f.severity == "hard"}
    assert kinds == {"test-deleted", "stub"}
    gone = repo.commit({"tests/test_a.py": None}, before)
    assert [f.kind for f in guards.check_round(repo.path, before, gone)] == ["test-deleted"]


def test_a_test_file_that_moved_unchanged_is_not_deleted(repo):
    test = "def test_a():\n    assert f() == 1\n"
    before = repo.commit({"tests/test_a.py": test})
    after = repo.commit({"tests/test_a.py": None, "tests/unit/test_a.py": test}, before)
    assert guards.check_round(repo.path, before, after) == []


def test_junk_secrets_and_broken_files_are_told(repo):
    base = repo.commit({"m.py": "x = 1\n"})
    head = repo.commit(
        {
            "a/__pycache__/m.pyc": b"\0\1",
            "big.txt": b"x" * 1_000_001,
            "key.py": "KEY = 'AKIA" + "A" * 16 + "'\n",
            "bad.py": "def f(:\n",
            "left.py": "<<<<<<< HEAD\nx = 1\n=======\n>>>>>>> x\n",
        },
        base,
    )
    found = {(f.path, f.kind): f.severity for f in guards.check_branch(repo.path, base, head)}
    assert found["a/__pycache__/m.pyc", "junk"] == "escalate"
    assert found["big.txt", "junk"] == "escalate"
    assert found["key.py", "secret"] == "escalate"
    assert found["bad.py", "parse"] == "hard"
    assert found["left.py", "conflict-marker"] == "hard"


def test_a_new_function_of_only_pass_escalates_and_a_replaced_body_is_hard(repo):
    base = repo.commit({"m.py": "def f():\n    a = 1\n    return a\n"})
    new = repo.commit({"n.py": "def close():\n    pass\n"}, base)
    assert [(f.kind, f.severity) for f in guards.check_branch(repo.path, base, new)] == [("stub", "escalate")]
    emptied = repo.commit({"m.py": "def f():\n    pass\n"}, base)
    assert [(f.kind, f.severity) for f in guards.check_branch(repo.path, base, emptied)] == [("stub", "hard")]
