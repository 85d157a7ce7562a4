"""Does an orchestrator decide the same again? For tests of orchestrations, and before changing one that is at work.

The SDK's own check looks at the names of what is called, not at the inputs: an orchestrator that iterates over a
set passes it and swaps results after a restart. This one replays every recorded dispatch from nothing and compares
names, inputs, ids and children. Run it in a process with another `PYTHONHASHSEED` to catch sets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import durabletask.internal.orchestrator_service_pb2 as pb
from durabletask.worker import _OrchestrationExecutor, _Registry  # pyright: ignore[reportPrivateUsage]

from swarmrun.durable.backend_events import execution_started, kind
from swarmrun.durable.converter import Converter
from swarmrun.durable.worker import Orchestrator, sdk_logger
from swarmrun.errors import EngineError

_BEGUN = {"taskScheduled", "timerCreated", "subOrchestrationInstanceCreated", "eventSent"}


def check(orchestrators: Iterable[Orchestrator], history: Sequence[pb.HistoryEvent]) -> int:
    """Replays every dispatch of one life and returns how many there were.

    Raises EngineError (reason `NotDeterministic`) that names the dispatch and the first difference.
    """
    registry = _Registry()
    for orchestrator in orchestrators:
        registry.add_orchestrator(orchestrator)
    started = execution_started(history)
    if started is None:
        raise EngineError("a history without a beginning cannot be replayed", reason="HistoryIncomplete")
    instance_id = started.orchestrationInstance.instanceId
    past: list[pb.HistoryEvent] = []
    number = 0
    for number, batch in enumerate(_batches(history), start=1):
        new = [e for e in batch if kind(e) not in _BEGUN and kind(e) not in _CLOSING and not _is_echo(e)]
        recorded = [_begun(event) for event in batch if kind(event) in _BEGUN]
        executor = _OrchestrationExecutor(
            registry, sdk_logger("replay"), Converter(), maximum_timer_interval=None
        )
        actions = executor.execute(instance_id, past, new).actions
        failure = next((a.completeOrchestration.failureDetails for a in actions if _failed(a)), None)
        if failure is not None and not any(kind(e) == "executionCompleted" for e in batch):
            raise _different(number, "an open orchestration", f"failed: {failure.errorMessage}")
        replayed = [
            _decided(action) for action in actions if action.WhichOneof("orchestratorActionType") in _KINDS
        ]
        for was, now in zip(recorded, replayed, strict=False):
            if was != now:
                raise _different(number, str(was), str(now))
        if len(recorded) != len(replayed):
            raise _different(number, f"{len(recorded)} steps begun", f"{len(replayed)}")
        past.extend(batch)
    return number


_CLOSING = {"orchestratorCompleted", "executionCompleted"}
_KINDS = {
    "scheduleTask": "taskScheduled",
    "createTimer": "timerCreated",
    "createSubOrchestration": "subOrchestrationInstanceCreated",
    "sendEvent": "eventSent",
}


def _batches(history: Sequence[pb.HistoryEvent]) -> Iterator[list[pb.HistoryEvent]]:
    batch: list[pb.HistoryEvent] = []
    for event in history:
        if event.HasField("orchestratorStarted") and batch:
            yield batch
            batch = []
        batch.append(event)
    if batch:
        yield batch


def _is_echo(event: pb.HistoryEvent) -> bool:
    """Confirmations of messages to entities, which carry their action's id."""
    return kind(event).startswith("entity") and event.eventId >= 0


def _failed(action: pb.OrchestratorAction) -> bool:
    return action.completeOrchestration.orchestrationStatus == pb.ORCHESTRATION_STATUS_FAILED


def _begun(event: pb.HistoryEvent) -> tuple[object, ...]:
    what = kind(event)
    body = getattr(event, what)
    if what == "timerCreated":
        return (event.eventId, what, body.fireAt.ToNanoseconds())
    return (event.eventId, what, body.name, body.input.value, getattr(body, "instanceId", ""))


def _decided(action: pb.OrchestratorAction) -> tuple[object, ...]:
    what = action.WhichOneof("orchestratorActionType") or ""
    body = getattr(action, what)
    if what == "createTimer":
        return (action.id, _KINDS[what], body.fireAt.ToNanoseconds())
    if what == "sendEvent":
        return (action.id, _KINDS[what], body.name, body.data.value, body.instance.instanceId)
    return (action.id, _KINDS[what], body.name, body.input.value, getattr(body, "instanceId", ""))


def _different(number: int, was: str, now: str) -> EngineError:
    return EngineError(
        f"dispatch {number} decides otherwise in replay: recorded {was}, now {now}",
        mend="an orchestrator must depend on nothing but its input and results: no clock, no chance, no sets",
        reason="NotDeterministic",
    )
