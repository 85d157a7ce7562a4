"""The embedded engine's backend: every acknowledged change is on disk before it is acknowledged.

`InMemoryOrchestrationBackend` (the SDK's, for tests) keeps the rules of the protocol; the layers below this one
mend them (`backend_instances`, `backend_dispatch`); this one writes through to a `Store` and reads back from it.
kill -9 at any moment loses nothing that anybody was told of; what was at work is delivered again.
"""

from __future__ import annotations

import functools
import os
import sqlite3
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import durabletask.internal.helpers as helpers
import durabletask.internal.orchestrator_service_pb2 as pb
import grpc
from durabletask.testing.in_memory_backend import OrchestrationInstance, PendingLockRequest

from swarmrun.durable.backend_dispatch import DispatchingBackend
from swarmrun.durable.backend_life import Life
from swarmrun.durable.backend_store import Store, Synchronous
from swarmrun.errors import EngineError

EXIT_NOT_DURABLE = 70
"""`EX_SOFTWARE` of sysexits.h: the process ends because it could not keep its promise."""

_TICK_SECONDS = 1.0
"""The longest sleep of the timer thread; a nearer entry wakes it."""

_MUTATORS = (
    "StartInstance",
    "RaiseEvent",
    "TerminateInstance",
    "SuspendInstance",
    "ResumeInstance",
    "PurgeInstances",
    "RestartInstance",
    "RewindInstance",
    "CompleteOrchestratorTask",
    "CompleteActivityTask",
    "CompleteEntityTask",
    "SignalEntity",
    "CleanEntityStorage",
    "AbandonTaskActivityWorkItem",
    "AbandonTaskOrchestratorWorkItem",
    "AbandonTaskEntityWorkItem",
)


def stop_the_process(error: EngineError) -> None:
    """Memory is ahead of the disk: going on, or even an orderly end, could tell somebody what is not so."""
    print(f"swarmrun: {error}", file=sys.stderr, flush=True)
    os._exit(EXIT_NOT_DURABLE)


