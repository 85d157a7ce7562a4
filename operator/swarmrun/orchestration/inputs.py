"""What orchestrations are started with and what they give back."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pydantic import Field

from swarmrun.orchestration.program import program
from swarmrun.steps import (
    AcceptedPlan,
    AgentRef,
    BoxRef,
    Brief,
    ContractIssue,
    RunRef,
    StepModel,
    UsageRecord,
)


class RunInput(RunRef):
    """The decisions' parameters; goal, plan and models stay in the snapshot artifact."""

    preview: str = ""
    """The goal's head, for people; nothing is decided by it."""
    program: str = Field(default_factory=program)
    """Whose decisions the history holds that begins with this."""
    name: str
    namespace: str = "default"
    generation: int = 1
    branch: str
    given_plan: bool = False
    mode: str = "Auto"
    plan_approval: bool = False
    publish_approval: bool = False
    publish_partial: bool = False
    publish_task_branches: bool = False
    parallelism: int = 4
    class_name: str = ""
    max_sandboxes: int | None = None
    """The class's cap over all its runs: for the controller, which hands out what is free."""
    granted: int = 0
    """Sandboxes that it may hold at once; 0: as many as `parallelism` needs."""
    suspended: bool = False
    """From the start; whatever changes that is mail."""
    tokens: int = 4_000_000
    cost: str | None = None
    duration_seconds: int = 7200
    turns: int = 60
    threshold: int = 70
    max_fix_rounds: int = 3
    samples: int = 3
    guards: bool = True
    setup_only: bool = False
    """The network is open for set-up alone: nothing of an agent's runs in a sandbox before it is set up."""
    stand: dict[str, Any] | None = None
    """Where it goes on from (`stand.Stand`); None: from the beginning."""
    report: dict[str, Any] | None = None
    """What is told of it so far, with a stand."""
    earlier: str = ""
    """The attempt whose work is taken over: artifacts are copied from its store."""
    anew: bool = False
    """A result is wanted although one is published already."""
    unreadable: str = ""
    """Why it can only end: where another program says that it stands cannot be read."""


class AgentInput(AgentRef):
    """One agent's life, also its state when it continues as new."""

    title: str = ""
    """Of its task, for people."""
    program: str = Field(default_factory=program)
    serial: int = 0
    """Told with its end, which might be that of an earlier one under this id."""
    brief: Brief
    box: BoxRef | None = None
    branch: str = ""
    clone_of: str = ""
    """Prepared sandbox whose volume may be copied."""
    setup: bool = True
    max_turns: int = 60
    tokens: int = 0
    cost: str | None = None
    must_write: bool = True
    refusals_allowed: int = 3
    guards: bool = True
    unverified_goes_on: bool = True
    """False for integrator and planner: what is refused for good fails."""

    # -- state
    turn: int = 1
    ready: bool = False
    """The sandbox runs and holds the last checkpoint."""
    checkpoint: str = ""
    """Commit of the last checkpoint; empty: `brief.base`."""
    checkpoint_turn: int = 0
    """Every turn up to this one is in the checkpoint."""
    counted_turn: int = 0
    """Usage of every turn up to this one is in `usage` (a replayed turn is not counted twice)."""
    counted_calls_turn: int = 0
    nudges: int = 0
    empties: int = 0
    refusals: int = 0
    tool_calls: int = 0
    losses: dict[str, int] = Field(default_factory=dict[str, int])
    """`turn/index` → how often the sandbox was lost there."""
    refused: list[str] = Field(default_factory=list[str])
    usage: list[UsageRecord] = Field(default_factory=list[UsageRecord])
    news: list[str] = Field(default_factory=list[str])
    notes: list[str] = Field(default_factory=list[str])
    last_tool: str = ""
    mail: dict[str, object] = Field(default_factory=dict[str, object])
    unsettled: int = 0
    """Turn whose checkpoint was under way."""
    unreadable: str = ""
    """As a run's."""


class AgentResult(StepModel):
    """How an agent's attempt ended."""

    status: str
    """`Finished`, `Failed` or `Cancelled`."""
    reason: str = ""
    """`PhantomAgent`, `BudgetExceeded`, `TurnsExhausted`, `SandboxLost`, `Refused`, `RepeatedCalls`, …"""
    message: str = ""
    final: bool = False
    """Every other attempt would meet the same: its sandbox is refused for good."""
    commit: str = ""
    checkpoint: str = ""
    """Last known state of its work tree, also when it failed; empty when nothing was changed."""
    verified: bool = False
    turns: int = 0
    tool_calls: int = 0
    generation: int = 1
    """Of its sandbox at the end."""
    usage: list[UsageRecord] = Field(default_factory=list[UsageRecord])
    refused: list[str] = Field(default_factory=list[str])
    notes: list[str] = Field(default_factory=list[str])
    summary: str = ""
    blocked: str = ""
    contract_issues: list[ContractIssue] = Field(default_factory=list[ContractIssue])
    plan: AcceptedPlan | None = None

    @property
    def tokens(self) -> int:
        return sum(u.total for u in self.usage)


def add_usage(records: list[UsageRecord], more: UsageRecord) -> list[UsageRecord]:
    """Sums by tier, in order of first appearance; a cost stays unknown once it was."""
    out = list(records)
    for i, have in enumerate(out):
        if have.tier == more.tier:
            known = have.cost is not None and more.cost is not None
            out[i] = UsageRecord(
                tier=have.tier,
                input=have.input + more.input,
                cached=have.cached + more.cached,
                cache_write=have.cache_write + more.cache_write,
                output=have.output + more.output,
                calls=have.calls + more.calls,
                cost=str(Decimal(have.cost or "0") + Decimal(more.cost or "0")) if known else None,
            )
            return out
    return [*out, more]
