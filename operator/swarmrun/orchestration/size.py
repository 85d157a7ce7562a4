"""A run's report as its custom status: below 64 KiB, whatever a plan or its agents wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from swarmrun.report import RunReport

LIMIT = 60_000
"""Bytes. The engine's own limit is a megabyte, but the status is written after every step and is the
source of a resource's status, which has 64 KiB."""

Dump = dict[str, Any]


def fitted(report: RunReport) -> Dump:
    """The report as JSON; what is longest and least missed goes first, until it fits. The report that the
    orchestration ends with, and the one that is stored before publishing, are whole."""
    dump = report.model_dump(mode="json")
    for step in ORDER:
        if size(dump) <= LIMIT:
            break
        step(dump)
    return dump


def size(dump: Dump) -> int:
    return len(json.dumps(dump, ensure_ascii=False, separators=(",", ":")).encode())


def _texts(dump: Dump) -> None:
    for merge in dump["merges"]:
        merge["refused"], merge["files"] = _cut(merge["refused"], 2), merge["files"][:10]
        merge["reason"] = merge["reason"][:120]
    for record in dump["agents"]:
        record["status"]["message"] = record["status"]["message"][:100]
    for judgement in dump["judgements"]:
        judgement["complaints"] = _cut(judgement["complaints"], 5)
    for gate in dump["gates"]:
        for name in ("new_failures", "baseline_failures", "flaky"):
            gate[name] = _cut(gate[name], 5)
    dump["notes"] = _cut(dump["notes"], 20)


def _contracts(dump: Dump) -> None:
    if dump["plan"]:
        for contract in dump["plan"]["contracts"]:
            contract["signature"] = contract["signature"][:40]
        for task in dump["plan"]["tasks"]:
            task["owned_paths"] = task["owned_paths"][:2]
            task["title"] = task["title"][:60]


def _plan(dump: Dump) -> None:
    """What an agent depends on stays: the critical path is computed from it."""
    if dump["plan"]:
        dump["plan"]["contracts"], dump["plan"]["notes"] = [], []
        for task in dump["plan"]["tasks"]:
            task["owned_paths"], task["provides"], task["uses"] = [], [], []


def _rest(dump: Dump) -> None:
    dump["notes"] = _cut(dump["notes"], 5)
    for merge in dump["merges"]:
        merge["refused"], merge["files"], merge["reason"] = [], merge["files"][:1], merge["reason"][:40]
    for record in dump["agents"]:
        record["status"]["message"] = record["status"]["message"][:30]
        record["status"]["last_tool"] = ""
    if dump["plan"]:
        for task in dump["plan"]["tasks"]:
            task["title"], task["depends_on"] = task["title"][:20], task["depends_on"][:5]


def _cut(texts: list[str], most: int) -> list[str]:
    return [text[:120] for text in texts[:most]]


ORDER: list[Callable[[Dump], None]] = [_texts, _contracts, _plan, _rest]
