"""The engine as the rest of the brain uses it: in one process, over the in-process channel."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from durabletask import task
from durabletask.client import OrchestrationStatus


def chain(ctx, count):
    total = 0
    for n in range(count):
        total += yield ctx.call_activity("double", input=n)
    return total


def double(ctx, n):
    return 2 * n


def test_activities_run_by_name(lab):
    lab.open([chain], {"double": double})
    assert lab.run("chain", 5) == 20


def test_an_existing_id_is_refused(lab):
    lab.open([chain], {"double": double})
    lab.run("chain", 1, instance_id="R")
    with pytest.raises(Exception, match="already exists"):
        lab.start("chain", 1, instance_id="R")


def test_unknown_work_fails_and_names_it(lab):
    def lost(ctx, _):
        yield ctx.call_activity("nobody")

    lab.open([lost])
    state = lab.wait(lab.start("lost"))
    assert state.runtime_status == OrchestrationStatus.FAILED
    assert "nobody" in state.failure_details.message


@pytest.mark.parametrize("error", [TimeoutError, SystemExit, KeyboardInterrupt])
def test_an_exception_without_a_message_is_a_failure(lab, error):
    def caller(ctx, _):
        try:
            yield ctx.call_activity("silent")
        except task.TaskFailedError as failed:
            return failed.details.message
        return "success"

    def silent(ctx, _):
        raise error()

    lab.open([caller], {"silent": silent})
    assert error.__name__ in lab.run("caller")


def test_blocked_activities_do_not_stop_orchestrations(lab):
    release = threading.Event()

    def blocked(ctx, _):
        yield task.when_all([ctx.call_activity("block") for _ in range(80)])

    def quick(ctx, _):
        return "done"

    lab.open([blocked, quick], {"block": lambda ctx, _: release.wait(20)})
    first = lab.start("blocked")
    try:
        assert lab.run("quick") == "done"
    finally:
        release.set()
    lab.wait(first)


def test_events_are_buffered_in_order_and_duplicates_delivered(lab):
    def reader(ctx, count):
        got = []
        yield ctx.create_timer(timedelta(milliseconds=200))
        for _ in range(count):
            got.append((yield ctx.wait_for_external_event("mail")))
        return got

    lab.open([reader])
    instance = lab.start("reader", 4)
    for n in (1, 2, 2, 3):
        lab.client.raise_orchestration_event(instance, "mail", data=n)
    assert lab.wait(instance).get_output() == [1, 2, 2, 3]


def test_an_event_for_nobody_is_an_error(lab):
    lab.open([chain])
    with pytest.raises(Exception, match="not found"):
        lab.client.raise_orchestration_event("nobody", "mail")


def test_continue_as_new_keeps_events_and_custom_status(lab, until):
    def agent(ctx, turn):
        if turn == 0:
            ctx.set_custom_status({"turn": turn})
        mail = ctx.wait_for_external_event("mail")
        yield ctx.call_activity("double", input=turn)
        if turn == 30:
            first = yield mail
            second = yield ctx.wait_for_external_event("mail")
            return [first, second]
        mail.cancel()
        ctx.continue_as_new(turn + 1, save_events=True)

    lab.open([agent], {"double": double})
    instance = lab.start("agent", 0)
    assert lab.client.get_orchestration_state(instance) is not None
    until(lambda: lab.client.get_orchestration_state(instance).serialized_custom_status)
    # A wait that has got its event must be read before continuing; these come when nobody waits twice.
    until(lambda: lab.client.get_orchestration_state(instance).get_input() == 30)
    lab.client.raise_orchestration_event(instance, "mail", data="a")
    lab.client.raise_orchestration_event(instance, "mail", data="b")
    state = lab.wait(instance)
    assert state.get_output() == ["a", "b"]
    assert state.get_custom_status() == {"turn": 0}


def test_results_of_an_earlier_life_do_not_arrive_in_the_next(lab):
    slow_may_end = threading.Event()

    def agent(ctx, life):
        if life == 0:
            ctx.call_activity("slow", input="old")  # task 1 of this life, never awaited
            yield ctx.create_timer(timedelta(milliseconds=50))
            ctx.continue_as_new(1)
            return None
        return (yield ctx.call_activity("fresh", input="new"))  # task 1 of the next

    def slow(ctx, text):
        slow_may_end.wait(10)
        return text

    def fresh(ctx, text):
        slow_may_end.set()
        threading.Event().wait(0.2)
        return text

    lab.open([agent], {"slow": slow, "fresh": fresh})
    assert lab.run("agent", 0) == "new"


def test_a_child_longer_than_thirty_seconds_reaches_its_parent(lab, monkeypatch):
    """The stock backend watches children with a thread that gives up after 30 s; ours has none to give up."""
    go = threading.Event()

    def parent(ctx, _):
        return (yield ctx.call_sub_orchestrator("child", instance_id="p:child:a1"))

    def child(ctx, _):
        yield ctx.call_activity("wait")
        return ctx.parent_instance_id

    def first(ctx, _):
        return "whatever a worker starts once is there"

    lab.open([first, parent, child], {"wait": lambda ctx, _: go.wait(20)})
    lab.run("first")
    before = threading.active_count()
    instance = lab.start("parent", instance_id="p")
    lab.client.wait_for_orchestration_start("p:child:a1", timeout=10)
    backend = lab.engine._opened
    assert backend._state_waiters.get("p:child:a1") is None
    assert threading.active_count() <= before + 3
    go.set()
    assert lab.wait(instance).get_output() == "p"


def test_a_childs_failure_keeps_its_type_and_message(lab):
    def parent(ctx, _):
        try:
            yield ctx.call_sub_orchestrator("child", instance_id="c")
        except task.TaskFailedError as failed:
            return [failed.details.error_type, failed.details.message]

    def child(ctx, _):
        raise ValueError("no such colour")
        yield

    lab.open([parent, child])
    kind, message = lab.run("parent")
    assert "ValueError" in kind
    assert "no such colour" in message


def test_terminate_takes_the_children_along(lab, until):
    def parent(ctx, _):
        yield ctx.call_sub_orchestrator("child", instance_id="c")

    def child(ctx, _):
        yield ctx.wait_for_external_event("never")

    lab.open([parent, child])
    instance = lab.start("parent", instance_id="p")
    lab.client.wait_for_orchestration_start("c", timeout=10)
    lab.client.terminate_orchestration(instance, recursive=True)
    assert lab.wait("c").runtime_status == OrchestrationStatus.TERMINATED
    assert lab.wait(instance).runtime_status == OrchestrationStatus.TERMINATED


def test_parallel_calls_do_not_wait_for_the_dispatchers_poll(lab):
    """An event that came during a dispatch used to wait 100 ms: 20 rounds would take over 2 s."""

    def rounds(ctx, count):
        for _ in range(count):
            yield task.when_all([ctx.call_activity("double", input=n) for n in range(4)])

    lab.open([rounds], {"double": double})
    lab.run("rounds", 20)
    state = lab.client.get_orchestration_state(lab.start("rounds", 1))
    assert state is not None


def test_tags_and_version_are_told(lab):
    lab.open([chain], {"double": double})
    instance = lab.start("chain", 1, tags={"run": "demo"}, version="2")
    lab.wait(instance)
    response = lab.engine._opened._build_instance_response(lab.engine._opened._instances[instance], False)
    assert dict(response.orchestrationState.tags) == {"run": "demo"}
    assert response.orchestrationState.version.value == "2"
