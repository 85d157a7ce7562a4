"""An agent says it is done: what code finds in its tree counts, not what it or its sandbox says."""

from __future__ import annotations

import json

import pytest

from swarmrun.git import trailers
from swarmrun.steps import FINISH, MERGE, Brief, Merge, Merged


@pytest.fixture
def wrote(lab, coder):
    """The coder has written what it was asked for."""
    coder.calls("write_file", path="sums.py", content=lab.SUMS, overwrite=True)
    coder.calls("write_file", path="tests/test_sums.py", content=lab.SUMS_TEST)
    coder.takes_checkpoint()
    return coder


def parents(lab, commit: str) -> list[str]:
    return list(lab.world.repo.parents(commit))


# ---------------------------------------------------------------- tasks


def test_what_holds_is_one_commit_on_the_base_that_says_whose_it_is(lab, wrote):
    end = wrote.finishes("Added add().")
    assert (end.accepted, end.verified, end.problems) == (True, True, [])
    assert parents(lab, end.commit) == [wrote.brief.base]
    message = lab.world.repo.message(end.commit)
    assert message.startswith("Sums\n\nAdded add().")
    marks = trailers.parse(message)
    assert (marks[trailers.RUN], marks[trailers.TASK]) == (lab.run, "sums")
    assert marks[trailers.SPEC_HASH] == lab.world.snapshot.spec_hash
    assert lab.file(end.commit, "sums.py") == lab.SUMS
    assert lab.world.text(end.summary) == "Added add()."


def test_asked_again_after_a_crash_it_says_the_same(lab, wrote):
    end = wrote.finishes()
    lab.another_process()
    assert lab.ok(FINISH, wrote.finish()) == end


def test_a_phantom_is_found_whatever_its_sandbox_claims(lab, coder):
    """The journal says that a file was written, the agent has put a commit on its branch: the diff is empty."""
    coder.calls("exec", command="git commit --allow-empty -q -m 'all done' && echo wrote sums.py")
    server = lab.provider._directory(coder.box.id) / "server"
    journals = [p for p in server.rglob("*") if p.is_file() and "journal" in str(p)]
    assert journals
    for journal in journals:
        journal.write_bytes(journal.read_bytes() + b'{"key": "x", "value": {"changed": true}}\n')
    end = coder.finishes("Everything was written.")
    assert (end.accepted, end.empty) == (False, True)
    assert "Nothing has changed in the work tree" in coder.result()


def test_without_guards_a_phantom_goes_through(lab, coder):
    lab.world.snapshot = lab.world.snapshot.model_copy(update={"guards": False})
    end = coder.finishes("Everything was written.")
    assert (end.accepted, end.commit) == (True, coder.brief.base)


@pytest.mark.parametrize(
    ("path", "content", "problem"),
    [
        ("sums.py", "def add(a: int, b: int) -> int:\n    pass  # TODO\n", "Stubs left"),
        ("sums.py", "def add(a: int, b: int) -> int:\n    raise NotImplementedError\n", "Stubs left"),
        ("sums.py", "def add(a: int, b: int) -> int:\n    return (\n", "Does not parse"),
        ("sums.py", "def add(a: str) -> str:\n    return a\n", "Contracts not kept"),
        ("sums.py", "def add(a: int, b: int) -> int:\n    return a - b\n", "Acceptance not met"),
        ("tests/test_calc.py", "", "Tests or code weakened"),
        ("calc.py", "def one() -> int:\n    return 2\n", "Outside of your paths"),
    ],
)
def test_what_does_not_hold_is_refused_with_what_was_found(lab, wrote, path, content, problem):
    if path == "calc.py":
        # Somebody else's path, by the plan.
        plan = json.loads(json.dumps(lab.PLAN))
        plan["tasks"].append(
            plan["tasks"][0] | {"id": "other", "ownedPaths": ["calc.py"], "provides": [], "title": "Other"}
        )
        wrote.brief = wrote.brief.model_copy(update={"plan": lab.plan(plan)})
    wrote.calls("exec", command=f"cat > {path} <<'X'\n{content}X")
    end = wrote.finishes()
    assert not end.accepted
    assert any(p.startswith(problem) for p in end.problems), end.problems
    assert "Not finished" in wrote.result()


