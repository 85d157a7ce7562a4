"""Cancelled, suspended, waiting for an approval, out of budget: nothing hangs, nothing is lost."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from swarmrun.api.status import AgentPhase, Phase
from swarmrun.orchestration.desk import Desk
from swarmrun.steps import Failed


def ended(report):
    return (report.phase, report.reason)


@pytest.fixture
def held(stage, coder):
    """A run whose coder waits in its first turn; gives the door it waits at."""
    stage.happy(coder("a"), coder("b"))
    door = stage.door()
    stage.before("model_turn", lambda g: door.wait(20) and None if g["task"] == "b" else None)
    return door


def b_at_work(stage):
    stage.until(lambda: stage.inputs("model_turn", task="b"))


# ---------------------------------------------------------------- cancel


def test_cancelled_while_agents_work_they_stop_and_their_branches_stay(stage, held):
    stage.start()
    b_at_work(stage)
    stage.until(lambda: stage.inputs("merge", task="a"))
    stage.mail("cancel", message="by ann")
    report = stage.report()
    assert (*ended(report), report.message) == (Phase.CANCELLED, "Cancelled", "by ann")
    assert report.agent("b").status.phase is AgentPhase.CANCELLED
    assert stage.output("r1:b:1")["status"] == "Cancelled"
    assert report.result.commit == "scaffold+a"
    assert stage.inputs("sandbox_release")[-1]["task"] == ""
    assert not stage.inputs("publish")


def test_cancelled_twice_is_cancelled_once(stage, held):
    stage.start()
    b_at_work(stage)
    stage.mail("cancel")
    stage.mail("cancel")
    assert ended(stage.report()) == (Phase.CANCELLED, "Cancelled")
    stage.mail("cancel")


def test_an_agent_that_does_not_stop_is_not_waited_for_for_ever(stage, coder, monkeypatch):
    monkeypatch.setattr("swarmrun.orchestration.run.GRACE", timedelta(milliseconds=200))
    stage.happy(coder("a"))
    stage.agent("coder/a/1", "write", "finish")
    door = stage.door()
    inside = stage.door()

    def checkpoint(given):
        inside.set()
        door.wait(20)

    # Stopped agents wait for the checkpoint under way, this one for ever.
    stage.before("checkpoint", checkpoint)
    stage.before("finish", lambda g: door.wait(20) and None if g["task"] == "a" else None)
    stage.start()
    stage.until(inside.is_set)
    stage.mail("cancel")
    report = stage.report()
    assert report.phase is Phase.CANCELLED
    assert report.agent("a").status.phase is AgentPhase.CANCELLED
    door.set()
    stage.output("r1:a:1")


def test_what_cancelled_agents_used_is_counted(stage, held):
    stage.start()
    b_at_work(stage)
    stage.agent("coder/b/1", "read", "read")
    held.set()
    door = stage.door()
    stage.before("tool_call", lambda g: door.wait(20) and None if g["task"] == "b" else None)
    stage.until(lambda: stage.inputs("tool_call", task="b"))
    stage.mail("cancel")
    report = stage.report()
    assert sum(u.calls for u in report.agent("b").usage) == 1
    assert report.agent("b").status.tokens == 10


def test_cancelled_before_anything_began(stage):
    stage.happy()
    door = stage.door()
    stage.before("preflight", lambda g: door.wait(20) and None)
    stage.start()
    stage.mail("cancel")
    assert ended(stage.report()) == (Phase.CANCELLED, "Cancelled")


def test_cancelled_while_it_waits_for_an_outage(stage):
    stage.happy()
    stage.on("preflight", Failed(reason="RemoteUnavailable", message="503", retryable=True, retry_after=3600))
    stage.start()
    stage.until(lambda: stage.status().waiting_for == "remote")
    stage.mail("cancel")
    report = stage.report()
    assert (*ended(report), report.waiting_for) == (Phase.CANCELLED, "Cancelled", "")


# ---------------------------------------------------------------- suspend


def test_suspended_agents_stop_at_their_next_turn_and_nobody_starts(stage, held, coder):
    stage.start(parallelism=2)
    b_at_work(stage)
    stage.mail("suspend")
    stage.until(lambda: stage.status().suspended)
    held.set()
    stage.until(lambda: stage.progress("r1:b:1").phase == "Suspended")
    stage.until(lambda: stage.idle("r1") and stage.idle("r1:b:1"))
    before = len(stage.calls)
    stage.mail("suspend")
    assert stage.paid["coder/b/1/2"] == 0
    assert len(stage.calls) == before
    stage.mail("resume")
    report = stage.report()
    assert (report.phase, report.suspended) == (Phase.SUCCEEDED, False)
    assert max(stage.paid.values()) == 1


def test_a_task_that_may_start_does_not_wait_for_another_agent_after_a_resume(stage, held, coder):
    stage.plan = stage.a_plan(coder("a"), coder("b"), coder("c", "a"))
    stage.agent("coder/c/1", "write", "finish")
    inside, door = stage.door(), stage.door()

    def proving(given):
        inside.set()
        door.wait(20)

    stage.before("batch_gates", proving)
    stage.start()
    stage.until(inside.is_set)
    stage.mail("suspend")
    stage.until(lambda: stage.status().suspended)
    door.set()
    stage.until(lambda: stage.status().agent("a").status.phase is AgentPhase.MERGED)
    assert not stage.inputs("model_turn", task="c")
    stage.mail("resume")
    stage.until(lambda: stage.inputs("model_turn", task="c"))  # b is still at work
    held.set()
    assert stage.report().phase is Phase.SUCCEEDED


@pytest.mark.parametrize("step", ["preflight", "scaffold", "gates", "judge_tally", "save_report"])
def test_suspended_between_its_own_steps_a_run_does_none_of_them(stage, step):
    stage.happy()
    inside, door = stage.door(), stage.door()

    def wait(given):
        inside.set()
        door.wait(20)

    stage.before(step, wait)
    stage.start()
    stage.until(inside.is_set)
    stage.mail("suspend")
    stage.until(lambda: stage.status().suspended)
    before = len(stage.calls)
    door.set()
    stage.until(lambda: stage.idle("r1"))
    assert len(stage.calls) == before
    stage.mail("resume")
    assert stage.report().phase is Phase.SUCCEEDED


def test_cancelled_while_suspended(stage, held):
    stage.start()
    b_at_work(stage)
    stage.mail("suspend")
    stage.until(lambda: stage.status().suspended)
    held.set()
    stage.until(lambda: stage.progress("r1:b:1").phase == "Suspended")
    stage.mail("cancel")
    assert ended(stage.report()) == (Phase.CANCELLED, "Cancelled")
    assert stage.output("r1:b:1")["status"] == "Cancelled"


def test_a_run_that_is_suspended_from_the_start_makes_nothing_until_it_is_resumed(stage):
    stage.happy()
    stage.start(suspended=True)
    stage.until(lambda: stage.status().suspended)
    assert not stage.inputs("preflight")
    assert not stage.inputs("sandbox_ensure")
    stage.mail("resume")
    assert stage.report().phase is Phase.SUCCEEDED


# ---------------------------------------------------------------- approvals


def test_a_plan_waits_for_its_own_approval_and_holds_neither_sandbox_nor_git_pod(stage):
    stage.happy()
    stage.start(plan_approval=True)
    shown = stage.until(lambda: (s := stage.status()).phase is Phase.AWAITING_APPROVAL and s)
    assert (shown.waiting_for, shown.plan.hash) == ("plan", "h1")
    released = stage.until(lambda: stage.inputs("sandbox_release"))
    assert [r["task"] for r in released] == [""]  # all of the run
    stage.mail("approve", what="plan", bound="another plan")
    stage.mail("approve", what="publish")
    stage.mail("news", text="hello")
    stage.until(lambda: stage.status().phase is Phase.AWAITING_APPROVAL)
    assert not stage.inputs("model_turn", task="a")
    stage.mail("approve", what="plan", bound="h1")
    assert stage.report().phase is Phase.SUCCEEDED
    # The next who needs the integration sandbox has a new one.
    assert {g["generation"] for g in stage.inputs("gates")} == {2}


def test_a_rejected_plan_ends_the_run_with_the_reason(stage):
    stage.happy()
    stage.start(plan_approval=True)
    stage.until(lambda: stage.status().waiting_for == "plan")
    stage.mail("reject", what="plan", bound="h1", reason="too many tasks")
    report = stage.report()
    assert (*ended(report), report.message) == (
        Phase.FAILED,
        "PlanRejected",
        "the plan was rejected: too many tasks",
    )
    assert not stage.inputs("model_turn", task="a")


def test_nothing_is_pushed_before_exactly_this_commit_was_approved(stage):
    stage.happy()
    stage.start(publish_approval=True)
    shown = stage.until(lambda: (s := stage.status()).waiting_for == "publish" and s)
    assert shown.integration == "scaffold+a"
    assert not stage.inputs("publish")
    stage.mail("approve", what="publish", bound="scaffold")
    stage.mail("approve", what="publish", bound="scaffold+a")
    assert stage.report().phase is Phase.SUCCEEDED


def test_an_early_approval_counts_when_its_time_comes(stage):
    stage.happy()
    door = stage.door()
    stage.before("preflight", lambda g: door.wait(20) and None)
    stage.start(plan_approval=True)
    stage.mail("approve", what="plan")
    door.set()
    assert stage.report().phase is Phase.SUCCEEDED


def test_cancelled_while_it_waits_for_an_approval(stage):
    stage.happy()
    stage.start(plan_approval=True)
    stage.until(lambda: stage.status().waiting_for == "plan")
    stage.mail("cancel")
    report = stage.report()
    assert (*ended(report), report.waiting_for) == (Phase.CANCELLED, "Cancelled", "")


def test_time_that_a_run_waits_for_people_is_not_counted(stage):
    stage.happy()
    stage.start(plan_approval=True)
    stage.until(lambda: stage.status().waiting_for == "plan")
    stage.mail("suspend")
    stage.until(lambda: stage.status().suspended)
    time.sleep(0.3)
    stage.mail("approve", what="plan", bound="h1")
    stage.mail("resume")
    stage.report()
    before, after = [
        e.timerCreated.fireAt.ToDatetime() for e in stage.engine.history("r1") if e.HasField("timerCreated")
    ]
    assert after - before >= timedelta(seconds=0.3)


# ---------------------------------------------------------------- budgets


@pytest.fixture
def clock(stage, monkeypatch):
    """Wall time is up when the test says so."""

    def start_clock(desk):
        desk.clock_started = desk.now()
        desk.deadline = desk.ctx.wait_for_external_event("time is up")
        desk.timers.append(desk.deadline)

    monkeypatch.setattr(Desk, "start_clock", start_clock)
    return lambda: stage.client.raise_orchestration_event("r1", "time is up")


def test_wall_time_that_is_used_up_stops_everybody_and_keeps_what_there_is(stage, held, clock):
    stage.start()
    b_at_work(stage)
    stage.until(lambda: stage.status().agent("a").status.phase is AgentPhase.MERGED)
    clock()
    report = stage.report()
    assert ended(report) == (Phase.FAILED, "BudgetExceeded")
    assert "wall time" in report.message
    assert report.agent("b").status.reason == "BudgetExceeded"
    assert report.result.commit == "scaffold+a"


def test_a_clock_that_runs_out_while_a_run_is_suspended_does_not_end_it(stage, held, clock):
    stage.start()
    b_at_work(stage)
    stage.mail("suspend")
    stage.until(lambda: stage.status().suspended)
    clock()
    held.set()
    stage.mail("resume")
    assert stage.report().phase is Phase.SUCCEEDED


def out_of_tokens(stage, task: str):
    stage.before(
        "model_turn",
        lambda g: (
            Failed(reason="BudgetExceeded", message="12 tokens are left")
            if g["task"] == task and g["turn"] == 2
            else None
        ),
    )


def test_a_task_out_of_tokens_is_not_tried_again_and_nobody_plans_or_judges_any_more(stage, coder):
    stage.happy(coder("a"), coder("b"), coder("c", "b"))
    out_of_tokens(stage, "b")
    report = stage.run()
    assert ended(report) == (Phase.FAILED, "BudgetExceeded")
    assert report.message == "not in the result: b (failed: BudgetExceeded), c (skipped: DependencyFailed)"
    assert report.agent("b").status.attempts == 1
    assert report.agent("b").status.commit == "coder/b/1@1"
    assert len(stage.inputs("model_turn", role="planner")) == 1
    assert not stage.inputs("judge_sample")


def test_a_partial_result_of_a_used_up_budget_is_judged_and_published_where_asked(stage, coder):
    stage.happy(coder("a"), coder("b"))
    out_of_tokens(stage, "b")
    report = stage.run(publish_partial=True)
    assert ended(report) == (Phase.FAILED, "BudgetExceeded")
    assert report.message == "not in the result: b (failed: BudgetExceeded); published as swarm/x"
    assert (report.score, report.result.branch) == (90, "swarm/x")


def test_tasks_share_seventy_per_cent_and_helpers_what_nobody_was_promised(stage, coder):
    stage.happy(coder("a", estimate=30), coder("b", estimate=10), coder("c", "a", estimate=10))
    stage.run(tokens=10_000, cost="10")
    first = {g["task"]: g for g in stage.inputs("model_turn", turn=1) if g["role"] == "coder"}
    # The planner's ten tokens are gone before.
    assert first["a"]["tokens_left"] == (7000 - 10) * 30 // 50
    assert first["b"]["tokens_left"] == (6990 - first["a"]["tokens_left"]) * 10 // 20
    # c starts when a is over: a's rest is free again, b's promise may still stand.
    left = 7000 - 10 - 20
    assert first["c"]["tokens_left"] in (left - 20, left - 10, left, left - first["b"]["tokens_left"])
    assert first["a"]["cost_left"] == "4.194000"
    (judge,) = stage.inputs("judge_sample")
    assert judge["tokens_left"] == 10_000 - 7 * 10
    assert judge["cost_left"] == "9.930000"
