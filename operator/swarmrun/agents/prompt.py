"""What writing agents are told, in the order that keeps servers' prompt caches warm.

tools, rules, goal, the repository's guide, contracts, map | role, task, dependencies' summaries | history.
What stands before the first bar is the instructions and byte-identical for all writing roles of a run: it
holds no time, no id, nothing of a task. Prompts of planner, integrator, fixer and judge: `briefs`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files

from swarmrun.agents.finish import clipped
from swarmrun.agents.roles import RoleSpec
from swarmrun.agents.skills import Skill
from swarmrun.api.plan import Acceptance, Contract, Plan, Task
from swarmrun.api.resolve import Snapshot

MAX_GUIDE = 16_000
"""Characters of a repository's guide; longer ones are cut. Arbitrary, about 4,000 tokens."""
MAX_EVIDENCE = 24_000
"""Characters of one piece of evidence. Arbitrary."""


@lru_cache(maxsize=1)
def rules() -> str:
    return (files("swarmrun.agents") / "rules.md").read_text(encoding="utf-8").strip()


def block(tag: str, text: str) -> str:
    """Text of somebody else between tags that it cannot close itself."""
    safe = re.sub(rf"</(?=\s*{re.escape(tag)}\b)", "<\\/", text.strip(), flags=re.IGNORECASE)
    return f"<{tag}>\n{safe}\n</{tag}>"


def guide_block(guide: str) -> str:
    """AGENTS.md or CLAUDE.md, as the repository's own rules."""
    return block("repository-guide", clipped(guide, MAX_GUIDE)) if guide.strip() else ""


def contracts_text(contracts: Sequence[Contract], provided_by: Mapping[str, str] | None = None) -> str:
    """All contracts as Markdown, in the plan's order. `provided_by`: contract id → task id."""
    parts: list[str] = []
    for contract in contracts:
        owner = (provided_by or {}).get(contract.id, "")
        head = f"### {contract.id} ({contract.kind.value}) in `{contract.path}`"
        parts.append(head + (f", provided by task {owner}" if owner else ""))
        if contract.description.strip():
            parts.append(contract.description.strip())
        if contract.declaration.strip():
            fence = _fence(contract.declaration)
            parts.append(f"{fence}\n{contract.declaration.strip()}\n{fence}")
    return "\n".join(parts)


def providers(plan: Plan) -> dict[str, str]:
    """Contract id → id of the task that provides it."""
    return {contract: task.id for task in plan.tasks for contract in task.provides}


def _fence(text: str) -> str:
    longest = max((len(m) for m in re.findall(r"`{3,}", text)), default=2)
    return "`" * (longest + 1)


def shared_prefix(
    snapshot: Snapshot, plan: Plan, *, contracts: str = "", guide: str = "", map: str = ""
) -> str:
    """The instructions of every writing role of a run.

    `contracts` is what `contracts_text` gives; empty: of the plan. Use the plan the run started with: later
    amendments are news, so that the prefix stays what it is.
    """
    parts = [
        rules(),
        "# The goal of all\n" + block("goal", snapshot.goal),
        ("# The plan\n" + plan.summary.strip()) if plan.summary.strip() else "",
        _environment(snapshot),
        ("# The repository's guide\n" + guide_block(guide)) if guide.strip() else "",
        "# Contracts\n" + (contracts or contracts_text(plan.contracts, providers(plan)) or "None."),
        ("# Map of the repository at the start\n" + block("map", map)) if map.strip() else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _environment(snapshot: Snapshot) -> str:
    """What the sandbox can do, and what the result is measured by."""
    box = snapshot.sandbox
    network = (
        "The sandbox can reach the network."
        if box.egress.enabled
        else "The sandbox has no network: nothing can be downloaded or installed from it."
    )
    rows = [network]
    if box.setup:
        rows.append("Set-up that has already run: " + "; ".join(f"`{command}`" for command in box.setup))
    if snapshot.gates:
        gates = ", ".join(f"`{gate.command}`" for gate in snapshot.gates)
        rows.append(f"Gates that the merged result must pass: {gates}")
    return "# The sandbox\n" + "\n".join(f"- {row}" for row in rows)


def task_message(
    task: Task,
    role: RoleSpec,
    *,
    dependencies: Mapping[str, str] | None = None,
    notes: Mapping[str, str] | None = None,
    evidence: str = "",
    skills: Sequence[Skill] = (),
    acceptance: Sequence[Acceptance] | None = None,
    amendments: Sequence[str] = (),
    tasks: Sequence[Task] = (),
) -> str:
    """The first message of an agent that works on a task.

    `dependencies`: task id → its summary; `notes`: path → a researcher's findings; `evidence`: why an earlier
    attempt failed; `acceptance`: absent, the task's own; `amendments`: contract changes made before this
    agent started; `tasks`: for solo, all tasks of the plan in order.
    """
    checks = task.acceptance if acceptance is None else acceptance
    parts = [
        role.prompt,
        f"# Your task: {task.title.strip()} (`{task.id}`)\n{task.instructions.strip()}",
        _paths(task.owned_paths),
        _contract_use(task),
        _acceptance(checks),
        *(_task_in_list(n, other) for n, other in enumerate(tasks, 1)),
        _summaries(dependencies or {}),
        *(
            f"# Notes: `{path}`\n" + block("notes", clipped(text, MAX_EVIDENCE))
            for path, text in (notes or {}).items()
        ),
        *(f"# Skill: {skill.name}\n{skill.text}" for skill in skills),
        ("# Contracts that have changed since the plan\n" + "\n\n".join(amendments)) if amendments else "",
        evidence_block(evidence),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def evidence_block(evidence: str) -> str:
    """Why an earlier attempt failed, for the one that starts afresh."""
    if not evidence.strip():
        return ""
    return "# What went wrong before\nAn earlier attempt failed. Do not repeat it.\n" + block(
        "evidence", clipped(evidence, MAX_EVIDENCE)
    )


def _paths(owned: Sequence[str]) -> str:
    return "Your paths: " + (
        ", ".join(f"`{path}`" for path in owned) if owned else "all that the task needs."
    )


def _contract_use(task: Task) -> str:
    rows: list[str] = []
    if task.provides:
        rows.append(f"You provide: {', '.join(task.provides)}.")
    if task.uses:
        rows.append(f"You use: {', '.join(task.uses)}.")
    return " ".join(rows)


def _acceptance(checks: Sequence[Acceptance]) -> str:
    rows = [
        f"- {c.description.strip()}" + (f" (`{c.command.strip()}`)" if c.command.strip() else "")
        for c in checks
    ]
    return "Accepted when:\n" + "\n".join(rows) if rows else ""


def _task_in_list(number: int, task: Task) -> str:
    parts = [
        f"## {number}. {task.title.strip()} (`{task.id}`)",
        task.instructions.strip(),
        _acceptance(task.acceptance),
    ]
    return "\n".join(part for part in parts if part)


def _summaries(dependencies: Mapping[str, str]) -> str:
    if not dependencies:
        return ""
    rows = [f"## {task}\n{clipped(text.strip()) or 'no summary'}" for task, text in dependencies.items()]
    return "# What the tasks before yours have done (it is in your work tree)\n" + "\n".join(rows)
