"""Whole runs on the real engine, with scripted activities."""

from __future__ import annotations

import threading
import time

import pytest

from swarmrun.api.plan import Role
from swarmrun.api.status import AgentPhase, MergeHow, Phase
from swarmrun.steps import (
    GONE,
    Amended,
    BatchChecked,
    ContractIssue,
    Ensured,
    Failed,
    Finished,
    GatesRun,
    Merged,
    Ordered,
    Preflight,
    Sampled,
    Scaffolded,
    TaskRef,
)


def ended(report):
    return (report.phase, report.reason)


def phase_of(report, task: str) -> AgentPhase:
    return report.agent(task).status.phase


def conflict(given):
    """Task b conflicts with whatever is there."""
    if given["task"] != "b":
        return None
    return Merged(conflicts=["models.py"], evidence="evidence/m", partial=f"partial-{given['head']}")


def fails(key: str, reason: str = "Refused"):
    """Finish of one attempt never works."""
    role, task, attempt = key.split("/")

    def hook(given):
        if (given["role"], given["task"], str(given["attempt"])) == (role, task, attempt):
            return Failed(reason=reason, message=f"{task} is broken")
        return None

    return hook


# ---------------------------------------------------------------- the whole way


def test_a_goal_goes_in_and_a_branch_comes_out(stage, coder):
    stage.happy(coder("a"), coder("b"), coder("c", "a", "b"))
    report = stage.run()
    assert ended(report) == (Phase.SUCCEEDED, "Published")
    assert (report.result.branch, report.isolation, report.score) == ("swarm/x", "test", 90)
    assert {m.task for m in report.merges} == {"a", "b", "c"}
    # c starts from the integration branch that holds what it needs, with their summaries.
    (first,) = stage.inputs("model_turn", task="c", turn=1)
    assert "+a" in first["brief"]["base"]
    assert "+b" in first["brief"]["base"]
    assert set(first["brief"]["notes"]) == {"a", "b"}
    assert {r.status.phase for r in report.agents if r.status.role == "coder"} == {AgentPhase.MERGED}
    assert report.agent("c").status.commit == "coder/c/1!"
    # Planner 1, coders 2 each; the judge is nobody's line.
    assert sum(u.calls for r in report.agents for u in r.usage) == 7
    assert sum(u.calls for u in report.usage) == 1
    assert stage.inputs("sandbox_release")[-1]["task"] == ""
    assert stage.status().model_dump() == report.model_dump()


def test_no_more_agents_than_the_parallelism_work_at_once(stage, coder):
    stage.happy(*(coder(i) for i in "abcde"))
    at_work: set[str] = set()
    most = [0]

    def begins(given):
        at_work.add(given["task"])
        most[0] = max(most[0], len(at_work - {"plan"}))

    def ends(given):
        at_work.discard(given["task"])

    stage.before("model_turn", begins)
    stage.before("finish", ends)
    assert stage.run(parallelism=2).phase is Phase.SUCCEEDED
    assert most == [2]


def test_what_is_published_already_is_not_done_again(stage):
    stage.happy()
    stage.on("preflight", Preflight(base_branch="main", base_commit="base", already_published="done"))
    report = stage.run()
    assert ended(report) == (Phase.SUCCEEDED, "AlreadyPublished")
    assert report.result.commit == "done"
    assert not stage.inputs("model_turn")


def test_the_integration_sandbox_starts_while_the_remote_is_looked_at(stage):
    stage.happy()
    stage.before("preflight", lambda _: stage.until(lambda: stage.inputs("sandbox_ensure")) and None)
    assert ended(stage.run()) == (Phase.SUCCEEDED, "Published")


def test_a_run_that_preflight_ends_removes_its_sandbox_only_once_that_was_made(stage):
    stage.happy()
    door = stage.door()
    stage.on("preflight", Failed(reason="PermissionDenied", message="may not push"))
    stage.before("sandbox_ensure", lambda _: door.wait(10) and None)
    stage.start()
    noted = "orchestratorCompleted"
    stage.until(lambda: stage.ended("preflight") and stage.engine.history("r1")[-1].HasField(noted))
    assert not stage.inputs("sandbox_release")
    door.set()
    assert ended(stage.report()) == (Phase.FAILED, "PermissionDenied")
    assert stage.inputs("sandbox_release")


def test_what_preflight_finds_ends_the_run_before_a_token_is_spent(stage):
    stage.happy()
    stage.on("preflight", Failed(reason="PermissionDenied", message="may not push", mend="give it the right"))
    report = stage.run()
    assert ended(report) == (Phase.FAILED, "PermissionDenied")
    assert report.message == "may not push (give it the right)"
    assert not stage.inputs("model_turn")


