"""A directory of one process alone, where several may share their state's parent."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from swarmrun.git.command import disk


def own_place(parent: Path) -> Path:
    """A fresh directory below `parent`, which is this process's for as long as it lives. What processes that have
    ended (a container that was started again, say) left below `parent` is removed. Raises StorageUnavailable."""
    with disk(parent):
        return _own(parent)


def _own(parent: Path) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    for other in parent.iterdir():
        with suppress(OSError):  # it is somebody's, or is being removed by another one
            lock = _locked(other, wait=False)
            shutil.rmtree(other, ignore_errors=True)
            os.close(lock)
    while True:
        mine = Path(tempfile.mkdtemp(prefix="worker-", dir=parent))
        with suppress(FileNotFoundError):
            lock = _locked(mine, wait=True)
            if mine.exists():  # else another one was between the two, and has removed it
                return mine
            os.close(lock)


def _locked(place: Path, *, wait: bool) -> int:
    """Open as long as the lock shall be held; the kernel ends it with the process, however that ends."""
    found = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(found, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(found)
        raise
    return found
