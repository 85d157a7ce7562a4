"""What a step's result says in a line or two, for whoever looks at the engine's histories. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel

from swarmrun import steps
from swarmrun.steps import RunRef


def of_output(given: RunRef, said: BaseModel) -> str:
    """Not yet cut to size, nor looked through for secrets."""
    match said:
        case steps.Preflight():
            known = f"; published already as {said.already_published[:12]}" if said.already_published else ""
            return f"{said.base_branch} at {said.base_commit[:12]}{', empty' if said.empty else ''}{known}"
        case steps.Ensured():
            return " ".join(filter(None, (said.phase, said.isolation, said.reason, said.message)))
        case steps.Prepared():
            return f"holds {said.commit[:12]}"
        case steps.BaselineDone():
            return _gates(said.gates) or "no gates"
        case steps.AcceptedPlan():
            return _plan(said)
        case steps.Scaffolded():
            return _lines(f"scaffold {said.commit[:12]}", said.errors)
        case steps.Amended():
            return f"{said.outcome}: {said.news}"
        case steps.TurnDone():
            return _turn(said)
        case steps.Called():
            return f"{said.preview}\n{'' if said.ok else 'error: '}{said.told}"
        case steps.CheckpointTaken():
            return f"checkpoint {said.commit[:12]}" if said.changed else "nothing changed"
        case steps.Finished():
            return _finished(said)
        case steps.Ordered():
            return f"order: {', '.join(said.tasks)}"
        case steps.Merged():
            what = (
                f"{said.how}: {said.commit[:12]}"
                if said.commit
                else f"conflicts: {', '.join(said.conflicts)}"
            )
            return _lines(what, [*(f"{f.path}: {f.how.value}" for f in said.files), *said.findings])
        case steps.GatesRun():
            return _lines(_gates(said.gates) or "no gates", said.breaches)
        case steps.BatchChecked():
            return f"red: {said.summary}" if said.red else "green"
        case steps.Sampled():
            return said.told
        case steps.Tallied():
            judged = said.judgement
            return _lines(f"score {judged.score}, open: {', '.join(said.open) or 'none'}", judged.complaints)
        case steps.Saved():
            return said.artifact
        case steps.PublishDone():
            return " ".join(filter(None, (said.branch, said.commit[:12], said.pull_request, said.message)))
        case _:
            return "done"


def _turn(said: steps.TurnDone) -> str:
    used = said.usage
    cost = f", ${used.cost}" if used.cost else ""
    paid = "replayed" if said.replayed else f"{used.input} in ({used.cached} cached), {used.output} out{cost}"
    return _lines(said.text, [*(c.preview or c.name for c in said.calls), paid])


def _finished(said: steps.Finished) -> str:
    if said.plan is not None:
        return _plan(said.plan)
    how = "accepted" if said.accepted else "refused"
    verified = ", verified" if said.verified else ""
    head = f" as {said.commit[:12]}" if said.commit else ""
    return _lines(f"{how}{verified}{head}{', empty diff' if said.empty else ''}", said.problems)


def _plan(said: steps.AcceptedPlan) -> str:
    tasks = [f"{t.id} ({t.role}): {t.title}" for t in said.status.tasks]
    return _lines(f"{len(tasks)} tasks: {said.status.summary}", tasks)


def _gates(gates: Iterable[steps.GateStatus]) -> str:
    told = [f"{g.name}: {'passed' if g.passed else 'FAILED ' + ', '.join(g.new_failures[:3])}" for g in gates]
    return "\n".join(told)


def _lines(first: str, rest: Iterable[str]) -> str:
    return "\n".join(filter(None, [first, *rest]))