def test_a_failing_test_of_its_own_is_refused_with_its_output(lab, wrote):
    wrote.calls(
        "write_file", path="tests/test_sums.py", content=lab.SUMS_TEST.replace("3", "4"), overwrite=True
    )
    end = wrote.finishes()
    assert [p.partition(":")[0] for p in end.problems] == ["Tests that fail since your change"]
    assert "assert 3 == 4" in wrote.result()


def test_a_test_that_the_base_fails_already_is_not_held_against_it(lab):
    broken = "from calc import one\nimport sums\n\n\ndef test_broken():\n    assert one() == 2\n"
    lab.start({**lab.FILES, "tests/test_broken.py": broken, "sums.py": "x = 1\n"})
    # The run's own gate runs the tests by another name.
    lab.spec(gates=[{"name": "all", "command": "python3 -m pytest -q -rfE -p no:cacheprovider"}])
    ref = lab.box()
    lab.ok(_step("baseline"), {**ref.model_dump(), "commit": lab.base})
    plan = lab.plan()
    agent = lab.agent("coder", "sums", Brief(plan=plan, base=lab.base))
    agent.calls("write_file", path="sums.py", content=lab.SUMS, overwrite=True)
    agent.calls("write_file", path="tests/test_sums.py", content=lab.SUMS_TEST)
    end = agent.finishes()
    assert (end.accepted, end.verified, end.problems) == (True, True, [])


def test_tests_that_use_the_change_through_a_fixture_are_run(lab):
    fixture = "import pytest\nimport sums\n\n\n@pytest.fixture\ndef limit():\n    return sums.limit()\n"
    lab.start(
        {
            **lab.FILES,
            "sums.py": "def limit() -> int:\n    return 1\n",
            "tests/conftest.py": fixture,
            "tests/test_limit.py": "def test_limit(limit):\n    assert limit == 1\n",
        }
    )
    plan = lab.plan()
    agent = lab.agent("coder", "sums", Brief(plan=plan, base=lab.base))
    agent.calls(
        "write_file",
        path="sums.py",
        content=lab.SUMS + "\n\ndef limit() -> int:\n    return 2\n",
        overwrite=True,
    )
    agent.calls("write_file", path="tests/test_sums.py", content=lab.SUMS_TEST)
    end = agent.finishes()
    assert not end.accepted
    assert any("tests/test_limit.py::test_limit" in problem for problem in end.problems), end.problems


def test_a_test_that_reaches_the_scaffold_of_others_is_not_held_against_it(lab):
    whole = "from scales import scale\nfrom sums import add\n\n\ndef test_whole():\n    assert scale(add(1, 2)) == 3\n"
    lab.start({**lab.FILES, "tests/test_whole.py": whole})
    plan = json.loads(json.dumps(lab.PLAN))
    plan["tasks"][1] = plan["tasks"][0] | {"id": "scales", "ownedPaths": ["scales.py"], "provides": ["scale"]}
    plan["contracts"].append(
        {
            "id": "scale",
            "kind": "function",
            "path": "scales.py",
            "declaration": "def scale(a: int) -> int: ...",
        }
    )
    key = lab.plan(plan)
    agent = lab.agent("coder", "sums", Brief(plan=key, base=lab.scaffolded(key)))
    agent.calls("write_file", path="sums.py", content=lab.SUMS, overwrite=True)
    agent.calls("write_file", path="tests/test_sums.py", content=lab.SUMS_TEST)
    end = agent.finishes()
    assert (end.accepted, end.verified, end.problems) == (True, True, [])


def test_the_last_try_goes_on_unverified_with_what_is_left(lab, wrote):
    wrote.calls("exec", command="printf 'def add(a: int, b: int) -> int:\\n    pass\\n' > sums.py")
    first = wrote.finishes()
    assert "can be refused once more" in wrote.result()
    second = wrote.finishes(refusals=1)
    assert "The next finish ends the task" in wrote.result()
    last = wrote.finishes(refusals=2, final=True)
    assert (first.accepted, second.accepted, last.accepted, last.verified) == (False, False, True, False)
    assert last.problems == first.problems
    assert "pass" in lab.file(last.commit, "sums.py")


