"""What a later attempt takes over from the one before it: its stand and its report, cut back to a named point. Pure.

| from | kept | done again |
| --- | --- | --- |
| `plan` | base commit | everything else |
| `work` | plan, scaffold | all tasks, judge, fixes |
| `task/<id>` | what is merged | the task, what depends on it, and what is not merged; judge, fixes |
| `judge` | all work, with its fixes | gates, judge, fixes |
| `publish` | all work and its judgement | publishing |
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError

from swarmrun.api.status import AgentPhase, AgentStatus
from swarmrun.errors import InvalidResource
from swarmrun.orchestration.board import PLANNER_CALLS_FOR_CONTRACTS
from swarmrun.orchestration.inputs import RunInput
from swarmrun.orchestration.stand import BoardStand, ItemStand, Stage, Stand
from swarmrun.report import AgentRecord, RunReport

PHASES = ("plan", "work", "judge", "publish")
TASK = "task/"
_NEEDS: dict[str, tuple[Stage, str]] = {
    "work": ("working", "had a plan and its scaffold"),
    "task": ("working", "had a plan and its scaffold"),
    "judge": ("judging", "had finished its tasks"),
    "publish": ("publishing", "had judged its result"),
}


def check_point(point: str, field: str) -> str:
    """Raises InvalidResource for what is no point of any run."""
    if point not in PHASES and not re.fullmatch(rf"{TASK}\S+", point):
        raise InvalidResource(
            f"{field} is {point!r}, which is no point to begin from",
            field=field,
            mend=f"one of {', '.join(PHASES)}, or {TASK}<id>",
        )
    return point


def taking_over(given: RunInput, before: RunReport, point: str, field: str) -> RunInput:
    """`given` with what the attempt `before` has made.

    Raises InvalidResource, naming `field`, where that attempt never came to this point.
    """
    check_point(point, field)
    try:
        stand = Stand.model_validate(before.stand or {})
    except ValidationError:
        stand = Stand()
    kind, _, task = point.partition("/")
    if stand.preflight is None:
        raise _not_reached(before, point, "had found its base commit", field)
    if kind in _NEEDS:
        stage, what = _NEEDS[kind]
        if not stand.reached(stage) or stand.board is None:
            raise _not_reached(before, point, what, field)
    next_stand, report = _from(stand, before, kind, task, field)
    return given.model_copy(
        update={
            "stand": next_stand.model_dump(mode="json", exclude_defaults=True),
            "report": report.model_dump(mode="json", exclude_defaults=True),
            "earlier": before.run,
            "anew": True,
        }
    )


def _not_reached(before: RunReport, point: str, what: str, field: str) -> InvalidResource:
    return InvalidResource(
        f"nothing can begin from {point!r}: the attempt before this one ended {before.reason or 'early'} "
        f"before it {what}",
        field=field,
        reason="PointNotReached",
        mend="name an earlier point, or none to begin afresh",
    )


def _from(stand: Stand, before: RunReport, kind: str, task: str, field: str) -> tuple[Stand, RunReport]:
    assert stand.preflight
    base = stand.preflight.base_commit
    report = RunReport(
        run="", name=before.name, base_branch=before.base_branch, base_commit=base, isolation=before.isolation
    )
    if kind == "plan":
        return Stand(stage="planning", preflight=stand.preflight, integration=base), report
    assert stand.board
    report.plan = before.plan
    # Gates of the base and, where they are not run again, of the result.
    report.gates = before.gates
    next_stand = Stand(
        stage="working",
        preflight=stand.preflight,
        integration=stand.scaffold,
        scaffold=stand.scaffold,
        plan=stand.plan,
    )
    if kind == "work":
        next_stand.board = _board([_blank(item) for item in stand.board.items], stand.scaffold)
        report.agents = [_pending(item, before) for item in stand.board.items]
        return next_stand, report
    if kind == "task":
        _cut_tasks(next_stand, stand, before, task, field)
    else:
        next_stand.stage = "judging" if kind == "judge" else "publishing"
        next_stand.integration = next_stand.judged_from = stand.integration
        next_stand.board = stand.board
        next_stand.board.ground = stand.integration
    assert next_stand.board
    states = {item.ref.id: item for item in next_stand.board.items}
    report.agents = [
        _pending(item, before) if item.state == "waiting" else _kept(item, before)
        for item in next_stand.board.items
    ]
    report.merges = [m for m in before.merges if m.task in states and states[m.task].state == "merged"]
    if kind == "publish":
        next_stand.verdict = stand.verdict
        report.judgements, report.score = before.judgements, before.score
        report.merges = before.merges
    return next_stand, report


def _board(items: list[ItemStand], ground: str) -> BoardStand:
    return BoardStand(items=items, ground=ground, planner_calls=PLANNER_CALLS_FOR_CONTRACTS)


def _blank(item: ItemStand) -> ItemStand:
    return ItemStand(ref=item.ref)


def _cut_tasks(next_stand: Stand, stand: Stand, before: RunReport, task: str, field: str) -> None:
    """The integration branch goes back to where the first of the tasks that are done again came in; what came
    later and stays is merged again."""
    assert stand.board
    items = {item.ref.id: item for item in stand.board.items}
    if task not in items:
        raise InvalidResource(
            f"the plan of the attempt before this one has no task {task!r}",
            field=field,
            reason="UnknownTask",
            mend=f"one of {', '.join(sorted(items))}",
        )
    again = dependants({i: item.ref.depends_on for i, item in items.items()}, task)
    again |= {i for i, item in items.items() if item.state not in ("merged", "finished", "merging")}
    landed = [m for m in before.merges if m.commit and m.task in items and items[m.task].state == "merged"]
    taken_back = next((n for n, m in enumerate(landed) if m.task in again), None)
    if taken_back is None:
        ground = stand.integration if stand.reached("judging") else stand.board.ground
        late: set[str] = set()
    else:
        ground = landed[taken_back - 1].commit if taken_back else stand.scaffold
        late = {m.task for m in landed[taken_back:]} - again
    kept: list[ItemStand] = []
    for i, item in items.items():
        if i in again:
            kept.append(_blank(item))
        elif i in late or item.state == "merging":
            kept.append(item.model_copy(update={"state": "finished"}))
        else:
            kept.append(item)
    next_stand.integration = ground
    next_stand.board = _board(kept, ground)


def dependants(needs: dict[str, list[str]], task: str) -> set[str]:
    """The task, and all that cannot be without it."""
    found, size = {task}, 0
    while len(found) != size:
        size = len(found)
        found |= {i for i, needed in needs.items() if found & set(needed)}
    return found


# ---------------------------------------------------------------- what is shown of the tasks


def _pending(item: ItemStand, before: RunReport) -> AgentRecord:
    role, branch = item.ref.role.value, _record(item, before).status.branch
    return AgentRecord(status=AgentStatus(task=item.ref.id, role=role, branch=branch))


def _kept(item: ItemStand, before: RunReport) -> AgentRecord:
    """With its numbers; what it used was paid by the attempt that it worked in."""
    record = _record(item, before)
    phase = AgentPhase.FINISHED if item.state == "finished" else record.status.phase
    return AgentRecord(status=record.status.model_copy(update={"phase": phase}))


def _record(item: ItemStand, before: RunReport) -> AgentRecord:
    try:
        return before.agent(item.ref.id)
    except KeyError:
        return AgentRecord(status=AgentStatus(task=item.ref.id, role=item.ref.role.value))


# ---------------------------------------------------------------- what must be copied


def artifacts(stand: Stand) -> list[str]:
    """Keys, beside commits, that a stand names."""
    keys = [stand.plan] if stand.plan else []
    for item in stand.board.items if stand.board else []:
        keys += [item.summary] if item.summary else []
    return list(dict.fromkeys(keys))


def commits(stand: Stand) -> list[str]:
    """All that a stand names, the base first."""
    assert stand.preflight
    found = [stand.preflight.base_commit, stand.scaffold, stand.integration, stand.judged_from]
    for item in stand.board.items if stand.board else []:
        found += [item.head, item.base]
    if stand.board:
        found.append(stand.board.ground)
    return [commit for commit in dict.fromkeys(found) if commit]


def by_hand(report: RunReport, task: str, head: str, commit: str) -> dict[str, Any] | None:
    """The report's stand once a person has merged a task's branch; the integration branch is at `commit`."""
    if report.stand is None:
        return None
    stand = Stand.model_validate(report.stand)
    stand.integration = commit
    if stand.board:
        stand.board.ground = commit
        for item in stand.board.items:
            if item.ref.id == task:
                item.state, item.head = "merged", head
    return stand.model_dump(mode="json", exclude_defaults=True)
