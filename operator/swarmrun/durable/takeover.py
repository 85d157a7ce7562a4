"""An orchestration whose history another program has made goes on with this one.

The SDK replays a history with the code of today; where that decides otherwise the orchestration fails, for good.
So a worker looks at the input first. What another program began is not replayed: it waits until no activity of it
is under way (their results are recorded and not acted upon), then continues as new, with an input that its
`Successor` makes of what it said of itself last. The engine does that in one transaction; its id, its parent and
what was said to it from outside stay. Works on every engine: only the protocol's own continue-as-new is used.

A history with results that nobody acted upon is not replayed by any program any more, also not by its own: it would
act upon them in a replay, where it says nothing of itself. An event to itself marks it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import durabletask.internal.helpers as helpers
import durabletask.internal.orchestrator_service_pb2 as pb

from swarmrun.durable.backend_events import execution_started


class Successor(Protocol):
    """What goes on, and how: `orchestration.successor`."""

    @property
    def wanted(self) -> Any: ...

    def knows(self, name: str, given: Any) -> bool: ...

    def continued(self, given: Any, status: Any, broken: Mapping[str, str]) -> dict[str, Any]: ...

    def carries(self, event: str, data: Any, next_input: dict[str, Any]) -> bool: ...


LEFT = "swarmrun-left"
"""Event: results in this history were not acted upon."""


class NotOurs(Exception):
    """The program that is to work on this is another: the item is given back."""


def take_over(
    request: pb.OrchestratorRequest, stub: Any, token: str, successor: Successor
) -> pb.OrchestratorResponse | None:
    """The answer to a dispatch of another program's history; None for one of our own. Raises NotOurs."""
    events = [*request.pastEvents, *request.newEvents]
    started = execution_started(events)
    if started is None:
        return None
    given = _json(started.input.value)
    left = any(event.eventRaised.name == LEFT for event in events)
    if successor.knows(started.name, given) and not left:
        return None
    if not successor.wanted():
        raise NotOurs
    if any(event.HasField("executionTerminated") for event in request.newEvents):
        return _answer(request, token, helpers.new_complete_orchestration_action(-1, _TERMINATED, ""))
    if _under_way(events):
        mark = helpers.new_send_event_action(_MARK, request.instanceId, LEFT, None)
        return _answer(request, token, *([] if left else [mark]))
    state = stub.GetInstance(pb.GetInstanceRequest(instanceId=request.instanceId, getInputsAndOutputs=True))
    status = _json(state.orchestrationState.customStatus.value) if state.exists else None
    next_input = successor.continued(given, status, _broken(events))
    carried = [
        event
        for event in events
        if event.HasField("eventRaised")
        and event.eventRaised.name != LEFT
        and successor.carries(event.eventRaised.name, _json(event.eventRaised.input.value), next_input)
    ]
    action = helpers.new_complete_orchestration_action(
        -1, _CONTINUED, json.dumps(next_input, ensure_ascii=False), carryover_events=carried
    )
    return _answer(request, token, action)


_MARK = 1_000_000
"""Number of that action: none of the orchestration's own has it."""
_TERMINATED = pb.ORCHESTRATION_STATUS_TERMINATED
_CONTINUED = pb.ORCHESTRATION_STATUS_CONTINUED_AS_NEW


def _answer(
    request: pb.OrchestratorRequest, token: str, *actions: pb.OrchestratorAction
) -> pb.OrchestratorResponse:
    return pb.OrchestratorResponse(
        instanceId=request.instanceId, completionToken=token, actions=list(actions)
    )


def _under_way(events: Sequence[pb.HistoryEvent]) -> bool:
    """Activities that may be at work now: nothing may be begun a second time beside them."""
    begun = {e.eventId for e in events if e.HasField("taskScheduled")}
    ended = {e.taskCompleted.taskScheduledId for e in events if e.HasField("taskCompleted")}
    failed = {e.taskFailed.taskScheduledId for e in events if e.HasField("taskFailed")}
    return bool(begun - ended - failed)


def _broken(events: Sequence[pb.HistoryEvent]) -> dict[str, str]:
    """Sub-orchestrations that have failed: nobody else tells."""
    ids = {
        e.eventId: e.subOrchestrationInstanceCreated.instanceId
        for e in events
        if e.HasField("subOrchestrationInstanceCreated")
    }
    failures = [
        e.subOrchestrationInstanceFailed for e in events if e.HasField("subOrchestrationInstanceFailed")
    ]
    return {
        ids[f.taskScheduledId]: f.failureDetails.errorMessage for f in failures if f.taskScheduledId in ids
    }


def _json(text: str) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None
