"""What a run knows of itself, kept by the orchestration as its custom status; the status is projected from it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from swarmrun.api.status import (
    AgentStatus,
    GateStatus,
    Judgement,
    MergeStatus,
    Phase,
    PlanStatus,
    ResultStatus,
)
from swarmrun.steps import UsageRecord


class ReportModel(BaseModel):
    model_config = ConfigDict(extra="ignore")


class AgentProgress(ReportModel):
    """Custom status of one agent's sub-orchestration, set at every turn: small."""

    phase: str = "Starting"
    turns: int = 0
    tool_calls: int = 0
    tokens: int = 0
    last_tool: str = ""
    message: str = ""
    generation: int = 1
    usage: list[UsageRecord] = Field(default_factory=list[UsageRecord])
    stand: dict[str, Any] | None = None
    """Its state (`orchestration.inputs.AgentInput`), for a program that takes it over."""


class AgentRecord(ReportModel):
    """One agent as the run sees it. `instance` finds its progress while it works."""

    status: AgentStatus
    instance: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    usage: list[UsageRecord] = Field(default_factory=list[UsageRecord])


class RunReport(ReportModel):
    run: str
    name: str
    namespace: str = "default"
    generation: int = 1
    phase: Phase = Phase.PENDING
    reason: str = ""
    """CamelCase: why it is in this phase, or how it ended (`Published`, `Incomplete`, `BudgetExceeded` …)."""
    message: str = ""
    waiting_for: str = ""
    """`plan` or `publish` while an approval is awaited; `model`, `remote` while an outage is waited out."""
    suspended: bool = False
    granted: int = 0
    """Sandboxes that it was told it may hold at once."""
    sandboxes: int | None = None
    """What it may still need of them; None: not said yet."""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    isolation: str = ""
    base_branch: str = ""
    base_commit: str = ""
    integration: str = ""
    """Commit of the integration branch now."""
    threshold: int = 70
    score: int | None = None
    plan: PlanStatus | None = None
    agents: list[AgentRecord] = Field(default_factory=list[AgentRecord])
    merges: list[MergeStatus] = Field(default_factory=list[MergeStatus])
    gates: list[GateStatus] = Field(default_factory=list[GateStatus])
    judgements: list[Judgement] = Field(default_factory=list[Judgement])
    usage: list[UsageRecord] = Field(default_factory=list[UsageRecord])
    """Of judge, amendments and whatever is no agent's."""
    notes: list[str] = Field(default_factory=list[str])
    result: ResultStatus | None = None
    stand: dict[str, Any] | None = None
    """Where it stands (`orchestration.stand.Stand`): what another life, or a later attempt, goes on from."""

    def agent(self, task: str) -> AgentRecord:
        for record in self.agents:
            if record.status.task == task:
                return record
        raise KeyError(task)