def test_a_refused_model_ends_the_run_with_its_mend(stage):
    stage.happy()
    stage.on("model_turn", Failed(reason="PermissionDenied", message="401 " * 200, mend="set OPENAI_API_KEY"))
    report = stage.run()
    assert ended(report) == (Phase.FAILED, "PermissionDenied")
    assert report.message.startswith("no plan: 401 401 ")
    assert report.message.endswith(" (set OPENAI_API_KEY)")
    assert report.agent("plan").status.message.endswith(" (set OPENAI_API_KEY)")


def test_a_refused_sandbox_ends_the_task_with_its_mend(stage):
    stage.happy()
    refused = Failed(reason="SandboxRefused", message="no isolation", mend="install bubblewrap")
    stage.on("sandbox_ensure", refused)
    assert stage.run().message.endswith("no isolation (install bubblewrap)")


def test_a_remote_that_is_out_for_a_while_is_waited_for(stage):
    stage.happy()
    out = Failed(reason="RemoteUnavailable", message="503", retryable=True, retry_after=0.3)
    stage.on("preflight", out, Preflight(base_branch="main", base_commit="base"))
    stage.start()
    shown = stage.until(lambda: (s := stage.status()).waiting_for and s)
    assert shown.waiting_for == "remote"
    assert shown.message == "preflight: RemoteUnavailable, next try in 0.3 s: 503"
    report = stage.report()
    assert report.phase is Phase.SUCCEEDED
    assert (report.waiting_for, report.message) == ("", "published as swarm/x")
    assert "preflight waited 0.3 s: RemoteUnavailable" in report.notes


def test_a_refused_publication_fails_the_run_and_says_where_the_work_stands(stage):
    stage.happy()
    stage.on("publish", Failed(reason="PublishRefused", message="protected branch"))
    report = stage.run()
    assert ended(report) == (Phase.FAILED, "PublishRefused")
    assert (report.result.branch, report.result.commit) == ("", "scaffold+a")


def test_a_plan_of_researchers_alone_leaves_nothing_to_publish(stage):
    stage.happy(TaskRef(id="a", role=Role.RESEARCHER))
    stage.on("scaffold", Scaffolded(commit="base"))
    report = stage.run(publish_partial=True)
    assert ended(report) == (Phase.FAILED, "NothingToPublish")
    assert not stage.inputs("publish")


def test_a_researchers_notes_reach_its_dependants_and_no_branch_is_merged(stage, coder):
    stage.happy(TaskRef(id="r", role=Role.RESEARCHER), coder("a", "r"))
    report = stage.run()
    assert report.phase is Phase.SUCCEEDED
    assert [p["partial"] for p in stage.inputs("publish")] == [""]
    assert [m["task"] for m in stage.inputs("merge")] == ["a"]
    (first,) = stage.inputs("model_turn", task="a", turn=1)
    assert first["brief"]["notes"] == {"r": "summary of r"}
    assert phase_of(report, "r") is AgentPhase.MERGED


def test_task_branches_are_published_where_asked(stage, coder):
    stage.happy(coder("a"), coder("b"))
    stage.run(publish_task_branches=True)
    (given,) = stage.inputs("publish")
    assert given["tasks"] == {"a": "coder/a/1!", "b": "coder/b/1!"}


# ---------------------------------------------------------------- planning


def test_an_empty_repository_has_no_baseline_and_is_not_set_up_before_there_is_a_scaffold(stage):
    stage.happy()
    stage.on("preflight", Preflight(base_branch="main", base_commit="base", empty=True))
    assert stage.run().phase is Phase.SUCCEEDED
    assert not stage.inputs("baseline")
    prepared = [p["setup"] for p in stage.inputs("sandbox_prepare", task="integration")]
    assert prepared == [False]
    assert stage.inputs("model_turn", role="planner")[0]["box"] is None


def test_errors_of_the_scaffold_go_back_to_the_planner_with_the_base_in_its_sandbox(stage):
    stage.happy()
    stage.agent("planner/plan/2", "submit_plan")
    stage.on(
        "scaffold", Scaffolded(commit="base", errors=["a.py does not parse"]), Scaffolded(commit="scaffold")
    )
    report = stage.run()
    assert report.phase is Phase.SUCCEEDED
    (second,) = stage.inputs("model_turn", role="planner", attempt=2)
    assert second["brief"]["evidence"].startswith("evidence/001-scaffold")
    assert "a.py does not parse" in stage.inputs("save_evidence")[0]["text"]
    assert stage.inputs("sandbox_prepare", task="integration")[-1]["commit"] == "base"
    assert report.agent("plan").status.attempts == 2


