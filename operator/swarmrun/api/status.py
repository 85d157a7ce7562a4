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
    """Which question is answered."""
    status: Literal["True", "False", "Unknown"]
    """The answer."""
    reason: str
    """Why, as one CamelCase word."""
    message: Message = ""
    """Why, as a sentence."""
    last_transition_time: datetime | None = None
    """When `status` last changed."""
    observed_generation: int = 1
    """Generation of the spec it speaks of."""


class PlannedTask(StatusModel):
    id: str
    """As in the plan."""
    title: Message = ""
    """For people."""
    role: str = "coder"
    """Who works on it."""
    depends_on: list[str] = Field(default_factory=list[str])
    """Tasks merged before it starts."""
    owned_paths: list[str] = Field(default_factory=list[str])
    """Paths only it may change."""
    provides: list[str] = Field(default_factory=list[str])
    """Contracts it implements."""
    uses: list[str] = Field(default_factory=list[str])
    """Contracts it relies on."""


class PlannedContract(StatusModel):
    id: str
    """As in the plan."""
    kind: str = ""
    """What is declared."""
    path: str = ""
    """File that holds it."""
    provided_by: str = ""
    """Task that implements it."""
    signature: Message = ""
    """Head of the declaration."""


class PlanStatus(StatusModel):
    summary: Message = ""
    """What is built."""
    solo: bool = False
    """One agent does all tasks."""
    hash: str = ""
    """SHA-256 of the plan; an approval is bound to it."""
    artifact: str = ""
    """Key of the whole plan."""
    notes: list[Message] = Field(default_factory=list[Message])
    """What had to be mended in the planner's answer, e.g. `id 1 became "1"`."""
    tasks: list[PlannedTask] = Field(default_factory=list[PlannedTask])
    """The DAG."""
    contracts: list[PlannedContract] = Field(default_factory=list[PlannedContract])
    """What tasks promise to each other."""


class AgentStatus(StatusModel):
    task: str
    """Task it works on, or its helper's name (planner, integrator …)."""
    role: str = "coder"
    """Its role."""
    phase: AgentPhase = AgentPhase.PENDING
    """Where it is."""
    branch: str = ""
    """Branch it works on."""
    commit: str = ""
    """Head of its branch: the last checkpoint, or what it finished with."""
    turns: int = 0
    """Model calls of the present attempt."""
    tool_calls: int = 0
    """Tool calls of the present attempt."""
    tokens: int = 0
    """Input and output tokens."""
    attempts: int = 0
    """Attempts so far, the present one included."""
    verified: bool | None = None
    """True when guards, contracts and acceptance held at the end; False: gone on `Unverified`."""
    reason: str = ""
    """Why it is in this phase, as one CamelCase word."""
    message: Message = ""
    """The same as a sentence."""
    last_tool: Message = ""
    """Last tool call, in short."""


class MergedFile(StatusModel):
    path: str
    """Relative to the repository's root."""
    how: MergeHow
    """What resolved it."""


class MergeStatus(StatusModel):
    task: str
    """Task whose branch was merged."""
    how: MergeHow
    """The most expensive step that was needed."""
    files: list[MergedFile] = Field(default_factory=list[MergedFile])
    """Files that conflicted, and what resolved each."""
    reason: Message = ""
    """Why it was parked, or needed more than git."""
    refused: list[Message] = Field(default_factory=list[Message])
    """Integrator results that the guards refused, with why."""
    commit: str = ""
    """Merge commit on the integration branch."""


class GateStatus(StatusModel):
    name: str
    """As in the spec, or as found in the repository."""
    required: bool = True
    """Whether failures cap the score."""
    passed: bool = False
    """No failure that the base did not have."""
    new_failures: list[Message] = Field(default_factory=list[Message])
    """Failing now, not on the base."""
    baseline_failures: list[Message] = Field(default_factory=list[Message])
    """Failing on the base already: not counted."""
    flaky: list[Message] = Field(default_factory=list[Message])
    """New failures that passed when run again."""
    message: Message = ""
    """Head of what it printed, where it names no failures."""


class Judgement(StatusModel):
    round: int
    """0 or 1 is the first; each fix adds one."""
    score: int
    """0 to 100, computed by code from the answers."""
    spread: int = 0
    """Between the highest and the lowest sample."""
    complaints: list[Message] = Field(default_factory=list[Message])
    """Criteria not met, with evidence."""
    commit: str = ""
    """What was judged."""
    kept: bool = True
    """False when the round made things worse and was undone."""
    capped_by: str = ""
    """Gate or contract that capped the score."""


class TokenUsage(StatusModel):
    tier: str
    """Model tier."""
    input: int = 0
    """Input tokens, cached ones included."""
    cached: int = 0
    """Of these, read from the provider's cache."""
    cache_write: int = 0
    """Of these, written to it."""
    output: int = 0
    """Output tokens, reasoning included."""
    calls: int = 0
    """Model calls."""
    cost: Usd | None = None
    """US dollars. Absent: price unknown."""


class UsageStatus(StatusModel):
    tokens: int = 0
    """Input and output tokens of all models."""
    cost: Usd | None = None
    """Absent while a model in use has no price."""
    cache_hit_percent: int = 0
    """Share of input tokens read from caches."""
    wall_seconds: int = 0
    """From the start to the end, or to the last event."""
    critical_path_seconds: int = 0
    """Longest chain of agents that waited for each other."""
    tiers: list[TokenUsage] = Field(default_factory=list[TokenUsage])
    """By model tier."""


class ResultStatus(StatusModel):
    branch: str = ""
    """Empty until something was published."""
    commit: str = ""
    """What was published; until then the integration branch's head."""
    base_commit: str = ""
    """Commit the work started from."""
    pull_request: str = ""
    """Its URL."""
    beside: bool = False
    """True when the wanted branch held somebody else's commits and another name was taken."""


class SwarmRunStatus(StatusModel):
    observed_generation: int = -1
    """Generation of the spec this speaks of; -1: not seen yet."""
    run: str = ""
    """Id of the run this speaks of: the resource's UID and the attempt. Empty: none was begun."""
    phase: Phase = Phase.PENDING
    """Where the run is."""
    progress: str = ""
    """Merged tasks of all tasks, `3/5`."""
    score: int | None = None
    """Last kept judgement's score."""
    started_at: datetime | None = None
    """When the first work began."""
    finished_at: datetime | None = None
    """When it ended."""
    isolation: str = ""
    """How sandboxes are kept apart: `bubblewrap`, `container`, `pod`, or `none`."""
    conditions: list[Condition] = Field(default_factory=list[Condition])
    """Ready, Reconciling, Stalled (kstatus), Succeeded, Finished."""
    plan: PlanStatus | None = None
    """The accepted plan."""
    agents: Annotated[list[AgentStatus], Field(max_length=110)] = Field(default_factory=list[AgentStatus])
    """One line an agent."""
    merges: list[MergeStatus] = Field(default_factory=list[MergeStatus])
    """One line a merged or parked branch."""
    gates: list[GateStatus] = Field(default_factory=list[GateStatus])
    """Result of the last round."""
    judgements: list[Judgement] = Field(default_factory=list[Judgement])
    """One a round."""
    usage: UsageStatus = Field(default_factory=UsageStatus)
    """Tokens, money and time."""
    notes: list[Message] = Field(default_factory=list[Message])
    """What the run met and got over: waits for a rate limit, repeated streams, mended tool calls."""
    result: ResultStatus | None = None
    """What was published."""

    def condition(self, kind: str) -> Condition | None:
        return next((c for c in self.conditions if c.type == kind), None)
