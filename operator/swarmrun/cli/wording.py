"""What statuses hold in short, said so that it is read without knowing them."""

from __future__ import annotations

from swarmrun.api.status import AgentStatus, PlanStatus

_OWNERSHIP = "ownership: "
"""How `activities.finish` notes a changed path that no task owns; one that another task owns is refused there."""
_SOLO = "solo: "
"""How `activities.planning` notes why one agent does it all."""


def count(number: int, thing: str) -> str:
    """`1 turn`, `2 turns`."""
    return f"{number} {thing}{'s' * (number != 1)}"


def why(agent: AgentStatus, between: str = ": ") -> str:
    """Reason and message of an agent, without what its phase says already."""
    parts = [p for p in agent.message.split("; ") if p]
    paths = [p.removeprefix(_OWNERSHIP) for p in parts if p.startswith(_OWNERSHIP)]
    others = [p for p in parts if not p.startswith(_OWNERSHIP)]
    if paths:
        others.append(f"also changed {', '.join(paths)}, which no task owns")
    said = (agent.reason, "; ".join(others))
    return between.join(t for t in said if t and t.lower() != agent.phase.value.lower())


def mended(plan: PlanStatus) -> list[str]:
    """What had to be mended in the planner's answer."""
    return [n for n in plan.notes if not n.startswith(_SOLO)]


def size(plan: PlanStatus) -> str:
    """`3 tasks, 1 contract`; `one agent: mode is Solo`."""
    if not plan.solo:
        return f"{count(len(plan.tasks), 'task')}, {count(len(plan.contracts), 'contract')}"
    reason = next((n.removeprefix(_SOLO) for n in plan.notes if n.startswith(_SOLO)), "")
    # A plan that was one task from the start needs no reason.
    return f"one agent: {reason}" if reason and " of 1 tasks " not in reason else "one agent"
