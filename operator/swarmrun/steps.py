"""Names and typed input and output of every step an orchestration may yield.

A step is an activity: idempotent, run at least once. It never raises what it can say: a failure is a value
(`Failed`), because the engine knows no error that must not be retried. What large things a step makes goes
into the artifact store; outputs carry keys and short texts.
"""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from swarmrun.api.plan import Role
from swarmrun.api.status import GateStatus, Judgement, MergedFile, PlanStatus
from swarmrun.errors import NotFound


class StepModel(BaseModel):
    """Travels through the engine's histories: ignores what an older or newer program adds."""

    model_config = ConfigDict(extra="ignore")


class Failed(StepModel):
    """Why a step did not do its work, and whether trying again can help."""

    reason: str
    """CamelCase, from the error's class: `RateLimited`, `SandboxLost`, `PermissionDenied` …"""
    message: str
    mend: str = ""
    retryable: bool = False
    retry_after: float | None = None
    """Seconds, where the other side named them."""
    kind: str = ""
    """The error's class: how often it is worth to try again."""
    usage: UsageRecord | None = None
    """A useless answer is paid for all the same."""
    lost: bool = False
    """The sandbox is gone: replace it and replay the turn. Reason `GONE`: nobody saw it die."""


GONE = "SandboxGone"
"""Reason of a lost sandbox that the process at work has never seen alive: it ended together with an earlier
process, and the call that found it missing is not to blame."""


Out = TypeVar("Out", bound=StepModel)


class Result(StepModel, Generic[Out]):
    """Exactly one of the two is set."""

    ok: Out | None = None
    failed: Failed | None = None


class Nothing(StepModel):
    pass


class RunRef(StepModel):
    """Every input names its run; the snapshot is an artifact of it."""

    run: str


class UsageRecord(StepModel):
    """Tokens and cost of model calls, by tier."""

    tier: str
    input: int = 0
    cached: int = 0
    cache_write: int = 0
    output: int = 0
    calls: int = 0
    cost: str | None = None
    """US dollars; None while the price is unknown."""

    @property
    def total(self) -> int:
        return self.input + self.output


# ---------------------------------------------------------------- preflight, sandboxes


class Adopt(RunRef):
    """An earlier attempt's work is taken over: what this one needs of it is copied into its own store."""

    earlier: str
    """Its run id."""
    commits: list[str]
    """The base first."""
    scaffold: str = ""
    artifacts: list[str] = Field(default_factory=list[str])
    tasks: list[str] = Field(default_factory=list[str])
    """Whose work is in the integration branch."""


class Look(RunRef):
    """What the repository is looked at for."""

    base_branch: str = ""
    base_commit: str = ""
    """Pinned by an earlier attempt, which this run has adopted; empty: the branch's tip."""
    anew: bool = False
    """A result is wanted although one is published already."""


class Preflight(StepModel):
    base_branch: str
    base_commit: str
    empty: bool = False
    """The repository holds no file: nothing to read, one planner call."""
    already_published: str = ""
    """Commit on the publish branch that carries this run's spec hash: nothing is left to do."""
    published_branch: str = ""
    """Where that is: the publish branch, or one beside it."""


class BoxRef(RunRef):
    """A sandbox. A lost one is replaced under the next generation."""

    task: str
    attempt: int = 1
    generation: int = 1

    @property
    def id(self) -> str:
        return f"{self.run}-{self.task}-a{self.attempt}-g{self.generation}"


class Ensure(BoxRef):
    clone_of: str = ""
    """Sandbox whose prepared volume may be copied."""
    setup: Literal["none", "ahead", "done"] = "none"
    """As in `ports.SandboxSpec`."""


class Ensured(StepModel):
    phase: Literal["Starting", "Ready", "Lost", "Refused"]
    isolation: str = ""
    reason: str = ""
    message: str = ""
    cloned: bool = False
    tells: bool = False
    """Of one that starts: people may have to do something about its reason."""
    open: bool = False
    """What was granted for set-up only can be reached."""


class Prepare(BoxRef):
    """Brings `commit` into the sandbox's work tree on `branch`; runs set-up unless the volume was cloned."""

    commit: str
    branch: str
    head: str = ""
    """Commit the branch points at; default `commit`."""
    setup: bool = True