def test_a_scaffold_that_never_stands_ends_the_run_after_three_plans(stage):
    stage.happy()
    for n in (2, 3):
        stage.agent(f"planner/plan/{n}", "submit_plan")
    stage.on("scaffold", Scaffolded(commit="base", errors=["does not parse"]))
    report = stage.run()
    assert ended(report) == (Phase.FAILED, "InvalidPlan")
    assert len(stage.inputs("model_turn", role="planner")) == 3


def test_a_plan_of_the_users_own_is_not_planned_again(stage):
    stage.happy()
    stage.on("given_plan", stage.plan)
    assert stage.run(given_plan=True).phase is Phase.SUCCEEDED
    assert not stage.inputs("model_turn", role="planner")


def test_a_planner_without_a_plan_ends_the_run(stage):
    stage.happy()
    stage.agent("planner/plan/1", *["submit_plan"] * 3)
    stage.on("finish", Finished(accepted=False, problems=["a depends on b, b on a"]))
    report = stage.run()
    assert ended(report) == (Phase.FAILED, "InvalidPlan")
    assert "a depends on b" in report.message


def test_a_base_whose_setup_fails_stops_the_planner_too(stage):
    stage.happy()
    inside, door = stage.door(), stage.door()

    def turn(given):
        inside.set()
        door.wait(10)

    def baseline(given):
        assert inside.wait(5)
        return Failed(reason="SetupFailed", message="`pip install` ended with 1")

    stage.before("model_turn", turn)
    stage.on("baseline", baseline)
    report = stage.run()
    assert ended(report) == (Phase.FAILED, "SetupFailed")
    assert report.agent("plan").status.phase is AgentPhase.CANCELLED
    assert stage.output("r1:plan:1")["status"] == "Failed"
    assert stage.inputs("sandbox_release")[-1]["task"] == ""


def test_a_sandbox_that_cannot_start_here_says_so(stage):
    stage.happy()
    stage.on(
        "sandbox_ensure",
        Ensured(phase="Refused", isolation="none", reason="NoBubblewrap", message="no bwrap"),
    )
    report = stage.run()
    assert (*ended(report), report.isolation) == (Phase.FAILED, "NoBubblewrap", "none")


def test_a_refused_sandbox_is_told_while_the_repository_is_looked_at_and_nobody_is_asked(stage, coder):
    stage.happy(coder("a"))
    door = threading.Event()

    def slow(given):
        assert door.wait(10)
        return

    stage.before("preflight", slow)
    stage.on("sandbox_ensure", Ensured(phase="Refused", reason="QuotaExceeded", message="exceeded quota"))
    stage.start()
    stage.until(lambda: stage.status().reason == "QuotaExceeded")
    assert (stage.status().phase, stage.status().message) == (Phase.PENDING, "exceeded quota")
    door.set()
    assert ended(stage.report()) == (Phase.FAILED, "QuotaExceeded")
    assert not stage.inputs("model_turn")


def test_what_is_published_already_needs_no_sandbox(stage, coder):
    stage.happy(coder("a"))
    stage.on("preflight", Preflight(base_branch="main", base_commit="b", already_published="c" * 40))
    stage.on("sandbox_ensure", Ensured(phase="Refused", reason="QuotaExceeded", message="exceeded quota"))
    assert ended(stage.run()) == (Phase.SUCCEEDED, "AlreadyPublished")


def test_a_sandbox_that_starts_is_looked_at_until_the_repository_was(stage, coder):
    stage.happy(coder("a"))
    looks = [0]

    def starts(given):
        looks[0] += given["task"] == "integration"
        if given["task"] == "integration" and looks[0] < 4:
            return Ensured(phase="Starting", reason="Pending")
        return None

    stage.before("sandbox_ensure", starts)
    stage.before("preflight", lambda _: time.sleep(1.5))
    assert ended(stage.run()) == (Phase.SUCCEEDED, "Published")
    assert looks[0] >= 4


# ---------------------------------------------------------------- tasks that fail


