"""Handing out work and taking results back: at least once, to whoever is there, never stuck.

A delivery is a lease held by a stream (one connected worker). A lease ends with the result; when the stream
breaks it ends after a grace period and the item is delivered again. A worker that reconnects gets no claim on
what was sent over its broken stream: nobody can know whether that arrived. An item that a worker gives back goes to
another one at once where there is one, and for a while not to that one again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import durabletask.internal.helpers as helpers
import durabletask.internal.orchestrator_service_pb2 as pb
from durabletask.entities import EntityInstanceId
from durabletask.testing.in_memory_backend import OrchestrationInstance

from swarmrun.durable import backend_events as events
from swarmrun.durable.backend_instances import InstancesBackend

HISTORY_LIMIT = 20_000
"""Events of one life; arbitrary, about a hundred times what the runs here need between two continue-as-new."""

_PING_SECONDS = 30
"""Below the worker's 120 s after which silence counts as a broken connection."""

_PAUSE_AFTER_ABANDON = 1.0
"""Seconds until an item is offered again to the worker that gave it back: long enough not to spin, short enough not
to be felt. With what is new for its instance that worker is spared, too: the same would come of it."""


Item = tuple[str, int]
"""Instance and, of an activity, its task's number."""


@dataclass(eq=False)
class Stream:
    """One worker's open request for work, and what it wants (None: everything)."""

    orchestrations: Any
    activities: Any
    entities: Any
    open: bool = True
    gave_back: dict[Item, int] = field(default_factory=dict["Item", int])
    """What is not offered to it now, and how many pauses of that are running."""


@dataclass(eq=False)
class Lease:
    kind: Literal["orchestration", "activity", "entity"]
    instance_id: str
    stream: Stream
    task_id: int = 0
    life: str = ""


