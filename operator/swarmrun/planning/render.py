"""Plan and contracts as text, for prompts and for people. The same plan gives the same bytes."""

from __future__ import annotations

from swarmrun.api.plan import Contract, ContractKind, Plan, Task
from swarmrun.code.languages import language
from swarmrun.planning import graph
from swarmrun.planning.routes import named_route


def contracts(plan: Plan) -> str:
    """All contracts, for the part of the prompt that is the same for every agent of a run."""
    if not plan.contracts:
        return "No contracts: the tasks share nothing that was agreed on beforehand."
    return "\n\n".join(contract(plan, each) for each in plan.contracts)


def contract(plan: Plan, each: Contract) -> str:
    by = ", ".join(t.id for t in plan.tasks if each.id in t.provides) or "nobody"
    users = ", ".join(t.id for t in plan.tasks if each.id in t.uses)
    head = f"### {each.id} ({each.kind}) in `{each.path}`, provided by {by}" + (
        f", used by {users}" if users else ""
    )
    if each.kind is ContractKind.DATA_MODEL:
        head += "; complete and frozen"
    parts = [head]
    if each.description.strip():
        parts.append(each.description.strip())
    if each.declaration.strip():
        tongue = language(each.path) if each.kind is not ContractKind.ROUTE else ""
        parts.append(
            f"{_fence(each.declaration)}{tongue}\n{each.declaration.strip()}\n{_fence(each.declaration)}"
        )
    return "\n".join(parts)


def task(each: Task) -> str:
    """One task as its agent reads it."""
    rows = [f"# Task {each.id}: {each.title}", "", each.instructions.strip(), ""]
    if each.owned_paths:
        rows.append(
            "You own (nobody else changes these, change nothing else): " + ", ".join(each.owned_paths)
        )
    if each.provides:
        rows.append("You provide the contracts: " + ", ".join(each.provides))
    if each.uses:
        rows.append("You use the contracts: " + ", ".join(each.uses))
    if each.depends_on:
        rows.append("Done before you: " + ", ".join(each.depends_on))
    if each.acceptance:
        rows += ["", "Accepted when:"]
        rows += [f"- {a.description}" + (f" (`{a.command}`)" if a.command else "") for a in each.acceptance]
    return "\n".join(rows).rstrip() + "\n"


def plan(whole: Plan) -> str:
    """The tasks in short, for planner, integrator, judge and fixer."""
    rows = [whole.summary.strip(), ""] if whole.summary.strip() else []
    for each in whole.tasks:
        after = f", after {', '.join(each.depends_on)}" if each.depends_on else ""
        rows.append(f"- {each.id} ({each.role}{after}): {each.title}")
        if each.owned_paths:
            rows.append(f"  owns {', '.join(each.owned_paths)}")
        rows += [f"  must hold: {a.description}" for a in each.acceptance]
    return "\n".join(rows) + "\n"


def dag(whole: Plan) -> str:
    """The plan for people: waves of tasks that can run side by side, then the contracts."""
    path, length = graph.critical_path(whole)
    total = sum(t.estimate for t in whole.tasks)
    rows = [whole.summary.strip(), ""] if whole.summary.strip() else []
    for number, wave in enumerate(graph.waves(whole), 1):
        rows.append(f"wave {number}" + (f"  ({len(wave)} side by side)" if len(wave) > 1 else ""))
        for identity in wave:
            each = graph.task(whole, identity)
            last = identity == wave[-1]
            rows.append(
                f"{'└─' if last else '├─'} {each.id}  {each.title}  [{each.role}, ~{each.estimate} turns]"
            )
            for word, listed in (
                ("after", each.depends_on),
                ("owns", each.owned_paths),
                ("provides", each.provides),
                ("uses", each.uses),
            ):
                if listed:
                    rows.append(f"{'  ' if last else '│ '}    {word} {', '.join(listed)}")
    rows += [
        "",
        f"critical path: {' → '.join(path)} ({length} of {total} turns), at most {graph.width(whole)} side by side",
    ]
    if whole.contracts:
        rows += ["", "contracts"]
        width = max(len(c.id) for c in whole.contracts)
        for each in whole.contracts:
            by = ", ".join(t.id for t in whole.tasks if each.id in t.provides)
            rows.append(f"  {each.id:{width}}  {each.path}  {headline(each)}" + (f"  ← {by}" if by else ""))
    return "\n".join(rows) + "\n"


def headline(each: Contract) -> str:
    """The first line of a contract that says what it is; at most 120 characters."""
    if each.kind is ContractKind.ROUTE and (route := named_route(each)):
        return " ".join(route)
    skipped = ("import ", "from ", "#", "//", "@", '"""', "package ")
    rows = [row.strip() for row in each.declaration.splitlines()]
    first = next((row for row in rows if row and not row.startswith(skipped)), "")
    if each.kind is ContractKind.FILE or not first:
        return str(each.kind)
    return first.removesuffix("...").rstrip(" :{")[:120]


def _fence(inside: str) -> str:
    return "````" if "```" in inside else "```"