class Prepared(StepModel):
    commit: str


# ---------------------------------------------------------------- plan


class Baseline(BoxRef):
    """Set-up and gates on the base, before anyone works. A set-up that fails ends the run, naming it."""

    commit: str


class BaselineDone(StepModel):
    gates: list[GateStatus] = Field(default_factory=list[GateStatus])
    artifact: str = ""


class AcceptedPlan(StepModel):
    """A plan that was normalised and checked."""

    artifact: str
    status: PlanStatus
    tasks: list[TaskRef] = Field(default_factory=lambda: list[TaskRef]())


class TaskRef(StepModel):
    """What the orchestration must know of a task to decide."""

    id: str
    role: Role = Role.CODER
    depends_on: list[str] = Field(default_factory=list[str])
    uses: list[str] = Field(default_factory=list[str])
    provides: list[str] = Field(default_factory=list[str])
    estimate: int = 10


class Scaffold(BoxRef):
    plan: str
    """Artifact key."""
    base: str
    """Commit to build on."""


class Scaffolded(StepModel):
    commit: str
    errors: list[str] = Field(default_factory=list[str])
    """For the planner: what does not parse, import or collect. `commit` is the base then."""


class ContractIssue(StepModel):
    contract: str
    problem: str
    proposal: str = ""


class Amend(RunRef):
    """An agent says a contract cannot hold as it is."""

    plan: str
    task: str
    issue: ContractIssue
    number: int
    """Running number within the run: part of the key."""
    planner_calls_left: int = 0


class Amended(StepModel):
    outcome: Literal["additive", "revised", "refused"]
    plan: str
    """Artifact key of the plan that holds from now on."""
    news: str = ""
    """What running consumers are told."""
    planner_called: bool = False
    usage: UsageRecord | None = None


# ---------------------------------------------------------------- agents


class AgentRef(RunRef):
    """One attempt of one agent. With turn and call index it is the key of everything stored of it."""

    role: str
    task: str
    """A task's id, or `plan`, `integrate-<task>`, `fix-<round>`."""
    attempt: int = 1


class Brief(StepModel):
    """What an agent is given beyond its role's prompt; artifact keys, not contents."""

    plan: str = ""
    evidence: str = ""
    """Why an earlier attempt failed, what conflicts, or what the fixer must mend."""
    base: str = ""
    """Commit its branch starts from."""
    ours: str = ""
    """Integrator: commit of the integration branch."""
    theirs: str = ""
    """Integrator: head of the branch that is merged; `base` holds what was resolved, and markers."""
    other: str = ""
    """Integrator: the task whose branch is merged."""
    empty: bool = False
    """Planner: the repository holds no file."""
    notes: dict[str, str] = Field(default_factory=dict[str, str])
    """Finished dependency → artifact with its summary or notes."""
    kept: list[str] = Field(default_factory=list[str])
    """Planner, at a re-plan: tasks that stay as they are."""


class Turn(AgentRef):
    """One model call of one agent."""

    turn: int
    brief: Brief
    box: BoxRef | None = None
    max_turns: int = 60
    tokens_left: int = 0
    """Of this agent's allowance; the call is reserved against it."""
    cost_left: str | None = None
    news: list[str] = Field(default_factory=list[str])
    """Texts appended as the next message: contract changes, replaced sandbox, nudges."""


class CallRef(StepModel):
    index: int
    name: str
    preview: str = ""
    """Short text for people: `exec pytest -q`."""
    read_only: bool = False
    """May run side by side with its read-only neighbours."""
    ends: bool = False
    """`finish` or `submit_plan`: goes to the `finish` step instead of `tool_call`."""


class TurnDone(StepModel):
    calls: list[CallRef] = Field(default_factory=list[CallRef])
    text: str = ""
    """Head of what the model wrote."""
    usage: UsageRecord
    notes: list[str] = Field(default_factory=list[str])
    replayed: bool = False
    """The stored reply was returned; nothing was paid."""
    news_taken: bool = True
    """False: the stored turn was asked without these news; they are still to be told."""


class Call(AgentRef):
    """One tool call, by its place in the stored reply."""

    turn: int
    index: int
    brief: Brief
    box: BoxRef | None = None
    poisoned: bool = False
    """It ended its sandbox twice: it is not run again but told as an error."""
    shown: str = Field(default="", exclude=True)
    """The call in short, for the preview of this input."""


