"""What an agent reads before its first turn; made once per attempt and kept, so that it never changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from swarmrun.activities.world import BASE, RunWorld
from swarmrun.agents import briefs, prompt, repomap
from swarmrun.agents.roles import RoleSpec, role
from swarmrun.agents.skills import FOLDER, Skill, repository_skills, skill
from swarmrun.agents.transcript import user_message
from swarmrun.api.base import legible
from swarmrun.api.plan import Plan, Role, Task
from swarmrun.code.symbols import symbols
from swarmrun.errors import NotFound
from swarmrun.git import trailers
from swarmrun.merging.guards.finding import wanted
from swarmrun.planning import graph, render
from swarmrun.steps import AgentRef, Brief, Call, Turn


def opening(world: RunWorld, given: Turn) -> tuple[str, list[dict[str, Any]]]:
    """Instructions, and the messages before the first turn."""
    place = f"turns/{given.role}/{given.task}/{given.attempt}/opening.json"
    kept: dict[str, tuple[str, list[dict[str, Any]]]] = world.caches.setdefault("openings", {})
    if place not in kept:
        if not world.store.exists(place):
            instructions, text = _write(world, given)
            made = json.dumps({"instructions": instructions, "messages": [user_message(text)]})
            world.store.put_new(place, made.encode())
        stored = world.get(place)
        if len(kept) > 64:
            kept.clear()
        kept[place] = (stored["instructions"], stored["messages"])
    return kept[place]


def _write(world: RunWorld, given: Turn) -> tuple[str, str]:
    spec = role(given.role)
    brief = given.brief
    evidence = "" if given.role in ("integrator", "fixer") else world.text(brief.evidence)
    if given.role == "planner":
        paths, read = _tree(world, brief.base)
        return spec.prompt, briefs.planner_message(
            world.snapshot,
            guide=repomap.guide(paths, read),
            map="" if brief.empty else repomap.repo_map(paths, read),
            skills=_skills(world, list(world.snapshot.skills), base=brief.base),
            evidence=evidence,
            empty=brief.empty,
            plan=world.plan(brief.plan) if brief.kept else None,
            kept=brief.kept,
        )
    plan = world.plan(brief.plan)
    instructions = _shared(world, plan, brief)
    if given.role == "integrator":
        return instructions, _integrator(world, spec, plan, brief)
    if given.role == "fixer":
        return instructions, _fixer(world, spec, brief)
    task = graph.task(plan, given.task)
    return instructions, prompt.task_message(
        task,
        spec,
        dependencies={d: world.text(key) for d, key in brief.notes.items()},
        evidence=evidence,
        skills=_skills(world, [*world.snapshot.skills, *task.skills], base=brief.base),
        amendments=_amendments(world, plan),
    )


def _shared(world: RunWorld, plan: Plan, brief: Brief) -> str:
    """The same bytes for all writing agents of a run: made by whoever comes first, then kept."""
    try:
        return world.store.get("prefix.md").decode()
    except NotFound:
        paths, read = _tree(world, brief.ours or brief.base)
        text = prompt.shared_prefix(
            world.snapshot, plan, guide=repomap.guide(paths, read), map=repomap.repo_map(paths, read)
        )
        world.store.put_new("first-plan.json", json.dumps(plan.dump()).encode())
        return world.store.put_new("prefix.md", legible(text).encode()).decode()


def _amendments(world: RunWorld, plan: Plan) -> list[str]:
    """Contracts that are not any more what the shared prefix says."""
    try:
        first = world.plan("first-plan.json")
    except NotFound:
        return []
    before = {c.id: c for c in first.contracts}
    return [render.contract(plan, c) for c in plan.contracts if before.get(c.id) != c]


def _tree(world: RunWorld, commit: str) -> tuple[list[str], Callable[[str], bytes]]:
    world.repo.ensure(commit)
    paths = [e.path for e in world.repo.list_tree(commit)]
    return paths, lambda path: world.repo.read(commit, path)


def _skills(world: RunWorld, names: list[str], base: str = "") -> list[Skill]:
    """Named skills; a repository's own come from `.swarmrun/skills/` of the base. Raises NotFound."""
    own: dict[str, Skill] = {}
    if base and names:
        paths, read = _tree(world, base)
        own = repository_skills(
            {p: read(p).decode("utf-8", "replace") for p in paths if p.startswith(FOLDER)}
        )
    return [skill(name, own) for name in dict.fromkeys(names)]


def _integrator(world: RunWorld, spec: RoleSpec, plan: Plan, brief: Brief) -> str:
    evidence = world.get(brief.evidence)
    conflicts = [
        briefs.Conflicted(c["path"], c["base"], c["ours"], c["theirs"]) for c in evidence["conflicts"]
    ]
    theirs = graph.task(plan, brief.other)
    touched = {c.path for c in conflicts}
    merged = _merged(world, brief.ours)
    ours = [t for t in plan.tasks if t.id != theirs.id and t.id in merged]
    keep = {c.path: _keep(c) for c in conflicts}
    return briefs.integrator_message(
        spec,
        ours=ours or [t for t in plan.tasks if t.id != theirs.id],
        theirs=theirs,
        conflicts=conflicts,
        resolved={
            r["path"]: f"{r['how']}: {r['note']}" for r in evidence["resolved"] if r["path"] not in touched
        },
        keep=keep,
    )


def _merged(world: RunWorld, integration: str) -> set[str]:
    """Tasks whose work is in the integration branch: their merge commits carry the trailer."""
    world.repo.ensure(integration)
    history = world.repo.commits(world.text(BASE), integration)
    return {trailers.parse(world.repo.message(c)).get(trailers.TASK, "") for c in history}


def _keep(conflict: briefs.Conflicted) -> list[str]:
    def names(text: str | None) -> set[str]:
        found = symbols(conflict.path, (text or "").encode())
        return {s.name for s in found if s.kind in ("function", "class", "method", "type")}

    return sorted(wanted(names(conflict.base), names(conflict.ours), names(conflict.theirs)))


def _fixer(world: RunWorld, spec: RoleSpec, brief: Brief) -> str:
    evidence = world.get(brief.evidence)
    return briefs.fixer_message(
        spec,
        complaints=[briefs.Complaint(**c) for c in evidence["complaints"]],
        gates=evidence["gates"],
        breaches=evidence["breaches"],
    )


def task_of(world: RunWorld, given: AgentRef, brief: Brief) -> Task | None:
    """The plan's task an agent works on; planner, integrator and fixer have none."""
    if given.role not in {r.value for r in Role}:
        return None
    return graph.task(world.plan(brief.plan), given.task)


def owned(world: RunWorld, given: Call) -> tuple[str, ...]:
    task = task_of(world, given, given.brief)
    return tuple(task.owned_paths) if task else ()
