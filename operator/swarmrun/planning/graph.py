"""The plan as a graph: order, waves, critical path, width, and whether a swarm pays at all."""

from __future__ import annotations

from collections.abc import Mapping

from swarmrun.api.base import clip
from swarmrun.api.plan import Acceptance, Plan, Role, Task
from swarmrun.api.run import Mode
from swarmrun.errors import Conflict, NotFound

MIN_INDEPENDENT = 3
"""Fewer tasks that can run at the same time: one agent does it alone. A choice of the design."""
MAX_CRITICAL_SHARE = 0.70
"""From this share of the estimated work on the critical path on, agents would mostly wait for each other."""
_INSTRUCTIONS = 16_000
"""As `api.plan.Task.instructions` has it."""


def task(plan: Plan, identity: str) -> Task:
    """Raises NotFound."""
    for each in plan.tasks:
        if each.id == identity:
            return each
    raise NotFound(f"no task {identity!r} in the plan; it has: {', '.join(t.id for t in plan.tasks)}")


def cycle(plan: Plan) -> list[str]:
    """One cycle as a path whose last entry is its first (`a, b, a`); empty when there is none."""
    edges = _edges(plan)
    done: set[str] = set()
    for start in edges:
        path: list[str] = []
        stack = [(start, iter(edges[start]))] if start not in done else []
        if stack:
            path.append(start)
        while stack:
            node, targets = stack[-1]
            for target in targets:
                if target in path:
                    return [*path[path.index(target) :], target]
                if target not in done:
                    path.append(target)
                    stack.append((target, iter(edges[target])))
                    break
            else:
                done.add(node)
                path.pop()
                stack.pop()
    return []


def order(plan: Plan) -> list[str]:
    """Topological, ties in the plan's order. Raises Conflict on a cycle."""
    return [identity for wave in waves(plan) for identity in wave]


def waves(plan: Plan) -> list[list[str]]:
    """Tasks that could start together, wave after wave. Raises Conflict on a cycle."""
    edges = _edges(plan)
    found: list[list[str]] = []
    placed: set[str] = set()
    while len(placed) < len(edges):
        wave = [node for node in edges if node not in placed and placed.issuperset(edges[node])]
        if not wave:
            raise Conflict(
                f"the plan has a cycle: {' → '.join(cycle(plan))}", mend="remove one of its dependencies"
            )
        found.append(wave)
        placed.update(wave)
    return found


def ancestors(plan: Plan) -> dict[str, frozenset[str]]:
    """Task → everything it waits for, directly or not. Raises Conflict on a cycle."""
    edges = _edges(plan)
    found: dict[str, frozenset[str]] = {}
    for node in order(plan):
        found[node] = frozenset(edges[node]).union(*(found[before] for before in edges[node]))
    return found


def dependants(plan: Plan, identity: str) -> list[str]:
    """Everything that waits for a task, directly or not, in topological order."""
    before = ancestors(plan)
    task(plan, identity)
    return [node for node in order(plan) if identity in before[node]]


def critical_path(plan: Plan) -> tuple[list[str], int]:
    """The longest chain by estimate, and its sum in turns."""
    edges = _edges(plan)
    estimates = {t.id: t.estimate for t in plan.tasks}
    best: dict[str, tuple[int, list[str]]] = {}
    nothing: tuple[int, list[str]] = (0, [])
    for node in order(plan):
        length, path = max((best[before] for before in edges[node]), key=lambda b: b[0], default=nothing)
        best[node] = (length + estimates[node], [*path, node])
    length, path = max(best.values(), key=lambda b: b[0])
    return path, length


def width(plan: Plan) -> int:
    """The largest number of tasks of which none waits for another (Dilworth: nodes less a maximum matching
    of the transitive closure)."""
    before = ancestors(plan)
    matched: dict[str, str] = {}

    def augment(node: str, seen: set[str]) -> bool:
        for target in sorted(before[node] - seen):
            seen.add(target)
            if target not in matched or augment(matched[target], seen):
                matched[target] = node
                return True
        return False

    return len(before) - sum(augment(node, set()) for node in before)


def solo(plan: Plan, mode: Mode) -> tuple[bool, str]:
    """Whether one agent does it all, and why.

    "Fewer than three independent tasks" is read as: at no moment could three tasks be at work together.
    """
    if mode is Mode.SOLO:
        return True, "mode is Solo"
    if mode is Mode.SWARM:
        return False, "mode is Swarm"
    independent = width(plan)
    if independent < MIN_INDEPENDENT:
        return True, f"at most {independent} of {len(plan.tasks)} tasks can run side by side"
    path, length = critical_path(plan)
    total = sum(t.estimate for t in plan.tasks)
    share = f"{100 * length // total} % of the estimated work lies on the critical path {' → '.join(path)}"
    return length >= MAX_CRITICAL_SHARE * total, share


def as_solo(plan: Plan) -> Plan:
    """The same plan as one task `solo`, which inherits instructions, contracts and acceptance."""
    tasks = [task(plan, identity) for identity in order(plan)]
    if len(tasks) == 1 and tasks[0].role is Role.SOLO:
        return plan
    acceptance: list[Acceptance] = []
    for each in tasks:
        acceptance += [a for a in each.acceptance if a not in acceptance]
    # Commands first: they can be checked; what does not fit into the list is told in words.
    acceptance.sort(key=lambda a: not a.command)
    kept, told = acceptance[:10], acceptance[10:]
    further = "\n".join(f"- {a.description}" + (f" (`{a.command}`)" if a.command else "") for a in told)
    tail = f"\n\n## Also to be met\n{further}" if further else ""
    room = (_INSTRUCTIONS - min(len(tail), 4000)) // len(tasks)
    parts = [clip(f"## {t.title}\n{t.instructions.strip()}", room - 2) for t in tasks]
    provides = [contract.id for contract in plan.contracts]
    one = Task(
        id="solo",
        title=clip(plan.summary.strip().partition("\n")[0] or "The whole goal", 200),
        role=Role.SOLO,
        instructions=clip("\n\n".join(parts) + clip(tail, 4000), _INSTRUCTIONS),
        owned_paths=["**"],
        provides=provides,
        acceptance=kept,
        skills=list(dict.fromkeys(skill for t in tasks for skill in t.skills))[:10],
        estimate=min(100, sum(t.estimate for t in tasks)),
    )
    return plan.model_copy(update={"tasks": [one]})


def _edges(plan: Plan) -> Mapping[str, list[str]]:
    """Task → its direct dependencies; unknown ones are the check's business and left out here."""
    known = {t.id for t in plan.tasks}
    return {t.id: [d for d in dict.fromkeys(t.depends_on) if d in known] for t in plan.tasks}
