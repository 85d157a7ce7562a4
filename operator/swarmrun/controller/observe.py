"""What the engine knows of a run now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from durabletask.client import OrchestrationStatus
from pydantic import ValidationError

from swarmrun.api.status import Phase
from swarmrun.controller.capacity import Claim
from swarmrun.controller.classes import explain
from swarmrun.controller.usage import working
from swarmrun.controller.wanted import uid_of
from swarmrun.errors import EngineError, NotFound
from swarmrun.orchestration.inputs import RunInput
from swarmrun.report import AgentProgress, RunReport

ENDED = (OrchestrationStatus.COMPLETED, OrchestrationStatus.FAILED, OrchestrationStatus.TERMINATED)


class Client(Protocol):
    """The part of durabletask's client that is used here."""

    def get_orchestration_state(self, instance_id: str, *, fetch_payloads: bool = True) -> Any: ...


@dataclass(frozen=True)
class Seen:
    report: RunReport
    progress: dict[str, AgentProgress]
    ended: bool
    broken: dict[str, str] = field(default_factory=dict[str, str])
    """Agents at work, by instance, that the engine says have failed, with its words."""
    raw: tuple[str, ...] = field(repr=False, default=())
    """Equal as long as nothing has changed."""


def look(client: Client, instance: str, name: str, known: Seen | None = None) -> Seen:
    """`known` is what was seen before: given back as it is when nothing has changed, without parsing anything.

    Raises NotFound when the engine has no such run, EngineError for words of it that cannot be read.
    """
    state = client.get_orchestration_state(instance)
    if state is None:
        raise NotFound(f"the engine knows no run {instance}")
    ended = state.runtime_status in ENDED
    output = state.serialized_output if state.runtime_status == OrchestrationStatus.COMPLETED else None
    text = output or state.serialized_custom_status or ""
    raw = (str(state.runtime_status), text)
    same = known is not None and known.raw[:2] == raw
    report = known.report if same and known else _report(text, instance, name)
    if ended and state.runtime_status != OrchestrationStatus.COMPLETED and not same:
        details = state.failure_details
        report.phase, report.reason = Phase.FAILED, "InternalError"
        report.message = details.message if details else str(state.runtime_status)
        report.finished_at = datetime.now(UTC)
    agents, broken = ({}, {}) if ended else _agents(client, report)
    raw = (*raw, *agents.values(), *broken)
    if known is not None and known.raw == raw:
        return known
    progress = {i: AgentProgress.model_validate_json(t) for i, t in agents.items()}
    return Seen(report, progress, ended, broken, raw)


def at_work(states: Iterable[Any]) -> Iterator[tuple[Claim, int]]:
    """Of the engine's states (with inputs): runs that have not ended, and how many sandboxes each holds."""
    for state in states:
        if not uid_of(state.instance_id) or state.runtime_status in ENDED:
            continue
        try:
            given = RunInput.model_validate_json(state.serialized_input or "{}")
            report = _report(state.serialized_custom_status or "", state.instance_id, given.name)
        except (ValidationError, EngineError):
            continue  # a stranger's
        granted = max(given.granted, report.granted) or given.parallelism + 1
        claim = Claim("", state.instance_id, given.class_name, given.max_sandboxes, given.parallelism + 1)
        yield claim, granted if report.sandboxes is None else report.sandboxes


def _report(text: str, instance: str, name: str) -> RunReport:
    try:
        return RunReport.model_validate_json(text) if text else RunReport(run=instance, name=name)
    except ValidationError as exc:
        raise EngineError(
            f"what the run says of itself cannot be read: {explain(exc)}",
            mend="another version of swarmrun has written it: go back to that one, or run again",
            reason="StatusUnreadable",
        ) from exc


def _agents(client: Client, report: RunReport) -> tuple[dict[str, str], dict[str, str]]:
    """By instance: what working agents say of themselves, as JSON, and why the engine has ended some."""
    found: dict[str, str] = {}
    broken: dict[str, str] = {}
    for record in report.agents:
        if record.instance and working(record):
            state = client.get_orchestration_state(record.instance)
            if state is None:
                continue
            if state.serialized_custom_status:
                found[record.instance] = state.serialized_custom_status
            if state.runtime_status in (OrchestrationStatus.FAILED, OrchestrationStatus.TERMINATED):
                details = state.failure_details
                broken[record.instance] = details.message if details else str(state.runtime_status)
    return found, broken
