"""From the remote and back to it; the judge's answers on the way."""

from __future__ import annotations

import subprocess

import pytest

from swarmrun.errors import BadModelOutput, PublishRefused, RemoteUnavailable
from swarmrun.git import trailers
from swarmrun.ports import Usage
from swarmrun.report import RunReport
from swarmrun.steps import (
    ENSURE,
    MERGE,
    ORDER,
    PREFLIGHT,
    PUBLISH,
    RELEASE,
    SAMPLE,
    SAVE_REPORT,
    TALLY,
    Ensure,
    Merge,
    Order,
    PublishResult,
    Release,
    RunRef,
    Sample,
    SaveReport,
    Tally,
)


def heads(lab) -> dict[str, str]:
    done = subprocess.run(
        ["git", "for-each-ref", "--format=%(refname:short) %(objectname)", "refs/heads"],
        cwd=lab.bare,
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(line.split() for line in done.stdout.splitlines())


@pytest.fixture
def result(lab):
    """A result that is ready to be published."""
    lab.start()
    commit = lab.commit({"sums.py": lab.SUMS}, onto=lab.base, take=True)
    report = RunReport(run=lab.run, name="x", score=90)
    saved = lab.ok(SAVE_REPORT, SaveReport(run=lab.run, report=report.model_dump(mode="json")))
    return PublishResult(
        run=lab.run, commit=commit, base_branch="main", base_commit=lab.base, report=saved.artifact
    )


# ---------------------------------------------------------------- preflight


def test_what_was_published_before_is_found_again(lab, result):
    done = lab.ok(PUBLISH, result)
    found = lab.ok(PREFLIGHT, RunRef(run=lab.run))
    assert found.published_branch == done.branch
    assert (found.already_published, found.base_commit, found.empty) == (done.commit, lab.base, False)
    # Another goal is another run.
    lab.spec(goal="Something else.")
    assert lab.ok(PREFLIGHT, RunRef(run=lab.run)).already_published == ""


def test_what_was_published_in_part_is_no_result_until_the_whole_is(lab, result):
    part = result.model_copy(update={"partial": "Incomplete"})
    done = lab.ok(PUBLISH, part)
    marks = trailers.parse(lab.world.repo.message(done.commit))
    assert marks[trailers.PARTIAL] == "Incomplete"
    assert lab.ok(PREFLIGHT, RunRef(run=lab.run)).already_published == ""
    lab.another_process()
    assert lab.ok(PUBLISH, part) == done
    # A merge by hand may publish the same commit as the whole.
    whole = lab.ok(PUBLISH, result.model_copy(update={"commit": done.commit}))
    assert (whole.branch, whole.beside) == (done.branch, False)
    assert trailers.PARTIAL not in trailers.parse(lab.world.repo.message(whole.commit))
    assert lab.ok(PREFLIGHT, RunRef(run=lab.run)).already_published == whole.commit


def test_a_branch_that_is_not_there_is_named(lab):
    lab.start()
    lab.spec(repository={"url": str(lab.bare), "branch": "develop"})
    failure = lab.failed(PREFLIGHT, RunRef(run=lab.run))
    assert (failure.reason, failure.retryable) == ("BranchNotFound", False)
    assert "develop" in failure.message


def test_a_repository_that_is_not_there_is_named(lab):
    failure = lab.failed(PREFLIGHT, RunRef(run=lab.run))
    assert not failure.retryable
    assert str(lab.bare) in failure.message


def test_an_empty_remote_is_fine_and_asked_twice_the_same(lab):
    lab.start({})
    subprocess.run(["git", "update-ref", "-d", "refs/heads/main"], cwd=lab.bare, check=True)
    found = lab.ok(PREFLIGHT, RunRef(run=lab.run))
    assert (found.empty, found.base_branch) == (True, "main")
    assert lab.ok(PREFLIGHT, RunRef(run=lab.run)) == found


# ---------------------------------------------------------------- publish


def test_published_twice_is_published_once(lab, result):
    done = lab.ok(PUBLISH, result)
    assert heads(lab) == {"main": lab.base, "swarm/x": done.commit}
    lab.another_process()
    assert lab.ok(PUBLISH, result) == done
    assert heads(lab) == {"main": lab.base, "swarm/x": done.commit}
    marks = trailers.parse(lab.world.repo.message(done.commit))
    assert marks[trailers.SPEC_HASH] == lab.world.snapshot.spec_hash


def test_somebody_elses_branch_is_left_alone(lab, result):
    other = lab.commit({"theirs.py": "x = 1\n"}, onto=lab.base)
    subprocess.run(["git", "push", "-q", "origin", f"{other}:refs/heads/swarm/x"], cwd=lab.work, check=True)
    done = lab.ok(PUBLISH, result)
    assert (done.branch, done.beside) == ("swarm/x-2", True)
    assert "somebody else's" in done.message
    assert heads(lab)["swarm/x"] == other


def test_a_task_branch_that_is_refused_does_not_take_the_result_back(lab, result):
    hook = lab.bare / "hooks" / "update"
    hook.write_text("#!/bin/sh\ncase $1 in refs/heads/swarm-tasks/*) echo no task branches; exit 1;; esac\n")
    hook.chmod(0o755)
    head = lab.commit({"sums.py": lab.SUMS}, onto=lab.base, take=True)
    done = lab.ok(PUBLISH, result.model_copy(update={"tasks": {"sums": head}}))
    assert done.branch == "swarm/x"
    assert "no task branch for sums" in done.message
    hook.unlink()
    lab.ok(PUBLISH, result.model_copy(update={"tasks": {"sums": head}}))
    assert heads(lab)["swarm-tasks/x/sums"] == head


def test_a_pull_request_is_opened_with_the_report_and_updated_not_doubled(lab, result):
    lab.spec(publish={"pullRequest": {"enabled": True}})
    for _ in range(2):
        done = lab.ok(PUBLISH, result)
        assert done.pull_request == "https://host.invalid/pull/1"
    one, two = lab.host.opened
    assert one == two
    assert (one["head"], one["base"], one["title"]) == ("swarm/x", "main", "Sums.")
    assert "Made by SwarmRun `x`" in one["body"]


def test_a_refused_pull_request_leaves_the_branch_and_says_why(lab, result):
    lab.spec(publish={"pullRequest": {"enabled": True}})
    lab.host.error = PublishRefused("no pull requests here")
    done = lab.ok(PUBLISH, result)
    assert (done.branch, done.pull_request) == ("swarm/x", "")
    assert "no pull request: no pull requests here" in done.message
    lab.host.error = RemoteUnavailable("503")
    assert lab.failed(PUBLISH, result).retryable


# ---------------------------------------------------------------- merge


def test_branches_are_ordered_by_predicted_conflicts_and_a_clean_merge_says_whose_it_is(lab):
    base = lab.start()
    one = lab.commit({"calc.py": "def one() -> int:\n    return 1 + 0\n"}, onto=base, take=True)
    two = lab.commit({"calc.py": "def one() -> int:\n    return 0 + 1\n"}, onto=base, take=True)
    free = lab.commit({"free.py": "x = 1\n"}, onto=base, take=True)
    ordered = lab.ok(
        ORDER, Order(run=lab.run, integration=base, heads={"one": one, "two": two, "free": free})
    )
    assert ordered.tasks[0] == "free"
    assert ordered.conflicts["one"] == ["two"]
    given = Merge(run=lab.run, integration=one, task="free", head=free)
    merged = lab.ok(MERGE, given)
    assert (merged.how, merged.combined, merged.conflicts) == ("Clean", True, [])
    assert trailers.parse(lab.world.repo.message(merged.commit))[trailers.TASK] == "free"
    lab.another_process()
    assert lab.ok(MERGE, given) == merged


# ---------------------------------------------------------------- judge


@pytest.fixture
def judged(lab):
    base = lab.start()
    commit = lab.commit({"sums.py": lab.SUMS}, onto=base, take=True)
    gate = {"name": "tests", "passed": True}
    gates = lab.world.put(
        "gates/round-0.json", {"gates": [gate], "outputs": {"tests": "1 passed"}, "breaches": []}
    )
    return Sample(
        run=lab.run,
        round=0,
        sample=1,
        commit=commit,
        base=base,
        plan=lab.plan(),
        gates=gates,
        tokens_left=99999,
    )


def answers(quote: str, verdict: str = "yes") -> dict:
    evidence = [{"where": "sums.py:2", "quote": quote}]
    return {
        "answers": [
            {"criterion": c, "evidence": evidence, "reason": "r", "answer": verdict}
            for c in ("works", "structure", "tests", "security", "accept-sums")
        ]
    }


def tally(lab, judged, *samples: str, **more):
    fields = {"round": 0, "commit": judged.commit, "plan": judged.plan, "gates": judged.gates}
    return lab.ok(TALLY, Tally(run=lab.run, samples=list(samples), **(fields | more)))


def test_a_sample_is_paid_once_and_its_evidence_is_looked_for(lab, judged):
    lab.model.will(answers("return a + b"), answers("return a * b"))
    true = lab.ok(SAMPLE, judged)
    lab.another_process()
    assert lab.ok(SAMPLE, judged) == true
    false = lab.ok(SAMPLE, judged.model_copy(update={"sample": 2}))
    assert len(lab.model.asked) == 2
    assert "+def add" in str(lab.model.asked[0].messages)
    assert tally(lab, judged, true.artifact).judgement.score == 100
    # What was quoted is not there: nothing counts as shown.
    assert tally(lab, judged, false.artifact).judgement.score < 70
    both = tally(lab, judged, true.artifact, false.artifact)
    assert both.judgement.spread > 0


def test_a_failing_required_gate_caps_the_score_whatever_the_judge_says(lab, judged):
    gate = {"name": "tests", "passed": False, "new_failures": ["tests/test_sums.py::test_add"]}
    gates = {"gates": [gate], "outputs": {"tests": "assert 3 == 4"}, "breaches": ["add is missing"]}
    lab.world.put("gates/round-0.json", gates)
    lab.model.will(answers("return a + b"))
    sample = lab.ok(SAMPLE, judged)
    done = tally(lab, judged, sample.artifact, failing_required=1, breaches=1)
    assert done.judgement.score < lab.world.snapshot.threshold
    assert done.judgement.capped_by
    assert "tests/test_sums.py::test_add" in done.judgement.complaints[0]
    evidence = lab.world.get(done.evidence)
    assert evidence["gates"] == {"tests": "assert 3 == 4"}
    assert evidence["breaches"] == ["add is missing"]


def test_the_judge_reserves_what_it_may_use_and_a_useless_answer_is_paid(lab, judged):
    assert lab.failed(SAMPLE, judged.model_copy(update={"tokens_left": 100})).reason == "BudgetExceeded"
    assert lab.failed(SAMPLE, judged.model_copy(update={"cost_left": "0.0001"})).reason == "BudgetExceeded"
    assert not lab.model.asked
    lab.model.will(BadModelOutput("no JSON", usage=Usage(input=7)))
    failure = lab.failed(SAMPLE, judged)
    assert (failure.retryable, failure.usage.total) == (True, 7)


# ---------------------------------------------------------------- sandboxes


def test_a_sandbox_is_made_once_lost_for_good_and_released_twice(lab):
    lab.start()
    ref = lab.box()
    given = Ensure(**ref.model_dump())
    assert lab.ok(ENSURE, given).phase == "Ready"
    lab.kill(ref)
    assert lab.ok(ENSURE, given).phase == "Lost"
    for _ in range(2):
        lab.ok(RELEASE, Release(run=lab.run, task=ref.task, attempt=1, generation=1))
    other = lab.box("other")
    lab.ok(RELEASE, Release(run=lab.run))
    assert not lab.tree(other).exists()


def test_a_step_of_an_unknown_run_and_one_that_does_not_fit_are_failures_not_exceptions(lab):
    assert lab.failed(MERGE, {"integration": "x"}).reason == "InternalError"
    failure = lab.failed(MERGE, {"integration": "0" * 40, "task": "a", "head": "1" * 40})
    assert (failure.reason, failure.retryable) == ("NotFound", False)


def test_a_judge_that_calls_a_tool_or_answers_nothing_is_asked_again_and_not_tallied(lab, judged):
    lab.model.will([("read_file", {"path": "a.py"})], "All good!", {"answers": []}, answers("return a + b"))
    for _ in range(3):
        refused = lab.failed(SAMPLE, judged)
        assert (refused.reason, refused.kind, refused.retryable) == ("NoJudgement", "BadModelOutput", True)
        assert refused.usage is not None
    assert tally(lab, judged, lab.ok(SAMPLE, judged).artifact).judgement.score == 100
