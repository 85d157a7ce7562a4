"""One look at a resource: what is started, said and shown."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from durabletask.client import OrchestrationStatus

from swarmrun.api.status import AgentPhase, AgentStatus, Phase, SwarmRunStatus
from swarmrun.controller.reconcile import Memory, Outcome, Reconciler
from swarmrun.durable.channel import LocalError
from swarmrun.report import AgentRecord, RunReport

UID = "6a6f1ef2-1a50-4f4b-b6ee-7191db4fc90f"
RUN = f"{UID}-1"
START = datetime(2030, 1, 1, tzinfo=UTC)

Body = Callable[..., dict[str, Any]]


@pytest.fixture
def reconciler(engine: Any, worlds: Any) -> Reconciler:
    return Reconciler(engine, worlds)


@pytest.fixture
def classes(class_body: Body) -> dict[str, Any]:
    return {"standard": class_body()}


def look(reconciler: Reconciler, memory: Memory, classes: dict[str, Any]) -> Outcome:
    outcome = reconciler.reconcile(memory, classes)
    memory.status = outcome.status
    return outcome


def said(status: SwarmRunStatus, kind: str = "Ready") -> tuple[str, str, str]:
    found = status.condition(kind)
    assert found is not None
    return found.status, found.reason, found.message


def report(phase: Phase = Phase.RUNNING, **fields: Any) -> RunReport:
    return RunReport(run=RUN, name="shop", namespace="team", phase=phase, started_at=START, **fields)


def test_a_run_is_started_once_with_the_class_s_values(
    reconciler: Reconciler, engine: Any, worlds: Any, run_body: Body, classes: dict[str, Any]
) -> None:
    memory = Memory(run_body(), SwarmRunStatus())
    first = look(reconciler, memory, classes)
    look(reconciler, memory, classes)
    assert list(engine.states) == [RUN]
    assert [s.tiers["standard"].model for s in worlds.begun] == ["m"]
    assert (first.status.run, first.status.phase, first.status.observed_generation) == (RUN, "Pending", 1)
    assert said(first.status, "Reconciling")[0] == "True"


def test_a_missing_class_is_waited_for(
    reconciler: Reconciler, engine: Any, run_body: Body, classes: Any
) -> None:
    memory = Memory(run_body(), SwarmRunStatus())
    status = look(reconciler, memory, {}).status
    assert said(status, "Reconciling")[:2] == ("True", "SwarmClassNotFound")
    assert said(status, "Stalled")[0] == "False"
    assert "SwarmClass standard does not exist" in said(status)[2]
    assert not engine.states
    assert look(reconciler, memory, classes).status.run == RUN


@pytest.mark.parametrize(
    ("spec", "given", "reason", "words"),
    [
        ({"parallelism": 9}, {"parallelism": 2}, "AboveCeiling", "spec.parallelism is 9"),
        ({}, {"allowedNamespaces": ["other-*"]}, "NamespaceNotAllowed", "namespace team"),
        ({}, {"repositories": {"hosts": ["forge.example.com"]}}, "RepositoryNotAllowed", "git.example.com"),
        ({"goal": "  "}, {}, "InvalidSpec", "spec.goal"),
    ],
)
def test_what_the_class_does_not_allow_is_stalled_until_the_spec_changes(
    reconciler: Reconciler,
    engine: Any,
    run_body: Body,
    class_body: Body,
    spec: Any,
    given: Any,
    reason: str,
    words: str,
) -> None:
    classes = {"standard": class_body(**given)}
    memory = Memory(run_body(**spec), SwarmRunStatus())
    outcome = look(reconciler, memory, classes)
    assert said(outcome.status, "Stalled")[:2] == ("True", reason)
    assert words in said(outcome.status)[2]
    assert (outcome.status.phase, outcome.again) == ("Failed", None)
    # The class changes: a run that was told to have failed does not begin on its own.
    allowed = {"standard": class_body()}
    if reason != "InvalidSpec":
        assert look(reconciler, memory, allowed).status.phase == "Failed"
    memory.body = run_body(generation=2)
    assert look(reconciler, memory, allowed).status.phase == "Pending"
    assert list(engine.states) == [RUN]


def test_a_plan_that_cannot_hold_is_refused_before_anything_is_started(
    reconciler: Reconciler, engine: Any, worlds: Any, run_body: Body, classes: dict[str, Any]
) -> None:
    one = {"title": "A", "instructions": "x", "acceptance": [{"description": "x"}]}
    ring = [
        {"id": "a", "dependsOn": ["b"], "ownedPaths": ["a"]} | one,
        {"id": "b", "dependsOn": ["a"], "ownedPaths": ["b"]} | one,
    ]
    outcome = look(reconciler, Memory(run_body(plan={"tasks": ring}), SwarmRunStatus()), classes)
    assert said(outcome.status, "Stalled")[:2] == ("True", "InvalidPlan")
    assert "wait for each other in a ring" in said(outcome.status)[2]
    assert not engine.states
    assert not worlds.begun


def test_while_a_run_begins_it_is_looked_at_soon_again_and_ever_less_often(
    reconciler: Reconciler, engine: Any, run_body: Body, classes: dict[str, Any]
) -> None:
    memory = Memory(run_body(), SwarmRunStatus())
    look(reconciler, memory, classes)
    for waits in ("", "pod"):
        engine.tell(report(Phase.PENDING, message=f"waits for {waits}", waiting_for=waits))
        found = [look(reconciler, memory, classes).again or 0 for _ in range(20)]
        assert found[0] == 0.3
        assert found == sorted(found)
        assert found[-1] == 1.0
    engine.tell(report(Phase.RUNNING))
    assert look(reconciler, memory, classes).again == 1.0


def test_no_engine_is_said_and_nothing_of_the_status_is_lost(
    reconciler: Reconciler, engine: Any, run_body: Body, classes: dict[str, Any]
) -> None:
    memory = Memory(run_body(), SwarmRunStatus())
    look(reconciler, memory, classes)
    engine.tell(report(score=61, integration="c" * 40, base_commit="b" * 40))
    before = look(reconciler, memory, classes).status
    engine.broken = LocalError(grpc.StatusCode.UNAVAILABLE, "gone")
    # As this process remembers it, and as the next one finds it.
    for other in (memory, Memory(run_body(), before)):
        outcome = look(reconciler, other, classes)
        assert said(outcome.status, "Reconciling")[:2] == ("True", "EngineUnreachable")
        assert (outcome.status.score, outcome.status.phase) == (61, "Running")
        assert outcome.again is not None
    engine.broken = reconciler.answering.silence = None
    assert said(look(reconciler, memory, classes).status)[1] == "Running"


def test_a_run_that_the_engine_has_lost_is_started_again(
    reconciler: Reconciler, engine: Any, run_body: Body, classes: dict[str, Any]
) -> None:
    memory = Memory(run_body(suspend=True), SwarmRunStatus())
    look(reconciler, memory, classes)
    look(reconciler, memory, classes)
    engine.states.clear()
    look(reconciler, memory, classes)
    assert list(engine.states) == [RUN]
    assert [m["kind"] for _, m in engine.mail] == ["suspend", "suspend"]


def test_an_ended_run_stays_ended_whatever_the_engine_still_knows(
    reconciler: Reconciler, engine: Any, worlds: Any, run_body: Body, classes: dict[str, Any]
) -> None:
    memory = Memory(run_body(), SwarmRunStatus())
    look(reconciler, memory, classes)
    engine.end(report(Phase.SUCCEEDED, reason="Published", finished_at=START))
    status = look(reconciler, memory, classes).status
    assert said(status)[:2] == ("True", "Published")
    assert worlds.closed == [RUN]
    engine.states.clear()
    later = Memory(run_body(generation=2), status)
    assert look(reconciler, later, {}).status.observed_generation == 2
    assert not engine.states


def test_a_new_attempt_begins_afresh(
    reconciler: Reconciler, engine: Any, run_body: Body, classes: dict[str, Any]
) -> None:
    ended = SwarmRunStatus(
        run=RUN, phase=Phase.FAILED, started_at=START, finished_at=START, observed_generation=1
    )
    memory = Memory(run_body(annotations={"swarmrun.dev/attempt": "2"}), ended)
    status = look(reconciler, memory, classes).status
    assert (status.run, status.phase) == (f"{UID}-2", "Pending")


def test_cancelled_before_it_began_it_never_begins(
    reconciler: Reconciler, engine: Any, run_body: Body, classes: dict[str, Any]
) -> None:
    status = look(reconciler, Memory(run_body(cancel=True), SwarmRunStatus()), classes).status
    assert status.phase == "Cancelled"
    assert said(status, "Finished")[0] == "True"
    assert not engine.states


def test_after_its_time_everything_but_the_resource_goes(
    reconciler: Reconciler, engine: Any, worlds: Any, run_body: Body
) -> None:
    now = datetime.now(UTC)
    ended = SwarmRunStatus(
        run=RUN, phase=Phase.SUCCEEDED, started_at=now, finished_at=now, observed_generation=1
    )
    memory = Memory(run_body(ttlSecondsAfterFinished=3600), ended)
    again = look(reconciler, memory, {}).again
    assert again is not None
    assert 3500 < again <= 3600
    memory.status = ended.model_copy(update={"finished_at": now - timedelta(hours=2)})
    assert look(reconciler, memory, {}) == Outcome(memory.status, None)
    look(reconciler, memory, {})
    assert (worlds.removed, engine.purged) == ([RUN], [RUN])


def test_an_engine_that_fails_a_run_is_shown_as_failed(
    reconciler: Reconciler, engine: Any, run_body: Body, classes: dict[str, Any]
) -> None:
    from durabletask.client import OrchestrationStatus

    memory = Memory(run_body(), SwarmRunStatus())
    look(reconciler, memory, classes)
    engine.tell(report())
    engine.states[RUN].runtime_status = OrchestrationStatus.FAILED
    status = look(reconciler, memory, classes).status
    assert (status.phase, said(status)[1]) == ("Failed", "InternalError")


def test_a_word_that_did_not_come_through_is_said_again(
    reconciler: Reconciler,
    engine: Any,
    run_body: Body,
    classes: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = Memory(run_body(), SwarmRunStatus())
    look(reconciler, memory, classes)
    memory.body = run_body(suspend=True, generation=2)

    def unreachable(*_: Any, **__: Any) -> None:
        raise LocalError(grpc.StatusCode.UNAVAILABLE, "gone")

    with monkeypatch.context() as broken:
        broken.setattr(engine, "raise_orchestration_event", unreachable)
        assert said(look(reconciler, memory, classes).status)[1] == "EngineUnreachable"
    reconciler.answering.silence = None
    status = look(reconciler, memory, classes).status
    assert [m["kind"] for _, m in engine.mail] == ["suspend"]
    assert (said(status)[1], status.observed_generation) == ("Pending", 2)


def test_nothing_new_is_neither_parsed_nor_projected(
    reconciler: Reconciler, engine: Any, run_body: Body, classes: dict[str, Any]
) -> None:
    memory = Memory(run_body(), SwarmRunStatus())
    look(reconciler, memory, classes)
    engine.tell(report())
    first, second = look(reconciler, memory, classes), look(reconciler, memory, classes)
    assert second.status is first.status
    assert second.again is not None
    assert first.again is not None
    assert second.again > first.again


# ---------------------------------------------------------------- what the engine ends, and what nobody can read


def test_a_run_is_told_once_of_an_agent_that_the_engine_has_ended(
    reconciler: Reconciler, engine: Any, run_body: Body, classes: dict[str, Any]
) -> None:
    memory = Memory(run_body(), SwarmRunStatus())
    look(reconciler, memory, classes)
    agent = f"{RUN}:a:1"
    record = AgentRecord(status=AgentStatus(task="a", role="coder", phase=AgentPhase.RUNNING), instance=agent)
    stand = {"live": {agent: {"role": "coder", "serial": 4}}}
    engine.tell(report(agents=[record], stand=stand))
    engine.states[agent] = type(engine.states[RUN])(
        agent, failure_details=SimpleNamespace(message="it went wrong")
    )
    look(reconciler, memory, classes)
    assert not engine.mail
    engine.states[agent].runtime_status = OrchestrationStatus.FAILED
    look(reconciler, memory, classes)
    look(reconciler, memory, classes)
    ((to, mail),) = engine.mail
    assert (to, mail["kind"], mail["agent"], mail["serial"]) == (RUN, "ended", agent, 4)
    assert (mail["result"]["status"], mail["result"]["message"]) == ("Failed", "it went wrong")


def test_a_status_that_another_version_has_written_is_said_to_be_unreadable(
    reconciler: Reconciler, engine: Any, run_body: Body, classes: dict[str, Any]
) -> None:
    memory = Memory(run_body(), SwarmRunStatus())
    look(reconciler, memory, classes)
    engine.tell(report(score=61, base_commit="b" * 40))
    assert look(reconciler, memory, classes).status.score == 61
    engine.states[RUN].serialized_custom_status = '{"run": "x", "name": "shop", "phase": "Dreaming"}'
    outcome = look(reconciler, memory, classes)
    assert said(outcome.status, "Reconciling")[:2] == ("True", "StatusUnreadable")
    assert "phase" in said(outcome.status)[2]
    assert outcome.status.score == 61