class Called(StepModel):
    ok: bool
    """False: an error was told to the model."""
    changed: bool = False
    """May have changed the work tree: a checkpoint is due."""
    preview: str = ""
    repeated: int = 1
    """How often the very same call was made in a row, this one included."""
    told: str = Field(default="", exclude=True)
    """What the model was told. Stays in the worker: histories hold its head, as a preview."""


class TakeCheckpoint(AgentRef):
    turn: int
    box: BoxRef
    since: str
    """Commit of the last checkpoint (or where the branch starts)."""


class CheckpointTaken(StepModel):
    commit: str
    """Known to the brain's repository from now on; equals `since` when nothing changed."""
    changed: bool = False


class Finish(Call):
    """The agent says it is done. Code looks at what there is, not at what it says."""

    index: int = -1
    """-1: it never called `finish`, the nudges are used up, and what there is is looked at."""
    since: str = ""
    """Last checkpoint."""
    refusals: int = 0
    """How often it was refused before."""
    final: bool = False
    """The last try: whatever is left goes on as Unverified instead of being refused."""


class Finished(StepModel):
    accepted: bool
    commit: str = ""
    """Head of the agent's branch: one commit on `brief.base` (a merge commit for the integrator)."""
    checkpoint: str = ""
    """The checkpoint that was taken to look at."""
    verified: bool = False
    empty: bool = False
    """A role that must write, and its diff, computed from the bundle, is empty."""
    problems: list[str] = Field(default_factory=list[str])
    """Heads of what was found; the whole text is the tool's result."""
    summary: str = ""
    """Artifact with the agent's summary (a researcher's notes), for its dependants."""
    blocked: str = ""
    contract_issues: list[ContractIssue] = Field(default_factory=list[ContractIssue])
    plan: AcceptedPlan | None = None
    """For the planner."""


# ---------------------------------------------------------------- merge


class Order(RunRef):
    integration: str
    heads: dict[str, str]
    """Task → commit, in plan order."""


class Ordered(StepModel):
    tasks: list[str]
    conflicts: dict[str, list[str]] = Field(default_factory=dict[str, list[str]])
    """Task → tasks it is predicted to conflict with."""


class Merge(RunRef):
    integration: str
    task: str
    head: str
    plan: str = ""


class Merged(StepModel):
    commit: str = ""
    """New integration commit; empty while conflicts are left."""
    combined: bool = True
    """False: its tree is the branch's own."""
    how: str = "Clean"
    files: list[MergedFile] = Field(default_factory=list[MergedFile])
    findings: list[str] = Field(default_factory=list[str])
    """Merged without conflict, and wrong all the same (an import that one side removed, say)."""
    conflicts: list[str] = Field(default_factory=list[str])
    """Paths left for the integrator."""
    evidence: str = ""
    """Artifact for the integrator: base, ours, theirs of each."""
    partial: str = ""
    """Commit whose tree holds what was resolved and markers in the rest."""


# ---------------------------------------------------------------- verify, judge


class RunGates(BoxRef):
    commit: str
    round: int
    plan: str = ""


class GatesRun(StepModel):
    commit: str
    """Differs from the input when safe fixes changed something."""
    gates: list[GateStatus] = Field(default_factory=list[GateStatus])
    breaches: list[str] = Field(default_factory=list[str])
    """Contracts that the code does not keep."""
    artifact: str = ""
    evidence: str = ""
    """For the fixer, when contracts are broken: the breaches and what failing gates printed."""
    failing_required: int = 0


class BatchGates(BoxRef):
    """Gates on a batch of merged branches, before it counts; no fixes, no contracts."""

    commit: str
    unmerged: int = 0
    """Tasks whose work is not in it yet: their scaffold may fail tests that are not to blame."""


class BatchChecked(StepModel):
    red: bool
    summary: str = ""
    """The new failures and the head of the first traceback."""


class Sample(RunRef):
    """One judgement of one round; criteria permuted by `sample`."""

    round: int
    sample: int
    commit: str
    base: str
    plan: str
    gates: str
    """Artifact of the gates' results."""
    tokens_left: int = 0
    cost_left: str | None = None


