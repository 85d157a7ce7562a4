"""`SwarmRun`: a goal and a repository; what a developer writes. Goal and repository are enough."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints, field_validator

from swarmrun.api import API_VERSION
from swarmrun.api.base import ApiModel, Cidr, Duration, Name, RepoPath, TaskId, Usd, rules
from swarmrun.api.plan import Contract, Criterion, Plan, Task
from swarmrun.api.status import SwarmRunStatus


class Mode(StrEnum):
    AUTO = "Auto"
    """Code decides from the plan whether a swarm pays."""
    SOLO = "Solo"
    SWARM = "Swarm"


Branch = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200, pattern=r"^[^\s~^:?*\[\\]+$"),
    Field(
        json_schema_extra=rules(
            (
                "!self.matches('^[-./]|[.][.]|//|/[.]|@[{]|[./]$|[.]lock(/|$)')",
                "is no name of a branch that git takes (git check-ref-format)",
            )
        )
    ),
]


class CredentialRef(ApiModel):
    """A Secret of the run's namespace."""

    name: Name
    """Name of the Secret."""


class Repository(ApiModel):
    url: Annotated[
        str,
        StringConstraints(min_length=1, max_length=2000),
        Field(
            json_schema_extra=rules(
                (
                    "self.matches('^((https?|ssh)://[^[:space:]/?#]+/[^[:space:]]+|file:///[^[:space:]]+|/[^[:space:]]+"
                    "|([A-Za-z0-9._-]+@)?[A-Za-z0-9][A-Za-z0-9.-]+:/?[^:/[:space:]][^:[:space:]]*)$')",
                    "is no address of a repository: write https://host/owner/name, ssh://git@host/owner/name or "
                    "git@host:owner/name",
                )
            )
        ),
    ]
    """https or ssh URL; http and local paths only where the class allows them (a local run does)."""
    branch: Branch | None = None
    """Base branch. Default: the remote's default branch. In an empty remote it is made (default `main`)."""
    credential: CredentialRef | None = None
    """Secret with the git credential. Absent: anonymous in a cluster, the user's own git locally."""


class PullRequestSpec(ApiModel):
    enabled: bool = False
    """Open (or update) a pull request to the base branch after the push. Default: no."""
    title: Annotated[str, StringConstraints(max_length=200)] = ""
    """Default: the goal's first line."""
    draft: bool = False
    """Open it as a draft. Default: no."""
    provider: Literal["", "github", "gitlab", "azure-devops", "gitea"] = ""
    """Host's kind. Default: told from the URL."""


class Publish(ApiModel):
    branch: Branch | None = None
    """Branch that receives the result. Default: `swarm/<name>`."""
    pull_request: PullRequestSpec = Field(default_factory=PullRequestSpec)
    """Default: the branch only."""
    approval: bool = False
    """Wait for an approval (`publish`) before anything is pushed. Default: no."""
    partial: bool = False
    """Publish also when tasks were parked, failed or skipped, or the verdict was not good; the run still ends Failed,
    with its reason (Incomplete, BudgetExceeded, GatesFailed, ContractsBroken, ScoreBelowThreshold). Default: no."""
    task_branches: bool = False
    """Also push every agent's branch as `swarm-tasks/<name>/<task>`. Default: no."""


class PlanSpec(ApiModel):
    """How the plan is made. With `tasks` the user gives it and the planner is skipped."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.tasks) || self.tasks.all(t, !has(t.dependsOn) || "
                "sets.contains(self.tasks.map(u, u.id), t.dependsOn))",
                "tasks[].dependsOn names a task that is not among tasks",
            ),
            (
                "!has(self.tasks) || self.tasks.all(t, !has(t.dependsOn) || !(t.id in t.dependsOn))",
                "tasks[].dependsOn: a task cannot depend on itself",
            ),
            (
                "!has(self.contracts) || size(self.contracts) == 0 || (has(self.tasks) && size(self.tasks) > 0)",
                "contracts go with tasks of your own: give tasks, or leave contracts to the planner",
            ),
        )
    )
    approval: bool = False
    """Wait for an approval (`plan`) before any agent starts. Default: no."""
    max_tasks: Annotated[int, Field(ge=1, le=100)] = 12
    """A plan with more goes back to the planner. Default 12."""
    summary: Annotated[str, StringConstraints(max_length=4000)] = ""
    """What `tasks` build, in short; without them it has no effect. Default: says that the plan was given."""
    tasks: Annotated[list[Task], Field(max_length=100)] = Field(default_factory=list[Task])
    """The user's own plan. Default: the planner makes one."""
    contracts: Annotated[list[Contract], Field(max_length=200)] = Field(default_factory=list[Contract])
    """Contracts between `tasks`; they go with `tasks` alone. Default: none."""
    criteria: Annotated[list[Criterion], Field(max_length=20)] = Field(default_factory=list[Criterion])
    """Added to the judge's rubric, with `tasks` or without. Default: none."""

    def given(self) -> Plan | None:
        """The user's own plan, when there is one."""
        if not self.tasks:
            return None
        return Plan(
            summary=self.summary or "Given by the user.",
            tasks=self.tasks,
            contracts=self.contracts,
            criteria=self.criteria,
        )


