"""The volume of engine, caches and local artifacts, as the process that has it sees it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TypedDict


class Volume(TypedDict):
    """Part of what `/healthz` answers."""

    path: str
    free: int
    """Bytes."""
    size: int
    """Bytes; 0 where nothing could be read."""
    problem: str
    """Why it cannot be written; empty when it can."""


def look(path: Path) -> Volume:
    """Writes and removes a small file. Never raises: a full disk is mended by no restart."""
    try:
        usage = shutil.disk_usage(path)
    except OSError as exc:
        return Volume(path=str(path), free=0, size=0, problem=exc.strerror or str(exc))
    problem = ""
    try:
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"swarmrun")
    except OSError as exc:
        problem = exc.strerror or str(exc)
    return Volume(path=str(path), free=usage.free, size=usage.total, problem=problem)
