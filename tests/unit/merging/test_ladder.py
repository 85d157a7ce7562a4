"""The ladder over real commits: every rung, what is left, and what the outcome says."""

from __future__ import annotations

import subprocess

import pytest

from swarmrun.errors import GitError, NotFound
from swarmrun.merging import order
from swarmrun.merging.ladder import Signature, merge

BASE = "import os\n\n\ndef a():\n    return os.sep\n"
ADDS_B = BASE.replace("import os\n", "import os\nimport sys\n") + "\n\ndef b():\n    return sys.path\n"
ADDS_C = BASE.replace("import os\n", "import os\nimport re\n") + "\n\ndef c():\n    return re.compile('')\n"


def test_two_branches_that_add_functions_and_imports_merge_without_a_model(repo):
    base = repo.commit({"m.py": BASE})
    ours, theirs = repo.commit({"m.py": ADDS_B}, base), repo.commit({"m.py": ADDS_C}, base)
    outcome = merge(
        repo.path, ours, theirs, message="Merge t2", author=Signature("n", "e@x", "2024-01-02T03:04:05Z")
    )
    assert outcome.resolved
    assert outcome.how == "Rules"
    text = repo.show(outcome.commit, "m.py").decode()
    assert all(part in text for part in ("import sys", "import re", "def b()", "def c()"))
    assert repo.git("rev-list", "--parents", "-1", outcome.commit).split()[1:] == [ours, theirs]
    assert repo.git("show", "-s", "--format=%an %ct", outcome.commit) == "n 1704164645"


def test_the_same_merge_made_twice_is_the_same_commit(repo):
    base = repo.commit({"m.py": BASE})
    ours, theirs = repo.commit({"m.py": ADDS_B}, base), repo.commit({"m.py": ADDS_C}, base)
    made = {merge(repo.path, ours, theirs, message="m").commit for _ in range(2)}
    assert len(made) == 1


def test_a_conflict_that_is_left_stands_between_markers_and_the_rest_is_merged(repo):
    base = repo.commit({"m.py": "x = 1\n", "n.py": BASE})
    ours = repo.commit({"m.py": "x = compute()\n", "n.py": ADDS_B}, base)
    theirs = repo.commit({"m.py": "x = [other, thing]\n", "n.py": ADDS_C}, base)
    outcome = merge(repo.path, ours, theirs, message="m", labels=("integration", "t2"))
    assert not outcome.resolved
    (conflict,) = outcome.conflicts
    assert (conflict.path, conflict.kind, conflict.base) == ("m.py", "content", b"x = 1\n")
    standing = repo.show(outcome.partial_tree, "m.py")
    assert standing == conflict.partial
    assert b"<<<<<<< integration\n" in standing
    assert b"||||||| base\nx = 1\n" in standing
    assert b">>>>>>> t2\n" in standing
    assert b"def c()" in repo.show(outcome.partial_tree, "n.py")
    assert [r.path for r in outcome.resolutions] == ["n.py"]


def test_what_rules_settle_in_a_conflicting_file_is_noted_for_the_integrator(repo):
    base_text = "a = 1\nb = 2\n\n\nkeep = 1\nkeep = 2\nkeep = 3\n\nx = 1\n"
    base = repo.commit({"m.py": base_text})
    ours = repo.commit({"m.py": base_text.replace("a = 1", "a = 10").replace("x = 1", "x = f(1)")}, base)
    theirs = repo.commit({"m.py": base_text.replace("b = 2", "b = 20").replace("x = 1", "x = g[2]")}, base)
    (conflict,) = merge(repo.path, ours, theirs, message="m").conflicts
    assert conflict.resolved_hunks.startswith("1 of 2 places: adjacent lines")
    assert b"a = 10\nb = 20\n" in conflict.partial


@pytest.mark.parametrize(
    ("ours_files", "theirs_files", "kind"),
    [
        ({"m.py": "x = 2\n"}, {"m.py": None}, "modify/delete"),
        ({"m.py": b"\0one"}, {"m.py": b"\0two"}, "binary"),
    ],
)
def test_conflicts_that_are_not_about_lines_are_told_by_their_kind(repo, ours_files, theirs_files, kind):
    base = repo.commit({"m.py": b"\0base" if kind == "binary" else "x = 1\n", "keep": "k"})
    ours, theirs = repo.commit(ours_files, base), repo.commit(theirs_files, base)
    (conflict,) = merge(repo.path, ours, theirs, message="m").conflicts
    assert conflict.kind == kind


def test_symlinks_and_submodules_in_conflict_are_left_as_they_are(repo):
    base = repo.commit({"l": "a", "s": "1" * 40}, modes={"l": "120000", "s": "160000"})
    ours = repo.commit({"l": "b", "s": "2" * 40}, base, modes={"l": "120000", "s": "160000"})
    theirs = repo.commit({"l": "c", "s": "3" * 40}, base, modes={"l": "120000", "s": "160000"})
    kinds = {c.path: c.kind for c in merge(repo.path, ours, theirs, message="m").conflicts}
    assert kinds == {"l": "symlink", "s": "submodule"}


def test_a_mode_that_one_side_changed_is_kept(repo):
    base = repo.commit({"m.py": BASE})
    ours = repo.commit({"m.py": ADDS_B}, base, modes={"m.py": "100755"})
    theirs = repo.commit({"m.py": ADDS_C}, base)
    outcome = merge(repo.path, ours, theirs, message="m")
    assert repo.git("ls-tree", outcome.commit, "m.py").startswith("100755")


