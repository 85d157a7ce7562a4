"""Agents' turns as the brain stored them, in the order in which they were stored. Blocking."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from swarmrun.agents.log import call_lines, turn_lines
from swarmrun.artifacts.store import Artifacts
from swarmrun.errors import NotFound

MOST = 200
"""Entries of one answer. A choice: at most about a megabyte."""

_KEY = re.compile(
    r"turns/(?P<role>[^/]+)/(?P<task>[^/]+)/(?P<attempt>\d+)/(?P<turn>\d+)/(?:reply|call-(?P<call>\d+))\.json"
)

Place = tuple[float, str]
"""When it was stored (Unix time) and under which key: places in the order of a transcript."""


def entries(
    store: Artifacts, *, task: str = "", attempt: int | None = None, after: Place = (0.0, "")
) -> list[Place]:
    """What there is beyond `after`; `attempt` is the agent's."""
    found: list[Place] = []
    for key, stored in store.times("turns"):
        match = _KEY.fullmatch(key)
        if not match or (task and match["task"] != task):
            continue
        if attempt is not None and int(match["attempt"]) != attempt:
            continue
        place = (stored.timestamp(), key)
        if place > after:
            found.append(place)
    return sorted(found)


def shown(store: Artifacts, places: list[Place]) -> Iterator[dict[str, Any]]:
    """Each as `{id, time, role, task, attempt, turn, lines}`. One that was removed meanwhile is left out."""
    replies: dict[str, Any] = {}
    for time, key in places:
        match = _KEY.fullmatch(key)
        assert match
        turn, role, task = key.rpartition("/")[0], match["role"], match["task"]
        try:
            if turn not in replies:
                replies[turn] = json.loads(store.get(f"{turn}/reply.json"))
            if match["call"] is None:
                lines = turn_lines(role, task, match["attempt"], int(match["turn"]), replies[turn])
            else:
                call = next(
                    (c for c in replies[turn].get("calls", []) if c.get("index") == int(match["call"])), {}
                )
                lines = call_lines(call, json.loads(store.get(key)))
        except NotFound:
            continue
        yield {
            "id": key,
            "time": time,
            "role": role,
            "task": task,
            "attempt": int(match["attempt"]),
            "turn": int(match["turn"]),
            "lines": lines,
        }
