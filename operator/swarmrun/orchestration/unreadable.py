"""What another program says of a run or an agent, where this one cannot read it: the next life only ends it.

An orchestration that nobody can take over would stand still, and with it its sandboxes, without a word on its
resource. It ends with a reason instead, in the ordinary way: agents are told to stop, sandboxes are given back, and
what can be read by itself (the plan, what is merged, what was paid) stays in the report. Pure.
"""

from __future__ import annotations

from typing import Any, cast

from pydantic import BaseModel, ValidationError

from swarmrun.api.served import first_problem
from swarmrun.orchestration.inputs import AgentInput, RunInput
from swarmrun.orchestration.stand import LiveAgent, Stand
from swarmrun.report import AgentRecord, RunReport

REASON = "StandUnreadable"

Dump = dict[str, Any]


def why(exc: ValidationError, what: str) -> str:
    return (
        f"{what} was begun by another version of swarmrun, and this one cannot read how far it had come "
        f"({first_problem(exc)})"
    )


def ending_run(given: Dump, stand: Dump, report: Dump, exc: ValidationError) -> Dump:
    """A `RunInput` of which `run` makes nothing but an end."""
    names = {key: str(given.get(key) or "") for key in ("run", "name", "branch")}
    kept = _legible(Stand, stand, {})
    live = _dump(stand.get("live"))
    kept["live"] = {i: _legible(LiveAgent, _dump(a), {"role": "agent"}) for i, a in live.items()}
    told = _legible(RunReport, report, {"run": names["run"], "name": names["name"]})
    known = {_dump(record).get("instance") for record in told.get("agents", [])}
    told["agents"] = [
        *told.get("agents", []),
        *(_record(i, a) for i, a in kept["live"].items() if i not in known),
    ]
    return {
        **_legible(RunInput, given, names),
        "stand": kept,
        "report": told,
        "unreadable": why(exc, "the run"),
    }


def ending_agent(given: Dump, stand: Dump, exc: ValidationError) -> Dump:
    """An `AgentInput` of which `agent` makes nothing but an end."""
    needed: Dump = {key: str(given.get(key) or "") for key in ("run", "role", "task")}
    needed["brief"] = {}
    return {**_legible(AgentInput, {**given, **stand}, needed), "unreadable": why(exc, "the agent")}


def _record(instance: str, agent: Dump) -> Dump:
    """The line of an agent whose run's report does not show it: `<run>:<task>:<attempt>`."""
    task = instance.split(":")[-2] if instance.count(":") >= 2 else instance
    return AgentRecord.model_validate(
        {"instance": instance, "status": {"task": task, "role": str(agent.get("role") or "agent")}}
    ).model_dump(mode="json")


def _legible(model: type[BaseModel], given: Dump, needed: Dump) -> Dump:
    """`needed`, and each field that can be read by itself."""
    return needed | {k: v for k, v in given.items() if _reads(model, {**needed, k: v})}


def _reads(model: type[BaseModel], given: Any) -> bool:
    try:
        model.model_validate(given)
    except ValidationError:
        return False
    return True


def _dump(value: Any) -> Dump:
    return cast(Dump, value) if isinstance(value, dict) else {}