class DispatchingBackend(InstancesBackend):
    """Replaces the stock dispatcher, which polls, shares one wake-up between workers and knows no leases."""

    def __init__(self, *, grace: float = 5.0) -> None:
        super().__init__()
        self._grace = grace
        self._leases: dict[str, Lease] = {}
        """By completion token."""
        self._streams: list[Stream] = []
        """The open ones."""

    # ------------------------------------------------------------ handing out

    def GetWorkItems(self, request: pb.GetWorkItemsRequest, context: Any) -> Iterator[pb.WorkItem]:
        stream = Stream(*self._parse_work_item_filters(request))

        def ended() -> None:
            with self._lock:
                self._close_stream(stream)

        with self._lock:
            self._streams.append(stream)
        if not context.add_callback(ended):
            return ended()
        try:
            while True:
                with self._lock:
                    item = self._await_item(stream)
                if item is None:
                    return
                yield item
        finally:
            ended()

    def _await_item(self, stream: Stream) -> pb.WorkItem | None:
        """The next item, a ping when there is none for a while, None when the stream has ended."""
        waited = False
        while stream.open and not self._shutdown_event.is_set():
            item = (
                self._next_orchestration(stream) or self._next_activity(stream) or self._next_entity(stream)
            )
            if item is not None:
                return item
            if waited:
                return pb.WorkItem(healthPing=pb.HealthPing())
            waited = not self._work.wait(_PING_SECONDS)
        return None

    def _close_stream(self, stream: Stream) -> None:
        if not stream.open:
            return
        stream.open = False
        self._streams.remove(stream)
        for token, lease in self._leases.items():
            if lease.stream is stream:
                self._later(self._grace, "", lambda token=token: self._take_back(token))
        self._work.notify_all()

    def _next_orchestration(self, stream: Stream) -> pb.WorkItem | None:
        for _ in range(len(self._orchestration_queue)):
            instance_id = self._orchestration_queue.popleft()
            self._orchestration_queue_set.discard(instance_id)
            instance = self._instances.get(instance_id)
            if (
                instance is None
                or not instance.pending_events
                or instance_id in self._orchestration_in_flight
                or self._is_terminal_status(instance.status)
            ):
                continue
            spared = (instance_id, 0) in stream.gave_back
            if not spared and self._matches_filter(instance.name, instance.version, stream.orchestrations):
                return self._dispatch(instance, stream)
            self._orchestration_queue.append(instance_id)
            self._orchestration_queue_set.add(instance_id)
        return None

    def _dispatch(self, instance: OrchestrationInstance, stream: Stream) -> pb.WorkItem:
        batch, instance.pending_events = list(instance.pending_events), []
        if instance.history and not batch[0].HasField("orchestratorStarted"):
            batch.insert(0, helpers.new_orchestrator_started_event(datetime.now(UTC)))
        instance.dispatched_events = batch
        self._orchestration_in_flight.add(instance.instance_id)
        token = str(instance.completion_token)
        self._leases[token] = Lease("orchestration", instance.instance_id, stream)
        return pb.WorkItem(
            completionToken=token,
            orchestratorRequest=pb.OrchestratorRequest(
                instanceId=instance.instance_id, pastEvents=instance.history, newEvents=batch
            ),
        )

    def _next_activity(self, stream: Stream) -> pb.WorkItem | None:
        for _ in range(len(self._ready_activities)):
            entry = self._ready_activities.popleft()
            instance_id, life_token, task_id = entry
            life = self._lives.get(instance_id)
            if life is None or life.token != life_token or task_id not in life.activities:
                continue
            token = f"{life_token}/{task_id}"
            if token in self._leases:
                continue
            task = life.activities[task_id]
            version = task.version.value if task.HasField("version") else None
            spared = (instance_id, task_id) in stream.gave_back
            if spared or not self._matches_filter(task.name, version, stream.activities):
                self._ready_activities.append(entry)
                continue
            self._leases[token] = Lease("activity", instance_id, stream, task_id, life_token)
            item = pb.WorkItem(completionToken=token, activityRequest=pb.ActivityRequest())
            request = item.activityRequest
            request.name, request.taskId = task.name, task_id
            request.orchestrationInstance.instanceId = instance_id
            for name in ("version", "input", "parentTraceContext"):
                if task.HasField(name):
                    getattr(request, name).CopyFrom(getattr(task, name))
            request.tags.update(task.tags)
            return item
        return None

    def _next_entity(self, stream: Stream) -> pb.WorkItem | None:
        for _ in range(len(self._entity_queue)):
            entity_id = self._entity_queue.popleft()
            self._entity_queue_set.discard(entity_id)
            entity = self._entities.get(entity_id)
            if entity is None or not entity.pending_operations or entity_id in self._entity_in_flight:
                continue
            name = EntityInstanceId.parse(entity_id).entity
            spared = (entity_id, 0) in stream.gave_back
            if spared or not self._matches_filter(name, None, stream.entities):
                self._entity_queue.append(entity_id)
                self._entity_queue_set.add(entity_id)
                continue
            batch, entity.pending_operations = list(entity.pending_operations), []
            entity.dispatched_operations = batch
            self._entity_in_flight.add(entity_id)
            token = str(entity.completion_token)
            self._leases[token] = Lease("entity", entity_id, stream)
            request = pb.EntityRequest(instanceId=entity_id, operationRequests=batch)
            if entity.serialized_state:
                request.entityState.value = entity.serialized_state
            return pb.WorkItem(completionToken=token, entityRequestV2=request)
        return None

    def _enqueue_entity(self, entity_id: str) -> None:
        self._dirty_entities.add(entity_id)
        # While it is at work the end of that batch looks again.
        if entity_id not in self._entity_in_flight:
            super()._enqueue_entity(entity_id)
            self._work.notify_all()

    # ------------------------------------------------------------ results

    def CompleteActivityTask(self, request: pb.ActivityResponse, context: Any) -> pb.CompleteTaskResponse:
        """The first result of a task in its life counts, also one from a delivery that was thought lost."""
        with self._lock:
            self._leases.pop(request.completionToken, None)
            instance, life = self._instances.get(request.instanceId), self._lives.get(request.instanceId)
            if (
                instance is None
                or life is None
                or request.completionToken != f"{life.token}/{request.taskId}"
                or request.taskId not in life.activities
            ):
                self._logger.info("late result of %s#%s ignored", request.instanceId, request.taskId)
                return pb.CompleteTaskResponse()
            self._deliver(instance, events.task_finished(request))
            return pb.CompleteTaskResponse()

    def CompleteOrchestratorTask(
        self, request: pb.OrchestratorResponse, context: Any
    ) -> pb.CompleteTaskResponse:
        with self._lock:
            instance = self._instances.get(request.instanceId)
            if (
                instance is None
                or str(instance.completion_token) != request.completionToken
                or request.instanceId not in self._orchestration_in_flight
            ):
                self._logger.info("late dispatch of %s ignored", request.instanceId)
                return pb.CompleteTaskResponse()
            self._leases.pop(request.completionToken, None)
            size = len(instance.history) + len(instance.dispatched_events)
            if size > HISTORY_LIMIT:
                request = _failed(request, size)
            custom_status = instance.custom_status
            response = super().CompleteOrchestratorTask(request, context)
            if not request.HasField("customStatus"):
                # A new life has set none yet: the last word stands rather than an empty one.
                instance.custom_status = custom_status
            self._enqueue_orchestration(request.instanceId)
            return response

    def CompleteEntityTask(self, request: pb.EntityBatchResult, context: Any) -> pb.CompleteTaskResponse:
        with self._lock:
            lease = self._leases.pop(request.completionToken, None)
            if lease is None:
                self._logger.info("late entity batch ignored")
                return pb.CompleteTaskResponse()
            self._dirty_entities.add(lease.instance_id)
            return super().CompleteEntityTask(request, context)

    # ------------------------------------------------------------ giving back

    def _abandoned(self, token: str) -> None:
        """A worker cannot do this now (a payload did not load, it is another program's): others may."""
        with self._lock:
            lease = self._leases.get(token)
            if lease is None:
                return
            stream, item = lease.stream, (lease.instance_id, lease.task_id)
            if all(item in other.gave_back for other in self._streams if other is not stream):
                self._later(_PAUSE_AFTER_ABANDON, "", lambda: self._take_back(token))
                return
            stream.gave_back[item] = stream.gave_back.get(item, 0) + 1
            self._later(_PAUSE_AFTER_ABANDON, "", lambda: self._offer_again(stream, item))
            self._take_back(token)

    def _offer_again(self, stream: Stream, item: Item) -> None:
        stream.gave_back[item] -= 1
        if not stream.gave_back[item]:
            del stream.gave_back[item]
            self._work.notify_all()

    def AbandonTaskActivityWorkItem(
        self, request: pb.AbandonActivityTaskRequest, context: Any
    ) -> pb.AbandonActivityTaskResponse:
        self._abandoned(request.completionToken)
        return pb.AbandonActivityTaskResponse()

    def AbandonTaskOrchestratorWorkItem(
        self, request: pb.AbandonOrchestrationTaskRequest, context: Any
    ) -> pb.AbandonOrchestrationTaskResponse:
        self._abandoned(request.completionToken)
        return pb.AbandonOrchestrationTaskResponse()

    def AbandonTaskEntityWorkItem(
        self, request: pb.AbandonEntityTaskRequest, context: Any
    ) -> pb.AbandonEntityTaskResponse:
        self._abandoned(request.completionToken)
        return pb.AbandonEntityTaskResponse()

    def _take_back(self, token: str) -> None:
        """Ends a lease without a result and makes its item ready again."""
        lease = self._leases.pop(token, None)
        if lease is None:
            return
        self._logger.info("delivering %s %s#%s again", lease.kind, lease.instance_id, lease.task_id)
        match lease.kind:
            case "orchestration":
                instance = self._instances.get(lease.instance_id)
                if instance is None or str(instance.completion_token) != token:
                    return
                instance.pending_events = [*instance.dispatched_events, *instance.pending_events]
                instance.dispatched_events = []
                instance.completion_token = self._new_token()
                self._orchestration_in_flight.discard(lease.instance_id)
                self._enqueue_orchestration(lease.instance_id)
            case "activity":
                life = self._lives.get(lease.instance_id)
                if life is not None and life.token == lease.life and lease.task_id in life.activities:
                    self._offer_activity(lease.instance_id, lease.task_id)
            case "entity":
                entity = self._entities.get(lease.instance_id)
                if entity is None or str(entity.completion_token) != token:
                    return
                entity.pending_operations = [*entity.dispatched_operations, *entity.pending_operations]
                entity.dispatched_operations = []
                entity.completion_token = self._new_token()
                self._entity_in_flight.discard(lease.instance_id)
                self._enqueue_entity(lease.instance_id)


def _failed(request: pb.OrchestratorResponse, size: int) -> pb.OrchestratorResponse:
    """Instead of refusing the result, which nobody would ever hear of."""
    return pb.OrchestratorResponse(
        instanceId=request.instanceId,
        completionToken=request.completionToken,
        actions=[
            helpers.new_complete_orchestration_action(
                -1,
                pb.ORCHESTRATION_STATUS_FAILED,
                None,
                pb.TaskFailureDetails(
                    errorType="HistoryTooLong",
                    errorMessage=f"{size} history events (limit {HISTORY_LIMIT}): use continue_as_new",
                ),
            )
        ],
    )
