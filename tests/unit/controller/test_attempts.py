"""Higher attempts: when they begin, and what they begin with."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from durabletask.client import OrchestrationStatus

from swarmrun.api.plan import Role
from swarmrun.api.status import Phase, SwarmRunStatus
from swarmrun.controller.reconcile import Memory, Reconciler
from swarmrun.orchestration.stand import BoardStand, ItemStand, Stand
from swarmrun.report import RunReport
from swarmrun.steps import Preflight, TaskRef

UID = "6a6f1ef2-1a50-4f4b-b6ee-7191db4fc90f"
FIRST, SECOND = f"{UID}-1", f"{UID}-2"
BASE = "b" * 40
AGAIN = {"swarmrun.dev/attempt": "2"}
FROM = "swarmrun.dev/rerun-from"

Body = Callable[..., dict[str, Any]]


class Seen:
    """A resource under a reconciler, whose engine says what the test wants."""

    def __init__(self, engine: Any, worlds: Any, run_body: Body, classes: dict[str, Any]) -> None:
        self.engine, self.run_body, self.classes = engine, run_body, classes
        self.reconciler = Reconciler(engine, worlds)
        self.memory = Memory(run_body(), SwarmRunStatus())

    def look(self, **annotations: str) -> SwarmRunStatus:
        notes = {k.replace("_", "-"): v for k, v in annotations.items()}
        body = self.run_body(annotations={f"swarmrun.dev/{k}": v for k, v in notes.items()})
        if annotations and body != self.memory.body:
            self.memory.body = body
        outcome = self.reconciler.reconcile(self.memory, self.classes)
        self.memory.status, self.again = outcome.status, outcome.again
        return outcome.status

    def ready(self, kind: str = "Stalled") -> tuple[str, str, str]:
        found = self.memory.status.condition(kind)
        assert found is not None
        return found.status, found.reason, found.message

    def ended(self, stage: str = "judging") -> None:
        item = ItemStand(ref=TaskRef(id="a", role=Role.CODER), state="merged", head="a" * 40)
        stand = Stand(
            stage=stage,  # pyright: ignore[reportArgumentType]
            preflight=Preflight(base_branch="main", base_commit=BASE),
            scaffold=BASE,
            integration="c" * 40,
            board=BoardStand(items=[item], ground="c" * 40),
        )
        self.engine.end(
            report(Phase.FAILED, reason="ScoreBelowThreshold", stand=stand.model_dump(mode="json"))
        )


def report(phase: Phase, **fields: Any) -> RunReport:
    start = datetime(2030, 1, 1, tzinfo=UTC)
    return RunReport(run=FIRST, name="shop", namespace="team", phase=phase, started_at=start, **fields)


@pytest.fixture
def seen(engine: Any, worlds: Any, run_body: Body, class_body: Body) -> Seen:
    return Seen(engine, worlds, run_body, {"standard": class_body()})


def test_a_higher_attempt_begins_from_the_point_that_is_named(seen: Seen) -> None:
    seen.look()
    seen.ended()
    assert seen.look().phase == "Failed"
    status = seen.look(attempt="2", rerun_from="judge")
    assert status.run == SECOND
    given = seen.engine.inputs[SECOND]
    assert (given["earlier"], given["anew"], given["stand"]["stage"]) == (FIRST, True, "judging")
    assert given["stand"]["preflight"]["base_commit"] == BASE


def test_a_higher_attempt_without_a_point_wants_a_result_anew(seen: Seen) -> None:
    seen.look()
    seen.ended()
    seen.look()
    seen.look(attempt="2")
    given = seen.engine.inputs[SECOND]
    assert (given["earlier"], given["anew"], given["stand"]) == ("", True, None)


def test_a_cluster_that_knows_no_earlier_attempt_heeds_what_is_published(seen: Seen) -> None:
    seen.look(attempt="2")
    assert seen.engine.inputs[SECOND]["anew"] is False


def test_an_attempt_at_work_goes_on_to_its_end_before_the_next_begins(seen: Seen) -> None:
    seen.look()
    seen.engine.tell(report(Phase.RUNNING))
    seen.look()
    assert seen.look(attempt="2", rerun_from="judge", cancel="enough").run == FIRST
    assert [m["kind"] for _, m in seen.engine.mail] == ["cancel"]
    assert list(seen.engine.states) == [FIRST]
    seen.ended()
    assert seen.look().run == FIRST
    assert seen.again is not None
    assert seen.again <= 1
    assert seen.look(attempt="2", rerun_from="judge").run == SECOND


@pytest.mark.parametrize(
    ("stage", "point", "reason", "words"),
    [
        ("judging", "publish", "PointNotReached", "before it had judged its result"),
        ("judging", "task/z", "UnknownTask", "one of a"),
        ("judging", "merge", "InvalidResource", "one of plan, work, judge, publish, or task/<id>"),
        ("planning", "work", "PointNotReached", "before it had a plan and its scaffold"),
    ],
)
def test_a_wrong_point_is_stalled_with_what_was_shown_before_and_mended_by_another_word(
    seen: Seen, stage: str, point: str, reason: str, words: str
) -> None:
    seen.look()
    seen.ended(stage)
    seen.look()
    status = seen.look(attempt="2", rerun_from=point)
    assert seen.ready()[:2] == ("True", reason)
    assert words in seen.ready()[2]
    assert f"metadata.annotations[{FROM}]" in seen.ready()[2] or "attempt before" in seen.ready()[2]
    assert (status.run, status.phase, seen.again) == (FIRST, "Failed", None)
    assert list(seen.engine.states) == [FIRST]
    assert seen.look(attempt="2", rerun_from="plan").run == SECOND


def test_a_point_of_a_first_attempt_and_work_that_is_gone_are_told(seen: Seen) -> None:
    seen.look(rerun_from="judge")
    assert seen.ready()[:2] == ("True", "InvalidResource")
    assert "this is the first attempt" in seen.ready()[2]
    seen.look(attempt="2", rerun_from="judge")
    assert seen.ready()[:2] == ("True", "EarlierAttemptGone")
    assert not seen.engine.states


def test_an_attempt_that_the_engine_ended_left_nothing_to_take_over(seen: Seen) -> None:
    seen.look()
    seen.engine.tell(report(Phase.RUNNING))
    seen.engine.states[FIRST].runtime_status = OrchestrationStatus.TERMINATED
    seen.look()
    seen.look(attempt="2", rerun_from="work")
    assert seen.ready()[:2] == ("True", "EarlierAttemptGone")


# ---------------------------------------------------------------- what cannot be heeded, of a run that has begun


def at_work(seen: Seen, **fields: Any) -> None:
    seen.look()
    seen.engine.tell(report(Phase.RUNNING, **fields))
    assert seen.look().phase == "Running"


@pytest.mark.parametrize(
    ("annotations", "words"),
    [
        ({"attempt": "two"}, "'two', which is no attempt"),
        ({"rerun_from": "work"}, "this is the first attempt"),
        ({"attempt": "2", "rerun_from": "nowhere"}, "one of plan, work, judge, publish"),
    ],
)
def test_an_annotation_that_cannot_be_read_is_told_and_the_run_at_work_goes_on(
    seen: Seen, annotations: dict[str, str], words: str
) -> None:
    at_work(seen)
    status = seen.look(**annotations, suspend="true")
    assert (status.run, status.phase, status.started_at is not None) == (FIRST, "Running", True)
    assert seen.ready()[0] == "False"
    assert words in seen.ready("Ready")[2]
    assert [m["kind"] for _, m in seen.engine.mail] == ["suspend"], "what can be read is heeded"
    assert seen.again is not None, "it is looked at"
    seen.look(suspend="true")
    assert words not in seen.ready("Ready")[2]


def test_a_spec_that_cannot_be_read_is_told_and_the_run_at_work_goes_on(seen: Seen) -> None:
    at_work(seen)
    seen.memory.body = seen.run_body(generation=2, parallelism="many", suspend=True)
    status = seen.look()
    assert (status.run, status.phase, status.observed_generation) == (FIRST, "Running", 2)
    assert "parallelism" in seen.ready("Ready")[2]
    assert [m["kind"] for _, m in seen.engine.mail] == ["suspend"]


@pytest.mark.parametrize("phase", [Phase.FAILED, Phase.SUCCEEDED])
def test_what_an_ended_run_has_shown_outlives_an_annotation_that_cannot_be_read(
    seen: Seen, phase: Phase
) -> None:
    seen.look()
    seen.engine.end(report(phase, reason="AsItEnded"))
    shown = seen.look()
    stalled = seen.ready()
    status = seen.look(attempt="two")
    assert seen.ready()[:2] == ("True", "InvalidAnnotation")
    assert (status.run, status.phase, seen.ready("Ready")[1]) == (FIRST, phase, "AsItEnded")
    # It is forgotten by the engine meanwhile: what has ended does not begin again for that.
    seen.engine.states.clear()
    status = seen.look(note="mended")
    assert (seen.ready(), status.phase) == (stalled, phase)
    assert status.model_dump(exclude={"conditions"}) == shown.model_dump(exclude={"conditions"})
    assert not seen.engine.states


def test_a_lower_number_takes_no_attempt_back(seen: Seen) -> None:
    seen.look()
    seen.ended()
    seen.look()
    seen.look(attempt="2")
    seen.engine.tell(report(Phase.RUNNING).model_copy(update={"run": SECOND}))
    assert seen.look(attempt="2").run == SECOND
    assert seen.look(attempt="1").run == SECOND, "the one at work goes on"
    seen.engine.end(report(Phase.FAILED, reason="Incomplete").model_copy(update={"run": SECOND}))
    assert seen.look(attempt="1").phase == "Failed"
    seen.engine.states.clear()  # purged in time
    status = seen.look(note="taken away")
    assert (status.run, status.phase, seen.ready()[1]) == (SECOND, "Failed", "Incomplete")
    assert not seen.engine.states
    assert seen.look(attempt="3").run == f"{UID}-3"


def test_a_run_that_the_engine_has_lost_does_not_begin_again_from_what_can_be_read_of_it(seen: Seen) -> None:
    at_work(seen)
    seen.engine.states.clear()
    seen.memory.body = seen.run_body(generation=2, parallelism="many", plan={"approval": "Required"})
    status = seen.look()
    assert not seen.engine.states
    assert (status.run, status.phase) == (FIRST, "Running")
    assert "parallelism" in seen.ready("Reconciling")[2]
    assert seen.again is not None


def test_a_rerun_that_the_engine_has_lost_with_all_before_it_ends_and_says_so(seen: Seen) -> None:
    seen.look()
    seen.ended()
    seen.look()
    seen.look(attempt="2", rerun_from="judge")
    seen.engine.tell(report(Phase.RUNNING).model_copy(update={"run": SECOND}))
    assert seen.look(attempt="2", rerun_from="judge").phase == "Running"
    seen.engine.states.clear()
    seen.look(attempt="2", rerun_from="judge")
    assert seen.ready("Finished")[:2] == ("True", "EarlierAttemptGone")
