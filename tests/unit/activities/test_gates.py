"""Baseline, gates, safe fixes, batches: only what is new counts, and everything that is started ends."""

from __future__ import annotations

import json

import pytest

from swarmrun.steps import BASELINE, BATCH_GATES, GATES, PREPARE, BatchGates, GatesRun, Prepare, RunGates

PYTEST = {"name": "tests", "command": "python3 -m pytest -q -rfE -p no:cacheprovider"}
RED = {"tests/test_old.py": "def test_old():\n    assert False\n"}
ALIVE = "kill -0 $(cat {}) 2>/dev/null && echo alive || echo dead"


def gates(lab, ref, commit: str, **more) -> GatesRun:
    return lab.ok(GATES, RunGates(**ref.model_dump(), commit=commit, round=0, **more))


@pytest.fixture
def ref(lab):
    """The integration sandbox of a repository in which one test fails already."""
    lab.start({**lab.FILES, **RED})
    lab.spec(gates=[PYTEST])
    ref = lab.box()
    done = lab.ok(BASELINE, {**ref.model_dump(), "commit": lab.base})
    assert [(g.name, g.passed, g.baseline_failures) for g in done.gates] == [
        ("tests", True, ["tests/test_old.py::test_old"])
    ]
    return ref


def test_what_the_base_failed_does_not_count_and_what_is_new_does(lab, ref):
    clean = lab.commit({"more.py": "x = 1\n"}, onto=lab.base, take=True)
    done = gates(lab, ref, clean)
    assert (done.commit, done.failing_required, done.gates[0].passed) == (clean, 0, True)
    broken = lab.commit({"calc.py": "def one():\n    return 3\n"}, onto=lab.base, take=True)
    done = gates(lab, ref, broken)
    assert (done.failing_required, done.gates[0].passed) == (1, False)
    assert done.gates[0].new_failures == ["tests/test_calc.py::test_one"]
    assert done.gates[0].baseline_failures == ["tests/test_old.py::test_old"]
    assert "assert 3 == 1" in lab.world.get(done.artifact)["outputs"]["tests"]


def test_a_failure_that_flips_is_flaky(lab, ref):
    flips = (
        "import pathlib\n\n\ndef test_flips():\n    p = pathlib.Path('/tmp/seen')\n    seen = p.exists()\n"
    )
    flips += "    p.touch()\n    assert seen\n"
    commit = lab.commit({"tests/test_flips.py": flips}, onto=lab.base, take=True)
    done = gates(lab, ref, commit)
    assert done.failing_required == 0
    assert done.gates[0].flaky == ["tests/test_flips.py::test_flips"]


def test_safe_fixes_are_a_commit_of_their_own_and_are_made_once(lab, ref):
    fix = "sed -i 's/x=1/x = 1/' more.py"
    lab.spec(gates=[{"name": "format", "command": "grep -q 'x = 1' more.py", "fix": fix}])
    commit = lab.commit({"more.py": "x=1\n"}, onto=lab.base, take=True)
    done = gates(lab, ref, commit)
    assert lab.file(done.commit, "more.py") == "x = 1\n"
    assert list(lab.world.repo.parents(done.commit)) == [commit]
    assert lab.world.repo.message(done.commit).startswith("Apply safe fixes (format)")
    assert done.failing_required == 0
    lab.another_process()
    assert gates(lab, ref, commit).commit == done.commit


def test_what_a_gate_leaves_behind_is_no_part_of_the_result(lab, ref):
    lab.spec(gates=[{"name": "messy", "command": "echo x > left.txt; rm calc.py"}])
    assert gates(lab, ref, lab.base).commit == lab.base
    assert sorted(p.name for p in lab.tree(ref).glob("[a-z]*.*")) == ["calc.py", "conftest.py"]


def test_contracts_that_are_not_kept_are_named(lab, ref):
    done = gates(lab, ref, lab.base, plan=lab.plan())
    assert len(done.breaches) == 1
    assert "add" in done.breaches[0]
    assert "provided by task sums" in done.breaches[0]