class Budget(ApiModel):
    """Ceilings of the run. Reaching one stops work at the next turn, keeps every branch and says so."""

    tokens: Annotated[int, Field(ge=1000)] | None = None
    """Input and output tokens of all models together. Default: the class's, else 4,000,000."""
    cost: Usd | None = None
    """US dollars. Default: the class's, else none. Needs prices for every model in use."""
    duration: Duration | None = None
    """Wall time without waits for approvals. Default: the class's, else 2h."""
    turns_per_task: Annotated[int, Field(ge=1, le=500)] | None = None
    """Model turns of one agent. Default: the class's, else 60."""


class Resources(ApiModel):
    cpu: Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?m?$")] | None = None
    """Cores, `500m` or `2`. Default: the class's, else 1."""
    memory: Annotated[str, StringConstraints(pattern=r"^[0-9]+(Mi|Gi)$")] | None = None
    """Memory, in Mi or Gi. Default: the class's, else 2Gi."""
    disk: Annotated[str, StringConstraints(pattern=r"^[0-9]+(Mi|Gi)$")] | None = None
    """Size of the volume, in Mi or Gi. Default: the class's, else 10Gi."""
    pids: Annotated[int, Field(ge=32, le=32768)] | None = None
    """Processes at once. Default: the class's, else 512."""


class EnvVar(ApiModel):
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=200)]
    """Name of the variable."""
    value: Annotated[str, StringConstraints(max_length=4000)] = ""
    """Its value. No secrets: agents can read it. Default: empty."""


class EgressRule(ApiModel):
    """One allowed destination (clusters only; a local sandbox has all of the network or none)."""

    cidr: Cidr
    """Addresses, e.g. `10.0.0.0/8`."""
    ports: Annotated[list[Annotated[int, Field(ge=1, le=65535)]], Field(max_length=20)] = Field(
        default_factory=list[int]
    )
    """TCP ports. Default: all."""


class Egress(ApiModel):
    """The network a sandbox may reach. A run that asks for none of `enabled`, `dns` and `allow` has what its class
    grants, a class without them grants none."""

    enabled: bool = False
    """In a cluster every public address, never private, link-local and shared ranges; where the class names an
    egress proxy, that proxy alone. Locally all of the machine's network. Default: no."""
    dns: bool = False
    """Names may be resolved. Default: no."""
    allow: Annotated[list[EgressRule], Field(max_length=50)] = Field(default_factory=list[EgressRule])
    """Destinations besides `enabled`, private ones too. Default: none."""
    setup_only: bool = False
    """What is granted holds for `setup` commands and is closed before an agent's first command. Also true
    where the class says so. Default: it holds as long as the sandbox does."""


class SandboxOptions(ApiModel):
    image: Annotated[str, StringConstraints(max_length=500)] | None = None
    """Container image. Default: the class's. Local process sandboxes use the machine's own tools."""
    setup: Annotated[
        list[Annotated[str, StringConstraints(min_length=1, max_length=4000)]], Field(max_length=20)
    ] = Field(default_factory=list[str])
    """Shell commands that prepare a clone (install dependencies). Run once on the base; their result is
    cloned for each task where the provider can, else they run again. Default: the class's, else none."""
    resources: Resources = Field(default_factory=Resources)
    """What one sandbox may use."""
    env: Annotated[list[EnvVar], Field(max_length=100)] = Field(default_factory=list[EnvVar])
    """Environment of agents' commands, joined with the class's; of one name the run's value holds. Default: the
    class's."""
    egress: Egress = Field(default_factory=Egress)

    @property
    def opens_for_setup(self) -> bool:
        """Whether set-up commands have a network that agents do not have."""
        return self.egress.setup_only and bool(self.setup)


