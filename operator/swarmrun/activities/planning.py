"""Plans are checked, stored and scaffolded; contracts are amended."""

from __future__ import annotations

import shlex

from swarmrun.activities.commands import run_to_end
from swarmrun.activities.merging import message
from swarmrun.activities.sandboxes import load, set_up
from swarmrun.activities.world import AUTHOR, BASE, SCAFFOLD, RunWorld
from swarmrun.agents.transcript import user_message
from swarmrun.api.base import clip
from swarmrun.api.plan import Plan
from swarmrun.api.status import PlannedContract, PlannedTask, PlanStatus
from swarmrun.errors import InvalidResource, NotFound
from swarmrun.planning import graph, render
from swarmrun.planning import scaffold as scaffolding
from swarmrun.planning.amend import classify, declaration_in
from swarmrun.planning.check import check, check_replan, joined, refuse_errors
from swarmrun.planning.normalise import normalise
from swarmrun.ports import CallKey, ModelRequest
from swarmrun.steps import AcceptedPlan, Amend, Amended, RunRef, Scaffold, Scaffolded, TaskRef, UsageRecord

COLLECT_SECONDS = 300


def given_plan(world: RunWorld, _: RunRef) -> AcceptedPlan:
    """The user's plan. Raises InvalidResource naming everything that is wrong with it."""
    plan = world.snapshot.given_plan
    if plan is None:
        raise InvalidResource("spec.plan has no tasks", field="spec.plan.tasks")
    base = world.text(BASE)
    world.repo.ensure(base)
    existing = [e.path for e in world.repo.list_tree(base)]
    refuse_errors(check(plan, max_tasks=world.snapshot.max_tasks, existing=existing))
    return accepted(world, plan, [])


def judge_plan(
    world: RunWorld, raw: object, *, base: str, kept_key: str, kept: list[str]
) -> AcceptedPlan | list[str]:
    """What the planner handed in: the accepted plan, or errors written for it."""
    read = normalise(raw)
    if read.plan is None:
        return read.errors
    world.repo.ensure(base)
    paths = [e.path for e in world.repo.list_tree(base)]
    limit = world.snapshot.max_tasks
    plan = read.plan
    if kept:
        old = world.plan(kept_key)
        held = old.model_copy(update={"tasks": [t for t in old.tasks if t.id in kept]})
        # A planner repeats what stays: those are dropped, what it says of them does not count.
        fresh = plan.model_copy(update={"tasks": [t for t in plan.tasks if t.id not in kept]})
        errors = [*read.errors, *check_replan(fresh, held, max_tasks=limit, existing=paths)]
        return errors or accepted(world, joined(fresh, held), read.notes, solo=False)
    errors = [*read.errors, *check(plan, max_tasks=limit, existing=paths)]
    return errors or accepted(world, plan, read.notes)


def accepted(world: RunWorld, plan: Plan, notes: list[str], *, solo: bool = True) -> AcceptedPlan:
    """Stores the plan; code decides here whether a swarm pays."""
    alone, why = graph.solo(plan, world.snapshot.mode) if solo else (False, "")
    if alone and len(plan.tasks) > 1:
        plan = graph.as_solo(plan)
    key, digest = world.save_plan(plan)
    provided = {c: t.id for t in plan.tasks for c in t.provides}
    status = PlanStatus(
        summary=clip(plan.summary),
        solo=alone,
        hash=digest,
        artifact=key,
        notes=[clip(n, 200) for n in [*notes, *([f"solo: {why}"] if alone and why else [])]][:20],
        tasks=[
            PlannedTask(
                id=t.id,
                title=clip(t.title, 120),
                role=t.role.value,
                depends_on=t.depends_on,
                owned_paths=t.owned_paths[:10],
                provides=t.provides,
                uses=t.uses,
            )
            for t in plan.tasks
        ],
        contracts=[
            PlannedContract(
                id=c.id,
                kind=c.kind.value,
                path=c.path,
                provided_by=provided.get(c.id, ""),
                signature=clip(render.headline(c), 160),
            )
            for c in plan.contracts
        ],
    )
    tasks = [
        TaskRef(
            id=t.id,
            role=t.role,
            depends_on=t.depends_on,
            uses=t.uses,
            provides=t.provides,
            estimate=t.estimate,
        )
        for t in plan.tasks
    ]
    return AcceptedPlan(artifact=key, status=status, tasks=tasks)


# ---------------------------------------------------------------- scaffold


def scaffold(world: RunWorld, given: Scaffold) -> Scaffolded:
    """Contracts as code, one commit on the base. It must parse, import and collect in the sandbox."""
    plan, repo = world.plan(given.plan), world.repo
    repo.ensure(given.base)
    paths = [e.path for e in repo.list_tree(given.base)]
    held = [p for p in scaffolding.concerned(plan) if p in set(paths)]
    result = scaffolding.scaffold(plan, repo.read_many(given.base, held), empty=not paths, paths=paths)
    if result.errors:
        return Scaffolded(commit=given.base, errors=result.errors)
    commit = given.base
    if result.files:
        commit = repo.commit_tree(
            repo.with_files(given.base, result.files),
            [given.base],
            message(world, "Scaffold: the contracts as code"),
            AUTHOR,
            world.date("scaffold"),
        )
        repo.record(commit, given.base)
    box = world.box(given)
    load(world, box, commit, "integration")
    errors = _stands(world, given, sorted(result.files))
    if not errors:
        if not paths and not world.snapshot.sandbox.opens_for_setup:
            # Once a sandbox, so only for the scaffold that stays. Where set-up has a network of its own it runs in
            # a fresh sandbox: the scaffold, which a model wrote, was just imported in this one.
            set_up(world, box, given)
        world.store.put(SCAFFOLD, commit.encode())
    return Scaffolded(commit=given.base if errors else commit, errors=errors)


