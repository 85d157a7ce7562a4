"""Whether a plan can be worked on. Errors are written for the planner: the thing, and the mend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from itertools import combinations

from swarmrun.api.plan import ContractKind, Plan, Role, Task
from swarmrun.errors import InvalidResource
from swarmrun.planning import graph
from swarmrun.planning.paths import BROAD, overlap, owns
from swarmrun.planning.routes import named_route

RESERVED = frozenset({"plan", "judge", "integration"})
RESERVED_PREFIXES = ("integrate-", "fix-", "judge-")
"""Sandboxes and branches of the run itself are called so."""
_WRITING = frozenset({Role.CODER, Role.TEST_WRITER, Role.SOLO})


def check(plan: Plan, *, max_tasks: int = 12, existing: Collection[str] | None = None) -> list[str]:
    """Everything that is wrong at once; empty when the plan holds.

    `existing`: the repository's paths, where there are any.
    """
    errors = [*_ids(plan, max_tasks), *_tasks(plan), *_contracts(plan), *_places(plan, existing)]
    ring = graph.cycle(plan)
    if ring:
        errors.append(f"the tasks {' → '.join(ring)} wait for each other in a ring: remove one dependency")
    elif not any(error.startswith("two tasks") for error in errors):
        errors += _overlaps(plan)
    return errors


def refuse_errors(errors: list[str]) -> None:
    """Of a plan that a person has written. Raises InvalidResource `InvalidPlan` where there are any."""
    if errors:
        raise InvalidResource(
            "spec.plan: " + "; ".join(errors), field="spec.plan", reason="InvalidPlan", mend="mend the plan"
        )


def check_replan(
    new: Plan, kept: Plan, *, max_tasks: int = 12, existing: Collection[str] | None = None
) -> list[str]:
    """`new` plans again what had not started; `kept` holds the tasks that had, with the old contracts. Kept
    tasks may be named as dependencies, not changed; nor may contracts that they provide or use."""
    errors: list[str] = []
    old = {t.id: t for t in kept.tasks}
    for each in new.tasks:
        if each.id in old and each != old[each.id]:
            errors.append(f"task {each.id} has started already: leave it out or use another id for new work")
    frozen = {c.id: c for c in kept.contracts if c.id in _bound(kept)}
    for contract in new.contracts:
        before = frozen.get(contract.id)
        if before and (before.path, before.declaration) != (contract.path, contract.declaration):
            errors.append(
                f"contract {contract.id} is worked on already: repeat it as it was, or add a new one"
            )
    return errors + check(joined(new, kept), max_tasks=max_tasks, existing=existing)


def joined(new: Plan, kept: Plan) -> Plan:
    """The plan that holds after a re-plan: what was kept, then what is new. Old contracts that no kept task
    is bound to are dropped unless a new task names them, and then the new plan's words count."""
    kept_tasks = {t.id for t in kept.tasks}
    tasks = [*kept.tasks, *(t for t in new.tasks if t.id not in kept_tasks)]
    bound = _bound(kept)
    renewed = {c.id for c in new.contracts}
    named = {identity for t in tasks for identity in (*t.provides, *t.uses)}
    contracts = [c for c in kept.contracts if c.id in bound or (c.id in named and c.id not in renewed)]
    contracts += [c for c in new.contracts if c.id not in bound]
    return kept.model_copy(
        update={
            "tasks": tasks,
            "contracts": contracts,
            "criteria": kept.criteria or new.criteria,
        }
    )


def _bound(kept: Plan) -> set[str]:
    """Contracts that work has begun on."""
    return {identity for t in kept.tasks for identity in (*t.provides, *t.uses)}


def _ids(plan: Plan, max_tasks: int) -> Iterator[str]:
    if len(plan.tasks) > max_tasks:
        yield (
            f"the plan has {len(plan.tasks)} tasks, at most {max_tasks} are allowed: join the ones that touch "
            "the same files"
        )
    for what, ids in (
        ("tasks", [t.id for t in plan.tasks]),
        ("contracts", [c.id for c in plan.contracts]),
        ("criteria", [c.id for c in plan.criteria]),
    ):
        for identity, times in Counter(ids).items():
            if times > 1:
                yield f"two {what} have the id {identity}: give each its own"
    for each in plan.tasks:
        if each.id in RESERVED or each.id.startswith(RESERVED_PREFIXES):
            yield f"task id {each.id} is reserved for the run itself: use another name"