def test_a_phantom_gets_one_fresh_attempt_then_its_dependants_are_skipped_after_one_replan(stage, coder):
    stage.happy(coder("a"), coder("b"), coder("c", "b"))
    for n in (1, 2):
        stage.agent(f"coder/b/{n}", *["finish"] * 3)
    stage.before(
        "finish",
        lambda g: (
            Finished(accepted=False, empty=True, problems=["the diff is empty"]) if g["task"] == "b" else None
        ),
    )
    stage.agent("planner/plan/2", "submit_plan")
    report = stage.run()
    assert ended(report) == (Phase.FAILED, "Incomplete")
    assert report.agent("b").status.reason == "PhantomAgent"
    assert report.agent("b").status.attempts == 2
    assert (phase_of(report, "c"), report.agent("c").status.reason) == (
        AgentPhase.SKIPPED,
        "DependencyFailed",
    )
    assert report.message == "not in the result: b (failed: PhantomAgent), c (skipped: DependencyFailed)"
    # The second attempt is fresh: another instance, another sandbox, with the evidence.
    (again,) = stage.inputs("model_turn", task="b", attempt=2, turn=1)
    assert again["box"]["attempt"] == 2
    assert again["brief"]["evidence"] == "evidence/001-b-attempt-1"
    # One re-plan, which is told what stays.
    (replan,) = stage.inputs("model_turn", role="planner", attempt=2)
    assert replan["brief"]["kept"] == ["a", "b"]
    assert not stage.inputs("publish")


def test_a_fresh_attempt_that_works_makes_the_run_whole(stage, coder):
    stage.happy(coder("a"), coder("b", "a"))
    stage.agent("coder/a/2", "write", "finish")
    stage.before("finish", fails("coder/a/1"))
    report = stage.run()
    assert report.phase is Phase.SUCCEEDED
    status = report.agent("a").status
    assert (status.attempts, status.turns, status.tokens, status.reason) == (2, 2, 40, "")
    assert any("one fresh attempt" in note for note in report.notes)


def test_what_was_planned_anew_is_worked_on_and_a_partial_result_published_where_asked(stage, coder):
    stage.happy(coder("a"), coder("b"), coder("c", "b"))
    first, again = stage.plan, stage.a_plan(coder("a"), coder("b"), coder("d", "a"), hash="h2")
    for n in (1, 2):
        stage.agent(f"coder/b/{n}", "finish")
        stage.before("finish", fails(f"coder/b/{n}"))
    stage.agent("planner/plan/2", "submit_plan")
    stage.agent("coder/d/1", "write", "finish")
    stage.before(
        "finish",
        lambda g: (
            Finished(accepted=True, plan=first if g["attempt"] == 1 else again)
            if g["role"] == "planner"
            else None
        ),
    )
    report = stage.run(publish_partial=True)
    assert ended(report) == (Phase.FAILED, "Incomplete")
    assert report.message == "not in the result: b (failed: Refused); published as swarm/x"
    assert [p["partial"] for p in stage.inputs("publish")] == ["Incomplete"]
    assert [r.status.task for r in report.agents] == ["plan", "a", "b", "d"]
    assert report.plan.hash == "h2"
    assert report.result.commit == "scaffold+a+d"


def test_a_failed_replan_skips_the_rest(stage, coder):
    stage.happy(coder("a"), coder("b", "a"))
    for n in (1, 2):
        stage.agent(f"coder/a/{n}", "finish")
        stage.before("finish", fails(f"coder/a/{n}"))
    stage.agent("planner/plan/2", "submit_plan")
    stage.before("finish", fails("planner/plan/2"))
    report = stage.run()
    assert ended(report) == (Phase.FAILED, "Incomplete")
    assert phase_of(report, "b") is AgentPhase.SKIPPED
    assert any(note.startswith("no new plan for b") for note in report.notes)


def test_what_a_fresh_attempt_cannot_mend_is_not_tried_again(stage, coder):
    stage.happy(coder("a"))
    stage.before(
        "model_turn", lambda g: Failed(reason="ModelRefused", message="400") if g["task"] == "a" else None
    )
    report = stage.run()
    assert report.agent("a").status.attempts == 1
    assert report.message == "not in the result: a (failed: ModelRefused)"


@pytest.mark.parametrize(
    "refusal",
    [
        Ensured(phase="Refused", reason="QuotaExceeded", message="exceeded quota: pods=2"),
        Failed(reason="OperatorNotAllowed", kind="PermissionDenied", message="may not create pods"),
    ],
    ids=["by the API server", "for want of a right"],
)
def test_a_task_whose_sandbox_is_refused_for_good_ends_at_once_and_nothing_is_planned_anew(
    stage, coder, refusal
):
    stage.happy(coder("a"), coder("b"), coder("c", "b"))
    stage.before("sandbox_ensure", lambda g: refusal if g["task"] == "b" else None)
    report = stage.run()
    assert ended(report) == (Phase.FAILED, "Incomplete")
    status = report.agent("b").status
    assert (status.phase, status.reason, status.attempts) == (AgentPhase.FAILED, refusal.reason, 1)
    assert refusal.message in status.message
    assert len(stage.inputs("sandbox_ensure", task="b")) == 1
    assert phase_of(report, "a") is AgentPhase.MERGED
    assert phase_of(report, "c") is AgentPhase.SKIPPED
    assert report.agent("plan").status.attempts == 1


