"""One process works on a run at a time; the kernel lets go when it dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from swarmrun.errors import Conflict, StorageUnavailable


class Lock:
    """flock on a file that also names the holder's process id, for people."""

    def __init__(self, path: Path, *, wait: bool = False) -> None:
        """Takes it. Raises Conflict when another process holds it, unless it is to `wait`."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise StorageUnavailable(
                f"cannot open {path}: {exc.strerror}", mend="check SWARMRUN_HOME"
            ) from exc
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as exc:
            os.close(self._file)
            raise Conflict(f"another process ({holder(path) or 'unknown'}) works on this run") from exc
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.close(self._file)

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def held(path: Path) -> bool:
    """Whether some process holds it now."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False


def holder(path: Path) -> int:
    """Process id that the last holder wrote; 0 when there is none."""
    try:
        return int(path.read_text().strip() or 0)
    except (OSError, ValueError):
        return 0


def lock_unworked(path: Path, name: str) -> Lock:
    """Of a run that nobody may work on meanwhile. Raises Conflict `NotEnded`, which names who does."""
    try:
        return Lock(path)
    except Conflict as exc:
        raise Conflict(
            f"process {holder(path)} works on run {name}",
            mend=f"wait for its end, or `swarmrun cancel {name}`",
            reason="NotEnded",
        ) from exc
