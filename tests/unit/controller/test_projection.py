"""The status as a function of the report."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swarmrun.api.status import (
    MAX_BYTES,
    AgentPhase,
    AgentStatus,
    GateStatus,
    Judgement,
    MergedFile,
    MergeHow,
    MergeStatus,
    Phase,
    PlannedContract,
    PlannedTask,
    PlanStatus,
    ResultStatus,
    SwarmRunStatus,
)
from swarmrun.controller.projection import project
from swarmrun.controller.trim import size
from swarmrun.report import AgentProgress, AgentRecord, RunReport
from swarmrun.steps import UsageRecord

NOW = datetime(2030, 1, 1, 12, 0, 0, tzinfo=UTC)


def report(**fields: Any) -> RunReport:
    return RunReport(run="demo-1", name="demo", **fields)


def show(
    given: RunReport, progress: dict[str, AgentProgress] | None = None, previous: SwarmRunStatus | None = None
) -> SwarmRunStatus:
    return project(given, progress or {}, previous=previous, now=NOW)


def truth(status: SwarmRunStatus) -> dict[str, str]:
    return {c.type: c.status for c in status.conditions}


def plan(*tasks: PlannedTask, solo: bool = False) -> PlanStatus:
    return PlanStatus(tasks=list(tasks), solo=solo)


def record(task: str, phase: AgentPhase = AgentPhase.RUNNING, **fields: Any) -> AgentRecord:
    return AgentRecord(status=AgentStatus(task=task, phase=phase), instance=f"i-{task}", **fields)


# ---------------------------------------------------------------- conditions


@pytest.mark.parametrize("phase", [p for p in Phase if not p.terminal])
def test_a_run_at_work_is_reconciling_and_nothing_else(phase: Phase) -> None:
    assert truth(show(report(phase=phase))) == {
        "Ready": "False",
        "Reconciling": "True",
        "Stalled": "False",
        "Succeeded": "Unknown",
        "Finished": "False",
    }


@pytest.mark.parametrize(
    ("phase", "ready", "stalled"),
    [("Succeeded", "True", "False"), ("Failed", "False", "True"), ("Cancelled", "False", "True")],
)
def test_a_finished_run_is_ready_or_stalled_never_both(phase: str, ready: str, stalled: str) -> None:
    status = truth(show(report(phase=Phase(phase), reason="X")))
    assert (status["Ready"], status["Stalled"], status["Succeeded"]) == (ready, stalled, ready)
    assert (status["Reconciling"], status["Finished"]) == ("False", "True")


def test_waits_have_reasons_of_their_own() -> None:
    def reason(**fields: Any) -> str:
        condition = show(report(phase=Phase.RUNNING, **fields)).condition("Ready")
        assert condition
        return condition.reason

    assert reason(waiting_for="plan") == "AwaitingPlanApproval"
    assert reason(waiting_for="publish") == "AwaitingPublishApproval"
    assert reason(waiting_for="model") == "WaitingForModel"
    assert reason(suspended=True, waiting_for="model") == "Suspended"
    assert reason(reason="BudgetExceeded") == "BudgetExceeded"
    assert reason() == "Running"


def test_a_transition_time_moves_only_with_the_status() -> None:
    before = show(report(phase=Phase.RUNNING))
    later = NOW + timedelta(minutes=5, microseconds=7)
    still = project(report(phase=Phase.MERGING), {}, previous=before, now=later)
    assert {c.last_transition_time for c in still.conditions} == {NOW}
    done = project(report(phase=Phase.SUCCEEDED), {}, previous=still, now=later)
    moved = {c.type for c in done.conditions if c.last_transition_time == later.replace(microsecond=0)}
    assert moved == {"Ready", "Reconciling", "Succeeded", "Finished"}


def test_the_same_report_gives_the_same_status() -> None:
    given = report(phase=Phase.RUNNING, agents=[record("a")], plan=plan(PlannedTask(id="a")))
    first = show(given)
    assert project(given, {}, previous=first, now=NOW) == first


def test_the_projection_leaves_the_report_as_it_was() -> None:
    given = report(phase=Phase.RUNNING, agents=[record("a")], notes=["x" * 9000])
    before = given.model_copy(deep=True)
    show(given, {"i-a": AgentProgress(phase="Running", turns=3)})
    assert given == before


# ---------------------------------------------------------------- progress and agents


def test_progress_counts_merged_tasks_of_the_plan() -> None:
    tasks = [PlannedTask(id=i) for i in "abc"]
    agents = [
        record("a", AgentPhase.MERGED),
        record("b", AgentPhase.PARKED),
        record("integrator", AgentPhase.MERGED),
    ]
    assert show(report(plan=plan(*tasks), agents=agents)).progress == "1/3"
    assert show(report()).progress == ""


def test_a_solo_run_is_one_task() -> None:
    tasks = [PlannedTask(id=i) for i in "abc"]
    working = report(phase=Phase.RUNNING, plan=plan(*tasks, solo=True), agents=[record("solo")])
    assert show(working).progress == "0/1"
    assert show(working.model_copy(update={"phase": Phase.SUCCEEDED})).progress == "1/1"


def test_a_working_agent_shows_its_progress_a_finished_one_its_record() -> None:
    live = {
        "i-a": AgentProgress(phase="Running", turns=3, tool_calls=4, tokens=500, last_tool="exec pytest -q")
    }
    (agent,) = show(report(agents=[record("a")]), live).agents
    assert (agent.turns, agent.tool_calls, agent.tokens, agent.last_tool) == (3, 4, 500, "exec pytest -q")
    (agent,) = show(report(agents=[record("a", AgentPhase.FINISHED, finished_at=NOW)]), live).agents
    assert agent.turns == 0


def test_long_words_of_an_agent_are_cut_to_512() -> None:
    live = {"i-a": AgentProgress(phase="Running", last_tool="x" * 2000, message="y" * 2000)}
    (agent,) = show(report(agents=[record("a")], notes=["z" * 2000]), live).agents
    assert len(agent.last_tool) == len(agent.message) == 512


def test_unpublished_work_can_be_found_by_its_commits() -> None:
    status = show(report(base_commit="b" * 40, integration="c" * 40))
    assert status.result == ResultStatus(base_commit="b" * 40, commit="c" * 40)
    published = ResultStatus(branch="swarm/x", commit="d" * 40)
    assert show(report(base_commit="b" * 40, result=published)).result == published


# ---------------------------------------------------------------- usage


def used(tier: str, cost: str | None = "0.5", **fields: int) -> UsageRecord:
    return UsageRecord(
        tier=tier, cost=cost, **({"input": 100, "cached": 50, "output": 10, "calls": 1} | fields)
    )


def test_usage_sums_the_run_its_agents_and_the_attempt_at_work_by_tier() -> None:
    given = report(usage=[used("premium")], agents=[record("a", usage=[used("standard")])])
    usage = show(given, {"i-a": AgentProgress(phase="Running", usage=[used("standard")])}).usage
    assert [(t.tier, t.input, t.calls, t.cost) for t in usage.tiers] == [
        ("premium", 100, 1, "0.5"),
        ("standard", 200, 2, "1"),
    ]
    assert (usage.tokens, usage.cost, usage.cache_hit_percent) == (330, "1.5", 50)


def test_an_attempt_that_ended_is_not_counted_twice() -> None:
    given = report(agents=[record("a", AgentPhase.FINISHED, usage=[used("standard")], finished_at=NOW)])
    assert show(given, {"i-a": AgentProgress(usage=[used("standard")])}).usage.tokens == 110


def test_a_second_attempt_is_seen_at_work_although_the_first_has_ended() -> None:
    given = report(agents=[record("a", usage=[used("standard")], started_at=NOW, finished_at=NOW)])
    status = show(given, {"i-a": AgentProgress(phase="Running", turns=7, usage=[used("standard")])})
    assert status.agents[0].turns == 7
    assert status.usage.tokens == 220


def test_one_unknown_price_makes_the_whole_cost_unknown() -> None:
    usage = show(report(usage=[used("premium"), used("light", None)])).usage
    assert usage.cost is None
    assert [t.cost for t in usage.tiers] == ["0.5", None]


def test_costs_are_added_as_decimals() -> None:
    assert show(report(usage=[used("light", "0.1"), used("light", "0.2")])).usage.cost == "0.3"


def test_the_critical_path_follows_dependencies() -> None:
    def spent(task: str, seconds: int) -> AgentRecord:
        return record(task, AgentPhase.MERGED, started_at=NOW, finished_at=NOW + timedelta(seconds=seconds))

    tasks = [PlannedTask(id="a"), PlannedTask(id="b"), PlannedTask(id="c", depends_on=["a"])]
    given = report(
        plan=plan(*tasks),
        agents=[spent("a", 30), spent("b", 45), spent("c", 20)],
        started_at=NOW - timedelta(seconds=100),
        finished_at=NOW,
    )
    usage = show(given).usage
    assert (usage.critical_path_seconds, usage.wall_seconds) == (50, 100)


def test_a_cycle_in_a_report_does_not_hang_the_projection() -> None:
    tasks = [PlannedTask(id="a", depends_on=["b"]), PlannedTask(id="b", depends_on=["a"])]
    show(report(plan=plan(*tasks), agents=[record("a"), record("b")]))


def test_naive_times_of_the_engine_are_utc() -> None:
    given = report(started_at=(NOW - timedelta(seconds=7)).replace(tzinfo=None), finished_at=NOW)
    assert show(given).usage.wall_seconds == 7


def test_a_status_does_not_change_only_because_time_passes() -> None:
    given = report(phase=Phase.RUNNING, started_at=NOW, agents=[record("a", started_at=NOW)])
    before = show(given)
    assert project(given, {}, previous=before, now=NOW + timedelta(hours=1)) == before


# ---------------------------------------------------------------- bounds

WIDE = st.text(alphabet='é€😀a"\\\n', min_size=200, max_size=512)
LONG = st.sampled_from(["x" * 512, "€" * 512, "😀" * 512, '"\\\n' * 170])


@st.composite
def full(draw: st.DrawFn) -> RunReport:
    """A report whose every list and text is near its bound: what a hostile planner and 100 agents leave."""
    text, count = draw(LONG | WIDE), draw(st.integers(60, 110))
    ids = [f"t{i}-{'x' * 36}" for i in range(count)]
    return RunReport(
        run="r",
        name="n",
        phase=Phase.RUNNING,
        message=text * 3,
        notes=[text] * draw(st.integers(0, 300)),
        plan=PlanStatus(
            summary=text,
            notes=[text] * draw(st.integers(0, 100)),
            tasks=[
                PlannedTask(id=i, title=text, depends_on=ids[:20], owned_paths=[text] * 5, uses=ids[:20])
                for i in ids
            ],
            contracts=[PlannedContract(id=i, path=text[:200], signature=text) for i in ids],
        ),
        agents=[
            AgentRecord(status=AgentStatus(task=i, branch=text, message=text, last_tool=text)) for i in ids
        ],
        merges=[
            MergeStatus(
                task=i,
                how=MergeHow.INTEGRATOR,
                files=[MergedFile(path=text, how=MergeHow.RULES)] * 20,
                refused=[text] * 4,
                commit="c" * 40,
            )
            for i in ids
        ],
        gates=[
            GateStatus(name=f"g{i}", new_failures=[text] * 50, baseline_failures=[text] * 50)
            for i in range(20)
        ],
        judgements=[Judgement(round=i, score=5, complaints=[text] * 20) for i in range(10)],
    )


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(full())
def test_no_report_makes_a_status_larger_than_its_bound(given_report: RunReport) -> None:
    status = show(given_report)
    assert size(status) <= MAX_BYTES
    assert truth(status)["Reconciling"] == "True"
    assert status.progress.endswith(f"/{len(given_report.agents)}")


def test_trimming_takes_the_least_missed_first() -> None:
    tasks = [PlannedTask(id=f"t{i}", title="title") for i in range(20)]
    contracts = [PlannedContract(id=f"c{i}", signature="s" * 500) for i in range(100)]
    given = report(
        plan=PlanStatus(tasks=tasks, contracts=contracts),
        agents=[AgentRecord(status=AgentStatus(task=f"t{i}", message="m" * 500)) for i in range(20)],
        notes=["kept " + "n" * 500] * 20,
    )
    status = show(given)
    assert size(status) <= MAX_BYTES
    assert status.plan
    assert all(len(c.signature) <= 60 for c in status.plan.contracts)
    assert all(len(a.message) == 500 for a in status.agents)
    assert all(len(n) == 505 for n in status.notes)
