"""One look at one resource: starts its run, tells it what was asked, and says what the status should be.

Level-triggered: whatever the order of events and however often it is called, the same resource and the same engine
lead to the same end. Blocking (it talks to the engine), so it is called on a thread.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import grpc
from durabletask.client import OrchestrationQuery

from swarmrun.api.resolve import Snapshot, resolve
from swarmrun.api.run import SwarmRun
from swarmrun.api.status import Phase, SwarmRunStatus
from swarmrun.controller.answering import Answering
from swarmrun.controller.attempts import TAKEN_OVER, awaits_plan, input_of, its_turn
from swarmrun.controller.bodies import as_begun, over, parse
from swarmrun.controller.capacity import LEAST, Capacity, Claim
from swarmrun.controller.classes import choose
from swarmrun.controller.conditions import stands_still
from swarmrun.controller.inputs import run_input
from swarmrun.controller.observe import Client, Seen, look
from swarmrun.controller.projection import project
from swarmrun.controller.traced import run_ended
from swarmrun.controller.unheard import unheard
from swarmrun.controller.wanted import (
    RERUN_FIELD,
    Mail,
    Said,
    Wanted,
    instance_of,
    misses,
    number_of,
    uid_of,
    words,
)
from swarmrun.controller.worlds import Worlds
from swarmrun.errors import InvalidResource, NotFound, SwarmRunError, WaitingForCapacity
from swarmrun.observability import tracing
from swarmrun.orchestration.inputs import RunInput
from swarmrun.orchestration.mail import EVENT
from swarmrun.planning.check import check, refuse_errors
from swarmrun.report import RunReport

FIRST, SOON, LATER, RARELY, RESTING = 0.3, 1.0, 10.0, 30.0, 120.0
"""Seconds until the next look: while a run begins, so that a mistake is told soon; after a change; at most, while
nothing changes; while engine or class is missing; while a person is waited for, whose word is heard at once."""

log = logging.getLogger("swarmrun.controller")


class Engine(Client, Protocol):
    """The part of durabletask's client that is used here."""

    def schedule_new_orchestration(self, orchestrator: str, *, input: Any, instance_id: str) -> str: ...

    def raise_orchestration_event(self, instance_id: str, event_name: str, *, data: Any) -> None: ...

    def purge_orchestration(self, instance_id: str, recursive: bool = True) -> Any: ...

    def get_all_orchestration_states(
        self, orchestration_query: OrchestrationQuery | None = None
    ) -> list[Any]: ...


@dataclass
class Memory:
    """What this process knows of one resource, beside the API server and the engine."""

    body: Mapping[str, Any]
    status: SwarmRunStatus
    """The last one written, or found at the start."""
    said: Said = field(default_factory=Said)
    seen: Seen | None = None
    instance: str = ""
    delay: float = FIRST
    parsed: tuple[Mapping[str, Any], SwarmRun, Wanted] | None = None
    """Of `body`, while it is the same."""
    shown: tuple[Mapping[str, Any], Seen, SwarmRunStatus] | None = None
    """What came of `body` and `seen`, while they are the same."""
    removed: bool = False
    """Volumes and artifacts are gone by `ttlSecondsAfterFinished`."""


@dataclass(frozen=True)
class Outcome:
    status: SwarmRunStatus
    again: float | None
    """Seconds until the next look; None: when the resource changes."""