def _tasks(plan: Plan) -> Iterator[str]:
    known = {t.id for t in plan.tasks}
    for each in plan.tasks:
        if not each.instructions.strip():
            yield f"task {each.id} has no instructions: say what is to be done"
        if not each.acceptance:
            yield f"task {each.id} has no acceptance: give three to five checks, commands where possible"
        if each.role in _WRITING and not each.owned_paths:
            yield f"task {each.id} ({each.role}) owns no paths: list the files or directories it writes"
        if each.role is Role.RESEARCHER and each.provides:
            yield f"task {each.id} is a researcher and writes no code: move {', '.join(each.provides)} to a coder"
        if each.role is Role.SOLO and len(plan.tasks) > 1:
            yield f"task {each.id} has the role solo, which works alone: use coder"
        for other in each.depends_on:
            if other == each.id:
                yield f"task {each.id} depends on itself: remove that"
            elif other not in known:
                yield f"task {each.id} depends on the unknown task {other}; known: {', '.join(sorted(known))}"


def _contracts(plan: Plan) -> Iterator[str]:
    known = {c.id for c in plan.contracts}
    providers: dict[str, list[Task]] = {c.id: [] for c in plan.contracts}
    for each in plan.tasks:
        for word, listed in (("provides", each.provides), ("uses", each.uses)):
            for identity in dict.fromkeys(listed):
                if identity not in known:
                    listing = ", ".join(sorted(known)) or "none"
                    yield (
                        f"task {each.id} {word} the unknown contract {identity}: declare it; known: {listing}"
                    )
        for identity in dict.fromkeys(each.provides):
            if identity in providers:
                providers[identity].append(each)
    for contract in plan.contracts:
        by = providers[contract.id]
        if not by:
            yield f"contract {contract.id} is provided by no task: list it in one task's provides"
        elif len(by) > 1:
            yield f"contract {contract.id} is provided by {' and '.join(t.id for t in by)}: keep it in one task"
        elif contract.kind is not ContractKind.DATA_MODEL and not any(
            owns(pattern, contract.path) for pattern in by[0].owned_paths
        ):
            # Data models are complete in the scaffold and frozen: nobody needs to own them.
            yield (
                f"contract {contract.id} lies in {contract.path}, which its provider {by[0].id} does not own: "
                f"add {contract.path} to that task's ownedPaths"
            )
        if contract.kind is ContractKind.ROUTE:
            if named_route(contract) is None:
                yield f"contract {contract.id} is a route without METHOD /path: begin its description with it"
        elif contract.kind is not ContractKind.FILE and not contract.declaration.strip():
            yield f"contract {contract.id} has no declaration: give the {contract.kind} as source text"


def _places(plan: Plan, existing: Collection[str] | None) -> Iterator[str]:
    files = set(existing or ())
    folders = {path[:at] for path in files for at, letter in enumerate(path) if letter == "/"}
    named = [(f"task {t.id} owns", path) for t in plan.tasks for path in t.owned_paths]
    for what, path in [*named, *((f"contract {c.id} lies in", c.path) for c in plan.contracts)]:
        if path.startswith(("/", "~")) and path not in BROAD:
            yield f"{what} {path}: paths are relative to the repository's root"
        elif ".." in path.split("/") or path.split("/")[0] == ".git":
            yield f"{what} {path}, which is outside of what may be changed"
        else:
            parts = path.rstrip("/").split("/")
            above = next((p for n in range(1, len(parts)) if (p := "/".join(parts[:n])) in files), None)
            if above:
                yield f"{what} {path}, but {above} is a file in the repository"
            elif path.endswith("/") and path.rstrip("/") in files:
                yield f"{what} {path}, which is a file, not a directory, in the repository"
    for contract in plan.contracts:
        if contract.path.rstrip("/") in folders or contract.path.endswith("/"):
            yield f"contract {contract.id} lies in {contract.path}, which is a directory: name a file"
        elif any(letter in contract.path for letter in "*?"):
            yield f"contract {contract.id} lies in {contract.path}, which is a pattern: name one file"


def _overlaps(plan: Plan) -> Iterator[str]:
    """Two tasks that may work at the same time must not own the same path."""
    writers = [t for t in plan.tasks if t.role in _WRITING]
    for each in writers:
        broad = [path for path in each.owned_paths if path in BROAD]
        if broad and len(plan.tasks) > 1:
            yield f"task {each.id} owns {broad[0]}, which is everything: name its files and directories"
    before = graph.ancestors(plan)
    for one, other in combinations(writers, 2):
        if one.id in before[other.id] or other.id in before[one.id]:
            continue
        shared = [
            (mine, its)
            for mine in one.owned_paths
            for its in other.owned_paths
            if mine not in BROAD and its not in BROAD and overlap(mine, its)
        ]
        if shared:
            mine, its = shared[0]
            paths = mine if mine == its else f"{mine} and {its}"
            yield (
                f"tasks {one.id} and {other.id} may run at the same time and both own {paths}: give it to one "
                f"of them, or let {other.id} depend on {one.id}"
            )
