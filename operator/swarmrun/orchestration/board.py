"""The tasks of a run and where each stands; what happens to one that failed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from swarmrun.api.status import AgentPhase
from swarmrun.orchestration import budget
from swarmrun.orchestration.desk import Desk
from swarmrun.orchestration.flow import Flow, Work
from swarmrun.steps import TaskRef

ATTEMPTS = 2
"""A failed or parked task gets one fresh attempt with the evidence (design)."""
FINAL = frozenset(
    {"BudgetExceeded", "PermissionDenied", "ModelRefused", "CassetteMismatch", "Cancelled", "SandboxRefused"}
)
"""Reasons that a fresh attempt cannot mend."""
PLANNER_CALLS_FOR_CONTRACTS = 2
"""Breaking contract changes a run may pay a planner call for (design)."""

State = Literal["waiting", "working", "finished", "merging", "merged", "parked", "failed", "skipped"]


@dataclass
class Item:
    """A task and where it stands."""

    ref: TaskRef
    state: State = "waiting"
    attempt: int = 0
    head: str = ""
    base: str = ""
    evidence: str = ""
    summary: str = ""
    reason: str = ""
    allowance: budget.Allowance = budget.Allowance(0, None)


@dataclass
class Board:
    desk: Desk
    items: dict[str, Item] = field(default_factory=dict[str, Item])
    merge: Flow[None] | None = None
    workers: list[Flow[None]] = field(default_factory=list[Flow[None]])
    ground: str = ""
    """Integration commit that agents start from: the last one that was proven."""
    replanned: bool = False
    amending: bool = False
    planner_calls: int = PLANNER_CALLS_FOR_CONTRACTS
    amendments: int = 0

    def unfinished(self) -> list[Item]:
        return [i for i in self.items.values() if i.state != "merged"]

    @property
    def out_of_budget(self) -> bool:
        return any(i.reason == "BudgetExceeded" for i in self.unfinished())


def branch_of(desk: Desk, task_id: str) -> str:
    return f"swarm-tasks/{desk.given.name}/{task_id}"


def again_or_failed(
    board: Board, item: Item, state: State, reason: str, why: str, refused: list[str]
) -> Work[None]:
    """One fresh attempt with the evidence, then it is over for this task."""
    desk = board.desk
    item.reason = reason
    if item.attempt < ATTEMPTS and reason not in FINAL:
        text = f"Attempt {item.attempt} of this task ended: {why}\n" + "\n".join(f"- {r}" for r in refused)
        item.evidence = yield from desk.evidence(f"{item.ref.id}-attempt-{item.attempt}", text)
        desk.note(f"{item.ref.id}: attempt {item.attempt} ended {why[:200]}; one fresh attempt")
        item.state = "waiting"
        desk.record(item.ref.id, item.ref.role.value).status.phase = AgentPhase.PENDING
        return
    item.state = state
    status = desk.record(item.ref.id, item.ref.role.value).status
    status.phase = AgentPhase.PARKED if state == "parked" else AgentPhase.FAILED
    status.reason, status.message = reason, why[:512]


def skip(board: Board, item: Item) -> None:
    item.state, item.reason = "skipped", "DependencyFailed"
    status = board.desk.record(item.ref.id, item.ref.role.value).status
    missing = [d for d in item.ref.depends_on if d not in board.items or board.items[d].state != "merged"]
    status.phase, status.reason = AgentPhase.SKIPPED, "DependencyFailed"
    status.message = f"depends on {', '.join(missing)}"
