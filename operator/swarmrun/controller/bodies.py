"""What a resource's body says: its spec and what is asked of it, as far as it can be read, and its status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from swarmrun.api.run import SwarmRun
from swarmrun.api.served import served
from swarmrun.api.status import SwarmRunStatus
from swarmrun.controller.classes import explain
from swarmrun.controller.wanted import Wanted, number_of, uid_of, wanted
from swarmrun.errors import InvalidResource


def parse(body: Mapping[str, Any]) -> tuple[SwarmRun, Wanted]:
    """Raises InvalidResource: what the schema lets through and the models do not."""
    run = _run({k: v for k, v in body.items() if k != "status"})
    return run, wanted(run)


def as_begun(body: Mapping[str, Any], status: SwarmRunStatus) -> tuple[SwarmRun, Wanted]:
    """A resource that cannot be read as a whole, whose run has begun: that goes on as its status shows it, and heeds
    what can be read. Raises InvalidResource where none has begun."""
    uid = str(body["metadata"]["uid"])
    if status.started_at is None or uid_of(status.run) != uid:
        raise InvalidResource("no run of it has begun")
    try:
        run = _run({k: v for k, v in body.items() if k != "status"})
    except InvalidResource:
        known = {k: v for k, v in body["spec"].items() if k in _HEEDED}
        run = _run({"metadata": body["metadata"], "spec": known})
    return run, wanted(run, attempt=number_of(status.run))


def _run(body: Mapping[str, Any]) -> SwarmRun:
    try:
        return served(SwarmRun, body)
    except ValidationError as exc:
        raise InvalidResource(explain(exc), reason="InvalidSpec") from exc


_HEEDED = ("goal", "repository", "suspend", "cancel")
"""Fields of a spec that must be there, and do not change once a run has begun; and what is asked of one at work."""


def status_of(body: Mapping[str, Any]) -> SwarmRunStatus:
    """The resource's own; a fresh one where it cannot be read."""
    try:
        return served(SwarmRunStatus, body.get("status") or {})
    except ValidationError:
        return SwarmRunStatus()


def over(status: SwarmRunStatus, instance: str, generation: int) -> bool:
    """Whether this attempt has ended. One that was refused before it began has a new chance with a new spec."""
    begun = status.started_at is not None
    same = begun or status.observed_generation == generation
    return status.phase.terminal and status.run == instance and same
