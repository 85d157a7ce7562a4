"""History events that the SDK's helpers leave incomplete, and questions asked of events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import durabletask.internal.orchestrator_service_pb2 as pb
from google.protobuf import timestamp_pb2

KEPT_WHEN_CONTINUING = frozenset(
    {"eventRaised", "executionSuspended", "executionResumed", "executionTerminated"}
)
"""What may pass from one life into the next. A result of the old life would be taken for that of another task
with the same number."""

WAKES_SUSPENDED = frozenset({"executionResumed", "executionTerminated", "executionRewound"})


def kind(event: pb.HistoryEvent) -> str:
    return event.WhichOneof("eventType") or ""


def timestamp() -> timestamp_pb2.Timestamp:
    now = timestamp_pb2.Timestamp()
    now.FromDatetime(datetime.now(UTC))
    return now


def task_scheduled(task_id: int, task: pb.ScheduleTaskAction) -> pb.HistoryEvent:
    """With version, tags and trace, which the stock backend drops: a redelivery must equal the delivery."""
    event = pb.HistoryEvent(eventId=task_id, timestamp=timestamp(), taskScheduled=pb.TaskScheduledEvent())
    scheduled = event.taskScheduled
    scheduled.name = task.name
    for name in ("version", "input", "parentTraceContext"):
        if task.HasField(name):
            getattr(scheduled, name).CopyFrom(getattr(task, name))
    scheduled.tags.update(task.tags)
    return event


def child_created(task_id: int, child: pb.CreateSubOrchestrationAction) -> pb.HistoryEvent:
    event = pb.HistoryEvent(
        eventId=task_id,
        timestamp=timestamp(),
        subOrchestrationInstanceCreated=pb.SubOrchestrationInstanceCreatedEvent(),
    )
    created = event.subOrchestrationInstanceCreated
    created.name, created.instanceId = child.name, child.instanceId
    for name in ("version", "input", "parentTraceContext"):
        if child.HasField(name):
            getattr(created, name).CopyFrom(getattr(child, name))
    created.tags.update(child.tags)
    return event


def child_failed(task_id: int, failure: pb.TaskFailureDetails) -> pb.HistoryEvent:
    """With the child's own error type; the stock backend turns every one into `builtins.Exception`."""
    return pb.HistoryEvent(
        eventId=-1,
        timestamp=timestamp(),
        subOrchestrationInstanceFailed=pb.SubOrchestrationInstanceFailedEvent(
            taskScheduledId=task_id, failureDetails=spoken(failure)
        ),
    )


def task_finished(response: pb.ActivityResponse) -> pb.HistoryEvent:
    """Failed when there are failure details, whatever their message.

    The stock backend looks at the message, so that an exception without one (`TimeoutError()`) arrives as
    success.
    """
    event = pb.HistoryEvent(eventId=-1, timestamp=timestamp())
    if response.HasField("failureDetails"):
        event.taskFailed.taskScheduledId = response.taskId
        event.taskFailed.failureDetails.CopyFrom(spoken(response.failureDetails))
    else:
        event.taskCompleted.taskScheduledId = response.taskId
        if response.HasField("result"):
            event.taskCompleted.result.CopyFrom(response.result)
    return event


def spoken(failure: pb.TaskFailureDetails) -> pb.TaskFailureDetails:
    """The same failure with a message that is not empty."""
    if failure.errorMessage:
        return failure
    copy = pb.TaskFailureDetails()
    copy.CopyFrom(failure)
    copy.errorMessage = failure.errorType or "failed without a message"
    return copy


def execution_started(events: Iterable[pb.HistoryEvent]) -> pb.ExecutionStartedEvent | None:
    return next((e.executionStarted for e in events if e.HasField("executionStarted")), None)


def last_batch(history: Sequence[pb.HistoryEvent]) -> Sequence[pb.HistoryEvent]:
    """The events of the newest dispatch: from its `orchestratorStarted` on."""
    for index in range(len(history) - 1, -1, -1):
        if history[index].HasField("orchestratorStarted"):
            return history[index:]
    return history


def unheeded(batch: Iterable[pb.HistoryEvent]) -> list[pb.HistoryEvent]:
    """What a batch that ended in continue-as-new did not obey and must be asked of the next life.

    The worker stops acting once the orchestrator has continued: a suspend (with the events held back behind
    it) or a terminate that came later in the same batch would vanish.
    """
    behind_suspend: list[pb.HistoryEvent] = []
    terminate: list[pb.HistoryEvent] = []
    for event in batch:
        match kind(event):
            case "executionSuspended":
                behind_suspend = behind_suspend or [event]
            case "executionResumed":
                behind_suspend = []
            case "executionTerminated":
                terminate = [event]
            case "eventRaised" if behind_suspend:
                behind_suspend.append(event)
            case _:
                pass
    return behind_suspend + terminate