class Sampled(StepModel):
    artifact: str
    usage: UsageRecord
    told: str = Field(default="", exclude=True)
    """The answers in short; stays in the worker, as `Called.told` does."""


class Tally(RunRef):
    round: int
    commit: str
    plan: str
    gates: str
    samples: list[str]
    failing_required: int = 0
    breaches: int = 0


class Tallied(StepModel):
    judgement: Judgement
    evidence: str
    """Artifact: what the fixer must mend."""
    open: list[str] = Field(default_factory=list[str])
    """Criteria not answered yes."""


# ---------------------------------------------------------------- publish


class PublishResult(RunRef):
    commit: str
    base_branch: str
    base_commit: str
    report: str
    """Artifact with the run's report, for the pull request's body."""
    tasks: dict[str, str] = Field(default_factory=dict[str, str])
    """Task → head of its branch, where task branches are published."""
    partial: str = ""
    """Why the run fails although this is published: no later run may take it for its result."""


class PublishDone(StepModel):
    branch: str
    commit: str
    beside: bool = False
    pull_request: str = ""
    message: str = ""


class SaveReport(RunRef):
    report: dict[str, Any]


class Saved(StepModel):
    artifact: str


class Release(RunRef):
    task: str = ""
    """Empty: everything of the run."""
    attempt: int = 0
    generation: int = 0


class Evidence(RunRef):
    """Stores a text for an agent (why an earlier attempt failed …)."""

    name: str
    text: str


# ---------------------------------------------------------------- the table


class Step(StepModel, Generic[Out]):
    """A step's name and the type of what it gives."""

    name: str
    out: Any


ADOPT = Step[Nothing](name="adopt", out=Nothing)
PREFLIGHT = Step[Preflight](name="preflight", out=Preflight)
ENSURE = Step[Ensured](name="sandbox_ensure", out=Ensured)
PREPARE = Step[Prepared](name="sandbox_prepare", out=Prepared)
RELEASE = Step[Nothing](name="sandbox_release", out=Nothing)
BASELINE = Step[BaselineDone](name="baseline", out=BaselineDone)
GIVEN_PLAN = Step[AcceptedPlan](name="given_plan", out=AcceptedPlan)
SCAFFOLD = Step[Scaffolded](name="scaffold", out=Scaffolded)
AMEND = Step[Amended](name="amend_contract", out=Amended)
EVIDENCE = Step[Saved](name="save_evidence", out=Saved)
MODEL_TURN = Step[TurnDone](name="model_turn", out=TurnDone)
TOOL_CALL = Step[Called](name="tool_call", out=Called)
CHECKPOINT = Step[CheckpointTaken](name="checkpoint", out=CheckpointTaken)
FINISH = Step[Finished](name="finish", out=Finished)
ORDER = Step[Ordered](name="order", out=Ordered)
MERGE = Step[Merged](name="merge", out=Merged)
BATCH_GATES = Step[BatchChecked](name="batch_gates", out=BatchChecked)
GATES = Step[GatesRun](name="gates", out=GatesRun)
SAMPLE = Step[Sampled](name="judge_sample", out=Sampled)
TALLY = Step[Tallied](name="judge_tally", out=Tallied)
SAVE_REPORT = Step[Saved](name="save_report", out=Saved)
PUBLISH = Step[PublishDone](name="publish", out=PublishDone)

AcceptedPlan.model_rebuild()
Failed.model_rebuild()

STEPS: dict[str, Step[Any]] = {
    step.name: step
    for step in (
        ADOPT,
        PREFLIGHT,
        ENSURE,
        PREPARE,
        RELEASE,
        BASELINE,
        GIVEN_PLAN,
        SCAFFOLD,
        AMEND,
        EVIDENCE,
        MODEL_TURN,
        TOOL_CALL,
        CHECKPOINT,
        FINISH,
        ORDER,
        MERGE,
        BATCH_GATES,
        GATES,
        SAMPLE,
        TALLY,
        SAVE_REPORT,
        PUBLISH,
    )
}


def step(name: str) -> Step[Any]:
    try:
        return STEPS[name]
    except KeyError:
        raise NotFound(f"no step {name!r}; known: {', '.join(sorted(STEPS))}") from None
