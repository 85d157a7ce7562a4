from datetime import datetime, timedelta, timezone

import pytest

from helpdesk.desk import Desk
from helpdesk.store import Store


class Clock:
    """Stands still until it is moved."""

    def __init__(self):
        self.now = datetime(2025, 3, 1, 9, 30, tzinfo=timezone.utc)

    def __call__(self):
        return self.now

    def forward(self, **amount):
        self.now += timedelta(**amount)


@pytest.fixture()
def clock():
    return Clock()


@pytest.fixture()
def store(tmp_path):
    return Store(tmp_path / "tickets.json")


@pytest.fixture()
def desk(store, clock):
    return Desk(store, clock)


@pytest.fixture()
def helpdesk(tmp_path, capsys):
    """Runs a command of the command line: (exit code, standard output, standard error)."""
    from helpdesk.cli import main

    def run(*arguments):
        code = main(["--data", str(tmp_path / "tickets.json"), *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run