class DurableBackend(DispatchingBackend):
    """One file, one process. `grace` is how long a lost worker may be silent before its work goes to another.

    `on_fatal` is called when state cannot be written and must not return control to the caller's run; the
    default prints the message and ends the process with exit code 70.
    """

    def __init__(
        self,
        path: Path,
        *,
        synchronous: Synchronous = "FULL",
        grace: float = 5.0,
        on_fatal: Callable[[EngineError], None] = stop_the_process,
    ) -> None:
        super().__init__(grace=grace)
        self._store = Store(path, synchronous=synchronous)
        self._on_fatal = on_fatal
        self._archived: set[str] = set()
        """Ended instances whose history is on disk only."""
        self._signals: dict[str, tuple[str, datetime, pb.HistoryEvent]] = {}
        self._dirty_signals: set[str] = set()
        self._written_locks: list[Any] = []
        self._told_when_written: set[str] = set()
        self._closed = False
        self._ticker = threading.Thread(target=self._tick, name="swarmrun-timers", daemon=True)
        try:
            with self._lock:
                self._load()
        except sqlite3.DatabaseError as exc:
            self._store.close()
            raise EngineError(
                f"engine state {path} cannot be read: {exc}",
                mend="move the file away and start the run again",
                reason="StateUnreadable",
            ) from exc
        except BaseException:
            self._store.close()
            raise
        self._ticker.start()

    # ------------------------------------------------------------ life of the process

    def _load(self) -> None:
        active: list[str] = []
        for instance, life_token in self._store.instances():
            instance_id = instance.instance_id
            instance.completion_token = self._new_token()
            self._instances[instance_id] = instance
            if self._is_terminal_status(instance.status):
                self._lives[instance_id] = Life(life_token)
                self._archived.add(instance_id)
                self._store.note_rows(instance_id, life_token)
                continue
            instance.history = self._store.history(instance_id, life_token)
            self._lives[instance_id] = Life.of([*instance.history, *instance.pending_events], life_token)
            active.append(instance_id)
        for entity in self._store.entities():
            entity.completion_token = self._new_token()
            self._entities[entity.instance_id] = entity
            if entity.pending_operations:
                self._enqueue_entity(entity.instance_id)
        for signal_id, entity_id, due, event in self._store.signals():
            self._signals[signal_id] = (entity_id, due, event)
            self._arm_signal(signal_id)
        self._written_locks = self._store.misc("locks", [])
        self._pending_lock_requests = [PendingLockRequest(*row) for row in self._written_locks]
        for instance_id in active:
            self._take_up(instance_id)
        self._flush()

    def start(self) -> str:
        raise NotImplementedError("reached by swarmrun.durable.channel, never over TCP")

    def reset(self) -> None:
        raise NotImplementedError("state is kept: remove the file instead")

    def stop(self, grace: float | None = None) -> None:
        """Takes no more calls and lets go of the file. Work in progress is delivered again after reopening."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if not self.stopped:
                self._flush()
            self._shutdown_event.set()
            self._work.notify_all()
            self._alarm.notify_all()
            for waiters in self._state_waiters.values():
                for waiter in waiters:
                    waiter.event.set()
        self._ticker.join()
        self._store.close()

    @property
    def stopped(self) -> bool:
        return self._shutdown_event.is_set()

    def outstanding(self) -> dict[str, int]:
        """What was asked for and has not come back, by kind: it waits, or somebody works on it."""
        with self._lock:
            return {
                "activity": sum(len(life.activities) for life in self._lives.values()),
                "orchestration": len(self._orchestration_queue) + len(self._orchestration_in_flight),
            }

    def _tick(self) -> None:
        with self._lock:
            while not self._shutdown_event.is_set():
                while (action := self._agenda.pop_due()) is not None:
                    try:
                        action()
                    except Exception:  # one bad entry must not stop every timer
                        self._logger.exception("a timer's action failed")
                self._flush()
                self._alarm.wait(self._agenda.seconds_to_next(_TICK_SECONDS))

    # ------------------------------------------------------------ writing through

    def _flush(self) -> None:
        """Writes what changed, in one transaction. Called under the lock before anything is acknowledged."""
        locks = [
            [p.critical_section_id, p.parent_instance_id, p.lock_set] for p in self._pending_lock_requests
        ]
        if not (self._dirty or self._dirty_entities or self._dirty_signals or locks != self._written_locks):
            return
        try:
            with self._store.transaction():
                ended, gone = self._write_instances()
                self._write_entities()
                if locks != self._written_locks:
                    self._store.save_misc("locks", locks)
            if gone or ended:
                self._store.vacuum()
        except (sqlite3.Error, OSError) as exc:
            self._shutdown_event.set()  # nothing that comes now may be acknowledged
            path = self._store.path
            error = EngineError(
                f"engine state {path} could not be written: {exc}. The file holds every finished step, "
                "nothing is lost",
                mend=f"free space on the file system of {path.parent}, then resume the run",
                reason="StateNotWritten",
            )
            self._on_fatal(error)
            raise error from exc
        self._written_locks = locks
        for instance_id in ended:
            self._instances[instance_id].history = []
            self._archived.add(instance_id)
        for instance_id in gone:
            self._end_life(instance_id)
            self._lives.pop(instance_id, None)
            self._archived.discard(instance_id)
        self._dirty.clear()
        self._dirty_entities.clear()
        self._dirty_signals.clear()
        while self._told_when_written:
            super()._wake_waiters(self._told_when_written.pop())

    def _wake_waiters(self, instance_id: str) -> None:
        """Not before it is written: whoever waits is told an end that must hold."""
        self._told_when_written.add(instance_id)

    def _write_instances(self) -> tuple[list[str], list[str]]:
        """Returns the instances that have just ended and those that are no more."""
        ended: list[str] = []
        gone: list[str] = []
        for instance_id in self._dirty:
            instance = self._instances.get(instance_id)
            if instance is None:
                self._store.delete_instance(instance_id)
                gone.append(instance_id)
                continue
            archived = instance_id in self._archived
            life = self._lives[instance_id].token
            self._store.save_instance(instance, life, None if archived else instance.history)
            if not archived and self._is_terminal_status(instance.status):
                ended.append(instance_id)
        return ended, gone

    def _write_entities(self) -> None:
        for entity_id in self._dirty_entities:
            entity = self._entities.get(entity_id)
            if entity is None:
                self._store.delete_entity(entity_id)
            else:
                self._store.save_entity(entity)
        for signal_id in self._dirty_signals:
            if signal_id in self._signals:
                self._store.save_signal(signal_id, *self._signals[signal_id])
            else:
                self._store.delete_signal(signal_id)

    def _begin_life(self, instance_id: str, life: Life) -> None:
        self._archived.discard(instance_id)
        super()._begin_life(instance_id, life)

    # ------------------------------------------------------------ histories on disk

    def _recall_history(self, instance: OrchestrationInstance) -> None:
        if instance.instance_id in self._archived:
            token = self._lives[instance.instance_id].token
            instance.history = self._store.history(instance.instance_id, token)

    def StreamInstanceHistory(
        self, request: pb.StreamInstanceHistoryRequest, context: Any
    ) -> Iterator[pb.HistoryChunk]:
        with self._lock:
            archived = request.instanceId in self._archived
            history: list[pb.HistoryEvent] = []
            if archived:
                history = self._store.history(request.instanceId, self._lives[request.instanceId].token)
        if not archived:
            yield from super().StreamInstanceHistory(request, context)
        for offset in range(0, len(history), 100):
            yield pb.HistoryChunk(events=history[offset : offset + 100])

    def PurgeInstances(self, request: pb.PurgeInstancesRequest, context: Any) -> pb.PurgeInstancesResponse:
        with self._lock:
            before = set(self._instances)
            response = super().PurgeInstances(request, context)
            self._dirty |= before - set(self._instances)
            return response

    # ------------------------------------------------------------ what answers must also tell

    def _build_instance_response(
        self, instance: OrchestrationInstance, include_payloads: bool
    ) -> pb.GetInstanceResponse:
        response = super()._build_instance_response(instance, include_payloads)
        self._complete_state(response.orchestrationState)
        return response

    def QueryInstances(self, request: pb.QueryInstancesRequest, context: Any) -> pb.QueryInstancesResponse:
        with self._lock:
            response = super().QueryInstances(request, context)
            for state in response.orchestrationState:
                self._complete_state(state)
            return response

    def _complete_state(self, state: pb.OrchestrationState) -> None:
        instance = self._instances.get(state.instanceId)
        if instance is None:
            return
        state.tags.update(instance.tags or {})
        if instance.version is not None:
            state.version.value = instance.version
        if instance.completed_at is not None:
            state.completedTimestamp.CopyFrom(helpers.new_timestamp(instance.completed_at))

    # ------------------------------------------------------------ entities

    def _schedule_delayed_entity_operation(
        self, entity_id: str, event: pb.HistoryEvent, fire_at: datetime
    ) -> None:
        signal_id = uuid.uuid4().hex
        self._signals[signal_id] = (entity_id, fire_at, event)
        self._dirty_signals.add(signal_id)
        if entity_id in self._entities:
            self._dirty_entities.add(entity_id)
        self._arm_signal(signal_id)

    def _arm_signal(self, signal_id: str) -> None:
        due = self._signals[signal_id][1]
        self._later((due - datetime.now(UTC)).total_seconds(), signal_id, lambda: self._send(signal_id))

    def _send(self, signal_id: str) -> None:
        """The queue's new entry and the signal's removal are one transaction: a crash cannot double it."""
        entity_id, _, event = self._signals.pop(signal_id)
        self._dirty_signals.add(signal_id)
        self._queue_entity_operation(entity_id, event)

    def _grant_lock(self, pending: PendingLockRequest) -> None:
        super()._grant_lock(pending)
        self._dirty_entities.update(pending.lock_set)

    def _process_send_entity_message_action(
        self, instance: OrchestrationInstance, action: pb.OrchestratorAction
    ) -> None:
        super()._process_send_entity_message_action(instance, action)
        if action.sendEntityMessage.HasField("entityUnlockSent"):
            self._dirty_entities.add(action.sendEntityMessage.entityUnlockSent.targetInstanceId.value)

    def CleanEntityStorage(
        self, request: pb.CleanEntityStorageRequest, context: Any
    ) -> pb.CleanEntityStorageResponse:
        with self._lock:
            self._dirty_entities.update(self._entities)
            return super().CleanEntityStorage(request, context)


def _write_through(name: str) -> Callable[[DurableBackend, Any, Any], Any]:
    inner = getattr(DurableBackend, name)

    @functools.wraps(inner)
    def call(self: DurableBackend, request: Any, context: Any) -> Any:
        with self._lock:
            if self.stopped:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the engine is closed")
            try:
                return inner(self, request, context)
            finally:
                # Also after an abort: whatever was changed before it is in memory now.
                if instance_id := getattr(request, "instanceId", ""):
                    (self._dirty_entities if instance_id.startswith("@") else self._dirty).add(instance_id)
                self._flush()

    return call


for _name in _MUTATORS:
    setattr(DurableBackend, _name, _write_through(_name))
