"""Instances, their lives, timers and children: the stock backend's rules with its gaps closed.

Everything here works in memory and under `_lock`; what changed is left in the `_dirty*` sets for the store.
Hooks of the base class (durabletask 1.12.0, pinned) are named as they are there.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import durabletask.internal.helpers as helpers
import durabletask.internal.orchestrator_service_pb2 as pb
import grpc
from durabletask.testing.in_memory_backend import InMemoryOrchestrationBackend, OrchestrationInstance

from swarmrun.durable import backend_events as events
from swarmrun.durable.backend_clock import Agenda
from swarmrun.durable.backend_life import Life, Timer

_UNLIMITED = 1 << 62


class InstancesBackend(InMemoryOrchestrationBackend):
    """Adds lives, exact timers, children without watcher threads, delayed starts, recursive terminate."""

    def __init__(self) -> None:
        super().__init__(max_history_size=_UNLIMITED)
        # The SDK's is at WARNING or below for every ignored late result; ours is silent by default.
        self._logger = logging.getLogger("swarmrun.durable.backend")
        self._work = threading.Condition(self._lock)
        """Somebody may take work."""
        self._alarm = threading.Condition(self._lock)
        """The agenda has got a nearer entry."""
        self._agenda = Agenda()
        self._lives: dict[str, Life] = {}
        self._parents: dict[str, tuple[str, int]] = {}
        """Child's id → its parent's id and task id there."""
        self._ready_activities: deque[tuple[str, str, int]] = deque()
        """(instance, life, task); entries of an ended life are skipped when they are taken."""
        self._dirty: set[str] = set()
        self._dirty_entities: set[str] = set()
        # Tokens of an earlier process must not fit those of this one.
        self._next_completion_token = random.getrandbits(60)

    # ------------------------------------------------------------ lives

    def _begin_life(self, instance_id: str, life: Life) -> None:
        """Nothing of an earlier life of this id will fire, arrive or be waited for."""
        self._end_life(instance_id)
        self._lives[instance_id] = life
        self._orchestration_in_flight.discard(instance_id)

    def _end_life(self, instance_id: str) -> None:
        life = self._lives.get(instance_id)
        if life is not None:
            self._agenda.drop(life.token)
            for child in life.children.values():
                self._parents.pop(child, None)
            life.waits_for_nothing()

    def _later(self, delay: float, owner: str, action: Callable[[], None]) -> None:
        self._agenda.push(delay, owner, action)
        self._alarm.notify_all()

    def _new_token(self) -> int:
        token = self._next_completion_token
        self._next_completion_token += 1
        return token

    def _touch(self, instance_id: str) -> None:
        self._dirty.add(instance_id)

    def _record(self, instance: OrchestrationInstance, event: pb.HistoryEvent) -> None:
        """What the orchestrator began."""
        instance.history.append(event)
        self._lives[instance.instance_id].apply(event)
        if instance.status == pb.ORCHESTRATION_STATUS_PENDING:
            instance.status = pb.ORCHESTRATION_STATUS_RUNNING

    def _deliver(self, instance: OrchestrationInstance, event: pb.HistoryEvent) -> None:
        """What the orchestrator waits for."""
        self._lives[instance.instance_id].apply(event)
        instance.pending_events.append(event)
        instance.last_updated_at = datetime.now(UTC)
        self._enqueue_orchestration(instance.instance_id)

    def _enqueue_orchestration(self, instance_id: str) -> None:
        """Makes an instance ready unless it must wait: for its dispatch to end, its start, its resume."""
        self._touch(instance_id)
        instance, life = self._instances.get(instance_id), self._lives.get(instance_id)
        if instance is None or life is None or instance_id in self._orchestration_in_flight:
            return
        if not instance.pending_events or self._is_terminal_status(instance.status):
            return
        if instance.status == pb.ORCHESTRATION_STATUS_SUSPENDED and not any(
            events.kind(event) in events.WAKES_SUSPENDED for event in instance.pending_events
        ):
            return
        delay = self._seconds_to_start(instance)
        if delay > 0:
            self._later(delay, life.token, lambda: self._enqueue_orchestration(instance_id))
            return
        super()._enqueue_orchestration(instance_id)
        self._work.notify_all()

    @staticmethod
    def _seconds_to_start(instance: OrchestrationInstance) -> float:
        if instance.status != pb.ORCHESTRATION_STATUS_PENDING:
            return 0
        started = events.execution_started(instance.pending_events)
        if started is None or not started.HasField("scheduledStartTimestamp"):
            return 0
        start = started.scheduledStartTimestamp.ToDatetime(tzinfo=UTC)
        # Measured from the creation: a clock set back meanwhile does not move the start away.
        return (start - max(datetime.now(UTC), instance.created_at)).total_seconds()

    # ------------------------------------------------------------ creation and control

    def StartInstance(self, request: pb.CreateInstanceRequest, context: Any) -> pb.CreateInstanceResponse:
        with self._lock:
            response = super().StartInstance(request, context)
            instance = self._instances[response.instanceId]
            started = events.execution_started(instance.pending_events)
            assert started is not None
            for name in ("scheduledStartTimestamp", "parentTraceContext"):
                if request.HasField(name):
                    getattr(started, name).CopyFrom(getattr(request, name))
            self._begin_life(response.instanceId, Life())
            self._enqueue_orchestration(response.instanceId)
            return response

    def _create_instance_internal(
        self,
        instance_id: str,
        name: str,
        encoded_input: str | None = None,
        version: str | None = None,
    ) -> None:
        super()._create_instance_internal(instance_id, name, encoded_input, version)
        self._begin_life(instance_id, Life())
        self._enqueue_orchestration(instance_id)

    def RestartInstance(self, request: pb.RestartInstanceRequest, context: Any) -> pb.RestartInstanceResponse:
        with self._lock:
            before = self._instances.get(request.instanceId)
            tags = dict(before.tags) if before is not None and before.tags else {}
            response = super().RestartInstance(request, context)
            instance = self._instances[response.instanceId]
            started = events.execution_started(instance.pending_events)
            assert started is not None
            started.tags.update(tags)
            instance.tags = tags or None
            return response

    def _control(self, instance_id: str, context: Any) -> bool:
        """False for an instance that has ended: it can obey nothing and must not keep the event for ever."""
        instance = self._instances.get(instance_id)
        if instance is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Orchestration instance '{instance_id}' not found")
            return False
        return not self._is_terminal_status(instance.status)

    def RaiseEvent(self, request: pb.RaiseEventRequest, context: Any) -> pb.RaiseEventResponse:
        with self._lock:
            if not self._control(request.instanceId, context):
                return pb.RaiseEventResponse()
            return super().RaiseEvent(request, context)

    def SuspendInstance(self, request: pb.SuspendRequest, context: Any) -> pb.SuspendResponse:
        with self._lock:
            if not self._control(request.instanceId, context):
                return pb.SuspendResponse()
            return super().SuspendInstance(request, context)

    def ResumeInstance(self, request: pb.ResumeRequest, context: Any) -> pb.ResumeResponse:
        with self._lock:
            if not self._control(request.instanceId, context):
                return pb.ResumeResponse()
            return super().ResumeInstance(request, context)

    def TerminateInstance(self, request: pb.TerminateRequest, context: Any) -> pb.TerminateResponse:
        with self._lock:
            if not self._control(request.instanceId, context):
                return pb.TerminateResponse()
            return super().TerminateInstance(request, context)

    def _terminate_instance_internal(
        self, instance_id: str, output: str | None, recursive: bool = False
    ) -> None:
        life = self._lives.get(instance_id)
        children = list(life.children.values()) if recursive and life is not None else []
        super()._terminate_instance_internal(instance_id, output, recursive=False)
        for child in children:
            self._terminate_instance_internal(child, output, recursive=True)

    # ------------------------------------------------------------ what an orchestrator asks for

    def _process_schedule_task_action(
        self, instance: OrchestrationInstance, action: pb.OrchestratorAction
    ) -> None:
        self._record(instance, events.task_scheduled(action.id, action.scheduleTask))
        self._offer_activity(instance.instance_id, action.id)

    def _offer_activity(self, instance_id: str, task_id: int) -> None:
        self._ready_activities.append((instance_id, self._lives[instance_id].token, task_id))
        self._work.notify_all()

    def _process_create_timer_action(
        self, instance: OrchestrationInstance, action: pb.OrchestratorAction
    ) -> None:
        fire_at = action.createTimer.fireAt.ToDatetime(tzinfo=UTC)
        event = helpers.new_timer_created_event(action.id, fire_at)
        event.timestamp.CopyFrom(events.timestamp())
        self._record(instance, event)
        self._arm(instance.instance_id, action.id)

    def _arm(self, instance_id: str, timer_id: int) -> None:
        life = self._lives[instance_id]
        timer: Timer = life.timers[timer_id]
        # Counted from the creation where the wall clock has been set back since: never longer than asked for.
        delay = (timer.fire_at - max(datetime.now(UTC), timer.created)).total_seconds()
        self._later(delay, life.token, lambda: self._fire_timer(instance_id, life, timer_id))

    def _fire_timer(self, instance_id: str, life: Life, timer_id: int) -> None:
        instance = self._instances.get(instance_id)
        if instance is None or self._lives.get(instance_id) is not life or timer_id not in life.timers:
            return
        event = helpers.new_timer_fired_event(timer_id, life.timers[timer_id].fire_at)
        self._deliver(instance, event)

    def _process_create_sub_orchestration_action(
        self, instance: OrchestrationInstance, action: pb.OrchestratorAction
    ) -> None:
        child = action.createSubOrchestration
        self._record(instance, events.child_created(action.id, child))
        try:
            self._create_instance_internal(
                child.instanceId,
                child.name,
                child.input.value if child.HasField("input") else None,
                version=child.version.value if child.HasField("version") else None,
            )
        except ValueError as error:  # an instance of this id is at work
            self._deliver(instance, helpers.new_sub_orchestration_failed_event(action.id, error))
            return
        started = events.execution_started(self._instances[child.instanceId].pending_events)
        assert started is not None
        started.parentInstance.orchestrationInstance.instanceId = instance.instance_id
        started.parentInstance.taskScheduledId = action.id
        started.tags.update(child.tags)
        self._instances[child.instanceId].tags = dict(child.tags) or None
        if child.HasField("parentTraceContext"):
            started.parentTraceContext.CopyFrom(child.parentTraceContext)
        self._watch_sub_orchestration(instance.instance_id, child.instanceId, action.id)

    def _watch_sub_orchestration(self, parent_instance_id: str, sub_instance_id: str, task_id: int) -> None:
        """No thread that gives up after 30 s: the child's end looks for its parent."""
        self._parents[sub_instance_id] = (parent_instance_id, task_id)
        child = self._instances.get(sub_instance_id)
        if child is None or self._is_terminal_status(child.status):
            self._tell_parent(sub_instance_id)

    def _notify_waiters(self, instance_id: str) -> None:
        self._touch(instance_id)
        instance = self._instances.get(instance_id)
        if instance is not None and self._is_terminal_status(instance.status):
            instance.completed_at = instance.completed_at or datetime.now(UTC)
            self._end_life(instance_id)
            if instance_id in self._parents:
                self._tell_parent(instance_id)
        self._wake_waiters(instance_id)

    def _wake_waiters(self, instance_id: str) -> None:
        super()._notify_waiters(instance_id)

    def _tell_parent(self, child_id: str) -> None:
        parent_id, task_id = self._parents.pop(child_id)
        parent, life = self._instances.get(parent_id), self._lives.get(parent_id)
        if parent is None or life is None or life.children.get(task_id) != child_id:
            return
        child = self._instances.get(child_id)
        if child is not None and child.status == pb.ORCHESTRATION_STATUS_COMPLETED:
            event = helpers.new_sub_orchestration_completed_event(task_id, child.output)
        else:
            how = "is gone" if child is None else "was terminated"
            failure = child.failure_details if child is not None else None
            event = events.child_failed(
                task_id,
                failure
                or pb.TaskFailureDetails(
                    errorType="SubOrchestrationEnded", errorMessage=f"sub-orchestration '{child_id}' {how}"
                ),
            )
        self._deliver(parent, event)

    # ------------------------------------------------------------ from one life to the next

    def _process_complete_orchestration_action(
        self, instance: OrchestrationInstance, complete_action: pb.CompleteOrchestrationAction
    ) -> None:
        if complete_action.orchestrationStatus != pb.ORCHESTRATION_STATUS_CONTINUED_AS_NEW:
            super()._process_complete_orchestration_action(instance, complete_action)
            return
        before = events.execution_started(instance.history)
        arrived = [e for e in instance.pending_events if events.kind(e) in events.KEPT_WHEN_CONTINUING]
        instance.pending_events = events.unheeded(events.last_batch(instance.history)) + arrived
        super()._process_complete_orchestration_action(instance, complete_action)
        started = events.execution_started(instance.pending_events)
        if before is not None and started is not None:
            started.tags.update(before.tags)
            for name in ("parentInstance", "parentTraceContext"):
                if before.HasField(name):
                    getattr(started, name).CopyFrom(getattr(before, name))
        self._begin_life(instance.instance_id, Life())

    def _recall_history(self, instance: OrchestrationInstance) -> None:
        """Overridden where the history of an ended instance is not kept in memory."""

    def _prepare_rewind(self, instance: OrchestrationInstance, reason: str | None = None) -> None:
        self._recall_history(instance)
        self._begin_life(instance.instance_id, Life())
        super()._prepare_rewind(instance, reason)

    def _process_rewind_orchestration_action(
        self, instance: OrchestrationInstance, rewind_action: pb.RewindOrchestrationAction
    ) -> None:
        self._begin_life(instance.instance_id, Life.of(rewind_action.newHistory))
        super()._process_rewind_orchestration_action(instance, rewind_action)
        self._take_up(instance.instance_id)

    def _take_up(self, instance_id: str) -> None:
        """Offers and arms everything that a life waits for: after a restart or a rewind."""
        life = self._lives[instance_id]
        for task_id in life.activities:
            self._offer_activity(instance_id, task_id)
        for timer_id in life.timers:
            self._arm(instance_id, timer_id)
        for task_id, child in list(life.children.items()):
            self._watch_sub_orchestration(instance_id, child, task_id)
        self._enqueue_orchestration(instance_id)
