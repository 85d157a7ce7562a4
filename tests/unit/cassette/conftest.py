from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from swarmrun.ports import CallKey, ModelRequest, ToolSpec

WRITE = ToolSpec(
    "write_file",
    "Writes a file.",
    {"type": "object", "properties": {"path": {"type": "string"}, "content": {"type": "string"}}},
)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a cassette of the given entries."""

    def make(*entries: dict[str, Any], defaults: tuple[dict[str, Any], ...] = (), **top: Any) -> Path:
        path = tmp_path / "cassette.yaml"
        path.write_text(yaml.safe_dump({**top, "entries": list(entries), "defaults": list(defaults)}))
        return path

    return make


def request(turn: int = 1, *, role: str = "coder", task: str = "storage", **changes: Any) -> ModelRequest:
    words = [
        {"type": "message", "role": "user", "contents": [{"type": "text", "text": "Build the TTL store"}]}
    ]
    given: dict[str, Any] = {"instructions": "You code.", "messages": words, "tools": (WRITE,)}
    return ModelRequest(key=CallKey("run-1", role, task, 1, turn), **{**given, **changes})


@pytest.fixture
def req() -> Callable[..., ModelRequest]:
    return request