class Reconciler:
    def __init__(
        self,
        engine: Engine,
        worlds: Worlds,
        capacity: Capacity | None = None,
        answering: Answering | None = None,
    ) -> None:
        self._engine = engine
        self.answering = answering or Answering()
        self._worlds = worlds
        self.capacity = capacity or Capacity()
        self._room_made = False
        """Sandboxes were given back since `to_wake` was asked."""
        self.left_behind: dict[str, int] = {}
        """Resources that have gone, by UID, with the number of attempts that may have left something. For the sweep."""

    def reconcile(self, memory: Memory, classes: Mapping[str, Mapping[str, Any]]) -> Outcome:
        """Never raises what a person or a broken engine can cause: the status says it."""
        body = memory.body  # the watch may replace it at any moment
        wrong: InvalidResource | None = None
        try:
            if memory.parsed is None or memory.parsed[0] is not body:
                memory.parsed = (body, *parse(body))
            _, run, asked = memory.parsed
        except InvalidResource as exc:
            try:
                run, asked = as_begun(body, memory.status)
            except InvalidResource:
                return self._refused(memory, body, exc)
            wrong = exc
        asked = its_turn(asked, memory.status, run.metadata.uid)
        instance = instance_of(run.metadata.uid, asked.attempt)
        if memory.instance != instance:
            memory.instance, memory.said, memory.seen, memory.removed = instance, Said(), None, False
        if over(memory.status, instance, run.metadata.generation):
            return self._after(memory, run, wrong)
        try:
            return self._work(memory, body, run, asked, classes, wrong)
        except InvalidResource as exc:
            self._leave(instance)
            if exc.field == RERUN_FIELD and memory.status.run and memory.status.phase.terminal:
                # What the earlier attempt has shown stays, and another word there gives this one a new chance.
                return self._after(memory, run, exc)
            return self._refused(memory, body, exc, instance)
        except (SwarmRunError, grpc.RpcError) as exc:
            memory.said = Said()  # what was to be said may not have come through
            if not isinstance(exc, WaitingForCapacity):
                self.capacity.withdraw(instance)
            told = self.answering.failed(exc) if isinstance(exc, grpc.RpcError) else exc
            return self._shown(memory, self._waiting(memory, run, instance, told), RARELY)

    # ------------------------------------------------------------ a run at work

    def _work(
        self,
        memory: Memory,
        body: Mapping[str, Any],
        run: SwarmRun,
        asked: Wanted,
        classes: Mapping[str, Mapping[str, Any]],
        wrong: InvalidResource | None,
    ) -> Outcome:
        """`wrong`: what of the resource is not heeded."""
        self.answering.check()
        try:
            seen = look(self._engine, memory.instance, run.metadata.name, memory.seen)
        except NotFound:
            if asked.cancelled is not None:
                self._leave(memory.instance)
                return self._shown(memory, _cancelled(run, memory.instance), None)
            if wrong is not None:
                # It has begun, and the engine has lost it: nothing begins from what can be read of it.
                return self._shown(memory, self._waiting(memory, run, memory.instance, wrong), RARELY)
            self._begin(run, memory.instance, asked, classes)
            memory.said, memory.seen = Said(), None
            seen = look(self._engine, memory.instance, run.metadata.name)
        mails = [] if seen.ended else words(asked, seen.report, memory.said)
        mails += unheard(seen, memory.said)
        mails += self._share(memory.instance, seen)
        for mail in mails:
            self._engine.raise_orchestration_event(memory.instance, EVENT, data=mail)
        if seen.ended and (memory.seen is None or not memory.seen.ended):
            self._worlds.close(memory.instance)
            run_ended(seen.report)
        moved, memory.seen = mails or seen is not memory.seen, seen
        memory.delay = _delay(memory.delay, seen.report, moved=bool(moved))
        again = _ttl(run, seen.report.finished_at) if seen.ended else memory.delay
        if seen.ended and memory.parsed and memory.parsed[2].attempt > asked.attempt:
            again = SOON  # the next attempt's turn
        if memory.shown and memory.shown[0] is body and memory.shown[1] is seen:
            return Outcome(memory.shown[2], again)
        told = "" if seen.ended else str(wrong or misses(asked, seen.report))
        update = {"generation": run.metadata.generation} | ({"message": told} if told else {})
        report = seen.report.model_copy(update=update)
        outcome = self._shown(memory, report, again, seen)
        memory.shown = (body, seen, outcome.status)
        return outcome

    def _begin(
        self, run: SwarmRun, instance: str, asked: Wanted, classes: Mapping[str, Mapping[str, Any]]
    ) -> None:
        cls = choose(run.spec.class_name, classes)
        snapshot = resolve(run, cls, instance=instance, attempt=asked.attempt)
        if snapshot.given_plan is not None:
            # What needs no repository to be seen. The rest is found once it is there.
            refuse_errors(check(snapshot.given_plan, max_tasks=snapshot.max_tasks))
        taken_over = input_of(self._engine, run_input(snapshot), run.metadata.uid, asked)
        granted = self._admit(snapshot, run, at_first=LEAST if awaits_plan(taken_over) else None)
        with tracing.span("start", {"swarmrun.run": instance}, context=tracing.within(instance)):
            self._start(self._worlds.begin(snapshot), taken_over, granted, asked.suspended)

    def _start(self, snapshot: Snapshot, taken_over: RunInput, granted: int, suspended: bool) -> None:
        earlier = {name: getattr(taken_over, name) for name in TAKEN_OVER}
        given = run_input(snapshot, granted=granted, suspended=suspended).model_copy(update=earlier)
        try:
            self._engine.schedule_new_orchestration(
                "run", input=given.model_dump(mode="json"), instance_id=snapshot.run
            )
        except grpc.RpcError as exc:
            # An earlier call whose answer was lost.
            if getattr(exc, "code", lambda: None)() != grpc.StatusCode.ALREADY_EXISTS:
                raise

    # ------------------------------------------------------------ sandboxes

    def _admit(self, snapshot: Snapshot, run: SwarmRun, *, at_first: int | None) -> int:
        """Sandboxes that it may hold. Raises WaitingForCapacity."""
        claim = Claim(
            created=run.metadata.creation_timestamp,
            instance=snapshot.run,
            class_name=snapshot.class_name,
            class_cap=snapshot.max_sandboxes,
            wanted=snapshot.parallelism + 1,
            at_first=at_first,
        )
        granted = self.capacity.admit(claim)
        if not granted:
            raise WaitingForCapacity(self.capacity.why(claim))
        self._room_made = True  # perhaps for the next one, too
        return granted

    def _share(self, instance: str, seen: Seen) -> list[Mail]:
        """Gives back what the run needs no more, and hands it more where it could use that and nobody waits."""
        if seen.ended:
            self._leave(instance)
            return []
        report = seen.report
        if report.sandboxes is None:
            return []
        if self.capacity.needs(instance, report.granted, report.sandboxes):
            self._room_made = True
        more = self.capacity.grow(instance) if report.phase is Phase.RUNNING else 0
        return [{"kind": "grant", "sandboxes": more}] if more else []

    def to_wake(self) -> list[str]:
        """Runs (by instance) that wait for sandboxes and should be looked at, since some were given back."""
        made, self._room_made = self._room_made, False
        return self.capacity.next() if made else []

    def gone(self, memory: Memory) -> None:
        """The resource has gone. A run of it that works keeps what it holds until the sweep has ended it."""
        if memory.seen is None:
            self._leave(memory.instance)
        if uid := uid_of(memory.instance):
            self.left_behind[uid] = number_of(memory.instance)

    def _leave(self, instance: str) -> None:
        if self.capacity.leave(instance):
            self._room_made = True

    # ------------------------------------------------------------ before and after

    def _after(self, memory: Memory, run: SwarmRun, wrong: InvalidResource | None) -> Outcome:
        """An ended run: nothing is asked of it any more; in time what it left behind goes. `wrong`: why what its
        resource asks for cannot be done."""
        status = memory.status
        if status.observed_generation != run.metadata.generation:
            status = _observed(status, run.metadata.generation)
        status = stands_still(status, (wrong.reason, str(wrong)) if wrong else None, datetime.now(UTC))
        again = _ttl(run, status.finished_at)
        if again == 0.0:
            again = None if memory.removed or self._removed(memory) else RARELY
        return Outcome(status, again)

    def _removed(self, memory: Memory) -> bool:
        """Whether what all attempts have left is gone now; if not, it is tried again."""
        try:
            self.answering.check()
            self.forget_all(uid_of(memory.instance), number_of(memory.instance))
        except (SwarmRunError, grpc.RpcError) as exc:
            told = self.answering.failed(exc) if isinstance(exc, grpc.RpcError) else exc
            log.warning("what run %s has left cannot be removed yet: %s", memory.instance, told)
            return False
        memory.removed = True
        return True

    def forget_all(self, uid: str, attempts: int) -> None:
        """What the first so many attempts of a resource have left, none of which works any more."""
        for number in range(1, attempts + 1):
            self.forget(instance_of(uid, number))

    def forget(self, instance: str) -> None:
        """Removes volumes, artifacts and history of an ended attempt. Idempotent."""
        self._leave(instance)
        self._worlds.remove(instance)
        # A purge that is recursive leaves agents alone on the embedded engine.
        for agent in self._engine.get_all_orchestration_states(
            OrchestrationQuery(instance_id_prefix=f"{instance}:")
        ):
            self._engine.purge_orchestration(agent.instance_id)
        self._engine.purge_orchestration(instance)

    def _refused(
        self, memory: Memory, body: Mapping[str, Any], exc: InvalidResource, instance: str = ""
    ) -> Outcome:
        """A run that does not begin."""
        return self._shown(memory, refused(body, exc, instance), None)

    def _waiting(self, memory: Memory, run: SwarmRun, instance: str, exc: SwarmRunError) -> RunReport:
        """Something that is not the run's fault is missing: said, and looked at again."""
        report = memory.seen.report if memory.seen else RunReport(run="", name=run.metadata.name)
        if memory.seen is None and memory.status.run == instance:
            # At work, as an earlier process saw it: nothing of that may go from the status.
            report = RunReport(run=instance, name=run.metadata.name, phase=memory.status.phase)
        return report.model_copy(
            update={
                "generation": run.metadata.generation,
                "reason": exc.reason,
                "message": str(exc),
                "waiting_for": "",
                "suspended": False,
            }
        )

    def _shown(
        self, memory: Memory, report: RunReport, again: float | None, seen: Seen | None = None
    ) -> Outcome:
        now = datetime.now(UTC)
        status = project(report, seen.progress if seen else {}, previous=memory.status, now=now)
        if report.run and seen is None and memory.seen is None and memory.status.run == report.run:
            status = memory.status.model_copy(
                update={"conditions": status.conditions, "observed_generation": status.observed_generation}
            )
        return Outcome(status, again)