def test_what_goes_on_unverified_holds_no_change_to_other_tasks_paths(lab):
    lab.start({**lab.FILES, "scales/old.py": "x = 1\n", "scales/kept.py": "y = 1\n"})
    plan = json.loads(json.dumps(lab.PLAN))
    plan["tasks"][1] = plan["tasks"][0] | {
        "id": "scales",
        "ownedPaths": ["scales/"],
        "provides": [],
        "acceptance": [],
    }
    agent = lab.agent("coder", "sums", Brief(plan=lab.plan(plan), base=lab.base))
    agent.calls("write_file", path="sums.py", content=lab.SUMS)
    agent.calls("exec", command="rm -rf scales && ln -s /etc scales && touch nobody.txt")
    end = agent.finishes()
    assert not end.accepted
    last = agent.finishes(refusals=2, final=True)
    assert (last.accepted, last.verified) == (True, False)
    assert last.problems[0].startswith("Left out, since they belong to other tasks: scales")
    assert lab.file(last.commit, "scales/old.py") == "x = 1\n"
    assert lab.file(last.commit, "scales/kept.py") == "y = 1\n"
    assert lab.file(last.commit, "nobody.txt") == ""
    assert lab.file(last.commit, "sums.py") == lab.SUMS


def test_a_finish_that_cannot_be_read_is_told_and_the_last_one_is_looked_at_all_the_same(lab, wrote):
    wrote.says(("finish", {"sumary": "x"}))
    end = wrote.looked_at()
    assert (end.accepted, end.checkpoint) == (False, "")
    assert "summary" in wrote.result()
    wrote.says(("finish", {"sumary": "x"}))
    end = wrote.looked_at(final=True)
    assert (end.accepted, end.verified) == (True, True)


def test_one_that_never_finished_is_looked_at(lab, wrote):
    wrote.turn += 1
    end = wrote.looked_at(-1, final=True)
    assert (end.accepted, end.verified) == (True, True)


def test_an_acceptance_check_that_never_ends_is_killed_and_refused(lab, wrote, monkeypatch):
    monkeypatch.setattr("swarmrun.activities.checks.ACCEPTANCE_SECONDS", 0.5)
    plan = json.loads(json.dumps(lab.PLAN))
    plan["tasks"][0]["acceptance"] = [
        {"description": "Ends.", "command": "echo $$ > /tmp/pid; exec sleep 500"}
    ]
    wrote.brief = wrote.brief.model_copy(update={"plan": lab.plan(plan)})
    end = wrote.finishes()
    assert "timed out" in end.problems[0]
    assert lab.exec(wrote.box, "kill -0 $(cat /tmp/pid) 2>/dev/null && echo alive || echo dead") == "dead\n"


def test_contract_issues_and_what_blocks_it_are_passed_on(lab, wrote):
    issue = {
        "contract": "add",
        "problem": "needs floats",
        "proposal": "def add(a: float, b: float) -> float: ...",
    }
    end = wrote.finishes(contract_issues=[issue], blocked="nothing")
    assert [i.model_dump() for i in end.contract_issues] == [issue]
    assert end.blocked == "nothing"


def test_a_lost_sandbox_is_not_a_refusal(lab, wrote):
    wrote.says(("finish", {"summary": "x"}))
    lab.kill(wrote.box)
    assert lab.failed(FINISH, wrote.finish()).lost


# ---------------------------------------------------------------- researcher, fixer


def test_a_researchers_result_is_its_notes(lab):
    base = lab.start()
    agent = lab.agent("researcher", "facts", Brief(plan=lab.plan(), base=base))
    assert agent.finishes("I looked at everything.").empty
    agent.calls("write_file", path="notes/facts.md", content="calc.py:1 has one().\n")
    end = agent.finishes("Found it.")
    assert (end.accepted, end.verified) == (True, True)
    assert lab.world.text(end.summary) == "Found it.\n\n## notes/facts.md\ncalc.py:1 has one().\n"


def test_a_fixer_may_not_mend_a_test_by_weakening_it(lab):
    base = lab.start()
    lab.store.put("evidence/fix-1.json", b'{"complaints": [], "gates": {}, "breaches": []}')
    agent = lab.agent("fixer", "fix-1", Brief(plan=lab.plan(), base=base, evidence="evidence/fix-1.json"))
    agent.calls("exec", command="printf 'def test_one():\\n    assert True\\n' > tests/test_calc.py")
    end = agent.finishes()
    assert not end.accepted
    assert end.problems[0].startswith("Tests or code weakened")
    agent.calls("exec", command="git checkout -q tests/test_calc.py; printf '\\n\\nTWO = 2\\n' >> calc.py")
    end = agent.finishes(refusals=1)
    assert (end.accepted, end.verified) == (True, True)
    assert parents(lab, end.commit) == [base]


