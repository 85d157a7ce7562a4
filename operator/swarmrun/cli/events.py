"""What happened between two statuses, one plain line an event: a pure difference."""

from __future__ import annotations

from collections.abc import Iterator

from swarmrun.api.printable import one_line
from swarmrun.api.status import (
    AgentPhase,
    AgentStatus,
    GateStatus,
    Judgement,
    MergeHow,
    MergeStatus,
    SwarmRunStatus,
)
from swarmrun.cli import wording

RUN = "run"
"""Stands where a task's id would, for what concerns the whole run."""


def events(before: SwarmRunStatus | None, after: SwarmRunStatus) -> list[str]:
    """Lines without their time, `storage  Running  turn 3  exec pytest -q`; the first word is the task or `run`."""
    before = before or SwarmRunStatus()
    return [
        *_plan(before, after),
        *_agents(before, after),
        *_merges(before, after),
        *_gates(before, after),
        *_judgements(before, after),
        *(_line(RUN, "note", note) for note in after.notes if note not in before.notes),
        *_phase(before, after),
    ]


def _line(who: str, *parts: str) -> str:
    return "  ".join([one_line(who), *(one_line(p) for p in parts if p)])


def _phase(before: SwarmRunStatus, after: SwarmRunStatus) -> Iterator[str]:
    if after.isolation and after.isolation != before.isolation:
        yield _line(RUN, "isolation", after.isolation)
    if after.result and after.result.branch and (before.result is None or after.result != before.result):
        beside = (
            "beside the wanted branch, which holds somebody else's commits" if after.result.beside else ""
        )
        yield _line(
            RUN, "published", after.result.branch, after.result.commit[:12], beside, after.result.pull_request
        )
    ready, was = after.condition("Ready"), before.condition("Ready")
    reason = ready.reason if ready else ""
    if after.phase != before.phase or (ready and was and reason != was.reason):
        shown = reason if reason != after.phase.value else ""
        yield _line(RUN, after.phase.value, after.progress, shown, ready.message if ready else "")
    elif after.progress and after.progress != before.progress and before.progress:
        yield _line(RUN, after.phase.value, after.progress)


def _plan(before: SwarmRunStatus, after: SwarmRunStatus) -> Iterator[str]:
    if after.plan is None or (before.plan and before.plan.hash == after.plan.hash):
        return
    yield _line(RUN, "plan", wording.size(after.plan), after.plan.summary)
    known = before.plan.notes if before.plan else []
    yield from (_line(RUN, "plan mended", note) for note in wording.mended(after.plan) if note not in known)


def _agents(before: SwarmRunStatus, after: SwarmRunStatus) -> Iterator[str]:
    known = {a.task: a for a in before.agents}
    for agent in after.agents:
        was = known.get(agent.task)
        if was is None and agent.phase is AgentPhase.PENDING:
            continue
        if was is None or _told(was) != _told(agent):
            yield _agent(agent, was)


def _told(agent: AgentStatus) -> tuple[object, ...]:
    return (
        *(agent.phase, agent.attempts, agent.turns, agent.last_tool),
        *(agent.reason, agent.message, agent.verified),
    )


def _agent(agent: AgentStatus, was: AgentStatus | None) -> str:
    moving = agent.phase in (AgentPhase.STARTING, AgentPhase.RUNNING)
    unverified = "Unverified" if agent.verified is False and not moving else ""
    same = was is not None and (was.reason, was.message) == (agent.reason, agent.message)
    said = "" if moving and same else wording.why(agent, " ")
    return _line(
        agent.task,
        agent.phase.value,
        f"attempt {agent.attempts}" if agent.attempts > 1 else "",
        f"turn {agent.turns}" if agent.turns else "",
        agent.last_tool if moving else "",
        unverified,
        said,
    )


def _merges(before: SwarmRunStatus, after: SwarmRunStatus) -> Iterator[str]:
    known = {m.task: m for m in before.merges}
    for merge in after.merges:
        was = known.get(merge.task)
        refused = was.refused if was else []
        for reason in merge.refused:
            if reason not in refused:
                yield _line(merge.task, "refused", reason)
        if was is None or (was.how, was.commit) != (merge.how, merge.commit):
            yield _merge(merge)


def _merge(merge: MergeStatus) -> str:
    files = ", ".join(f"{f.path} ({f.how.value})" for f in merge.files[:5])
    more = f"and {len(merge.files) - 5} more" if len(merge.files) > 5 else ""
    word = "parked" if merge.how is MergeHow.PARKED else f"merged {merge.how.value}"
    return _line(merge.task, word, files, more, merge.reason)


def _gates(before: SwarmRunStatus, after: SwarmRunStatus) -> Iterator[str]:
    known = {g.name: g for g in before.gates}
    for gate in after.gates:
        if known.get(gate.name) != gate:
            yield _line(RUN, f"gate {gate.name}", gate_outcome(gate))


def gate_outcome(gate: GateStatus) -> str:
    """`passed`, `2 new failures: a, b`, with what the base had already."""
    new = f"{len(gate.new_failures)} new failure{'s' * (len(gate.new_failures) != 1)}"
    said = (
        "passed"
        if gate.passed
        else f"{new}: {', '.join(gate.new_failures[:3])}"
        if gate.new_failures
        else "failed"
    )
    if not gate.passed and not gate.new_failures and gate.message:
        said += f": {gate.message}"
    if gate.baseline_failures:
        said += f" ({len(gate.baseline_failures)} failed before: not counted)"
    if gate.flaky:
        said += f" ({len(gate.flaky)} flaky)"
    return said if gate.required else f"{said} (not required)"


def _judgements(before: SwarmRunStatus, after: SwarmRunStatus) -> Iterator[str]:
    known = {j.round: j for j in before.judgements}
    for judgement in after.judgements:
        if known.get(judgement.round) != judgement:
            yield _line(RUN, "judged", judgement_outcome(judgement))


def judgement_outcome(judgement: Judgement) -> str:
    """`43 (spread 6), capped by tests: models.py imports nothing`."""
    said = str(judgement.score)
    if judgement.spread:
        said += f" (spread {judgement.spread})"
    if judgement.capped_by:
        said += f", capped by {judgement.capped_by}"
    if not judgement.kept:
        said += ", worse than before: undone"
    return f"{said}: {'; '.join(judgement.complaints[:3])}" if judgement.complaints else said