def refused(body: Mapping[str, Any], exc: InvalidResource, instance: str = "") -> RunReport:
    """Ended before it began, with the field and the mend."""
    meta = body.get("metadata", {})
    return RunReport(
        run=instance,
        name=meta.get("name", ""),
        namespace=meta.get("namespace", ""),
        generation=meta.get("generation", 1),
        phase=Phase.FAILED,
        reason=exc.reason,
        message=str(exc),
        finished_at=datetime.now(UTC).replace(microsecond=0),
    )


def _cancelled(run: SwarmRun, instance: str) -> RunReport:
    return RunReport(
        run=instance,
        name=run.metadata.name,
        namespace=run.metadata.namespace,
        generation=run.metadata.generation,
        phase=Phase.CANCELLED,
        reason="Cancelled",
        message="cancelled before it began",
        finished_at=datetime.now(UTC).replace(microsecond=0),
    )


def _observed(status: SwarmRunStatus, generation: int) -> SwarmRunStatus:
    conditions = [c.model_copy(update={"observed_generation": generation}) for c in status.conditions]
    return status.model_copy(update={"observed_generation": generation, "conditions": conditions})


def _begins(report: RunReport) -> bool:
    """Its Pods are on their way, and what is wrong with them is told soon: nobody should wait for that."""
    began = report.phase in (Phase.PENDING, Phase.PLANNING)
    return began and not report.plan and not report.suspended and report.waiting_for in ("", "pod")


def _delay(before: float, report: RunReport, *, moved: bool) -> float:
    """Seconds until the next look."""
    if _begins(report):
        return FIRST if moved else min(SOON, before * 1.2)
    if moved:
        return SOON
    return min(RESTING, before * 3) if _rests(report) else min(LATER, before * 1.5)


def _rests(report: RunReport) -> bool:
    """Nothing moves it but a word on the resource, which is shown at once."""
    return report.suspended or report.waiting_for in ("plan", "publish")


def _ttl(run: SwarmRun, finished: datetime | None) -> float | None:
    """Seconds until what an ended run left behind may go; None: it is kept."""
    ttl = run.spec.ttl_seconds_after_finished
    if ttl is None or finished is None:
        return None
    finished = finished if finished.tzinfo else finished.replace(tzinfo=UTC)
    return max(0.0, (finished + timedelta(seconds=ttl) - datetime.now(UTC)).total_seconds())
