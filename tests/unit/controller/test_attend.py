"""Attending to resources: when it looks, and when it writes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from swarmrun.api.status import AgentPhase, AgentStatus, Condition, Phase, SwarmRunStatus
from swarmrun.controller import attend
from swarmrun.controller.attend import Attendants
from swarmrun.controller.happenings import Happening, happenings
from swarmrun.controller.kube import Gone
from swarmrun.controller.reconcile import Outcome
from swarmrun.errors import RemoteUnavailable
from swarmrun.observability.metrics import REGISTRY
from swarmrun.observability.place import here

Body = Callable[..., dict[str, Any]]
RECONCILE_SAMPLE = REGISTRY.get_sample_value


class Kube:
    def __init__(self) -> None:
        self.written: list[SwarmRunStatus] = []
        self.told: list[Happening] = []
        self.answer: list[Exception] = []

    async def write_status(self, meta: Any, status: SwarmRunStatus) -> None:
        if self.answer:
            raise self.answer.pop()
        self.written.append(status)

    async def report(self, meta: Any, happening: Happening) -> None:
        self.told.append(happening)


class Steps:
    """A reconciler that shows one score after another, then rests."""

    def __init__(self, *scores: int) -> None:
        self.scores = list(scores)
        self.looks = 0

    def reconcile(self, memory: Any, classes: Any) -> Outcome:
        self.looks += 1
        score = self.scores.pop(0) if len(self.scores) > 1 else self.scores[0]
        return Outcome(SwarmRunStatus(phase=Phase.RUNNING, score=score), None)

    def to_wake(self) -> list[str]:
        return []

    def gone(self, memory: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attend, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(attend, "WRITE_SECONDS", 0.05)


def attended(reconciler: Any, kube: Kube, *events: Callable[[Attendants], None]) -> None:
    """Each event is shown once what came of the one before has settled."""

    async def all_of_them() -> None:
        attendants = Attendants(reconciler, kube)  # type: ignore[arg-type]
        try:
            for event in events:
                event(attendants)
                await asyncio.sleep(0.3)
        finally:
            attendants.close()

    asyncio.run(all_of_them())


class Turns(Steps):
    """A reconciler whose one agent takes turn after turn, and is in the end merged."""

    def reconcile(self, memory: Any, classes: Any) -> Outcome:
        self.looks += 1
        phase = AgentPhase.RUNNING if self.looks < 20 else AgentPhase.MERGED
        agent = AgentStatus(task="a", turns=self.looks, tokens=100 * self.looks, phase=phase)
        return Outcome(SwarmRunStatus(phase=Phase.RUNNING, agents=[agent]), 0.01 if self.looks < 20 else None)


def test_figures_that_every_turn_moves_are_written_seldom_and_what_matters_at_once(
    run_body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attend, "WRITE_SECONDS", 0.0)
    monkeypatch.setattr(attend, "FIGURES_SECONDS", 60.0)
    kube, steps = Kube(), Turns(0)
    attended(steps, kube, lambda a: a.see_run(run_body()), lambda a: None)
    assert steps.looks == 20
    assert [w.agents[0].turns for w in kube.written] == [1, 20]


def test_figures_are_written_when_their_time_has_come(
    run_body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attend, "WRITE_SECONDS", 0.0)
    monkeypatch.setattr(attend, "FIGURES_SECONDS", 0.0)
    kube, steps = Kube(), Turns(0)
    attended(steps, kube, lambda a: a.see_run(run_body()), lambda a: None)
    assert [w.agents[0].turns for w in kube.written] == list(range(1, 21))


def test_a_status_is_written_when_it_differs_and_not_again(run_body: Body) -> None:
    kube, steps = Kube(), Steps(50)
    changed = run_body(annotations={"swarmrun.dev/suspend": "now"})
    attended(steps, kube, lambda a: a.see_run(run_body()), lambda a: a.see_run(changed))
    assert steps.looks == 2
    assert [s.score for s in kube.written] == [50]


def test_what_only_the_controller_wrote_wakes_nobody(run_body: Body) -> None:
    kube, steps = Kube(), Steps(50)
    echo = run_body() | {"status": {"score": 50}}
    attended(steps, kube, lambda a: a.see_run(run_body()), lambda a: a.see_run(echo))
    assert steps.looks == 1


def test_writes_keep_their_distance_and_the_last_status_comes_through(run_body: Body) -> None:
    kube, steps = Kube(), Steps(1, 2, 3)
    first, second = run_body(), run_body(generation=2)

    def both(attendants: Attendants) -> None:
        attendants.see_run(first)
        asyncio.get_running_loop().call_later(0.02, attendants.see_run, second)

    attended(steps, kube, both)
    # The second look came too early to be written; the third shows what is so by then.
    assert [s.score for s in kube.written] == [1, 3]


class Tells(Steps):
    """A reconciler that shows one phase and reason after another, one look each."""

    def __init__(self, *said: tuple[Phase, str]) -> None:
        super().__init__(0)
        self.said = list(said)

    def reconcile(self, memory: Any, classes: Any) -> Outcome:
        self.looks += 1
        phase, reason = self.said[0]
        again = 0.02 if len(self.said) > 1 else None
        if len(self.said) > 1:
            self.said.pop(0)
        condition = Condition(type="Reconciling", status="True", reason=reason)
        return Outcome(SwarmRunStatus(phase=phase, conditions=[condition]), again)


def told(kube: Kube) -> list[str]:
    conditions = [status.condition("Reconciling") for status in kube.written]
    return [c.reason for c in conditions if c]


def test_how_a_run_ends_and_what_it_first_waits_for_is_written_at_once(
    run_body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attend, "WRITE_SECONDS", 60.0)
    for said in (
        [(Phase.PENDING, "Pending"), (Phase.FAILED, "QuotaExceeded")],
        [(Phase.PENDING, "Pending"), (Phase.PENDING, "ImagePullBackOff"), (Phase.FAILED, "ImagePullFailed")],
    ):
        kube = Kube()
        attended(Tells(*said), kube, lambda a: a.see_run(run_body()))
        assert told(kube) == [reason for _, reason in said]


def test_what_comes_and_goes_keeps_to_the_pace(run_body: Body, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attend, "WRITE_SECONDS", 60.0)
    flapping = [(Phase.RUNNING, reason) for reason in ("WaitingForModel", "Running") * 8]
    kube = Kube()
    attended(Tells(*flapping), kube, lambda a: a.see_run(run_body()))
    assert told(kube) == ["WaitingForModel"]
    # A next phase is no news of that kind.
    kube = Kube()
    attended(
        Tells((Phase.PENDING, "Pending"), (Phase.PLANNING, "Planning")), kube, lambda a: a.see_run(run_body())
    )
    assert told(kube) == ["Pending"]


def test_a_refused_write_is_tried_again(run_body: Body) -> None:
    kube, steps = Kube(), Steps(50)
    kube.answer = [RemoteUnavailable("conflict")]
    attended(steps, kube, lambda a: a.see_run(run_body()))
    assert [s.score for s in kube.written] == [50]


def test_a_resource_that_has_gone_is_left(run_body: Body) -> None:
    kube, steps = Kube(), Steps(50)
    kube.answer = [Gone("team/shop")]
    attended(steps, kube, lambda a: a.see_run(run_body()), lambda a: _none(a))


def _none(attendants: Attendants) -> None:
    assert not attendants.attended
    assert attendants.missing.is_set()


def test_a_bug_in_one_resource_is_tried_again_and_harms_no_other(run_body: Body) -> None:
    class Buggy(Steps):
        def reconcile(self, memory: Any, classes: Any) -> Outcome:
            if memory.body["metadata"]["uid"] == "bad":
                raise ZeroDivisionError
            return super().reconcile(memory, classes)

    kube = Kube()

    def two(attendants: Attendants) -> None:
        attendants.see_run(run_body(uid="bad"))
        attendants.see_run(run_body())

    attended(Buggy(50), kube, two)
    assert [s.score for s in kube.written] == [50]


def test_an_older_version_of_a_resource_changes_nothing(run_body: Body) -> None:
    kube, steps = Kube(), Steps(50)
    old = run_body(generation=9)
    old["metadata"]["resourceVersion"] = "6"
    attended(steps, kube, lambda a: a.see_run(run_body()), lambda a: a.see_run(old))
    assert steps.looks == 1


def test_the_end_is_told_as_an_event() -> None:
    from swarmrun.api.status import Condition, ResultStatus

    ready = Condition(type="Ready", status="True", reason="Published", message="published as swarm/shop")
    done = SwarmRunStatus(
        phase=Phase.SUCCEEDED, conditions=[ready], result=ResultStatus(branch="swarm/shop", commit="a" * 40)
    )
    told = happenings(SwarmRunStatus(phase=Phase.PUBLISHING), done)
    assert [(h.type, h.reason) for h in told] == [("Normal", "Published")]
    assert "swarm/shop is aaaaaaaaaaaa" in told[0].message
    assert happenings(done, done) == []


def test_the_time_from_a_change_to_its_status_is_measured_once_a_write(run_body: Body) -> None:
    def seconds() -> tuple[float, float]:
        found = [RECONCILE_SAMPLE(f"swarmrun_reconcile_latency_seconds_{what}") for what in ("count", "sum")]
        return found[0] or 0.0, found[1] or 0.0

    before = seconds()
    kube, steps = Kube(), Steps(10, 50)
    changed = run_body(annotations={"swarmrun.dev/suspend": "now"})
    same = run_body(annotations={"swarmrun.dev/suspend": "now", "other": "x"})
    attended(
        steps, kube, lambda a: a.see_run(run_body()), lambda a: a.see_run(changed), lambda a: a.see_run(same)
    )
    # Three looks, of which the last had nothing to write.
    assert (steps.looks, [s.score for s in kube.written]) == (3, [10, 50])
    after = seconds()
    assert after[0] - before[0] == 2
    assert 0 < after[1] - before[1] < 5


def test_log_lines_of_a_look_carry_the_resource(run_body: Body) -> None:
    class Talks(Steps):
        places: ClassVar[list[dict[str, Any]]] = []

        def reconcile(self, memory: Any, classes: Any) -> Outcome:
            self.places.append(here().known())
            return super().reconcile(memory, classes)

    attended(Talks(50), Kube(), lambda a: a.see_run(run_body()))
    assert Talks.places == [{"namespace": "team", "name": "shop"}]
    assert here().known() == {}
