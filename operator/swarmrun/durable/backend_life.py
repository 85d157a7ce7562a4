"""One life of an orchestration instance: what it has begun and still waits for.

A life goes from creation, continue-as-new or rewind to the next of these or to the end. Task ids start anew in
each life, so an id means something only together with its life: whatever arrives for an earlier life is dropped.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import durabletask.internal.orchestrator_service_pb2 as pb


@dataclass(frozen=True)
class Timer:
    fire_at: datetime
    created: datetime


@dataclass
class Life:
    """`token` is unique for ever. The three maps go by task id and can all be rebuilt from the events."""

    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    activities: dict[int, pb.TaskScheduledEvent] = field(default_factory=dict[int, pb.TaskScheduledEvent])
    timers: dict[int, Timer] = field(default_factory=dict[int, Timer])
    children: dict[int, str] = field(default_factory=dict[int, str])

    @classmethod
    def of(cls, events: Iterable[pb.HistoryEvent], token: str = "") -> Life:
        """The life that these events tell of. Both history and events not yet processed belong in."""
        life = cls(token) if token else cls()
        for event in events:
            life.apply(event)
        return life

    def apply(self, event: pb.HistoryEvent) -> None:
        """Notes what one event begins or ends; other events change nothing."""
        match event.WhichOneof("eventType"):
            case "taskScheduled":
                self.activities[event.eventId] = event.taskScheduled
            case "taskCompleted":
                self.activities.pop(event.taskCompleted.taskScheduledId, None)
            case "taskFailed":
                self.activities.pop(event.taskFailed.taskScheduledId, None)
            case "timerCreated":
                fire_at = event.timerCreated.fireAt.ToDatetime(tzinfo=UTC)
                self.timers[event.eventId] = Timer(fire_at, event.timestamp.ToDatetime(tzinfo=UTC))
            case "timerFired":
                self.timers.pop(event.timerFired.timerId, None)
            case "subOrchestrationInstanceCreated":
                self.children[event.eventId] = event.subOrchestrationInstanceCreated.instanceId
            case "subOrchestrationInstanceCompleted":
                self.children.pop(event.subOrchestrationInstanceCompleted.taskScheduledId, None)
            case "subOrchestrationInstanceFailed":
                self.children.pop(event.subOrchestrationInstanceFailed.taskScheduledId, None)
            case _:
                pass

    def waits_for_nothing(self) -> None:
        """The instance has ended: results that still arrive find nobody."""
        self.activities.clear()
        self.timers.clear()
        self.children.clear()
