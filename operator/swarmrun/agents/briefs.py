"""First messages of planner, integrator, fixer and judge. The judge's answer has the schema of `verifying`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from swarmrun.agents.finish import clipped
from swarmrun.agents.prompt import (
    MAX_EVIDENCE,
    block,
    contracts_text,
    evidence_block,
    guide_block,
    providers,
)
from swarmrun.agents.roles import RoleSpec
from swarmrun.agents.skills import Skill
from swarmrun.api.plan import Criterion, Plan, Task
from swarmrun.api.resolve import Snapshot

MAX_DIFF = 160_000
"""Characters of the diff a judge sees, about 40,000 tokens. Arbitrary; what is left out is named."""
MAX_SIDE = 12_000
"""Characters of one version of a conflicting file. Arbitrary."""


def planner_message(
    snapshot: Snapshot,
    *,
    guide: str = "",
    map: str = "",
    skills: Sequence[Skill] = (),
    evidence: str = "",
    empty: bool = False,
    plan: Plan | None = None,
    kept: Collection[str] = (),
) -> str:
    """Goal first, then what is known of the repository. `evidence`: errors of a plan, or why to re-plan.

    At a re-plan `plan` is the plan so far and `kept` names its tasks that stay as they are.
    """
    repository = (
        "The repository is empty: decide its layout by the paths of contracts and tasks. There is "
        "nothing to read; call `submit_plan` now."
        if empty
        else "The repository is in your sandbox, read-only. Its map is a start; read what you need."
    )
    bounds = (
        f"At most {snapshot.max_tasks} tasks, of which at most {snapshot.parallelism} run at the same time."
    )
    gates = ", ".join(f"`{gate.command}`" for gate in snapshot.gates)
    parts = [
        "# The goal\n" + block("goal", snapshot.goal),
        f"# The repository\n{repository}",
        guide_block(guide),
        block("map", map) if map.strip() else "",
        f"# Bounds\n{bounds}" + (f"\nThe merged result must pass: {gates}." if gates else ""),
        _skill_list(skills),
        _plan_so_far(plan, kept) if plan else "",
        evidence_block(evidence),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _skill_list(skills: Sequence[Skill]) -> str:
    if not skills:
        return ""
    rows = "\n".join(f"- `{skill.name}`: {skill.description}" for skill in skills)
    return f"# Skills a task may name\n{rows}"


def _plan_so_far(plan: Plan, kept: Collection[str]) -> str:
    """What stands and what is to be planned anew."""
    stays = [task for task in plan.tasks if task.id in kept]
    anew = [task for task in plan.tasks if task.id not in kept]
    parts = [
        "# The plan so far",
        "These tasks have started or are done. They and their contracts stay as they are; do not hand them in "
        "again, but new tasks may depend on them and use what they provide:",
        *(_outline(task) for task in stays),
        "These have not started. Plan their work anew, around what failed; ids may be used again:",
        *(_outline(task) for task in anew),
        "## Contracts",
        contracts_text(plan.contracts, providers(plan)) or "None.",
    ]
    return "\n\n".join(parts)


def _outline(task: Task) -> str:
    rows = [f"## {task.title.strip()} (`{task.id}`, {task.role.value})"]
    for name, values in (
        ("Owns", task.owned_paths),
        ("Depends on", task.depends_on),
        ("Provides", task.provides),
        ("Uses", task.uses),
    ):
        if values:
            rows.append(f"{name}: {', '.join(values)}")
    return "\n".join([*rows, clipped(task.instructions.strip())])


# ---------------------------------------------------------------- integrator


@dataclass(frozen=True)
class Conflicted:
    """One file that is left for the integrator. None where a side does not hold the file."""

    path: str
    base: str | None
    ours: str | None
    theirs: str | None


def integrator_message(
    role: RoleSpec,
    *,
    ours: Sequence[Task],
    theirs: Task,
    conflicts: Sequence[Conflicted],
    resolved: Mapping[str, str] | None = None,
    keep: Mapping[str, Sequence[str]] | None = None,
    refusal: str = "",
    amendments: Sequence[str] = (),
) -> str:
    """Goal and contracts are in the shared prefix. `ours`: the tasks whose merged work the branch `theirs`
    conflicts with; `resolved`: path → what code has done; `keep`: path → symbols that must stay."""
    parts = [
        role.prompt,
        "# Ours: what is merged already",
        *(_side(task) for task in ours),
        "# Theirs: the branch that is being merged",
        _side(theirs),
        _resolved(resolved or {}),
        *(_conflict(conflict, (keep or {}).get(conflict.path, ())) for conflict in conflicts),
        ("# Contracts that have changed since the plan\n" + "\n\n".join(amendments)) if amendments else "",
        (
            "# Your last resolution was refused and undone\n"
            + block("refusal", clipped(refusal, MAX_EVIDENCE))
            + "\nThe files are conflicted again as above. Resolve them anew, without this fault."
        )
        if refusal.strip()
        else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _side(task: Task) -> str:
    return f"## {task.title.strip()} (`{task.id}`)\n{clipped(task.instructions.strip())}"


def _resolved(resolved: Mapping[str, str]) -> str:
    if not resolved:
        return ""
    rows = "\n".join(f"- `{path}`: {how}" for path, how in resolved.items())
    return f"# Merged by code already (do not touch)\n{rows}"


def _conflict(conflict: Conflicted, keep: Sequence[str]) -> str:
    parts = [f"# Conflict: `{conflict.path}`"]
    for name, text in (("base", conflict.base), ("ours", conflict.ours), ("theirs", conflict.theirs)):
        parts.append(
            block(name, clipped(text, MAX_SIDE)) if text is not None else f"({name}: the file is not there)"
        )
    if keep:
        parts.append("Must still be there: " + ", ".join(f"`{symbol}`" for symbol in keep))
    return "\n".join(parts)


# ---------------------------------------------------------------- fixer


@dataclass(frozen=True)
class Complaint:
    criterion: str
    text: str
    evidence: str = ""
    weight: int = 10


def fixer_message(
    role: RoleSpec,
    *,
    complaints: Sequence[Complaint],
    gates: Mapping[str, str],
    breaches: Sequence[str] = (),
    earlier: str = "",
) -> str:
    """`gates`: failing required gates and their output; `earlier`: what the last round did, when it was undone."""
    heaviest = sorted(complaints, key=lambda c: -c.weight)
    parts = [
        role.prompt,
        *(
            f"# Failing gate: {name}\n" + block("output", clipped(text, MAX_SIDE))
            for name, text in gates.items()
        ),
        ("# Contracts that the code does not keep\n" + "\n".join(f"- {b}" for b in breaches))
        if breaches
        else "",
        ("# The judge's complaints\n" + "\n".join(map(_complaint, heaviest))) if complaints else "",
        ("# The last round was undone\n" + block("evidence", clipped(earlier, MAX_EVIDENCE)))
        if earlier.strip()
        else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _complaint(complaint: Complaint) -> str:
    evidence = f"\n  Evidence: {complaint.evidence.strip()}" if complaint.evidence.strip() else ""
    return f"- {complaint.criterion} (weight {complaint.weight}): {complaint.text.strip()}{evidence}"


# ---------------------------------------------------------------- judge


def judge_message(
    snapshot: Snapshot,
    *,
    criteria: Sequence[Criterion],
    diff: str,
    gates: Mapping[str, str],
    contracts: str = "",
    breaches: Sequence[str] = (),
    files: Sequence[str] = (),
) -> str:
    """`criteria` in the sample's own order; `gates`: name → `passed`, or what failed; `files`: paths changed."""
    shown, left_out = _capped_diff(diff)
    parts = [
        "# The goal\n" + block("goal", snapshot.goal),
        "# Criteria\n" + "\n".join(f"- `{c.id}`: {c.question}" for c in criteria),
        ("# Contracts\n" + contracts) if contracts.strip() else "",
        ("# Contracts that code found not kept\n" + "\n".join(f"- {b}" for b in breaches))
        if breaches
        else "",
        "# Gates\n"
        + ("\n".join(f"- {name}: {clipped(text)}" for name, text in gates.items()) or "None ran."),
        ("# Changed files\n" + "\n".join(files)) if files else "",
        "# The change, from base to result\n" + block("diff", shown),
        f"Not shown, for its size: {', '.join(left_out)}. Do not answer `no` for what may stand there."
        if left_out
        else "",
        "Answer every criterion by its id, once, as JSON of the given form.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _capped_diff(diff: str) -> tuple[str, list[str]]:
    """Whole files as long as they fit, the smallest first; then the names of the others."""
    files = [f"diff --git {part}" for part in ("\n" + diff.strip()).split("\ndiff --git ")[1:]]
    if not files:
        return clipped(diff, MAX_DIFF), []
    taken: set[int] = set()
    size = 0
    for n in sorted(range(len(files)), key=lambda n: (len(files[n]), n)):
        if size + len(files[n]) > MAX_DIFF and taken:
            break
        taken.add(n)
        size += len(files[n])
    shown = "\n".join(clipped(files[n], MAX_DIFF) for n in sorted(taken))
    names = [
        files[n].split("\n", 1)[0].removeprefix("diff --git ").split(" b/")[-1]
        for n in range(len(files))
        if n not in taken
    ]
    return shown, names