def _stands(world: RunWorld, given: Scaffold, files: list[str]) -> list[str]:
    """Whether the scaffold's Python modules import and its tests can be collected."""
    modules = [
        f for f in files if f.endswith(".py") and not f.rpartition("/")[2].startswith(("test_", "conftest"))
    ]
    if not modules:
        return []
    box = world.box(given)
    script = (
        "import importlib, sys\n"
        "sys.path[:0] = ['.', 'src']\n"
        "for f in sys.argv[1:]:\n"
        "    name = f.removeprefix('src/').removesuffix('.py').removesuffix('/__init__').replace('/', '.')\n"
        "    try: importlib.import_module(name)\n"
        "    except ModuleNotFoundError as e:\n"
        "        top = (e.name or '').split('.')[0]\n"
        "        ours = any(g.removeprefix('src/').split('/')[0].removesuffix('.py') == top for g in sys.argv[1:])\n"
        "        if ours: print(f'{f}: {type(e).__name__}: {e}')\n"
        "    except BaseException as e: print(f'{f}: {type(e).__name__}: {e}')\n"
    )
    # A package that is not installed is the business of set-up and of the agents, not of the contracts.
    command = f"python3 -c {shlex.quote(script)} {' '.join(shlex.quote(m) for m in modules)}"
    done = world.run(run_to_end(box, command, timeout_s=COLLECT_SECONDS))
    if done.timed_out:
        return [f"an import does not end within {COLLECT_SECONDS} s ({', '.join(modules)})"]
    return [f"does not import: {line}" for line in done.stdout.splitlines() if line.strip()][:10]


# ---------------------------------------------------------------- amendments


def amend(world: RunWorld, given: Amend) -> Amended:
    """Additive changes join the contract; a breaking one is the planner's to decide, while it has calls left."""
    plan = world.plan(given.plan)
    contract = next((c for c in plan.contracts if c.id == given.issue.contract), None)
    if contract is None:
        known = ", ".join(c.id for c in plan.contracts) or "none"
        raise NotFound(f"contract {given.issue.contract!r} is unknown; there are: {known}")
    # A model writes code in fences.
    proposal, called, usage = declaration_in(given.issue.proposal).strip(), False, None
    if not proposal:
        return Amended(outcome="refused", plan=given.plan)
    outcome = "additive"
    if classify(contract, proposal) == "breaking":
        if given.planner_calls_left < 1:
            return Amended(outcome="refused", plan=given.plan)
        called, outcome = True, "revised"
        decision, usage = _ask_planner(world, given, plan, proposal)
        if not decision:
            return Amended(outcome="refused", plan=given.plan, planner_called=True, usage=usage)
    changed = contract.model_copy(update={"declaration": proposal})
    amended = plan.model_copy(
        update={"contracts": [changed if c.id == contract.id else c for c in plan.contracts]}
    )
    key, _ = world.save_plan(amended)
    return Amended(
        outcome="revised" if outcome == "revised" else "additive",
        plan=key,
        news=render.contract(amended, changed),
        planner_called=called,
        usage=usage,
    )


_DECISION = {
    "type": "object",
    "properties": {
        "accept": {"type": "boolean", "description": "Whether the contract is to be changed as proposed."},
        "why": {"type": "string"},
    },
    "required": ["accept", "why"],
    "additionalProperties": False,
}


def _ask_planner(world: RunWorld, given: Amend, plan: Plan, proposal: str) -> tuple[bool, UsageRecord]:
    """One call: yes or no. Stored under its key, so that it is paid once."""
    key = CallKey(run=given.run, role="planner", task=f"amend-{given.number}", attempt=1, turn=1)
    place = f"{key.path()}/decision.json"
    if not world.store.exists(place):
        _, client = world.model("planner")
        text = (
            f"{render.plan(plan)}\n\n{render.contracts(plan)}\n\nTask {given.task} says that contract "
            f"{given.issue.contract} cannot hold: {given.issue.problem}\nIt proposes:\n{proposal}\n\n"
            "The change breaks what others were promised. Accept it only if the goal cannot be reached without it."
        )
        reply = world.run(
            client.turn(
                ModelRequest(
                    key=key,
                    instructions="You are the planner of a swarm of coding agents. Decide on one contract.",
                    messages=[user_message(text)],
                    response_schema=_DECISION,
                )
            )
        )
        usage = world.usage("planner", reply.usage)
        world.put(place, {"accept": bool((reply.value or {}).get("accept")), "usage": usage.model_dump()})
    stored = world.get(place)
    return bool(stored["accept"]), UsageRecord.model_validate(stored["usage"])
