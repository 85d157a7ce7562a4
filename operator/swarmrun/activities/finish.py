"""An agent says it is done: code looks at what there is. One ending per kind of role."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from swarmrun.activities import briefs, checks
from swarmrun.activities.merging import message
from swarmrun.activities.planning import judge_plan
from swarmrun.activities.records import StoredResult, forget, key_of, store_result, stored_reply
from swarmrun.activities.sandboxes import load
from swarmrun.activities.saying import say_result
from swarmrun.activities.turns import take_checkpoint
from swarmrun.activities.world import AUTHOR, SCAFFOLD, RunWorld, as_bytes
from swarmrun.agents import guard, nudges
from swarmrun.agents.checks import FinishRequest, parse_finish, submitted_plan
from swarmrun.agents.finish import REFUSALS, Problem, from_findings, ordered, refusal
from swarmrun.agents.roles import RoleSpec, role
from swarmrun.api.base import legible, legible_data
from swarmrun.errors import NotFound, ToolRejected
from swarmrun.merging.guards import branch as branch_guards
from swarmrun.merging.guards import tree as tree_guards
from swarmrun.merging.plumbing import Repo
from swarmrun.planning.contracts import verify
from swarmrun.steps import Finish, Finished


@dataclass
class Look:
    """What code found in the work tree of an agent that says it is done."""

    checkpoint: str
    changed: list[str]
    problems: list[Problem] = field(default_factory=list[Problem])
    notes: list[str] = field(default_factory=list[str])
    """Escalations (`ownership: a.py`): told on the status, no reason to refuse."""
    others: list[str] = field(default_factory=list[str])
    """Changed paths that belong to other tasks."""


def finish(world: RunWorld, given: Finish) -> Finished:
    """What was found is stored before it is acted on: asked again in the same sandbox, where a refused resolution
    may be undone already, it is said again."""
    if given.role == "planner":
        return _planner(world, given)
    assert given.box is not None
    place = f"{key_of(given, given.turn).path()}/finish-{given.index}-g{given.box.generation}.json"
    if world.store.exists(place):
        found = Finished.model_validate(world.get(place))
    else:
        found = Finished.model_validate_json(
            world.store.put_new(place, as_bytes(legible_data(_look(world, given).model_dump(mode="json"))))
        )
    if given.role == "integrator" and not found.accepted and found.checkpoint == given.brief.base:
        # A refused resolution is undone: the conflicts stand again as they were.
        load(world, world.box(given.box), given.brief.base, "integration", head=given.brief.ours)
    return found


def _look(world: RunWorld, given: Finish) -> Finished:
    asked = _asked(world, given)
    if isinstance(asked, Finished):
        return asked
    spec = role(given.role)
    taken = take_checkpoint(world, given, since=given.since, what="finish")
    world.repo.ensure(taken.commit)
    changed = world.repo.changed_files(given.brief.base, taken.commit)
    look = Look(taken.commit, changed)
    if spec.must_write and guard.ends_without_work(spec, changed, task=given.task):
        _tell(world, given, nudges.empty_diff(spec), ok=False)
        if world.guards:
            return Finished(
                accepted=False, checkpoint=taken.commit, empty=True, problems=["the diff is empty"]
            )
    if world.guards:
        _inspector(given.role)(world, given, spec, look)
    left = ordered(look.problems)
    if left and not given.final:
        return _refuse(world, given, look, left)
    return _accept(world, given, asked, look, left)


def _asked(world: RunWorld, given: Finish) -> FinishRequest | Finished:
    """What it claims; a call that cannot be read is refused, without counting as work looked at."""
    if given.index < 0:
        return FinishRequest(summary="(it stopped calling tools and never finished)", contract_issues=[])
    call = stored_reply(world, key_of(given, given.turn)).call(given.index)
    try:
        return parse_finish(call)
    except ToolRejected as exc:
        _tell(world, given, str(exc), ok=False)
        if given.final:
            return FinishRequest(summary="(its last finish could not be read)", contract_issues=[])
        return Finished(accepted=False, problems=[str(exc)[:300]])


# ---------------------------------------------------------------- what is looked at

Inspector = Callable[[RunWorld, Finish, RoleSpec, Look], None]


def _inspector(name: str) -> Inspector:
    return {"integrator": _look_at_merge, "fixer": _look_at_fix, "researcher": _look_at_notes}.get(
        name, _look_at_task
    )


def _look_at_task(world: RunWorld, given: Finish, spec: RoleSpec, look: Look) -> None:
    """Guards, the task's contracts, its acceptance, the tests that touch its diff."""
    plan = world.plan(given.brief.plan)
    task = briefs.task_of(world, given, given.brief)
    assert task is not None
    repo = world.repo
    findings = branch_guards.check_branch(
        repo.path,
        given.brief.base,
        look.checkpoint,
        owned=task.owned_paths,
        role=given.role,
        scaffold=_scaffold(world),
        others={t.id: t.owned_paths for t in plan.tasks if t.id != task.id},
    )
    look.problems += from_findings(findings)
    look.notes += [f"{f.kind}: {f.path}" for f in findings if f.severity != "hard"]
    look.others = [f.path for f in findings if (f.kind, f.severity) == ("ownership", "hard")]
    paths = [e.path for e in repo.list_tree(look.checkpoint)]
    for breach in verify(plan, lambda p: repo.read(look.checkpoint, p), paths, only_task=task.id):
        look.problems.append(Problem("contract", f"{breach}. Expected: {breach.expected}"))
    if look.problems:
        return  # what does not parse or is a stub need not be run
    look.problems += checks.acceptance(world, given, task)
    look.problems += checks.affected_tests(world, given, look.checkpoint, look.changed)