def test_a_gate_that_never_ends_is_killed_and_has_failed(lab, ref):
    command = "echo $$ > /tmp/pid; sleep 500 & echo $! > /tmp/child; wait"
    lab.spec(gates=[{"name": "slow", "command": command, "fix": "sleep 500", "timeoutSeconds": 1}])
    done = gates(lab, ref, lab.base)
    assert done.gates[0].new_failures == ["timed out"]
    for name in ("/tmp/pid", "/tmp/child"):
        assert lab.exec(ref, ALIVE.format(name)) == "dead\n"
    assert lab.exec(ref, "pgrep -c sleep || true").strip() == "0"


def test_an_optional_gate_that_fails_is_no_required_one(lab, ref):
    lab.spec(gates=[{"name": "opinion", "command": "false", "required": False}])
    done = gates(lab, ref, lab.base)
    assert (done.gates[0].passed, done.failing_required) == (False, 0)


def test_a_set_up_that_fails_names_the_command_and_what_it_said(lab):
    lab.start()
    lab.spec(sandbox={"setup": ["true", "echo no such thing >&2; exit 3"]})
    ref = lab.box_only()
    failure = lab.failed(BASELINE, {**ref.model_dump(), "commit": lab.base})
    assert (failure.reason, failure.retryable) == ("SetupFailed", False)
    assert "ended with 3: no such thing" in failure.message
    assert "'echo no such thing >&2; exit 3'" in failure.message


def test_a_set_up_that_never_ends_is_killed_and_says_so(lab, monkeypatch):
    monkeypatch.setattr("swarmrun.activities.sandboxes.SETUP_SECONDS", 0.5)
    lab.start()
    lab.spec(sandbox={"setup": ["echo $$ > /tmp/pid; echo waits for a password; sleep 500"]})
    ref = lab.box_only()
    given = Prepare(**ref.model_dump(), commit=lab.base, branch="b")
    failure = lab.failed(PREPARE, given)
    assert failure.reason == "SetupFailed"
    assert "timed out: waits for a password" in failure.message
    assert lab.exec(ref, ALIVE.format("/tmp/pid")) == "dead\n"


def test_set_up_runs_once_in_a_sandbox_and_not_where_the_volume_was_copied(lab):
    lab.start()
    lab.spec(sandbox={"setup": ["echo once >> ~/log"]})
    ref = lab.box()
    lab.box()
    lab.ok(BASELINE, {**ref.model_dump(), "commit": lab.base})
    assert lab.exec(ref, "cat ~/log") == "once\n"
    lab.ok(PREPARE, Prepare(**lab.box_only("other").model_dump(), commit=lab.base, branch="b", setup=False))
    assert lab.exec(lab.box_only("other"), "cat ~/log 2>&1 || true") != "once\n"


def test_a_batch_is_red_only_for_what_is_new_required_and_not_still_to_come(lab, ref):
    broken = lab.commit({"calc.py": "def one():\n    return 3\n"}, onto=lab.base, take=True)
    given = BatchGates(**ref.model_dump(), commit=broken)
    checked = lab.ok(BATCH_GATES, given)
    assert checked.red
    assert "tests/test_calc.py::test_one" in checked.summary
    assert "assert 3 == 1" in checked.summary
    assert not lab.ok(BATCH_GATES, given.model_copy(update={"commit": lab.base})).red
    unfinished = lab.commit(
        {"calc.py": "def one():\n    raise NotImplementedError\n"}, onto=lab.base, take=True
    )
    given = given.model_copy(update={"commit": unfinished, "unmerged": 1})
    assert not lab.ok(BATCH_GATES, given).red
    assert json.loads(lab.store.get("gates/baseline.json"))


@pytest.mark.parametrize("named", [False, True])
def test_pytest_without_tests_fails_only_a_run_that_named_it(lab, named):
    lab.start({"README": "x\n"})
    if named:
        lab.spec(gates=[PYTEST])
    ref = lab.box()
    if not named:
        lab.ok(BASELINE, {**ref.model_dump(), "commit": lab.base})
    commit = lab.commit({"tests/test_data.py": "NAMES = ['a']\n"}, onto=lab.base, take=True)
    done = gates(lab, ref, commit)
    assert done.failing_required == int(named)
    batch = lab.ok(BATCH_GATES, BatchGates(**ref.model_dump(), commit=commit))
    assert batch.red is named
