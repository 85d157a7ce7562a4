"""What a person would want to see as an Event: the difference of two statuses. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from swarmrun.api.base import clip
from swarmrun.api.status import AgentPhase, AgentStatus, MergeHow, Phase, SwarmRunStatus

_BAD = (AgentPhase.FAILED, AgentPhase.PARKED)
_TOLD = (AgentPhase.RUNNING, AgentPhase.FINISHED, AgentPhase.FAILED, AgentPhase.SKIPPED)
"""Phases of an agent that make an Event; merges have their own."""

_MET = re.compile(r"(\S+): (?:attempt (\d+) ended|sandbox \d+(?: of attempt \d+)? was lost)")
"""Notes of the orchestration (`again_or_failed`, `lost_or_raise`) that make an Event. What matches is the note's key:
its rest may be clipped. Runs of before the attempt was named have it without."""


@dataclass(frozen=True)
class Happening:
    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def happenings(before: SwarmRunStatus, after: SwarmRunStatus) -> list[Happening]:
    return [
        *_plan(before, after),
        *_met(before, after),
        *_agents(before, after),
        *_merges(before, after),
        *_judged(before, after),
        *_run(before, after),
        *_in_vain(before, after),
    ]


def _run(before: SwarmRunStatus, after: SwarmRunStatus) -> Iterator[Happening]:
    ready, was = after.condition("Ready"), before.condition("Ready")
    if ready is None or (was and (before.phase, was.reason) == (after.phase, ready.reason)):
        return
    bad = after.phase is Phase.FAILED or ready.reason in ("EngineUnreachable", "SwarmClassNotFound")
    said = ready.message or after.phase.value
    if after.phase is Phase.SUCCEEDED and after.result and after.result.branch:
        said = f"{after.result.branch} is {after.result.commit[:12]}. {ready.message}"
    yield _happening("Warning" if bad else "Normal", ready.reason or after.phase.value, said)


def _in_vain(before: SwarmRunStatus, after: SwarmRunStatus) -> Iterator[Happening]:
    """What is asked of an ended run, and cannot be done."""
    stalled, was, ready = after.condition("Stalled"), before.condition("Stalled"), after.condition("Ready")
    if stalled is None or was is None or ready is None or not before.phase.terminal:
        return
    if stalled.status == "True" and stalled.reason not in (ready.reason, was.reason):
        yield _happening("Warning", stalled.reason, stalled.message)


def _plan(before: SwarmRunStatus, after: SwarmRunStatus) -> Iterator[Happening]:
    plan = after.plan
    if plan and (before.plan is None or before.plan.hash != plan.hash):
        what = "one agent" if plan.solo else f"{len(plan.tasks)} tasks, {len(plan.contracts)} contracts"
        yield _happening("Normal", "Planned", f"{what}: {plan.summary}")


def _agents(before: SwarmRunStatus, after: SwarmRunStatus) -> Iterator[Happening]:
    known = {a.task: a for a in before.agents}
    for agent in after.agents:
        was = known.get(agent.task)
        if agent.phase not in _TOLD or (was and (was.phase, was.attempts) == (agent.phase, agent.attempts)):
            continue
        attempt = f" (attempt {agent.attempts})" if agent.attempts > 1 else ""
        said = f"{agent.task}{attempt}: {agent.message or agent.reason or agent.role}"
        if agent.phase is AgentPhase.FAILED:
            # In the words of the note that a status shows instead when the next attempt was quick (`_met`).
            said = f"{agent.task}: attempt {max(agent.attempts, 1)} ended {_why(agent)}"
        yield _happening("Warning" if agent.phase in _BAD else "Normal", f"Agent{agent.phase.value}", said)


def _why(agent: AgentStatus) -> str:
    known = agent.reason and agent.message.startswith(f"{agent.reason}: ")
    return agent.message if known else ": ".join(filter(None, (agent.reason, agent.message)))


def _met(before: SwarmRunStatus, after: SwarmRunStatus) -> Iterator[Happening]:
    """What an agent got over. A failed attempt is mostly followed by the next one before a status shows it."""
    known = {found[0] for note in before.notes if (found := _MET.match(note))}
    shown = {(a.task, str(a.attempts)) for a in before.agents if a.phase is AgentPhase.FAILED}
    for note in after.notes:
        found = _MET.match(note)
        if found and found[0] not in known and (found[1], found[2]) not in shown:
            yield _happening("Warning", "AgentFailed" if found[2] else "SandboxLost", note)


def _merges(before: SwarmRunStatus, after: SwarmRunStatus) -> Iterator[Happening]:
    known = {m.task: (m.how, m.commit) for m in before.merges}
    for merge in after.merges:
        if known.get(merge.task) == (merge.how, merge.commit):
            continue
        parked = merge.how is MergeHow.PARKED
        files = ", ".join(f"{f.path} ({f.how.value})" for f in merge.files[:5])
        said = f"{merge.task}: {merge.how.value}" + (f", {files}" if files else "")
        yield _happening(
            "Warning" if parked else "Normal",
            "Parked" if parked else "Merged",
            f"{said}: {merge.reason}" if merge.reason else said,
        )


def _judged(before: SwarmRunStatus, after: SwarmRunStatus) -> Iterator[Happening]:
    known = {j.round for j in before.judgements}
    for judgement in after.judgements:
        if judgement.round not in known:
            capped = f", capped by {judgement.capped_by}" if judgement.capped_by else ""
            complaints = "; ".join(judgement.complaints[:2])
            yield _happening("Normal", "Judged", f"{judgement.score}{capped}. {complaints}".strip())


def _happening(kind: Literal["Normal", "Warning"], reason: str, message: str) -> Happening:
    # An Event takes 1024 bytes.
    return Happening(kind, clip(reason, 100), clip(message or reason, 500))
