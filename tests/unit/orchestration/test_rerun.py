"""Attempts that begin with what the one before them has made, on the real engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmrun.api.status import AgentPhase, Phase
from swarmrun.errors import InvalidResource
from swarmrun.orchestration.inputs import RunInput
from swarmrun.orchestration.rerun import check_point, dependants, taking_over
from swarmrun.orchestration.successor import Successor
from swarmrun.report import RunReport
from swarmrun.steps import Failed, Nothing

FIELD = "here"
OPTIONS = {"name": "x", "branch": "swarm/x", "samples": 1}


@pytest.fixture
def attempts(tmp_path: Path, stage_class):
    """Stages on one engine file each, as many as a test has attempts."""
    made = []

    def make(number: int):
        stage = stage_class(tmp_path / f"{number}.db")
        stage.run_id = f"r{number}"
        stage.on("adopt", Nothing())
        made.append(stage)
        return stage

    yield make
    for stage in made:
        stage.close()


def again(stage, before: RunReport, point: str) -> RunReport:
    given = taking_over(RunInput(run=stage.run_id, **OPTIONS), before, point, FIELD)
    stage.open()
    more = {n: getattr(given, n) for n in ("stand", "report", "earlier", "anew")}
    return stage.run(**more)


def first(stage, coder, *, fails: str = "") -> RunReport:
    """a and b; c needs b; d needs nothing."""
    stage.happy(coder("a"), coder("b"), coder("c", "b"), coder("d"))
    if fails:
        stage.before(
            "finish",
            lambda g: Failed(reason="PermissionDenied", message="no") if g["task"] == fails else None,
        )
        refuses = Failed(reason="ModelRefused", message="no other plan")
        stage.before("model_turn", lambda g: refuses if (g["task"], g["attempt"]) == ("plan", 2) else None)
    stage.open()
    return stage.run()


def worked(stage) -> set[str]:
    return {g["task"] for g in stage.inputs("model_turn")}


@pytest.mark.parametrize(
    ("point", "at_work", "steps"),
    [
        ("plan", {"plan", "a", "b", "c", "d"}, {"scaffold": 1, "merge": 4, "judge_sample": 1}),
        ("work", {"a", "b", "c", "d"}, {"scaffold": 0, "merge": 4, "judge_sample": 1}),
        ("judge", set(), {"scaffold": 0, "merge": 0, "gates": 1, "judge_sample": 1, "publish": 1}),
        ("publish", set(), {"merge": 0, "gates": 0, "judge_sample": 0, "publish": 1}),
    ],
)
def test_from_each_point_only_what_comes_after_it_is_done(attempts, coder, point, at_work, steps):
    tasks = (coder("a"), coder("b"), coder("c", "b"), coder("d"))
    before = first(attempts(1), coder)
    stage = attempts(2)
    stage.happy(*tasks)
    report = again(stage, before, point)
    assert (report.phase, report.reason) == (Phase.SUCCEEDED, "Published"), report.message
    assert worked(stage) == at_work
    assert {name: len(stage.inputs(name)) for name in steps} == steps
    # Adopted before anything else, the remote looked at once, with the base that was pinned.
    assert [name for name, _ in stage.calls[:2]] == ["adopt", "preflight"]
    assert stage.inputs("preflight")[0]["base_commit"] == "base"
    assert stage.inputs("preflight")[0]["anew"] is True
    assert {r.status.phase for r in report.agents if r.status.role == "coder"} == {AgentPhase.MERGED}
    kept = [r for r in report.agents if r.status.role == "coder" and r.status.task not in at_work]
    assert all(r.status.turns == 2 and r.status.tokens and not r.usage for r in kept)
    paid = sum(stage.paid.values())
    assert sum(u.calls for r in report.agents for u in r.usage) == paid
    if point == "publish":
        assert (report.score, report.result.commit) == (90, before.integration)
    # A rerun of the rerun.
    third = attempts(3)
    third.happy(*tasks)
    assert again(third, report, "judge").reason == "Published"
    assert third.inputs("adopt")[0]["earlier"] == "r2"
    assert worked(third) == set()


def test_a_task_takes_what_depends_on_it_along_and_later_work_is_merged_again(attempts, coder):
    before = first(attempts(1), coder)
    landed = [m.task for m in before.merges]
    stage = attempts(2)
    stage.happy(coder("a"), coder("b"), coder("c", "b"), coder("d"))
    report = again(stage, before, "task/b")
    assert report.reason == "Published"
    assert worked(stage) == {"b", "c"}
    late = set(landed[landed.index("b") :]) | {"c"}
    assert {g["task"] for g in stage.inputs("merge")} == late
    for task in "abcd":
        assert report.integration.count(f"+{task}") == 1


def test_what_failed_is_done_again_too_and_what_is_merged_stays(attempts, coder):
    before = first(attempts(1), coder, fails="b")
    assert before.reason == "Incomplete"
    stage = attempts(2)
    stage.happy(coder("a"), coder("b"), coder("c", "b"), coder("d"))
    report = again(stage, before, "task/c")
    assert report.reason == "Published"
    assert worked(stage) == {"b", "c"}
    # Nothing that had landed came out of the integration branch.
    assert report.integration.startswith(before.integration)
    with pytest.raises(InvalidResource, match="one of a, b, c, d"):
        taking_over(RunInput(run="r9", **OPTIONS), before, "task/z", FIELD)


def test_a_point_that_was_not_reached_is_named_with_what_was_missing(attempts, coder):
    stage = attempts(1)
    stage.happy(coder("a"))
    stage.on("scaffold", Failed(reason="Refused", message="no"))
    stage.open()
    before = stage.run()
    for point, words in (
        ("work", "had a plan and its scaffold"),
        ("task/a", "had a plan and its scaffold"),
        ("judge", "had finished its tasks"),
        ("publish", "had judged its result"),
    ):
        with pytest.raises(InvalidResource, match=words) as caught:
            taking_over(RunInput(run="r2", **OPTIONS), before, point, FIELD)
        assert (caught.value.field, caught.value.reason) == (FIELD, "PointNotReached")
        assert caught.value.mend
    nothing = RunReport(run="r0", name="x")
    with pytest.raises(InvalidResource, match="had found its base commit"):
        taking_over(RunInput(run="r2", **OPTIONS), nothing, "plan", FIELD)


@pytest.mark.parametrize("point", ["", "tasks/a", "task/", "task/a b", "Plan", "merge"])
def test_what_is_no_point_is_refused_with_those_there_are(point):
    with pytest.raises(InvalidResource, match="one of plan, work, judge, publish, or task/<id>"):
        check_point(point, FIELD)


def test_work_that_is_gone_ends_the_attempt_before_a_token_is_spent(attempts, coder):
    before = first(attempts(1), coder)
    stage = attempts(2)
    stage.happy(coder("a"), coder("b"), coder("c", "b"), coder("d"))
    stage.on("adopt", Failed(reason="EarlierAttemptGone", message="removed", mend="begin afresh"))
    report = again(stage, before, "judge")
    assert (report.phase, report.reason) == (Phase.FAILED, "EarlierAttemptGone")
    assert report.message == "removed (begin afresh)"
    assert not stage.inputs("judge_sample")


def test_a_program_that_comes_while_work_is_taken_over_takes_it_over_as_well(attempts, coder):
    before = first(attempts(1), coder)
    stage = attempts(2)
    stage.happy(coder("a"), coder("b"), coder("c", "b"), coder("d"))
    name = ["one"]
    stage.successor, stage.replays = Successor(program=lambda: name[0]), False
    door = stage.door()
    stage.before("preflight", lambda g: door.wait(20) and None)
    given = taking_over(RunInput(run="r2", **OPTIONS), before, "judge", FIELD)
    stage.open()
    stage.start(program="one", **{n: getattr(given, n) for n in ("stand", "report", "earlier", "anew")})
    stage.until(lambda: stage.inputs("preflight"))
    name[0] = "two"
    door.set()
    report = stage.report()
    assert report.reason == "Published"
    assert {r.status.phase for r in report.agents} == {AgentPhase.MERGED}
    assert worked(stage) == set()


def test_dependants_are_found_through_others():
    needs = {"a": [], "b": ["a"], "c": ["b"], "d": [], "e": ["d", "c"]}
    assert dependants(needs, "b") == {"b", "c", "e"}
    assert dependants(needs, "d") == {"d", "e"}