class Gate(ApiModel):
    """A command that must exit 0. Failures that the base had already do not count."""

    name: Name
    """Unique among the gates."""
    command: Annotated[str, StringConstraints(min_length=1, max_length=4000)]
    """Shell command, run at the repository's root."""
    fix: Annotated[str, StringConstraints(max_length=4000)] = ""
    """A safe automatic fix (formatter, linter), run before the gate. Default: none."""
    required: bool = True
    """A required gate with new failures caps the score below the threshold. Default: yes."""
    timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = 900
    """Then it counts as failed. Default 900."""


class JudgeSpec(ApiModel):
    threshold: Annotated[int, Field(ge=0, le=100)] | None = None
    """Score the result must reach. Default: the class's, else 70."""
    rubric: Annotated[list[Criterion], Field(max_length=20)] = Field(default_factory=list[Criterion])
    """Criteria. Default: the class's, else works as asked, contracts and structure, tests, security hygiene."""
    max_fix_rounds: Annotated[int, Field(ge=0, le=10)] = 3
    """Rounds of fixing after the first judgement. Default 3."""
    samples: Annotated[int, Field(ge=1, le=5)] = 3
    """Judgements per round, criteria permuted; the majority counts. Default 3."""


class SwarmRunSpec(ApiModel):
    goal: Annotated[
        str,
        StringConstraints(min_length=1),
        Field(
            json_schema_extra={"maxLength": 32 * 1024}
            | rules(("self.matches('[^[:space:]]')", "is empty: say what is to be done"))
        ),
    ]
    """What is to be done, at most 32 KiB. Immutable once started."""
    repository: Repository
    """Where the work happens. Immutable once started."""
    publish: Publish = Field(default_factory=Publish)
    """Where the result goes. Default: branch `swarm/<name>`, no pull request."""
    mode: Mode = Mode.AUTO
    """Swarm, one agent, or decided by code. Default Auto."""
    plan: PlanSpec = Field(default_factory=PlanSpec)
    budget: Budget = Field(default_factory=Budget)
    parallelism: Annotated[int, Field(ge=1, le=100)] | None = None
    """Agents at work at once. Default: the class's, else 4."""
    sandbox: SandboxOptions = Field(default_factory=SandboxOptions)
    """How sandboxes are made. Default: the class's."""
    gates: Annotated[list[Gate], Field(max_length=20)] = Field(default_factory=list[Gate])
    """Default: the class's; without any, what the repository shows (pytest, ruff, npm test, go test …)."""
    judge: JudgeSpec = Field(default_factory=JudgeSpec)
    """How the result is judged. Default: the class's."""
    skills: Annotated[list[TaskId], Field(max_length=20)] = Field(default_factory=list[TaskId])
    """Skills that every agent is given, besides those of its task. Default: none."""
    class_name: Name | None = None
    """SwarmClass. Default: the class marked as default (locally: the one in the same file, else built in)."""
    suspend: bool = False
    """Agents stop at their next turn and go on when this is false again. Default: no."""
    cancel: bool = False
    """Ends the run for good; every branch is kept. Never back to false. Default: no."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0)] | None = None
    """After this, volumes and artifacts of a finished run are removed; never the resource. Default: kept."""

    @field_validator("goal")
    @classmethod
    def _goal_says_something(cls, goal: str) -> str:
        if not goal.strip():
            raise ValueError("is empty: say what is to be done")
        if len(goal.encode()) > 32 * 1024:
            raise ValueError(f"is {len(goal.encode())} bytes long, at most 32768 are taken")
        return goal


class ObjectMeta(ApiModel):
    """The part of Kubernetes' ObjectMeta that counts here; the rest is kept but not looked at."""

    name: Name
    """DNS label; unique in its namespace."""
    namespace: Name = "default"
    """Default `default`."""
    generation: int = 1
    """Counts changes of the spec."""
    uid: str = ""
    """Given by the API server; empty locally."""
    creation_timestamp: str = ""
    """RFC 3339, given by the API server; empty locally."""
    labels: dict[str, str] = Field(default_factory=dict[str, str])
    """Free labels."""
    annotations: dict[str, str] = Field(default_factory=dict[str, str])
    """Free annotations."""
    model_config = ConfigDict(extra="ignore")


class SwarmRun(ApiModel):
    api_version: Literal["swarmrun.dev/v1alpha1"] = API_VERSION
    """Always `swarmrun.dev/v1alpha1`."""
    kind: Literal["SwarmRun"] = "SwarmRun"
    """Always `SwarmRun`."""
    metadata: ObjectMeta
    spec: SwarmRunSpec
    """What is wanted."""
    status: SwarmRunStatus | None = None
    """What was seen; written by the controller only."""


__all__ = ["Mode", "ObjectMeta", "RepoPath", "SwarmRun", "SwarmRunSpec"]
