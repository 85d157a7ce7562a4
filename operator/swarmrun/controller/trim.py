"""Keeps a status within its 64 KiB: what is longest and least missed goes first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from swarmrun.api.base import clip
from swarmrun.api.status import MAX_BYTES, SwarmRunStatus


def size(status: SwarmRunStatus) -> int:
    """Bytes as JSON on the wire."""
    return len(status.model_dump_json(by_alias=True, exclude_none=True).encode())


def fit(status: SwarmRunStatus, limit: int = MAX_BYTES) -> SwarmRunStatus:
    """Goes through `ORDER` until it fits. Everything trimmed stands whole in the run's artifacts."""
    if size(status) <= limit:
        return status
    status = status.model_copy(deep=True)
    for step in ORDER:
        step(status)
        if size(status) <= limit:
            return status
    return _shrink(status, limit)


def _signatures(status: SwarmRunStatus) -> None:
    if status.plan:
        for contract in status.plan.contracts:
            contract.signature = clip(contract.signature, 60)


def _failures(status: SwarmRunStatus) -> None:
    for gate in status.gates:
        for texts in (gate.new_failures, gate.baseline_failures, gate.flaky):
            texts[:] = _head([clip(t, 120) for t in texts], 5)


def _complaints(status: SwarmRunStatus) -> None:
    for judgement in status.judgements:
        judgement.complaints[:] = _head([clip(t, 120) for t in judgement.complaints], 5)


def _merges(status: SwarmRunStatus) -> None:
    for merge in status.merges:
        del merge.files[10:]
        merge.refused[:] = _head([clip(t, 120) for t in merge.refused], 3)
        merge.reason = clip(merge.reason, 120)


def _notes(status: SwarmRunStatus) -> None:
    status.notes[:] = _head([clip(t, 120) for t in status.notes], 20)
    if status.plan:
        status.plan.notes[:] = _head([clip(t, 120) for t in status.plan.notes], 10)
        status.plan.summary = clip(status.plan.summary, 120)


def _agents(status: SwarmRunStatus) -> None:
    for agent in status.agents:
        agent.last_tool = clip(agent.last_tool, 40)
        agent.message = clip(agent.message, 80)


def _contracts(status: SwarmRunStatus) -> None:
    if status.plan:
        status.plan.contracts.clear()
        for task in status.plan.tasks:
            task.title = clip(task.title, 40)
            task.owned_paths.clear()
            task.provides.clear()
            task.uses.clear()


ORDER: tuple[Callable[[SwarmRunStatus], None], ...] = (
    _signatures,
    _failures,
    _complaints,
    _merges,
    _notes,
    _agents,
    _contracts,
)
"""Contracts' signatures, gates' failures, complaints, merges' files and refusals, notes, agents' messages,
the plan's contracts and paths. What is left then is cut evenly (`_shrink`)."""


def _head(texts: list[str], keep: int) -> list[str]:
    return texts if len(texts) <= keep else [*texts[:keep], f"… and {len(texts) - keep} more"]


def _shrink(status: SwarmRunStatus, limit: int) -> SwarmRunStatus:
    """The last resort, for a status whose every part is at its bound: shorter texts, then shorter lists."""
    whole = {"run", "conditions", "usage", "started_at", "finished_at"}
    data = status.model_dump(mode="json", exclude=whole)
    kept = {name: getattr(status, name) for name in whole}
    for text, items in ((200, 200), (80, 110), (40, 110), (40, 50), (24, 20), (16, 5)):
        candidate = SwarmRunStatus.model_validate(_cut(data, text, items) | kept)
        if size(candidate) <= limit:
            return candidate
    raise AssertionError("a status of five short entries a list is larger than its limit")


def _cut(value: Any, text: int, items: int) -> Any:
    if isinstance(value, str):
        return clip(value, text)
    if isinstance(value, list):
        return [_cut(v, text, items) for v in cast("list[Any]", value)[:items]]
    if isinstance(value, dict):
        return {k: _cut(v, text, items) for k, v in cast("dict[str, Any]", value).items()}
    return value