def test_a_file_that_one_side_renamed_takes_the_other_sides_change(repo):
    body = "".join(f"line_{n} = {n}\n" for n in range(30))
    base = repo.commit({"old.py": body})
    ours = repo.commit({"old.py": None, "new.py": body}, base)
    theirs = repo.commit({"old.py": body.replace("line_3 = 3", "line_3 = 33")}, base)
    outcome = merge(repo.path, ours, theirs, message="m")
    assert b"line_3 = 33" in repo.show(outcome.commit, "new.py")


def test_a_deletion_wins_over_a_change_of_white_space(repo):
    base = repo.commit({"m.py": "x = 1\n", "k": "k"})
    ours, theirs = repo.commit({"m.py": "x = 1\n\n"}, base), repo.commit({"m.py": None}, base)
    outcome = merge(repo.path, ours, theirs, message="m")
    assert outcome.resolved
    assert repo.git("ls-tree", "--name-only", outcome.commit) == "k"


def test_a_clean_merge_that_defines_a_name_twice_is_told(repo):
    lines = "".join(f"v{n} = {n}\n" for n in range(20))
    base = repo.commit({"m.py": lines})
    function = "\n\ndef helper():\n    a = 1\n    return a\n\n\n"
    ours = repo.commit({"m.py": function.lstrip("\n") + lines}, base)
    theirs = repo.commit({"m.py": lines + function.replace("1", "2").rstrip("\n") + "\n"}, base)
    outcome = merge(repo.path, ours, theirs, message="m")
    assert outcome.resolved
    assert [f.kind for f in outcome.findings] == ["duplicate"]


def test_crlf_bom_and_latin_1_come_back_as_they_were(repo):
    text = BASE.replace("\n", "\r\n")
    base = repo.commit({"c.py": b"\xef\xbb\xbf" + text.encode(), "l.txt": "ä\nb\nc\n".encode("latin-1")})
    ours = repo.commit(
        {
            "c.py": b"\xef\xbb\xbf" + ADDS_B.replace("\n", "\r\n").encode(),
            "l.txt": "äx\nb\nc\n".encode("latin-1"),
        },
        base,
    )
    theirs = repo.commit(
        {
            "c.py": b"\xef\xbb\xbf" + ADDS_C.replace("\n", "\r\n").encode(),
            "l.txt": "ä\nbö\nc\n".encode("latin-1"),
        },
        base,
    )
    outcome = merge(repo.path, ours, theirs, message="m")
    assert outcome.resolved
    merged = repo.show(outcome.commit, "c.py")
    assert merged.startswith(b"\xef\xbb\xbfimport os\r\n")
    assert merged.count(b"\n") == merged.count(b"\r\n")
    assert repo.show(outcome.commit, "l.txt") == "äx\nbö\nc\n".encode("latin-1")


def test_one_sides_change_of_line_ends_and_the_others_change_of_text_both_stay(repo):
    base = repo.commit({"m.py": "a = 1\nb = 2\nc = 3\n"})
    ours = repo.commit({"m.py": "a = 1\r\nb = 2\r\nc = 3\r\n"}, base)
    theirs = repo.commit({"m.py": "a = 1\nb = 20\nc = 3\n"}, base)
    outcome = merge(repo.path, ours, theirs, message="m")
    assert repo.show(outcome.commit, "m.py") == b"a = 1\r\nb = 20\r\nc = 3\r\n"


def test_hooks_attributes_and_settings_of_the_repository_run_nothing(repo, tmp_path):
    flag = tmp_path / "ran"
    hook = repo.path / "hooks" / "post-merge"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {flag}\n")
    hook.chmod(0o755)
    base = repo.commit({"m.py": BASE, ".gitattributes": "*.py merge=evil filter=evil\n"})
    ours, theirs = repo.commit({"m.py": ADDS_B}, base), repo.commit({"m.py": ADDS_C}, base)
    assert merge(repo.path, ours, theirs, message="m").resolved
    assert not flag.exists()


def test_a_revision_that_is_not_there_is_an_error_with_gits_words(repo, tmp_path):
    base = repo.commit({"m.py": BASE})
    with pytest.raises(GitError):
        merge(repo.path, base, "0" * 40, message="m")
    with pytest.raises(NotFound, match="no repository"):
        merge(tmp_path / "missing", base, base, message="m")


def test_unrelated_histories_merge(repo):
    ours, theirs = repo.commit({"a.py": "a = 1\n"}), repo.commit({"b.py": "b = 1\n"})
    outcome = merge(repo.path, ours, theirs, message="m")
    assert repo.git("ls-tree", "--name-only", outcome.commit).split() == ["a.py", "b.py"]


def test_the_branch_with_the_fewest_conflicts_lands_first_and_ties_follow_the_plan(repo):
    base = repo.commit({"a": "1\n", "b": "1\n", "c": "1\n"})
    heads = {
        "main": base,
        "t1": repo.commit({"a": "2\n", "b": "2\n"}, base),
        "t2": repo.commit({"a": "3\n"}, base),
        "t3": repo.commit({"b": "3\n"}, base),
        "t4": repo.commit({"c": "3\n"}, base),
    }
    matrix = order.predict(repo.path, heads)
    assert matrix.conflicts("t1", "t2") == ("a",)
    assert matrix.conflicts("t2", "t3") == ()
    assert order.order(matrix, "main", ["t1", "t2", "t3", "t4"]) == ["t4", "t2", "t3", "t1"]


def test_pairs_that_were_predicted_before_are_not_merged_again(repo, monkeypatch):
    base = repo.commit({"a": "1\n"})
    heads = {"main": base, "t1": repo.commit({"a": "2\n"}, base)}
    first = order.predict(repo.path, heads)

    def fail(*args: object, **kwargs: object) -> None:
        raise AssertionError("git was asked again")

    monkeypatch.setattr(subprocess, "run", fail)
    assert order.predict(repo.path, heads) == first