def test_a_task_whose_sandbox_was_lost_or_whose_set_up_failed_gets_a_fresh_attempt(stage, coder):
    stage.happy(coder("a"))
    stage.agent("coder/a/2", "write", "finish")
    stage.before(
        "sandbox_prepare",
        lambda g: (
            Failed(reason="SetupFailed", kind="SandboxRefused", message="pip: no answer")
            if (g["task"], g["attempt"]) == ("a", 1)
            else None
        ),
    )
    report = stage.run()
    assert ended(report) == (Phase.SUCCEEDED, "Published")
    assert report.agent("a").status.attempts == 2


def test_an_agent_orchestration_that_breaks_is_a_failed_attempt(stage, coder):
    stage.happy(coder("a"))
    stage.agent("coder/a/2", "write", "finish")

    def broken(given):
        raise RuntimeError("a bug")

    body = stage.bodies["finish"]
    stage.on("finish", lambda g: broken(g) if (g["task"], g["attempt"]) == ("a", 1) else body(g))
    assert stage.run().phase is Phase.SUCCEEDED


# ---------------------------------------------------------------- merging


def test_a_conflict_goes_to_the_integrator_and_its_commit_counts(stage, coder):
    stage.happy(coder("a"), coder("b"))
    stage.before("merge", conflict)
    stage.agent("integrator/integrate-b/1", "write", "finish")
    report = stage.run()
    assert report.phase is Phase.SUCCEEDED
    (turn, *_) = stage.inputs("model_turn", role="integrator")
    assert turn["brief"] == turn["brief"] | {
        "base": "partial-coder/b/1!",
        "theirs": "coder/b/1!",
        "other": "b",
        "evidence": "evidence/m",
    }
    assert turn["box"]["task"] == "integration"
    prepared = stage.inputs("sandbox_prepare", head=turn["brief"]["ours"])
    assert [p["commit"] for p in prepared] == ["partial-coder/b/1!"]
    merged = next(m for m in report.merges if m.task == "b")
    assert (merged.how, merged.commit) == (MergeHow.INTEGRATOR, "integrator/integrate-b/1!")


def test_a_parked_branch_gets_a_fresh_attempt_on_what_it_conflicts_with_and_the_reason(stage, coder):
    stage.happy(coder("a"), coder("b"), coder("c"))
    stage.before("merge", lambda g: conflict(g) if g["head"] == "coder/b/1!" else None)
    stage.agent("integrator/integrate-b/1", *["finish"] * 3)
    stage.before(
        "finish",
        lambda g: (
            Finished(accepted=False, problems=["restored one side"]) if g["role"] == "integrator" else None
        ),
    )
    stage.agent("coder/b/2", "write", "finish")
    # a and b become one batch while c is being merged.
    stage.before(
        "finish", lambda g: stage.until(lambda: merging(stage, "c")) and None if g["task"] in "ab" else None
    )
    stage.before(
        "merge",
        lambda g: (
            stage.until(lambda: stage.ended("sandbox_release") == 3) and None if g["task"] == "c" else None
        ),
    )
    report = stage.run()
    assert report.phase is Phase.SUCCEEDED
    assert report.agent("b").status.attempts == 2
    evidence = next(e["text"] for e in stage.inputs("save_evidence") if "b-attempt-1" in e["name"])
    assert "restored one side" in evidence
    # The fresh attempt starts from what was merged meanwhile; the parked line gave way to the merge.
    (again,) = stage.inputs("model_turn", task="b", attempt=2, turn=1)
    assert "+a" in again["brief"]["base"]
    assert [(m.task, m.how) for m in report.merges] == [
        ("c", MergeHow.CLEAN),
        ("a", MergeHow.CLEAN),
        ("b", MergeHow.CLEAN),
    ]
    assert len(stage.inputs("order")) == 1


def merging(stage, task: str) -> bool:
    return bool(stage.inputs("merge", task=task))


def test_a_branch_that_is_parked_twice_is_named_and_the_run_goes_on(stage, coder):
    stage.happy(coder("a"), coder("b"))
    stage.before("merge", lambda g: Failed(reason="GitError", message="no") if g["task"] == "b" else None)
    stage.agent("coder/b/2", "write", "finish")
    report = stage.run()
    assert ended(report) == (Phase.FAILED, "Incomplete")
    assert phase_of(report, "b") is AgentPhase.PARKED
    parked = next(m for m in report.merges if m.task == "b")
    assert (parked.how, parked.reason) == (MergeHow.PARKED, "GitError: no")
    assert report.agent("b").status.commit == "coder/b/2!"


