"""Which program's decisions a history holds.

The engine replays a history with the code of today. Code that decides otherwise would fail the orchestration, so
every input carries a digest of the code that decides; another digest says that the history is another program's
(`successor.py`).
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path

import swarmrun

FOLDER = "orchestration"
FILES = ("steps.py", "report.py", "verifying/rounds.py", "api/status.py", "api/plan.py")
"""Beside everything in `orchestration/`: what its decisions read."""


@cache
def program() -> str:
    """16 hex digits over the sources of all that decides, and the version of the SDK that replays."""
    root = Path(swarmrun.__file__).parent
    digest = hashlib.sha256(version("durabletask").encode())
    for path in [*sorted((root / FOLDER).glob("*.py")), *(root / name for name in FILES)]:
        digest.update(f"\0{path.relative_to(root)}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
