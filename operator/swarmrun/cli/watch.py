"""Watches a run while it works: the live view on a terminal, plain lines elsewhere, and the log of events."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, TextIO

from swarmrun.api.printable import one_line
from swarmrun.api.run import SwarmRun
from swarmrun.api.status import SwarmRunStatus
from swarmrun.cli.events import events
from swarmrun.cli.failures import Interrupted
from swarmrun.cli.summary import verdict
from swarmrun.errors import SwarmRunError
from swarmrun.local.directory import RunDirectory
from swarmrun.local.lock import holder

if TYPE_CHECKING:
    from rich.console import Console

LEFT = 5
"""Events that stay on the screen when the live view is interrupted: as many as it shows. A choice."""


class Watcher:
    """Told every status. Who works on the run also writes `events.log`; followers only print."""

    def __init__(self, directory: RunDirectory, *, out: TextIO | None = None, color: bool = True) -> None:
        self._directory = directory
        self._out = out or sys.stdout
        self._color = color
        self._last: SwarmRunStatus | None = directory.status() if directory.events.exists() else None
        self._screen = None

    def __call__(self, run: SwarmRun) -> None:
        status = run.status or SwarmRunStatus()
        lines = [f"{datetime.now():%H:%M:%S} {line}" for line in events(self._last, status)]
        self._last = status
        if lines and holder(self._directory.lock) == os.getpid():
            self._log(lines)
        if self._screen is not None:
            self._screen.run = run
            self._screen.lines = [*self._screen.lines, *lines][-20:]
        else:
            for line in lines:
                print(line, file=self._out, flush=True)

    @contextmanager
    def live(self) -> Iterator[Watcher]:
        """The live view for as long as it is open, when standard output is a terminal."""
        if not self._out.isatty():
            yield self
            return
        from rich.console import Console
        from rich.live import Live

        from swarmrun.cli.live import Screen

        self._screen = Screen()
        console = Console(file=self._out, no_color=not self._color)
        try:
            with Live(self._screen, console=console, refresh_per_second=4, transient=True):
                yield self
        except (Interrupted, SwarmRunError):
            self._leave(console)
            raise
        finally:
            self._screen = None

    def _leave(self, console: Console) -> None:
        """What the view showed last stays on the screen: the last events, and how the run stands."""
        from rich.text import Text

        assert self._screen is not None
        for line in self._screen.lines[-LEFT:]:
            console.print(Text(line), soft_wrap=True)
        if self._last is not None:
            console.print(Text(one_line(f"{self._directory.name}: {verdict(self._last)}")), soft_wrap=True)

    def _log(self, lines: list[str]) -> None:
        try:
            with self._directory.events.open("a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in lines)
        except OSError:
            pass  # A full disk stops the engine, loudly; the log of what was seen must not do it first.