def test_an_order_that_is_none_is_replaced_by_the_plans(stage, coder):
    stage.happy(coder("a"), coder("b"))
    stage.on("order", Ordered(tasks=["a", "a"]))
    assert stage.run().phase is Phase.SUCCEEDED


def test_an_agent_that_starts_while_a_batch_is_being_proven_starts_from_what_was_proven(stage, coder):
    stage.happy(coder("a"), coder("b"), coder("c"), coder("d"))

    def proving():
        return [g for g in stage.inputs("batch_gates") if g["commit"].endswith("+a+b")]

    def finish(given):
        if given["task"] in ("a", "b") and given["attempt"] == 1:
            stage.until(lambda: merging(stage, "c"))
        elif (given["task"], given["attempt"]) == ("d", 1):
            stage.until(proving)
            return Failed(reason="Refused", message="d gets its fresh attempt now")
        return None

    def gates(given):
        if not given["commit"].endswith("+a+b"):
            return None
        stage.until(lambda: stage.inputs("model_turn", task="d", attempt=2))
        return BatchChecked(red=True, summary="a's test fails")

    # a and b become one batch while c is being merged; b breaks it.
    stage.before("finish", finish)
    stage.before(
        "merge",
        lambda g: (
            stage.until(lambda: stage.ended("sandbox_release") == 3) and None if g["task"] == "c" else None
        ),
    )
    stage.before("batch_gates", gates)
    for task in "bd":
        stage.agent(f"coder/{task}/2", "write", "finish")
    report = stage.run()
    assert report.phase is Phase.SUCCEEDED
    (fresh,) = stage.inputs("model_turn", task="d", attempt=2, turn=1)
    assert fresh["brief"]["base"] == "scaffold+c"
    assert report.agent("b").status.attempts == 2


def test_the_integration_sandbox_that_an_integrator_had_to_replace_is_used_from_then_on(stage, coder, lost):
    stage.happy(coder("a"), coder("b"))
    stage.before("merge", conflict)
    stage.agent("integrator/integrate-b/1", "write", "finish")
    stage.before(
        "tool_call", lambda g: lost if g["role"] == "integrator" and g["box"]["generation"] == 1 else None
    )
    report = stage.run()
    assert report.phase is Phase.SUCCEEDED
    assert [g["generation"] for g in stage.inputs("gates")] == [2]


@pytest.mark.parametrize(
    ("reason", "times", "phase"), [("SandboxLost", 3, Phase.FAILED), (GONE, 7, Phase.SUCCEEDED)]
)
def test_a_step_that_ends_the_integration_sandbox_again_and_again_ends_the_run(
    stage, coder, reason, times, phase
):
    stage.happy(coder("a"))
    failure = Failed(reason=reason, message="not running", lost=True)
    body = stage.bodies["gates"]
    stage.on("gates", lambda g: failure if len(stage.inputs("gates")) <= times else body(g))
    report = stage.run()
    assert report.phase is phase
    assert len(stage.inputs("gates")) == (times if phase is Phase.FAILED else times + 1)


# ---------------------------------------------------------------- contracts


def issue(contract: str) -> ContractIssue:
    return ContractIssue(contract=contract, problem="needs a field", proposal="…")


def test_an_additive_change_reaches_running_consumers_once(stage, coder):
    stage.happy(coder("a", uses=["m"]), coder("b", uses=["m"]), coder("c"))
    amended = stage.door()
    stage.on("amend_contract", Amended(outcome="additive", plan="plan-2", news="m has a field more"))

    def raise_issue(given):
        if given["task"] == "a":
            return Finished(accepted=True, verified=True, commit="a!", contract_issues=[issue("m")])
        return None

    def wait(given):
        # b and c are at work until a's change is through.
        if given["task"] in "bc" and given["turn"] == 1:
            stage.until(lambda: stage.inputs("merge", task="a"))
            amended.set()

    stage.before("finish", raise_issue)
    stage.before("tool_call", wait)
    report = stage.run()
    assert report.phase is Phase.SUCCEEDED
    assert amended.is_set()
    assert stage.replies["coder/b/1/2"][1] == ["m has a field more"]
    assert stage.replies["coder/c/1/2"][1] == []
    assert any(note.startswith("contract m: additive") for note in report.notes)
    # What is merged is looked at by the plan that holds now.
    assert {g["plan"] for g in stage.inputs("gates")} == {"plan-2"}