def _look_at_merge(world: RunWorld, given: Finish, spec: RoleSpec, look: Look) -> None:
    repo, brief = world.repo, given.brief
    repo.ensure(brief.ours)
    repo.ensure(brief.theirs)
    conflicts = [c["path"] for c in world.get(brief.evidence)["conflicts"]]
    findings = [
        *branch_guards.locked_changed(repo.path, brief.base, look.checkpoint, conflicts),
        *(
            f
            for f in tree_guards.check(repo.path, look.checkpoint, ours=brief.ours, theirs=brief.theirs)
            if f.path in conflicts
        ),
    ]
    look.problems += from_findings(findings)
    look.notes += [f"{f.kind}: {f.path}" for f in findings if f.severity != "hard"]


def _look_at_fix(world: RunWorld, given: Finish, spec: RoleSpec, look: Look) -> None:
    findings = branch_guards.check_round(world.repo.path, given.brief.base, look.checkpoint)
    look.problems += from_findings(findings)
    look.notes += [f"{f.kind}: {f.path}" for f in findings if f.severity != "hard"]


def _look_at_notes(world: RunWorld, given: Finish, spec: RoleSpec, look: Look) -> None:
    """That there are notes was looked at before; a researcher leaves nothing else that could be wrong."""


def _scaffold(world: RunWorld) -> str | None:
    try:
        commit = world.text(SCAFFOLD)
    except NotFound:
        return None
    world.repo.ensure(commit)
    return commit


# ---------------------------------------------------------------- how it ends


def _refuse(world: RunWorld, given: Finish, look: Look, left: list[Problem]) -> Finished:
    left_after = max(0, REFUSALS - given.refusals - 2)  # the last one is not refused: it ends the task
    undone = given.role == "integrator"
    _tell(world, given, refusal(left, refusals_left=left_after, undone=undone), ok=False)
    checkpoint = given.brief.base if undone else look.checkpoint
    return Finished(accepted=False, checkpoint=checkpoint, problems=[p.head[:300] for p in left])


