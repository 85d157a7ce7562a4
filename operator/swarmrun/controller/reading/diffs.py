"""What a run changed, from repositories that are filled here from its stored bundles. Blocking."""

from __future__ import annotations

import shutil
import threading
from collections import OrderedDict
from pathlib import Path

from swarmrun.controller.reading.runs import ReadRun
from swarmrun.git.repo import RunRepo
from swarmrun.git.spans import span

KEPT = 4
"""Repositories kept: one may be as large as the remote's history. A choice; a dropped one is filled again."""
MOST = 8 * 1024**2
"""Bytes of one diff; what is cut says so (arbitrary)."""


class Diffs:
    """`place` is a directory of this process alone. The workers' own repositories are not touched: they are elsewhere,
    and go by themselves (`controller/worlds.py`)."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._locks: OrderedDict[str, threading.Lock] = OrderedDict()
        self._lock = threading.Lock()
        shutil.rmtree(place, ignore_errors=True)

    def diff(self, run: ReadRun, task: str, *, stat: bool) -> str:
        """Of the whole run without a task. Raises NotFound, GitError, StorageUnavailable."""
        with self._taken(run.instance):
            repo = RunRepo(self._place / f"{run.instance}.git", run.store, "")
            base, head = span(repo, repo.ensure, run.status, task, run=run.name)
            return repo.diff(base, head, stat=stat, cap=MOST)

    def _taken(self, instance: str) -> threading.Lock:
        """One thread a repository. One that is in use is not dropped."""
        with self._lock:
            lock = self._locks.setdefault(instance, threading.Lock())
            self._locks.move_to_end(instance)
            for other in list(self._locks)[:-KEPT]:
                if self._locks[other].acquire(blocking=False):
                    shutil.rmtree(self._place / f"{other}.git", ignore_errors=True)
                    self._locks.pop(other).release()
            return lock
