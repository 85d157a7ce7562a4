"""`.status` of a SwarmRun: bounded (≤ 64 KiB whole), built by one pure function from the run's report."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from swarmrun.api.base import ApiModel, Message, Usd

MAX_BYTES = 64 * 1024
"""etcd takes 1.5 MiB an object; every watcher gets every status, so it stays far below."""


class Phase(StrEnum):
    PENDING = "Pending"
    PLANNING = "Planning"
    AWAITING_APPROVAL = "AwaitingApproval"
    RUNNING = "Running"
    MERGING = "Merging"
    VERIFYING = "Verifying"
    JUDGING = "Judging"
    FIXING = "Fixing"
    PUBLISHING = "Publishing"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"

    @property
    def terminal(self) -> bool:
        return self in (Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED)


class AgentPhase(StrEnum):
    PENDING = "Pending"
    STARTING = "Starting"
    RUNNING = "Running"
    FINISHED = "Finished"
    """Its branch is ready to be merged."""
    MERGED = "Merged"
    PARKED = "Parked"
    FAILED = "Failed"
    SKIPPED = "Skipped"
    CANCELLED = "Cancelled"


class MergeHow(StrEnum):
    CLEAN = "Clean"
    RULES = "Rules"
    DECLARATIONS = "Declarations"
    KEYS = "Keys"
    TOKENS = "Tokens"
    LOCKFILE = "Lockfile"
    STRUCTURAL = "Structural"
    INTEGRATOR = "Integrator"
    PARKED = "Parked"


class StatusModel(ApiModel):
    """Written by us only; an older program may meet a newer status, so unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore")


class Condition(StatusModel):
    type: Literal["Ready", "Reconciling", "Stalled", "Succeeded", "Finished"]
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: Message = ""
    last_transition_time: datetime | None = None
    observed_generation: int = 1


class PlannedTask(StatusModel):
    id: str
    title: Message = ""
    role: str = "coder"
    depends_on: list[str] = Field(default_factory=list[str])
    owned_paths: list[str] = Field(default_factory=list[str])
    provides: list[str] = Field(default_factory=list[str])
    uses: list[str] = Field(default_factory=list[str])


class PlannedContract(StatusModel):
    id: str
    kind: str = ""
    path: str = ""
    provided_by: str = ""
    signature: Message = ""


class PlanStatus(StatusModel):
    summary: Message = ""
    solo: bool = False
    hash: str = ""
    """SHA-256 of the plan; an approval is bound to it."""
    artifact: str = ""
    """Key of the whole plan."""
    notes: list[Message] = Field(default_factory=list[Message])
    """What had to be mended in the planner's answer, e.g. `id 1 became "1"`."""
    tasks: list[PlannedTask] = Field(default_factory=list[PlannedTask])
    contracts: list[PlannedContract] = Field(default_factory=list[PlannedContract])


class AgentStatus(StatusModel):
    task: str
    role: str = "coder"
    phase: AgentPhase = AgentPhase.PENDING
    branch: str = ""
    commit: str = ""
    """Head of its branch: the last checkpoint, or what it finished with."""
    turns: int = 0
    tool_calls: int = 0
    tokens: int = 0
    attempts: int = 0
    verified: bool | None = None
    """True when guards, contracts and acceptance held at the end; False: gone on `Unverified`."""
    reason: str = ""
    message: Message = ""
    last_tool: Message = ""


class MergedFile(StatusModel):
    path: str
    how: MergeHow


class MergeStatus(StatusModel):
    task: str
    how: MergeHow
    """The most expensive step that was needed."""
    files: list[MergedFile] = Field(default_factory=list[MergedFile])
    """Files that conflicted, and what resolved each."""
    reason: Message = ""
    refused: list[Message] = Field(default_factory=list[Message])
    """Integrator results that the guards refused, with why."""
    commit: str = ""


class GateStatus(StatusModel):
    name: str
    required: bool = True
    passed: bool = False
    new_failures: list[Message] = Field(default_factory=list[Message])
    baseline_failures: list[Message] = Field(default_factory=list[Message])
    flaky: list[Message] = Field(default_factory=list[Message])
    message: Message = ""


class Judgement(StatusModel):
    round: int
    score: int
    spread: int = 0
    complaints: list[Message] = Field(default_factory=list[Message])
    commit: str = ""
    kept: bool = True
    """False when the round made things worse and was undone."""
    capped_by: str = ""
    """Gate or contract that capped the score."""


class TokenUsage(StatusModel):
    tier: str
    input: int = 0
    cached: int = 0
    cache_write: int = 0
    output: int = 0
    calls: int = 0
    cost: Usd | None = None


class UsageStatus(StatusModel):
    tokens: int = 0
    cost: Usd | None = None
    """Absent while a model in use has no price."""
    cache_hit_percent: int = 0
    wall_seconds: int = 0
    critical_path_seconds: int = 0
    tiers: list[TokenUsage] = Field(default_factory=list[TokenUsage])


class ResultStatus(StatusModel):
    branch: str = ""
    """Empty until something was published."""
    commit: str = ""
    """What was published; until then the integration branch's head."""
    base_commit: str = ""
    pull_request: str = ""
    beside: bool = False
    """True when the wanted branch held somebody else's commits and another name was taken."""


class SwarmRunStatus(StatusModel):
    observed_generation: int = -1
    phase: Phase = Phase.PENDING
    progress: str = ""
    """Merged tasks of all tasks, `3/5`."""
    score: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    isolation: str = ""
    """How sandboxes are kept apart: `bubblewrap`, `container`, `pod`, or `none`."""
    conditions: list[Condition] = Field(default_factory=list[Condition])
    plan: PlanStatus | None = None
    agents: Annotated[list[AgentStatus], Field(max_length=110)] = Field(default_factory=list[AgentStatus])
    merges: list[MergeStatus] = Field(default_factory=list[MergeStatus])
    gates: list[GateStatus] = Field(default_factory=list[GateStatus])
    judgements: list[Judgement] = Field(default_factory=list[Judgement])
    usage: UsageStatus = Field(default_factory=UsageStatus)
    notes: list[Message] = Field(default_factory=list[Message])
    """What the run met and got over: waits for a rate limit, repeated streams, mended tool calls."""
    result: ResultStatus | None = None

    def condition(self, kind: str) -> Condition | None:
        return next((c for c in self.conditions if c.type == kind), None)
