"""Where a run stands: all that another life of it needs to go on, beside its report.

Kept in the run's custom status at every dispatch, and in the report it ends with. Another program reads it
(`successor.py`), and so does a later attempt (`rerun.py`): a field that is here stays readable.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from swarmrun.orchestration.inputs import AgentResult
from swarmrun.steps import BoxRef, Brief, Preflight, StepModel, TaskRef

Stage = Literal["looking", "planning", "working", "judging", "publishing"]
STAGES: tuple[Stage, ...] = ("looking", "planning", "working", "judging", "publishing")
State = Literal["waiting", "working", "finished", "merging", "merged", "parked", "failed", "skipped"]


class LiveAgent(StepModel):
    """An agent at work: it is an orchestration of its own and does not end with its run's life."""

    role: str
    tokens: int = 0
    cost: str | None = None
    """What it may use."""
    serial: int = 0
    """Tells its end from that of an earlier one under the same id."""


class EndedAgent(StepModel):
    """An agent's result that the run has not made use of yet."""

    base: str = ""
    ours: str = ""
    theirs: str = ""
    result: AgentResult

    def answers(self, brief: Brief) -> bool:
        return (self.base, self.ours, self.theirs) == (brief.base, brief.ours, brief.theirs)


class ItemStand(StepModel):
    """A task and where it stands."""

    ref: TaskRef
    state: State = "waiting"
    attempt: int = 0
    head: str = ""
    base: str = ""
    evidence: str = ""
    summary: str = ""
    reason: str = ""
    final: bool = False
    amended: int = 0
    """How many of its contract issues are decided."""
    tokens: int = 0
    cost: str | None = None


class BoardStand(StepModel):
    items: list[ItemStand] = Field(default_factory=list[ItemStand])
    ground: str = ""
    replanned: bool = False
    planner_calls: int = 0
    amendments: int = 0


class Verdict(StepModel):
    """What gates and judge came to."""

    ok: bool
    reason: str = ""
    message: str = ""


class Stand(StepModel):
    stage: Stage = "looking"
    adopted: bool = False
    """What an earlier attempt has made is in this run's store."""
    preflight: Preflight | None = None
    integration: str = ""
    scaffold: str = ""
    """Commit that all tasks started from at first."""
    plan: str = ""
    """Artifact key."""
    planners: int = 0
    evidence_number: int = 0
    serial: int = 0
    box: BoxRef | None = None
    box_ready: bool = False
    live: dict[str, LiveAgent] = Field(default_factory=dict[str, LiveAgent])
    """By instance id."""
    broken: dict[str, str] = Field(default_factory=dict[str, str])
    """Of those, the ones that the engine says have failed, with its words."""
    ended: dict[str, EndedAgent] = Field(default_factory=dict[str, EndedAgent])
    kept: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Results of this stage's slow steps."""
    charged: list[str] = Field(default_factory=list[str])
    """Names of calls whose usage is in the report."""
    seconds_left: float | None = None
    """Of the wall time; `running_since`: and it has been running since then."""
    running_since: datetime | None = None
    board: BoardStand | None = None
    judged_from: str = ""
    verdict: Verdict | None = None

    def reached(self, stage: Stage) -> bool:
        return STAGES.index(self.stage) >= STAGES.index(stage)
