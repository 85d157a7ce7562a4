"""The spans whose end only the controller sees: the run's own, and one for each task."""

from __future__ import annotations

from datetime import UTC, datetime

from swarmrun.api.status import AgentPhase, Phase
from swarmrun.observability import tracing
from swarmrun.report import AgentRecord, RunReport


def run_ended(report: RunReport) -> None:
    """Their ids are derived from the run's: a controller that sees the end again writes the same spans."""
    if not tracing.on() or report.started_at is None:
        return
    end = report.finished_at or datetime.now(UTC)
    for record in report.agents:
        if record.started_at is not None:
            _agent(report, record, record.started_at, record.finished_at or end)
    attributes = {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": "swarmrun",
        **_of(report),
        "swarmrun.phase": report.phase.value,
        "swarmrun.reason": report.reason,
        "swarmrun.tasks": len(report.plan.tasks) if report.plan else 0,
    }
    if report.score is not None:
        attributes["swarmrun.score"] = report.score
    tracing.ended(
        "invoke_workflow swarmrun",
        report.run,
        start=report.started_at,
        end=end,
        attributes=attributes,
        error="" if report.phase is Phase.SUCCEEDED else report.reason or report.phase.value,
    )


def _agent(report: RunReport, record: AgentRecord, start: datetime, end: datetime) -> None:
    """All attempts of a task together: the report tells no more of earlier ones than how many there were."""
    status = record.status
    tracing.ended(
        f"invoke_agent {status.role}",
        report.run,
        tracing.agent(status.task),
        start=start,
        end=end,
        attributes={
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": status.role,
            "gen_ai.agent.id": status.task,
            "gen_ai.usage.input_tokens": sum(u.input for u in record.usage),
            "gen_ai.usage.output_tokens": sum(u.output for u in record.usage),
            **_of(report),
            "swarmrun.task": status.task,
            "swarmrun.phase": status.phase.value,
            "swarmrun.attempts": status.attempts,
        },
        error=status.reason or status.phase.value if status.phase is AgentPhase.FAILED else "",
    )


def _of(report: RunReport) -> dict[str, str | int]:
    return {
        "swarmrun.run": report.run,
        "swarmrun.namespace": report.namespace,
        "swarmrun.name": report.name,
    }
