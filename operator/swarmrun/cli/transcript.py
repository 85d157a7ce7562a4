"""What `swarmrun logs` prints: a run's events, or one agent's turns from the artifacts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from swarmrun.agents.log import call_lines, kept_and_gone, turn_lines
from swarmrun.git.spans import known_task as _known
from swarmrun.local.directory import RunDirectory


def known_task(directory: RunDirectory, task: str) -> str:
    return _known(directory.status(), task, directory.name)


def event_lines(directory: RunDirectory) -> list[str]:
    try:
        return directory.events.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def worked_in(directory: RunDirectory, task: str) -> int:
    """The attempt that did the task: the present one, or an earlier one whose work a rerun kept.

    Raises NotFound when the turns of that one are gone.
    """
    now = directory.attempt()
    agent = next((a for a in directory.status().agents if a.task == task), None)
    if now == 1 or agent is None or not agent.turns:
        return now
    for attempt in range(now, 0, -1):
        if _turns(directory, task, attempt):
            return attempt
    raise kept_and_gone(directory.name, task)


def task_lines(directory: RunDirectory, task: str, attempt: int) -> list[str]:
    """Turns in the order in which they were made, all tries and roles of the task. `attempt`: of the run."""
    lines: list[str] = []
    for turn in sorted(_turns(directory, task, attempt), key=_when):
        lines += _turn(turn)
    return lines


def _turns(directory: RunDirectory, task: str, attempt: int) -> list[Path]:
    return list(directory.artifacts_of(attempt).glob(f"**/turns/*/{task}/*/*/"))


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
