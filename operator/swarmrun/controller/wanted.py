"""What a resource asks of its run, and which words must be said to the run for it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from swarmrun.api.annotations import APPROVE, ATTEMPT, CANCEL, MIN_BOUND, REJECT, RERUN_FROM, RESUME, SUSPEND
from swarmrun.api.run import SwarmRun
from swarmrun.errors import InvalidResource
from swarmrun.orchestration.rerun import check_point
from swarmrun.report import RunReport

Mail = dict[str, Any]

_INSTANCE = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-([0-9]{1,4})")
_MAX_ATTEMPT = 9999


def instance_of(uid: str, attempt: int) -> str:
    """The orchestration's id."""
    return f"{uid}-{attempt}"


def uid_of(instance: str) -> str:
    """The resource whose run this is; empty for what is no run of a resource (an agent, a stranger's)."""
    found = _INSTANCE.fullmatch(instance)
    return found[1] if found else ""


def number_of(instance: str) -> int:
    """Of the attempt."""
    return int(instance.rpartition("-")[2])


@dataclass(frozen=True)
class Answer:
    """An approval or rejection of one plan or commit."""

    kind: str
    what: str
    bound: str
    reason: str = ""


@dataclass(frozen=True)
class Wanted:
    attempt: int = 1
    rerun_from: str = ""
    """Where this attempt begins; empty: at the beginning."""
    cancelled: str | None = None
    """The reason, possibly empty; None: not cancelled."""
    suspended: bool = False
    answers: tuple[Answer, ...] = ()


def wanted(run: SwarmRun, *, attempt: int = 0) -> Wanted:
    """Raises InvalidResource for an annotation that cannot be read. `attempt`: the one at work, whatever is asked."""
    notes = run.metadata.annotations
    cancelled = notes.get(CANCEL)
    if cancelled is None and run.spec.cancel:
        cancelled = ""
    asked = attempt or _attempt(notes.get(ATTEMPT, "1"))
    return Wanted(
        attempt=asked,
        rerun_from="" if attempt else _rerun_from(notes.get(RERUN_FROM, ""), asked),
        cancelled=cancelled,
        suspended=run.spec.suspend or _suspended(notes),
        answers=tuple(_answers(notes)),
    )


def _attempt(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _MAX_ATTEMPT:
        raise InvalidResource(
            f"annotation {ATTEMPT} is {text!r}, which is no attempt",
            field=f"metadata.annotations[{ATTEMPT}]",
            mend=f"a whole number from 1 to {_MAX_ATTEMPT}",
            reason="InvalidAnnotation",
        )
    return int(text)


RERUN_FIELD = f"metadata.annotations[{RERUN_FROM}]"


def _rerun_from(point: str, attempt: int) -> str:
    if not point:
        return ""
    if attempt < 2:
        raise InvalidResource(
            f"annotation {RERUN_FROM} is {point!r}, but this is the first attempt",
            field=RERUN_FIELD,
            mend=f"set {ATTEMPT} as well: 2 goes on from what the first one has made",
        )
    return check_point(point, RERUN_FIELD)


def _suspended(notes: dict[str, str]) -> bool:
    if SUSPEND not in notes or notes[SUSPEND] == "false":
        return False
    return RESUME not in notes or _time(notes[RESUME]) <= _time(notes[SUSPEND])


def _time(text: str) -> datetime:
    """Long ago where it is no time: then `suspend` wins."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _answers(notes: dict[str, str]) -> list[Answer]:
    """Rejections come last: where both stand, the last word counts."""
    found = [Answer("approve", what, notes[a].strip()) for what, a in APPROVE.items() if a in notes]
    for what, annotation in REJECT.items():
        bound, _, reason = notes.get(annotation, "").strip().partition(" ")
        if bound:
            found.append(Answer("reject", what, bound, reason.strip()))
    return found


@dataclass
class Said:
    """What this process has told a run. A process that starts anew may say things twice: harmless."""

    suspended: bool | None = None
    words: set[tuple[str, ...]] = field(default_factory=set[tuple[str, ...]])


def words(asked: Wanted, report: RunReport, said: Said) -> list[Mail]:
    """The mail to be sent now. Marks it as said, so call it only when it will be."""
    mails: list[Mail] = []
    if asked.cancelled is not None and ("cancel",) not in said.words:
        said.words.add(("cancel",))
        mails.append({"kind": "cancel", "message": asked.cancelled or "cancelled on the resource"})
    before = report.suspended if said.suspended is None else said.suspended
    if asked.suspended != before:
        mails.append({"kind": "suspend" if asked.suspended else "resume"})
    said.suspended = asked.suspended
    for answer in asked.answers:
        bound = awaited(answer, report)
        word = (answer.kind, answer.what, bound)
        if bound and word not in said.words:
            said.words.add(word)
            mails.append({"kind": answer.kind, "what": answer.what, "bound": bound, "reason": answer.reason})
    return mails


def awaited(answer: Answer, report: RunReport) -> str:
    """What the run waits for an answer to, in full, when this answer names it; else empty."""
    if report.waiting_for != answer.what or len(answer.bound) < MIN_BOUND:
        return ""
    now = _waits(report)
    return now if now.startswith(answer.bound) else ""


def misses(asked: Wanted, report: RunReport) -> str:
    """What a person is told whose answer names something else than what waits; empty where none does."""
    answers = [a for a in asked.answers if a.what == report.waiting_for]
    if not answers or any(awaited(a, report) for a in answers):
        return ""
    return f"the {answers[-1].kind} annotation names another {report.waiting_for}; {_waits(report)} waits"


def _waits(report: RunReport) -> str:
    return report.plan.hash if report.waiting_for == "plan" and report.plan else report.integration
