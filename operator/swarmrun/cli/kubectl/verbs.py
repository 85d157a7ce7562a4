"""What each word to a run writes on its resource, and when it makes no sense. Pure.

Annotations are written and never the spec: under GitOps a spec would be put back (see `api.annotations`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches

from swarmrun.api.annotations import APPROVE, ATTEMPT, CANCEL, REJECT, RERUN_FROM, RESUME, SUSPEND
from swarmrun.api.run import SwarmRun
from swarmrun.api.status import SwarmRunStatus
from swarmrun.cli.dag import plan_text
from swarmrun.cli.events import gate_outcome
from swarmrun.cli.summary import verdict
from swarmrun.cli.typed import named
from swarmrun.controller.wanted import instance_of, wanted
from swarmrun.errors import Conflict, InvalidResource, NotFound

AWAITED = {"plan": "AwaitingPlanApproval", "publish": "AwaitingPublishApproval"}
PLACES = ("plan", "work", "judge", "publish")
"""Where a run may begin again, besides `task/<id>`."""


@dataclass(frozen=True)
class Word:
    annotations: dict[str, str | None]
    """None removes."""
    told: str
    """What was written, for who wrote it."""
    heard: Callable[[SwarmRunStatus], bool]
    """Whether a status shows that the run has taken it in."""


def approve(run: SwarmRun, what: str) -> Word:
    """Raises Conflict where nothing waits for it, as all of these do where they make no sense."""
    bound = _waits(run, what)
    # A rejection of before, of something else, would be the last word.
    stale = [REJECT[what]] if REJECT[what] in run.metadata.annotations else []
    return Word(
        {APPROVE[what]: bound, **dict.fromkeys(stale)},
        f"{what} {bound[:12]} approved",
        lambda status: reason(status) != AWAITED[what],
    )


def reject(run: SwarmRun, what: str, why: str) -> Word:
    bound = _waits(run, what)
    return Word(
        {REJECT[what]: f"{bound} {' '.join(why.split())}".strip()},
        f"{what} {bound[:12]} rejected",
        lambda status: status.phase.terminal,
    )


def cancel(run: SwarmRun, why: str) -> Word:
    _at_work(run)
    if wanted(run).cancelled is not None:
        raise Conflict(f"{run.metadata.name} is being cancelled already", reason="AlreadyCancelled")
    return Word({CANCEL: why}, "cancelled", lambda status: status.phase.terminal)


def suspend(run: SwarmRun, now: datetime) -> Word:
    _at_work(run)
    if wanted(run).suspended:
        raise Conflict(f"{run.metadata.name} is suspended already", reason="AlreadySuspended")
    return Word(
        {SUSPEND: now.isoformat()},
        f"suspended; `swarmrun resume {named(run.metadata.name, run.metadata.namespace)}` goes on",
        lambda status: reason(status) == "Suspended" or status.phase.terminal,
    )


def resume(run: SwarmRun, now: datetime) -> Word:
    _at_work(run)
    if run.spec.suspend:
        raise Conflict(
            f"{run.metadata.name} is suspended by its spec",
            mend="set spec.suspend to false where the resource is kept (an annotation does not win over it)",
            reason="SuspendedBySpec",
        )
    if not wanted(run).suspended:
        raise Conflict(f"{run.metadata.name} is not suspended", reason="NotSuspended")
    # The later of the two counts; the other clock may be ahead of ours.
    after = _time(run.metadata.annotations[SUSPEND]) + timedelta(seconds=1)
    return Word(
        {RESUME: max(now, after).isoformat()},
        "resumed",
        lambda status: reason(status) != "Suspended",
    )


def rerun(run: SwarmRun, start: str) -> Word:
    """`start`: one of `PLACES`, or `task/<id>`. Raises NotFound (no such task) and InvalidResource besides."""
    status, notes = _status(run), run.metadata.annotations
    name, asked = run.metadata.name, wanted(run)
    _check_place(run, start)
    if not status.phase.terminal:
        raise Conflict(
            f"{name} has not ended: {verdict(status)}",
            mend=f"swarmrun cancel {named(name, run.metadata.namespace)}",
            reason="StillRunning",
        )
    if status.run and status.run != instance_of(run.metadata.uid, asked.attempt):
        raise Conflict(f"attempt {asked.attempt} of {name} is asked for already", reason="AlreadyAsked")
    if run.spec.cancel:
        raise Conflict(
            f"{name} is cancelled by its spec, for good",
            mend="make another resource",
            reason="CancelledBySpec",
        )
    # What was said to the last attempt must not end the next one at once.
    stale = [a for a in (CANCEL, SUSPEND, RESUME, *REJECT.values()) if a in notes]
    following = instance_of(run.metadata.uid, asked.attempt + 1)
    return Word(
        {ATTEMPT: str(asked.attempt + 1), RERUN_FROM: start, **dict.fromkeys(stale)},
        f"attempt {asked.attempt + 1}, from {start}",
        lambda now: now.run == following,
    )


def question(run: SwarmRun, what: str) -> str:
    """What an approval lets go on."""
    status = _status(run)
    if what == "plan" and status.plan is not None:
        return plan_text(status.plan)
    lines = [verdict(status), *(f"gate {g.name}: {gate_outcome(g)}" for g in status.gates)]
    if status.result:
        lines.append(f"commit {status.result.commit}, onto {status.result.base_commit[:12]}")
    lines.append(f"its diff: swarmrun diff {named(run.metadata.name, run.metadata.namespace)}")
    return "\n".join(lines)


def reason(status: SwarmRunStatus) -> str:
    ready = status.condition("Ready")
    return ready.reason if ready else ""


# ------------------------------------------------------------


def _status(run: SwarmRun) -> SwarmRunStatus:
    return run.status or SwarmRunStatus()


def _at_work(run: SwarmRun) -> None:
    status = _status(run)
    if status.phase.terminal:
        raise Conflict(f"{run.metadata.name} has ended: {verdict(status)}", reason="HasEnded")


def _waits(run: SwarmRun, what: str) -> str:
    """The hash of the plan, or the commit, that waits."""
    _at_work(run)
    status, name = _status(run), named(run.metadata.name, run.metadata.namespace)
    now = reason(status)
    if now == "Suspended":
        raise Conflict(
            f"{run.metadata.name} is suspended", mend=f"swarmrun resume {name}", reason="Suspended"
        )
    if now != AWAITED[what]:
        other = next((w for w, r in AWAITED.items() if r == now), "")
        waits = f"its {other} waits" if other else f"it is at {verdict(status)}"
        mend = f"swarmrun approve {name} {other}" if other else f"swarmrun wait {name}"
        raise Conflict(
            f"nothing waits for an answer about the {what} of {run.metadata.name}: {waits}",
            mend=mend,
            reason="NothingWaits",
        )
    bound = (
        (status.plan.hash if status.plan else "")
        if what == "plan"
        else (status.result.commit if status.result else "")
    )
    if not bound:
        raise Conflict(
            f"the status of {run.metadata.name} does not name the {what} that waits", mend="try again"
        )
    return bound


def _check_place(run: SwarmRun, start: str) -> None:
    kind, _, task = start.partition("/")
    if kind != "task" or not task:
        if start not in PLACES:
            raise InvalidResource(
                f"--from {start!r}", mend=f"one of {', '.join(PLACES)}, task/ID", field="--from"
            )
        return
    plan = _status(run).plan
    ids = [t.id for t in plan.tasks] if plan else []
    if task not in ids:
        near = get_close_matches(task, ids, 1)
        mend = f"did you mean {near[0]}?" if near else f"known: {', '.join(ids) or 'none'}"
        raise NotFound(f"the plan of {run.metadata.name} has no task {task!r}", mend=mend)


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return time if time.tzinfo else time.replace(tzinfo=UTC)
