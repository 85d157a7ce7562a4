"""A cap on processes and memory, where this machine lets us set one.

Three ways, tried in this order: a cgroup v1 hierarchy that we may write (`pids` and `memory`), a cgroup v2
directory that we may write with both controllers, and `systemd-run --scope`, which is how a user without
rights of their own gets one from systemd. Where none works the caller falls back to RLIMITs.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

PREFIX = "swarmrun-"
"""What the names of sandboxes' cgroups begin with; 16 hexadecimal digits follow."""
_OURS = re.compile(PREFIX + "[0-9a-f]{16}")
STALE_SECONDS = 60.0
"""A sandbox enters its cgroup within milliseconds; an empty one of this age is nobody's. A choice."""
_JOIN = 'for f do shift; [ "$f" = -- ] && break; echo $$ >"$f" || exit 1; done; exec "$@"'
"""A process enters by writing its own id; then it becomes the sandbox."""


@dataclass(frozen=True)
class Cgroup:
    """`directories` hold one sandbox; `prefix` before a command starts it inside."""

    directories: tuple[Path, ...]
    prefix: tuple[str, ...]

    def remove(self) -> None:
        remove(self.directories)


def create(name: str, *, pids: int, memory_mb: int, fs: Path = Path("/sys/fs/cgroup")) -> Cgroup | None:
    """A new cgroup called `name`, or None where this machine allows none."""
    own = _own(Path("/proc/self/cgroup"))
    v1 = _create_v1(name, own, pids, memory_mb, fs)
    if v1 is not None:
        return v1
    v2 = _create_v2(name, own, pids, memory_mb, fs)
    if v2 is not None:
        return v2
    run = _systemd_run()
    if run:
        properties = (f"TasksMax={pids}", f"MemoryMax={memory_mb}M", "MemorySwapMax=0")
        options = [word for value in properties for word in ("-p", value)]
        return Cgroup((), (*run, f"--unit={name}", *options, "--"))
    return None


def sweep(fs: Path = Path("/sys/fs/cgroup"), *, older_than_s: float = STALE_SECONDS) -> list[Path]:
    """Removes empty cgroups that sandboxes of this user left, beside where `create` would make one.

    One that is in use is never empty, and the kernel removes none that is not; only one that is being entered
    this moment is, hence the age. Returns what was removed.
    """
    own = _own(Path("/proc/self/cgroup"))
    places = [fs / name / own[name].strip("/") for name in ("pids", "memory") if name in own]
    if "" in own:
        here = fs / own[""].strip("/")
        places += [here, *([here.parent] if here != fs else [])]
    removed: list[Path] = []
    for directory in (d for place in places for d in place.glob(f"{PREFIX}*")):
        with contextlib.suppress(OSError):
            about = directory.stat()
            if (
                _OURS.fullmatch(directory.name)
                and about.st_uid == os.geteuid()
                and time.time() - about.st_mtime > older_than_s
                and not (directory / "cgroup.procs").read_text().strip()
            ):
                directory.rmdir()
                removed.append(directory)
    return removed


def _own(file: Path) -> dict[str, str]:
    """Our own cgroup by controller; the unified hierarchy's key is empty."""
    own: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in file.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in controllers.split(","):
                own[controller] = path
    return own


def _create_v1(name: str, own: Mapping[str, str], pids: int, memory_mb: int, fs: Path) -> Cgroup | None:
    made: list[Path] = []
    limits = (("pids", "pids.max", pids), ("memory", "memory.limit_in_bytes", memory_mb * 1024**2))
    try:
        for controller, file, value in limits:
            if controller not in own:
                raise FileNotFoundError(controller)
            directory = fs / controller / own[controller].strip("/") / name
            directory.mkdir(exist_ok=True)
            made.append(directory)
            _set(directory / file, value)
    except OSError:
        remove(made)
        return None
    return Cgroup(tuple(made), _joining(made))


def _create_v2(name: str, own: Mapping[str, str], pids: int, memory_mb: int, fs: Path) -> Cgroup | None:
    if "" not in own or not (fs / "cgroup.controllers").exists():
        return None
    here = fs / own[""].strip("/")
    # A cgroup with processes of its own may not hand controllers down (cgroups(7), "no internal processes"),
    # so a sibling is the second try.
    for parent in dict.fromkeys((here, here.parent if here != fs else here)):
        with contextlib.suppress(OSError):
            (parent / "cgroup.subtree_control").write_text("+pids +memory")
        directory = parent / name
        try:
            directory.mkdir(exist_ok=True)
            _set(directory / "pids.max", pids)
            _set(directory / "memory.max", memory_mb * 1024**2)
        except OSError:
            remove([directory])
            continue
        with contextlib.suppress(OSError):
            _set(directory / "memory.swap.max", 0)
        return Cgroup((directory,), _joining([directory]))
    return None


def _set(file: Path, value: int) -> None:
    # The kernel makes these files; on an ordinary file system we would make them ourselves.
    with open(file, "r+") as limit:
        limit.write(str(value))


def _joining(directories: list[Path]) -> tuple[str, ...]:
    return ("/bin/sh", "-c", _JOIN, "sh", *(str(d / "cgroup.procs") for d in directories), "--")


@lru_cache(maxsize=1)
def _systemd_run() -> tuple[str, ...]:
    """The command line's beginning; empty where systemd gives us no scope."""
    program = shutil.which("systemd-run")
    if program is None:
        return ()
    user = () if os.geteuid() == 0 else ("--user",)
    flags = (program, *user, "--scope", "--quiet", "--collect")
    try:
        trial = subprocess.run([*flags, "-p", "TasksMax=50", "--", "true"], capture_output=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return flags if trial.returncode == 0 else ()


def remove(directories: tuple[Path, ...] | list[Path]) -> None:
    """Kills whatever is still inside and removes the directories. What is gone already is fine."""
    for directory in directories:
        for _ in range(50):
            try:
                pids = [int(pid) for pid in (directory / "cgroup.procs").read_text().split()]
            except OSError:
                pids = []
            for pid in pids:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            try:
                directory.rmdir()
                break
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.02)  # A killed process leaves its cgroup only when it is reaped.
