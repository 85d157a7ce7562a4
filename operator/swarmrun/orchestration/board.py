"""The tasks of a run and where each stands; what happens to one that failed."""

from __future__ import annotations

from dataclasses import dataclass, field

from swarmrun.api.status import AgentPhase
from swarmrun.orchestration import budget
from swarmrun.orchestration.desk import Desk
from swarmrun.orchestration.flow import Flow, Work
from swarmrun.orchestration.stand import BoardStand, ItemStand, State
from swarmrun.steps import TaskRef

ATTEMPTS = 2
"""A failed or parked task gets one fresh attempt with the evidence (design)."""
FINAL = frozenset(
    {"BudgetExceeded", "PermissionDenied", "ModelRefused", "CassetteMismatch", "Cancelled", "SandboxRefused"}
)
"""Reasons that a fresh attempt cannot mend. Why the cluster refuses a sandbox has many: see `AgentResult.final`."""
PLANNER_CALLS_FOR_CONTRACTS = 2
"""Breaking contract changes a run may pay a planner call for (design)."""


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
    final: bool = False
    """Its sandbox is refused for good."""
    amended: int = 0
    """How many of its contract issues are decided."""
    allowance: budget.Allowance = budget.Allowance(0, None)

    @staticmethod
    def of(stand: ItemStand) -> Item:
        values = {name: getattr(stand, name) for name in ItemStand.model_fields}
        return Item(allowance=budget.Allowance(values.pop("tokens"), values.pop("cost")), **values)

    def stand(self) -> ItemStand:
        values = {name: getattr(self, name) for name in ItemStand.model_fields.keys() - {"tokens", "cost"}}
        return ItemStand(tokens=self.allowance.tokens, cost=self.allowance.cost, **values)


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

    @staticmethod
    def taken_up(desk: Desk, stand: BoardStand) -> Board:
        """As an earlier life of this run, or an earlier attempt, left it."""
        return Board(
            desk,
            items={i.ref.id: Item.of(i) for i in stand.items},
            ground=stand.ground,
            replanned=stand.replanned,
            planner_calls=stand.planner_calls,
            amendments=stand.amendments,
        )

    def stand(self) -> BoardStand:
        return BoardStand(
            items=[item.stand() for item in self.items.values()],
            ground=self.ground,
            replanned=self.replanned,
            planner_calls=self.planner_calls,
            amendments=self.amendments,
        )

    def unfinished(self) -> list[Item]:
        return [i for i in self.items.values() if i.state != "merged"]

    @property
    def out_of_budget(self) -> bool:
        return any(i.reason == "BudgetExceeded" for i in self.unfinished())

    @property
    def out_of_sandboxes(self) -> bool:
        """Refused for good: another plan's tasks would meet the same."""
        return any(i.final for i in self.unfinished())


def branch_of(desk: Desk, task_id: str) -> str:
    return f"swarm-tasks/{desk.given.name}/{task_id}"


def again_or_failed(
    board: Board, item: Item, state: State, reason: str, why: str, refused: list[str]
) -> Work[None]:
    """One fresh attempt with the evidence, then it is over for this task."""
    desk = board.desk
    item.reason = reason
    if item.attempt < ATTEMPTS and reason not in FINAL and not item.final:
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
