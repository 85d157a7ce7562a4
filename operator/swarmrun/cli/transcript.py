"""What `swarmrun logs` prints: a run's events, or one agent's turns from the artifacts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from swarmrun.agents.log import call_lines, turn_lines
from swarmrun.git.spans import known_task as _known
from swarmrun.local.directory import RunDirectory


def known_task(directory: RunDirectory, task: str) -> str:
    return _known(directory.status(), task, directory.name)


def event_lines(directory: RunDirectory) -> list[str]:
    try:
        return directory.events.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def task_lines(directory: RunDirectory, task: str) -> list[str]:
    """Turns in the order in which they were made, all attempts and roles of the task."""
    lines: list[str] = []
    for turn in sorted(directory.artifacts.glob(f"**/turns/*/{task}/*/*/"), key=_when):
        lines += _turn(turn)
    return lines


def _when(turn: Path) -> tuple[float, str]:
    reply = turn / "reply.json"
    return (reply.stat().st_mtime if reply.exists() else float("inf"), str(turn))


def _turn(turn: Path) -> list[str]:
    reply = _json(turn / "reply.json")
    if reply is None:
        return []
    number = int(turn.name) if turn.name.isdigit() else turn.name
    role, task, attempt = turn.parts[-4:-1]
    lines = turn_lines(role, task, attempt, number, reply)
    for call in reply.get("calls", []):
        lines += call_lines(call, _json(turn / f"call-{call.get('index')}.json"))
    return lines


def _json(path: Path) -> Any:
    """None while it is not there: the turn is under way."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