def _accept(
    world: RunWorld, given: Finish, asked: FinishRequest, look: Look, left: list[Problem]
) -> Finished:
    commit = look.checkpoint
    if given.role != "researcher":
        commit = _commit(world, given, _own_tree(world, given, look), asked.summary)
    summary = _summary(world, given, asked, look)
    _tell(world, given, "Finished.", ok=True)
    forget(world, given)
    return Finished(
        accepted=True,
        commit=commit,
        checkpoint=look.checkpoint,
        verified=world.guards and not left,
        problems=[*_left_out(look), *(p.head[:300] for p in left)] or [n[:300] for n in look.notes],
        summary=summary,
        blocked=asked.blocked,
        contract_issues=asked.contract_issues,
    )


def _own_tree(world: RunWorld, given: Finish, look: Look) -> str:
    """What the agent made, without its changes to other tasks' paths: it was told thrice to take them back, and what
    goes on unverified still is no way into the work of others."""
    tree = world.repo.tree_of(look.checkpoint)
    if not look.others:
        return tree
    repo = Repo(world.repo.path)
    before = repo.entries(given.brief.base, look.others)
    # Removals first: a file may stand where a directory was.
    return repo.write_tree(tree, {**dict.fromkeys(look.others), **before})


def _left_out(look: Look) -> list[str]:
    return (
        [f"Left out, since they belong to other tasks: {', '.join(look.others)}"[:300]] if look.others else []
    )


def _commit(world: RunWorld, given: Finish, tree: str, summary: str) -> str:
    """One commit for all of an attempt's turns; a merge commit for the integrator."""
    repo, brief = world.repo, given.brief
    parents = [brief.base]
    subject = given.task
    if given.role == "integrator":
        parents, subject = [brief.ours, brief.theirs], f"Merge task {brief.other}, conflicts resolved"
    else:
        task = briefs.task_of(world, given, brief)
        subject = task.title if task else f"Fix: {given.task}"
        if tree == repo.tree_of(brief.base):
            return brief.base
    body = "\n".join(line.rstrip() for line in summary.strip().splitlines())[:2000]
    commit = repo.commit_tree(
        tree,
        parents,
        message(world, f"{subject.strip()}\n\n{body}", brief.other or given.task),
        AUTHOR,
        world.date(f"{given.task}-{given.attempt}"),
    )
    repo.record(commit, parents[0])
    return commit


def _summary(world: RunWorld, given: Finish, asked: FinishRequest, look: Look) -> str:
    """For the dependants: what it says, or a researcher's notes as they stand in its tree."""
    text = asked.summary
    if given.role == "researcher":
        notes = world.repo.read_many(look.checkpoint, look.changed)
        text += "".join(f"\n\n## {p}\n{b.decode('utf-8', 'replace')}" for p, b in notes.items())
    return world.store.put(f"summaries/{given.task}-{given.attempt}.md", legible(text).encode())


def _tell(world: RunWorld, given: Finish, text: str, *, ok: bool) -> None:
    if given.index < 0:
        return
    key = key_of(given, given.turn)
    call = stored_reply(world, key).call(given.index)
    stored = store_result(
        world,
        key,
        given.index,
        StoredResult(call_id=call.call_id, name=call.name, text=text, ok=ok, preview=call.name),
    )
    say_result(world, given.box, call, stored)


# ---------------------------------------------------------------- planner


def _planner(world: RunWorld, given: Finish) -> Finished:
    if given.index < 0:
        return Finished(accepted=False, problems=["no plan was submitted"])
    call = stored_reply(world, key_of(given, given.turn)).call(given.index)
    try:
        raw = submitted_plan(call)
    except ToolRejected as exc:
        _tell(world, given, str(exc), ok=False)
        return Finished(accepted=False, problems=[str(exc)[:300]])
    brief = given.brief
    plan = judge_plan(world, raw, base=brief.base, kept_key=brief.plan, kept=brief.kept)
    if isinstance(plan, list):
        text = "The plan was refused:\n" + "\n".join(f"- {e}" for e in plan)
        _tell(
            world,
            given,
            text + "\nNext: mend these and call submit_plan again with the whole plan.",
            ok=False,
        )
        return Finished(accepted=False, problems=[e[:300] for e in plan])
    _tell(world, given, "The plan was accepted.", ok=True)
    forget(world, given)
    return Finished(accepted=True, verified=True, plan=plan)
