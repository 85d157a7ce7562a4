"""A run's report as its custom status: below 64 KiB, whatever a plan or its agents wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from swarmrun.orchestration.inputs import add_usage
from swarmrun.report import RunReport

LIMIT = 60_000
"""Bytes. The engine's own limit is a megabyte, but the status is written after every step and is the
source of a resource's status, which has 64 KiB."""

Dump = dict[str, Any]


def fitted(report: RunReport) -> Dump:
    """The report as JSON without its defaults; what is longest and least missed goes first, until it fits.

    The report that the orchestration ends with, and the one that is stored before publishing, are whole.
    """
    if size(dumped := dump(report)) <= LIMIT:
        return dumped
    report = report.model_copy(deep=True)
    for step in ORDER:
        step(report)
        if size(dumped := dump(report)) <= LIMIT:
            break
    return dumped


def dump(report: RunReport) -> Dump:
    return report.model_dump(mode="json", exclude_defaults=True)


def size(dumped: Dump) -> int:
    return len(json.dumps(dumped, ensure_ascii=False, separators=(",", ":")).encode())


def _texts(report: RunReport) -> None:
    for merge in report.merges:
        merge.refused, merge.files = _cut(merge.refused, 2), merge.files[:10]
        merge.reason = merge.reason[:120]
    for record in report.agents:
        record.status.message = record.status.message[:100]
    for judgement in report.judgements:
        judgement.complaints = _cut(judgement.complaints, 5)
    for gate in report.gates:
        gate.new_failures = _cut(gate.new_failures, 5)
        gate.baseline_failures, gate.flaky = _cut(gate.baseline_failures, 5), _cut(gate.flaky, 5)
    report.notes = _cut(report.notes, 20)


def _contracts(report: RunReport) -> None:
    if report.plan:
        for contract in report.plan.contracts:
            contract.signature = contract.signature[:40]
        for task in report.plan.tasks:
            task.owned_paths, task.title = task.owned_paths[:2], task.title[:60]


def _plan(report: RunReport) -> None:
    """What a task depends on stays: the critical path is computed from it."""
    if report.plan:
        report.plan.contracts, report.plan.notes = [], []
        for task in report.plan.tasks:
            task.owned_paths, task.provides, task.uses, task.title = [], [], [], task.title[:20]


def _ended(report: RunReport) -> None:
    """What ended agents used is summed up; ended integrators have their line among the merges."""
    for record in report.agents:
        if record.finished_at is not None:
            for usage in record.usage:
                report.usage = add_usage(report.usage, usage)
            record.usage, record.instance = [], ""
    report.agents = [
        r for r in report.agents if not (r.status.role == "integrator" and r.finished_at is not None)
    ]
    for merge in report.merges:
        merge.refused, merge.files, merge.reason = [], merge.files[:1], merge.reason[:40]


def _rest(report: RunReport) -> None:
    report.notes, report.judgements = _cut(report.notes, 5), report.judgements[-3:]
    for gate in report.gates:
        gate.new_failures, gate.baseline_failures, gate.flaky = _cut(gate.new_failures, 1), [], []
    for record in report.agents:
        record.status.message = record.status.last_tool = record.status.branch = ""
    for merge in report.merges:
        merge.files, merge.reason = [], ""


def _cut(texts: list[str], most: int) -> list[str]:
    return [text[:120] for text in texts[:most]]


ORDER: list[Callable[[RunReport], None]] = [_texts, _contracts, _plan, _ended, _rest]