def test_two_changes_at_once_build_on_each_other(stage, coder):
    stage.happy(coder("a"), coder("b"))

    def amend(given):
        if given["number"] == 1:
            stage.until(lambda: len(stage.inputs("sandbox_release")) >= 2)
        return Amended(outcome="additive", plan=f"{given['plan']}+{given['issue']['contract']}", news="n")

    stage.on("amend_contract", amend)
    stage.before(
        "finish",
        lambda g: (
            Finished(accepted=True, verified=True, commit=f"{g['task']}!", contract_issues=[issue(g["task"])])
            if g["role"] == "coder"
            else None
        ),
    )
    stage.run()
    assert [g["number"] for g in stage.inputs("amend_contract")] == [1, 2]
    (plan,) = {g["plan"] for g in stage.inputs("gates")}
    assert sorted(plan.split("+")[1:]) == ["a", "b"]


def test_breaking_changes_cost_two_planner_calls_at_most(stage, coder):
    stage.happy(coder("a"))
    stage.on(
        "amend_contract",
        lambda g: Amended(outcome="refused", plan=g["plan"], planner_called=g["planner_calls_left"] > 0),
    )
    issues = [issue(c) for c in "xyz"]
    stage.before(
        "finish",
        lambda g: (
            Finished(accepted=True, verified=True, commit="a!", contract_issues=issues)
            if g["role"] == "coder"
            else None
        ),
    )
    stage.run()
    assert [g["planner_calls_left"] for g in stage.inputs("amend_contract")] == [2, 1, 0]


# ---------------------------------------------------------------- judge and fix


def by_commit(stage, scores: dict[str, int], **more):
    """The judge's score by commit."""
    stage.on(
        "judge_tally",
        lambda g: stage.verdict(
            g, scores[g["commit"]], open=["works"] if scores[g["commit"]] < 70 else [], **more
        ),
    )


def test_a_fix_round_that_helps_is_kept(stage, red):
    stage.happy()
    stage.agent("fixer/fix-1/1", "write", "finish")
    by_commit(stage, {"scaffold+a": 43, "fixer/fix-1/1!": 88})
    report = stage.run()
    assert ended(report) == (Phase.SUCCEEDED, "Published")
    assert (report.score, report.result.commit) == (88, "fixer/fix-1/1!")
    assert [(j.round, j.kept) for j in report.judgements] == [(0, True), (1, True)]
    (turn, *_) = stage.inputs("model_turn", role="fixer")
    assert turn["brief"]["evidence"] == "evidence/fix-1"


def test_a_round_that_makes_it_worse_is_undone_and_ends_the_loop(stage, red):
    stage.happy()
    stage.agent("fixer/fix-1/1", "write", "finish")
    by_commit(stage, {"scaffold+a": 60, "fixer/fix-1/1!": 65})
    good = stage.bodies["gates"]
    stage.on("gates", lambda g: red(g) if "fixer" in g["commit"] else good(g))
    report = stage.run(publish_partial=True)
    assert ended(report) == (Phase.FAILED, "ScoreBelowThreshold")
    assert [p["partial"] for p in stage.inputs("publish")] == ["ScoreBelowThreshold"]
    assert [(j.round, j.kept) for j in report.judgements] == [(0, True), (1, False)]
    assert (report.score, report.result.commit) == (60, "scaffold+a")
    assert any(note.startswith("fix round 1 undone") for note in report.notes)


def test_a_round_that_closes_nothing_ends_the_loop(stage):
    stage.happy()
    stage.agent("fixer/fix-1/1", *["finish"] * 3)
    stage.before("finish", lambda g: Finished(accepted=False, empty=True) if g["role"] == "fixer" else None)
    by_commit(stage, {"scaffold+a": 60})
    report = stage.run()
    assert ended(report) == (Phase.FAILED, "ScoreBelowThreshold")
    assert len(report.judgements) == 1
    assert report.agent("fix-1").status.reason == "PhantomAgent"


def test_a_fixer_that_weakens_a_test_three_times_changes_nothing(stage):
    stage.happy()
    stage.agent("fixer/fix-1/1", *["write finish"] * 3)
    stage.before(
        "finish",
        lambda g: (
            Finished(accepted=g["final"], commit="tampered", problems=["test deleted"])
            if g["role"] == "fixer"
            else None
        ),
    )
    by_commit(stage, {"scaffold+a": 60, "tampered": 99})
    report = stage.run(publish_partial=True)
    assert (report.reason, report.result.commit) == ("ScoreBelowThreshold", "scaffold+a")


def test_rounds_are_limited(stage):
    stage.happy()
    scores = {"scaffold+a": 10}
    for n in range(1, 4):
        stage.agent(f"fixer/fix-{n}/1", "write", "finish")
        scores[f"fixer/fix-{n}/1!"] = 10 + 10 * n
    by_commit(stage, scores)
    report = stage.run(max_fix_rounds=2)
    assert [j.score for j in report.judgements] == [10, 20, 30]
    assert ended(report) == (Phase.FAILED, "ScoreBelowThreshold")