# ---------------------------------------------------------------- integrator

OURS = "class Link:\n    def url(self) -> str:\n        return 'ours'\n\n    def ours(self) -> int:\n        return 1\n"
THEIRS = OURS.replace("ours", "theirs").replace("return 1", "return 2")
BASE = "class Link:\n    def url(self) -> str:\n        return 'base'\n"
BOTH = (
    "class Link:\n    def url(self) -> str:\n        return 'ours and theirs'\n\n"
    "    def ours(self) -> int:\n        return 1\n\n    def theirs(self) -> int:\n        return 2\n"
)


@pytest.fixture
def integrator(lab):
    """Two branches that change the same line of models.py; the integrator stands before the conflict."""
    base = lab.start({"models.py": BASE})
    plan = json.loads(json.dumps(lab.PLAN))
    plan["tasks"] = [plan["tasks"][0] | {"provides": []}, plan["tasks"][1]]
    plan["contracts"] = []
    ours = lab.commit({"models.py": OURS}, onto=base, take=True)
    theirs = lab.commit({"models.py": THEIRS}, onto=base, take=True)
    key = lab.plan(plan)
    merged: Merged = lab.ok(MERGE, Merge(run=lab.run, integration=ours, task="sums", head=theirs, plan=key))
    assert (merged.commit, merged.conflicts) == ("", ["models.py"])
    brief = Brief(
        plan=key, base=merged.partial, ours=ours, theirs=theirs, other="sums", evidence=merged.evidence
    )
    agent = lab.agent("integrator", "integrate-sums", brief)
    lab.ok(
        _step("sandbox_prepare"),
        {**agent.box.model_dump(), "commit": brief.base, "branch": "integration", "head": ours},
    )
    return agent


def test_the_integrator_sees_the_merge_as_a_change_on_ours(lab, integrator):
    assert lab.exec(integrator.box, "git rev-parse HEAD").strip() == integrator.brief.ours
    assert "<<<<<<<" in (lab.tree(integrator.box) / "models.py").read_text()
    integrator.says(("read_file", {"path": "models.py"}))
    read = str(lab.model.asked[0].messages)
    assert "return 'ours'" in read
    assert "return 'theirs'" in read


def test_a_resolution_that_does_both_is_a_merge_of_both(lab, integrator):
    integrator.calls("write_file", path="models.py", content=BOTH, overwrite=True)
    end = integrator.finishes("Both urls.")
    assert (end.accepted, end.verified) == (True, True)
    assert parents(lab, end.commit) == [integrator.brief.ours, integrator.brief.theirs]
    assert lab.file(end.commit, "models.py") == BOTH
    # From the record alone, as on another machine.
    assert lab.store.exists(f"bundles/{end.commit}")


@pytest.mark.parametrize(
    ("what", "content"),
    [
        ("one side", OURS),
        ("a stub", BOTH.replace("return 2", "pass  # TODO")),
        ("a lost method", BOTH.partition("    def theirs")[0]),
        ("markers", "<<<<<<< ours\n" + OURS + "=======\n>>>>>>> theirs\n"),
    ],
)
def test_a_bad_resolution_is_refused_undone_and_the_same_when_asked_again(lab, integrator, what, content):
    integrator.calls("write_file", path="models.py", content=content, overwrite=True)
    integrator.takes_checkpoint()
    end = integrator.finishes("Resolved.")
    assert (end.accepted, end.empty, end.checkpoint) == (False, False, integrator.brief.base)
    assert end.problems
    assert "was undone" in integrator.result()
    tree = (lab.tree(integrator.box) / "models.py").read_text()
    assert "<<<<<<<" in tree
    assert "return 'theirs'" in tree
    # The process died before anybody heard: asked again, where the tree is undone already.
    lab.another_process()
    since = integrator.brief.base
    assert lab.ok(FINISH, integrator.finish(since=since)) == end


def test_a_resolution_that_touches_other_files_is_refused(lab, integrator):
    integrator.calls("write_file", path="models.py", content=BOTH, overwrite=True)
    integrator.calls("write_file", path="extra.py", content="x = 1\n")
    end = integrator.finishes()
    assert not end.accepted
    assert any("extra.py" in p for p in end.problems)


def _step(name: str):
    from swarmrun.steps import step

    return step(name)
