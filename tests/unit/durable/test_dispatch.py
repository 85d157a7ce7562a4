"""Deliveries and results, driven by hand: a worker that dies, comes back, answers late or gives up."""

from __future__ import annotations

import threading
from pathlib import Path

import durabletask.internal.helpers as helpers
import durabletask.internal.orchestrator_service_pb2 as pb
import pytest

from swarmrun.durable import backend_dispatch
from swarmrun.durable.backend import DurableBackend
from swarmrun.durable.channel import LocalChannel
from swarmrun.errors import EngineError


class Hand:
    """A backend and the calls of a worker and a client, one at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.backend = DurableBackend(path, grace=0.05)

    def call(self, name, request):
        return LocalChannel(self.backend).unary_unary(f"/S/{name}")(request)

    def stream(self):
        return LocalChannel(self.backend).unary_stream("/S/GetWorkItems")(pb.GetWorkItemsRequest())

    def start(self, name="O", instance="I"):
        self.call("StartInstance", pb.CreateInstanceRequest(instanceId=instance, name=name))

    def decide(self, item, *actions):
        request = pb.OrchestratorResponse(
            instanceId=item.orchestratorRequest.instanceId,
            completionToken=item.completionToken,
            actions=actions,
        )
        self.call("CompleteOrchestratorTask", request)

    def finish(self, item, result='"ok"'):
        request = pb.ActivityResponse(
            instanceId=item.activityRequest.orchestrationInstance.instanceId,
            taskId=item.activityRequest.taskId,
            completionToken=item.completionToken,
            result=helpers.get_string_value(result),
        )
        self.call("CompleteActivityTask", request)

    def give_back(self, item):
        if item.HasField("activityRequest"):
            request = pb.AbandonActivityTaskRequest(completionToken=item.completionToken)
            self.call("AbandonTaskActivityWorkItem", request)
        else:
            request = pb.AbandonOrchestrationTaskRequest(completionToken=item.completionToken)
            self.call("AbandonTaskOrchestratorWorkItem", request)

    def reopen(self):
        self.backend.stop()
        self.backend = DurableBackend(self.path, grace=0.05)

    def status(self, instance="I"):
        response = self.call("GetInstance", pb.GetInstanceRequest(instanceId=instance))
        return response.orchestrationState.orchestrationStatus


@pytest.fixture
def hand(tmp_path):
    hands = Hand(tmp_path / "engine.db")
    yield hands
    hands.backend.stop()


def activity(number=1, name="A"):
    return helpers.new_schedule_task_action(number, name, '"in"', {"k": "v"})


def continued(number=9, carried=()):
    return helpers.new_complete_orchestration_action(
        number, pb.ORCHESTRATION_STATUS_CONTINUED_AS_NEW, '"next"', carryover_events=list(carried)
    )


def completed(number=9):
    return helpers.new_complete_orchestration_action(number, pb.ORCHESTRATION_STATUS_COMPLETED, '"end"')


def kinds(item):
    return [e.WhichOneof("eventType") for e in item.orchestratorRequest.newEvents]


def test_an_activity_of_a_lost_worker_goes_to_another(hand):
    hand.start()
    first = hand.stream()
    hand.decide(next(first), activity())
    lost = next(first)
    first.cancel()
    again = next(hand.stream())
    assert again.activityRequest == lost.activityRequest
    assert dict(again.activityRequest.tags) == {"k": "v"}


def test_the_first_of_two_results_counts_and_the_second_is_ignored(hand):
    hand.start()
    first = hand.stream()
    hand.decide(next(first), activity())
    lost = next(first)
    first.cancel()
    second = hand.stream()
    again = next(second)
    hand.finish(lost, '"from the lost one"')
    hand.finish(again, '"from the other"')
    batch = next(second).orchestratorRequest.newEvents
    assert [e.taskCompleted.result.value for e in batch if e.HasField("taskCompleted")] == [
        '"from the lost one"'
    ]


def test_a_worker_that_reconnects_gets_again_what_its_broken_stream_held(hand):
    """Whether that had arrived nobody can know: claimed by the reconnection it would be stuck for ever."""
    hand.start()
    broken = hand.stream()
    lost = next(broken)
    broken.cancel()
    again = next(hand.stream())
    assert again.orchestratorRequest.instanceId == lost.orchestratorRequest.instanceId
    assert again.completionToken != lost.completionToken


def test_a_late_dispatch_of_a_lost_worker_does_not_free_the_running_one(hand):
    hand.start()
    broken = hand.stream()
    lost = next(broken)
    broken.cancel()
    stream = hand.stream()
    again = next(stream)
    hand.decide(lost, activity(name="stale"))
    assert "I" in hand.backend._orchestration_in_flight
    hand.decide(again, activity(name="right"))
    assert next(stream).activityRequest.name == "right"


def test_what_a_worker_gives_back_is_offered_again(hand, monkeypatch):
    monkeypatch.setattr(backend_dispatch, "_PAUSE_AFTER_ABANDON", 0.05)
    hand.start()
    stream = hand.stream()
    item = next(stream)
    hand.give_back(item)
    item = next(stream)
    hand.decide(item, activity())
    work = next(stream)
    hand.give_back(work)
    assert next(stream).activityRequest.name == "A"


def beside(hand, until, stream):
    """Another worker that waits for its first item; what it gets."""
    taken = []
    taking = threading.Thread(target=lambda: taken.append(next(stream)))
    taking.start()
    until(lambda: len(hand.backend._streams) == 2)

    def item():
        taking.join(10)
        return taken[0]

    return item


@pytest.mark.parametrize("what", ["orchestration", "activity"])
def test_what_a_worker_gives_back_goes_to_another_at_once_and_not_to_the_same_again(
    hand, until, monkeypatch, what
):
    monkeypatch.setattr(backend_dispatch, "_PAUSE_AFTER_ABANDON", 3600)
    hand.start()
    first, second = hand.stream(), hand.stream()
    item = next(first)
    if what == "activity":
        hand.decide(item, activity())
        item = next(first)
    taken = beside(hand, until, second)
    hand.give_back(item)
    again = taken()
    assert again.activityRequest == item.activityRequest
    assert again.orchestratorRequest.instanceId == item.orchestratorRequest.instanceId
    # The first has time now, and yet it hears only of others.
    hand.start(instance="J")
    assert next(first).orchestratorRequest.instanceId == "J"
    if what == "orchestration":
        hand.decide(again, completed())
        assert hand.status() == pb.ORCHESTRATION_STATUS_COMPLETED
    else:
        hand.finish(again)
        assert "taskCompleted" in kinds(next(first))


def test_what_every_worker_gives_back_is_offered_to_them_again(hand, until, monkeypatch):
    monkeypatch.setattr(backend_dispatch, "_PAUSE_AFTER_ABANDON", 0.05)
    hand.start()
    first, second = hand.stream(), hand.stream()
    item = next(first)
    taken = beside(hand, until, second)
    hand.give_back(item)
    hand.give_back(taken())
    assert next(first).orchestratorRequest.instanceId == "I"


def test_what_was_at_work_is_delivered_again_after_a_restart(hand):
    hand.start()
    stream = hand.stream()
    hand.decide(next(stream), activity(1), activity(2, "B"))
    before = {next(stream).activityRequest.name, next(stream).activityRequest.name}
    hand.reopen()
    stream = hand.stream()
    after = {next(stream).activityRequest.name, next(stream).activityRequest.name}
    assert before == after == {"A", "B"}


def test_a_surviving_worker_may_answer_the_reopened_engine(hand):
    hand.start()
    stream = hand.stream()
    hand.decide(next(stream), activity())
    item = next(stream)
    hand.reopen()
    hand.finish(item)
    assert "taskCompleted" in kinds(next(hand.stream()))


@pytest.mark.parametrize("control", ["TerminateInstance", "SuspendInstance"])
def test_a_command_in_the_batch_that_continues_reaches_the_next_life(hand, control):
    """The worker stops acting once the orchestrator has continued, so the command used to vanish."""
    hand.start()
    stream = hand.stream()
    hand.decide(next(stream), activity())
    hand.finish(next(stream))
    request = {"TerminateInstance": pb.TerminateRequest, "SuspendInstance": pb.SuspendRequest}[control]
    hand.call(control, request(instanceId="I"))
    hand.call("RaiseEvent", pb.RaiseEventRequest(instanceId="I", name="behind"))
    item = next(stream)
    command = {"TerminateInstance": "executionTerminated", "SuspendInstance": "executionSuspended"}[control]
    assert kinds(item)[-3:] == ["taskCompleted", command, "eventRaised"]
    hand.decide(item, continued())
    assert command in kinds(next(stream))


def test_results_for_the_old_life_are_dropped_and_events_kept_when_continuing(hand):
    hand.start()
    stream = hand.stream()
    hand.decide(next(stream), activity(1), activity(2))
    one, two = next(stream), next(stream)
    hand.finish(one)
    item = next(stream)
    hand.finish(two)  # arrives while the orchestrator is continuing
    hand.call("RaiseEvent", pb.RaiseEventRequest(instanceId="I", name="mail"))
    hand.decide(item, continued())
    assert kinds(next(stream)) == ["orchestratorStarted", "executionStarted", "eventRaised"]


@pytest.mark.parametrize("reopened", [False, True])
@pytest.mark.parametrize("control", ["ResumeInstance", "TerminateInstance"])
def test_a_suspended_instance_obeys_after_a_restart(hand, control, reopened):
    hand.start()
    stream = hand.stream()
    hand.decide(next(stream), activity())
    next(stream)
    hand.call("SuspendInstance", pb.SuspendRequest(instanceId="I"))
    hand.decide(next(stream))
    assert hand.status() == pb.ORCHESTRATION_STATUS_SUSPENDED
    hand.call("RaiseEvent", pb.RaiseEventRequest(instanceId="I", name="mail"))
    request = {"ResumeInstance": pb.ResumeRequest, "TerminateInstance": pb.TerminateRequest}[control]
    hand.call(control, request(instanceId="I"))
    if reopened:
        hand.reopen()
        stream = hand.stream()
    item = next(i for i in stream if i.HasField("orchestratorRequest"))
    wanted = {"ResumeInstance": "executionResumed", "TerminateInstance": "executionTerminated"}[control]
    assert kinds(item) == ["orchestratorStarted", "eventRaised", wanted]


def test_events_wait_for_the_resume_of_a_suspended_instance(hand):
    hand.start()
    stream = hand.stream()
    hand.decide(next(stream))
    hand.call("SuspendInstance", pb.SuspendRequest(instanceId="I"))
    hand.decide(next(stream))
    hand.call("RaiseEvent", pb.RaiseEventRequest(instanceId="I", name="mail"))
    assert not hand.backend._orchestration_queue


def test_a_resume_during_a_dispatch_is_not_lost(hand):
    hand.start()
    stream = hand.stream()
    hand.decide(next(stream))
    hand.call("SuspendInstance", pb.SuspendRequest(instanceId="I"))
    suspending = next(stream)
    hand.call("ResumeInstance", pb.ResumeRequest(instanceId="I"))
    hand.decide(suspending)
    assert "executionResumed" in kinds(next(stream))


def test_an_ended_instance_keeps_nothing_that_comes_later(hand):
    hand.start()
    stream = hand.stream()
    hand.decide(next(stream), completed())
    for name, request in (
        ("RaiseEvent", pb.RaiseEventRequest(instanceId="I", name="late")),
        ("SuspendInstance", pb.SuspendRequest(instanceId="I")),
        ("TerminateInstance", pb.TerminateRequest(instanceId="I")),
    ):
        hand.call(name, request)
    assert hand.status() == pb.ORCHESTRATION_STATUS_COMPLETED
    assert hand.backend._instances["I"].pending_events == []


def test_a_history_without_bound_fails_loudly(hand, monkeypatch):
    monkeypatch.setattr(backend_dispatch, "HISTORY_LIMIT", 1)
    hand.start()
    hand.decide(next(hand.stream()), activity())
    state = hand.call("GetInstance", pb.GetInstanceRequest(instanceId="I")).orchestrationState
    assert state.orchestrationStatus == pb.ORCHESTRATION_STATUS_FAILED
    assert "continue_as_new" in state.failureDetails.errorMessage


def test_two_workers_with_filters_get_only_their_own(hand):
    hand.start("O")
    only = pb.GetWorkItemsRequest(
        workItemFilters=pb.WorkItemFilters(activities=[pb.ActivityFilter(name="B")])
    )
    picky = LocalChannel(hand.backend).unary_stream("/S/GetWorkItems")(only)
    got: list[pb.WorkItem] = []
    waiting = threading.Thread(target=lambda: got.append(next(picky)))
    waiting.start()
    other = hand.stream()
    hand.decide(next(other), activity(1, "A"), activity(2, "B"))
    waiting.join(10)
    assert got[0].activityRequest.name == "B"
    assert next(other).activityRequest.name == "A"


def test_a_rewound_instance_runs_its_failed_activity_again(hand):
    hand.start()
    stream = hand.stream()
    hand.decide(next(stream), activity())
    item = next(stream)
    hand.call(
        "CompleteActivityTask",
        pb.ActivityResponse(
            instanceId="I",
            taskId=1,
            completionToken=item.completionToken,
            failureDetails=pb.TaskFailureDetails(errorType="E", errorMessage="no"),
        ),
    )
    failed = helpers.new_complete_orchestration_action(
        2, pb.ORCHESTRATION_STATUS_FAILED, None, pb.TaskFailureDetails(errorMessage="no")
    )
    hand.decide(next(stream), failed)
    hand.reopen()
    hand.call("RewindInstance", pb.RewindInstanceRequest(instanceId="I"))
    item = next(hand.stream())
    assert kinds(item)[-1] == "executionRewound"
    assert any(e.HasField("executionCompleted") for e in item.orchestratorRequest.pastEvents)


def test_nobody_hears_of_an_end_that_could_not_be_written(tmp_path):
    hand = Hand(tmp_path / "engine.db")
    hand.backend._on_fatal = lambda error: None
    hand.start()
    stream = hand.stream()
    item = next(stream)
    heard: list[object] = []

    def wait():
        request = pb.GetInstanceRequest(instanceId="I")
        try:
            state = LocalChannel(hand.backend).unary_unary("/S/WaitForInstanceCompletion")(
                request, timeout=10
            )
            heard.append(state.orchestrationState.orchestrationStatus)
        except Exception as error:  # noqa: BLE001
            heard.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    pages = hand.backend._store._db.execute("PRAGMA page_count").fetchone()[0]
    hand.backend._store._db.execute(f"PRAGMA max_page_count={pages}")
    end = helpers.new_complete_orchestration_action(9, pb.ORCHESTRATION_STATUS_COMPLETED, "x" * 1_000_000)
    with pytest.raises(EngineError, match="could not be written"):
        hand.decide(item, end)
    hand.backend.stop()
    waiting.join(15)
    assert heard
    assert heard[0] != pb.ORCHESTRATION_STATUS_COMPLETED
    hand = Hand(tmp_path / "engine.db")
    assert hand.status() == pb.ORCHESTRATION_STATUS_PENDING
    hand.backend.stop()