def test_the_best_commit_stands_when_the_judge_is_lost_in_a_later_round(stage):
    stage.happy()
    stage.agent("fixer/fix-1/1", "write", "finish")
    by_commit(stage, {"scaffold+a": 60})
    stage.before(
        "judge_sample", lambda g: Failed(reason="BudgetExceeded", message="none left") if g["round"] else None
    )
    report = stage.run()
    assert ended(report) == (Phase.FAILED, "BudgetExceeded")
    assert report.result.commit == "scaffold+a"


def test_failing_required_gates_and_broken_contracts_are_named(stage, red):
    stage.happy()
    stage.on("gates", red)
    report = stage.run(max_fix_rounds=0)
    assert (report.reason, report.message) == ("GatesFailed", "required gates fail: pytest")


def test_contracts_that_are_not_kept_are_named(stage):
    stage.happy()
    stage.on(
        "gates", lambda g: GatesRun(commit=g["commit"], artifact="gates", breaches=["Store.add is missing"])
    )
    report = stage.run(max_fix_rounds=0)
    assert (report.reason, report.message) == ("ContractsBroken", "Store.add is missing")


def test_a_broken_contract_goes_to_the_fixer_before_the_judge_is_paid(stage):
    stage.happy()
    stage.agent("fixer/fix-1/1", "write", "finish")
    good = stage.bodies["gates"]

    def broken(given):
        return GatesRun(
            commit=given["commit"], artifact="g", evidence="breaches", breaches=["Store.add is missing"]
        )

    stage.on("gates", lambda g: good(g) if "fixer" in g["commit"] else broken(g))
    report = stage.run()
    assert ended(report) == (Phase.SUCCEEDED, "Published")
    assert [(j.round, j.commit) for j in report.judgements] == [(1, "fixer/fix-1/1!")]
    (turn, *_) = stage.inputs("model_turn", role="fixer")
    assert turn["brief"]["evidence"] == "breaches"


def test_a_mended_contract_that_turns_a_gate_red_is_undone(stage, red):
    stage.happy()
    stage.agent("fixer/fix-1/1", "write", "finish")

    def broken(given):
        return GatesRun(
            commit=given["commit"], artifact="g", evidence="breaches", breaches=["Store.add is missing"]
        )

    stage.on("gates", lambda g: red(g) if "fixer" in g["commit"] else broken(g))
    report = stage.run(max_fix_rounds=1)
    assert ended(report) == (Phase.FAILED, "ContractsBroken")
    assert report.result.commit == "scaffold+a"
    assert any(note.startswith("fix round 1 undone") for note in report.notes)


def test_safe_fixes_of_the_gates_are_part_of_the_result(stage):
    stage.happy()
    stage.on("gates", lambda g: GatesRun(commit=f"{g['commit']}~fixed", artifact="gates"))
    assert stage.run().result.commit == "scaffold+a~fixed"


def test_judges_wait_for_a_rate_limit_side_by_side_and_all_is_paid(stage):
    stage.happy()
    limited = Failed(
        reason="RateLimited", kind="RateLimited", message="429", retryable=True, retry_after=0.05
    )
    garbage = Failed(
        reason="BadModelOutput", message="?", retryable=True, retry_after=0, usage=stage.usage(7)
    )
    good = Sampled(artifact="s", usage=stage.usage(10))
    stage.on("judge_sample", limited, garbage, limited, good)
    report = stage.run(samples=3)
    assert report.phase is Phase.SUCCEEDED
    assert len(stage.inputs("judge_sample")) == 6
    assert sum(u.total for u in report.usage) == 7 + 3 * 10
    (tally,) = stage.inputs("judge_tally")
    assert len(tally["samples"]) == 3


def test_one_sample_that_cannot_be_used_does_not_end_the_round(stage):
    stage.happy()
    useless = Failed(reason="ModelRefused", message="400", usage=stage.usage(5))
    stage.on("judge_sample", useless, Sampled(artifact="s", usage=stage.usage(10)))
    report = stage.run(samples=2)
    assert report.phase is Phase.SUCCEEDED
    assert sum(u.total for u in report.usage) == 15
    assert any("ModelRefused" in note for note in report.notes)


def test_when_no_sample_can_be_used_the_run_ends_without_a_judgement(stage):
    stage.happy()
    useless = Failed(
        reason="SchemaMismatch", kind="BadModelOutput", message="no JSON", retryable=True, retry_after=0
    )
    stage.on("judge_sample", useless, useless, useless, useless, useless)
    report = stage.run(samples=1)
    assert ended(report) == (Phase.FAILED, "NoJudgement")
    assert "SchemaMismatch: no JSON" in report.message
