"""How a run ends, and how its agents have ended, whichever way that was heard of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from durabletask import task
from pydantic import ValidationError

from swarmrun.api.status import Phase
from swarmrun.orchestration.inputs import AgentResult
from swarmrun.orchestration.perform import failure_text
from swarmrun.orchestration.stand import LiveAgent


class RunEnded(Exception):
    """The run is over: `phase` and `reason` go to the status."""

    def __init__(self, phase: Phase, reason: str, message: str) -> None:
        super().__init__(message)
        self.phase = phase
        self.reason = reason
        self.message = message


def broken(agent: LiveAgent, why: str) -> dict[str, Any]:
    """As the mail that an agent cannot send any more."""
    end = AgentResult(status="Failed", reason="InternalError", message=why)
    return {"serial": agent.serial, "result": end.model_dump(mode="json")}


def told_end(mail: Mapping[str, Any]) -> AgentResult:
    return _result(mail.get("result"))


def outcome(child: task.Task[Any]) -> AgentResult:
    """A finished sub-orchestration as a value; it failing is a bug, told as such."""
    if child.is_failed:
        return AgentResult(status="Failed", reason="InternalError", message=failure_text(child))
    return _result(child.get_result())


def _result(value: Any) -> AgentResult:
    try:
        return AgentResult.model_validate(value)
    except ValidationError as exc:
        return AgentResult(status="Failed", reason="InternalError", message=f"no result of an agent: {exc}")
