"""The status a resource shows, as a pure function of what the engine knows. Computes, never decides."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from swarmrun.api.base import clip
from swarmrun.api.status import AgentPhase, AgentStatus, Phase, ResultStatus, SwarmRunStatus
from swarmrun.controller.conditions import conditions
from swarmrun.controller.trim import fit
from swarmrun.controller.usage import usage, working
from swarmrun.report import AgentProgress, AgentRecord, RunReport

MAX_NOTES = 50
MAX_AGENTS = 110


def project(
    report: RunReport,
    progress: Mapping[str, AgentProgress],
    *,
    previous: SwarmRunStatus | None,
    now: datetime,
) -> SwarmRunStatus:
    """`progress` is by agent instance; `previous` lends its transition times; `now` counts in whole seconds.

    At most 64 KiB as JSON (see `trim.fit` for what goes first).
    """
    now = now.replace(microsecond=0)
    status = SwarmRunStatus(
        observed_generation=report.generation,
        run=report.run,
        phase=report.phase,
        progress=merged_of_all(report),
        score=report.score,
        started_at=report.started_at,
        finished_at=report.finished_at,
        isolation=report.isolation,
        conditions=conditions(report, previous, now),
        plan=report.plan,
        agents=[agent(record, progress) for record in report.agents[:MAX_AGENTS]],
        merges=report.merges,
        gates=report.gates,
        judgements=report.judgements,
        usage=usage(report, progress),
        notes=[clip(note) for note in report.notes[:MAX_NOTES]],
        result=result(report),
    )
    return fit(status)


def result(report: RunReport) -> ResultStatus | None:
    """What was published; before that where the work stands, so that it can be looked at."""
    if report.result is not None or not report.base_commit:
        return report.result
    return ResultStatus(base_commit=report.base_commit, commit=report.integration)


def agent(record: AgentRecord, progress: Mapping[str, AgentProgress]) -> AgentStatus:
    """The run's record, and while the agent works what it says of the attempt under way on top."""
    live = progress.get(record.instance)
    if live is None or not working(record):
        return record.status
    known = record.status
    return known.model_copy(
        update={
            "phase": AgentPhase.STARTING if live.phase == "Starting" else AgentPhase.RUNNING,
            "turns": max(known.turns, live.turns),
            "tool_calls": max(known.tool_calls, live.tool_calls),
            "tokens": max(known.tokens, live.tokens),
            "last_tool": clip(live.last_tool),
            "message": clip(live.message) or known.message,
        }
    )


def merged_of_all(report: RunReport) -> str:
    """`3/5`; a solo run is one task. Empty before there is a plan."""
    if report.plan is None or not report.plan.tasks:
        return ""
    total = 1 if report.plan.solo else len(report.plan.tasks)
    ids = {t.id for t in report.plan.tasks}
    done = sum(
        a.status.phase is AgentPhase.MERGED and (report.plan.solo or a.status.task in ids)
        for a in report.agents
    )
    if report.phase is Phase.SUCCEEDED and report.plan.solo:
        done = total
    return f"{min(done, total)}/{total}"
