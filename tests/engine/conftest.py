from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

VICTIM = Path(__file__).with_name("durable_victim.py")


class Victim:
    """Starts the program that is going to be killed, in a directory of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.engine = home / "engine.db"
        self.effects = home / "effects"
        self.alive: list[subprocess.Popen[str]] = []

    def start(self, mode: str, *args: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(VICTIM), mode, *map(str, args)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.alive.append(process)
        return process

    def brain(self, mode: str = "run", tasks: int = 3, turns: int = 7) -> subprocess.Popen[str]:
        process = self.start(mode, self.engine, self.effects, tasks, turns)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        return process

    def result(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        assert process.stdout is not None
        assert process.stderr is not None
        out = process.stdout.read()  # not communicate(): it misses what readline() has read ahead
        assert process.wait(timeout=60) == 0, process.stderr.read()
        return json.loads(out.splitlines()[-1])

    def done(self) -> list[str]:
        """The effects, each a file that was created exclusively."""
        return sorted(path.name for path in self.effects.iterdir() if path.name != ".calls")

    def calls(self) -> int:
        return len((self.effects / ".calls").read_text().split())


@pytest.fixture
def victim(tmp_path: Path):
    one = Victim(tmp_path)
    yield one
    for process in one.alive:
        if process.poll() is None:
            process.kill()
        process.communicate()
