"""A plan as people read it: tasks under what they depend on, contracts with who provides them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from swarmrun.api.status import PlannedTask, PlanStatus
from swarmrun.cli.wording import count, mended, size


def layers(tasks: Sequence[PlannedTask]) -> list[list[PlannedTask]]:
    """Tasks that can run side by side, in the order in which they become ready. What never becomes ready (a
    dependency that is not there) comes last, together."""
    left, done, found = list(tasks), set[str](), list[list[PlannedTask]]()
    while left:
        ready = [t for t in left if done.issuperset(t.depends_on)] or left
        found.append(ready)
        done |= {t.id for t in ready}
        left = [t for t in left if t.id not in done]
    return found


def tree(tasks: Sequence[PlannedTask], label: Callable[[PlannedTask], str]) -> list[str]:
    """Lines of a drawn DAG: each task once, below the last of its dependencies; others are named."""
    known = {t.id: t for t in tasks}
    order = {t.id: n for n, layer in enumerate(layers(tasks)) for t in layer}
    children: dict[str, list[PlannedTask]] = {}
    for task in tasks:
        above = [d for d in task.depends_on if order.get(d, len(order)) < order[task.id]]
        parent = max(above, key=lambda d: order[d]) if above else ""
        children.setdefault(parent, []).append(task)

    lines: list[str] = []

    def draw(task: PlannedTask, before: str, parent: str, *, last: bool, top: bool) -> None:
        others = [d for d in task.depends_on if d != parent and d in known]
        mark = "" if top else "└─ " if last else "├─ "
        lines.append(
            f"{before}{mark}{label(task)}" + (f"  (also after {', '.join(others)})" if others else "")
        )
        below = children.get(task.id, [])
        inside = before if top else before + ("   " if last else "│  ")
        for child in below:
            draw(child, inside, task.id, last=child is below[-1], top=False)

    for root in children.get("", []):
        draw(root, "", "", last=True, top=True)
    return lines


def plan_text(plan: PlanStatus, phases: Mapping[str, str] | None = None) -> str:
    """The whole plan: summary, DAG, owned paths, contracts, what had to be mended."""
    phases = phases or {}

    def label(task: PlannedTask) -> str:
        phase = f"  [{phases[task.id]}]" if task.id in phases else ""
        owns = f"  owns {', '.join(task.owned_paths)}" if task.owned_paths else ""
        return f"{task.id}  {task.role}  {task.title}{phase}{owns}"

    lines = [plan.summary] if plan.summary else []
    lines.append(size(plan) if plan.solo else count(len(plan.tasks), "task"))
    lines += ["", *tree(plan.tasks, label)]
    if plan.contracts:
        lines += ["", "contracts"]
        for contract in plan.contracts:
            lines.append(
                f"  {contract.id}  {contract.kind}  {contract.path}  by {contract.provided_by or 'nobody'}"
            )
            lines += [f"      {line}" for line in contract.signature.splitlines()]
    if notes := mended(plan):
        lines += ["", "mended in the planner's answer", *(f"  {note}" for note in notes)]
    return "\n".join(lines)
