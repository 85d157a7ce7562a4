"""What `swarmrun logs` prints: a run's events, or one agent's turns from the artifacts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from swarmrun.cli.changes import known_task as _known
from swarmrun.local.directory import RunDirectory

HEAD = 2000
"""Characters of a tool's result that are printed; the whole of it is in the artifacts."""


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
    role, attempt = turn.parts[-4], turn.parts[-2]
    lines = [f"── {role}, attempt {attempt}, turn {int(turn.name) if turn.name.isdigit() else turn.name}"]
    lines += [f"told: {line}" for text in reply.get("told", []) for line in str(text).splitlines()]
    lines += str(reply.get("text", "")).splitlines()
    lines += [f"note: {note}" for note in reply.get("notes", [])]
    for call in reply.get("calls", []):
        arguments = json.dumps(call.get("arguments", {}), ensure_ascii=False)
        lines.append(f"→ {call.get('name')} {_head(arguments, 400)}")
        result = _json(turn / f"call-{call.get('index')}.json")
        if result is not None:
            lines += [f"  {line}" for line in _head(str(result.get("text", "")), HEAD).splitlines()]
    return lines


def _head(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}… [{len(text) - limit:,} characters more]"


def _json(path: Path) -> Any:
    """None while it is not there: the turn is under way."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
