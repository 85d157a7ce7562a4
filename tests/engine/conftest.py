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
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        return json.loads(out.splitlines()[-1])

    def lines(self, name: str) -> list[str]:
        return sorted((self.effects / name).read_text().split())


@pytest.fixture
def victim(tmp_path: Path):
    one = Victim(tmp_path)
    yield one
    for process in one.alive:
        if process.poll() is None:
            process.kill()
        process.communicate()
