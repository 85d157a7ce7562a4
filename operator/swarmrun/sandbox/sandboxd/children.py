"""Starts processes and reaps every child, also those that the sandbox inherits as PID 1.

There is one place that waits: `reap`, on SIGCHLD. Nothing else may call `Popen.wait` or `poll`, which would
race with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from .failures import Failure, from_os_error

PR_SET_CHILD_SUBREAPER = 36
"""linux/prctl.h: orphans become ours, as they do for a PID 1."""


class Children:
    """All child processes of the server, each the leader of a session of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._alive: Dict[int, Tuple["subprocess.Popen[bytes]", Callable[[int], None]]] = {}
        self.make_room: Callable[[], bool] = lambda: False
        """Called when the system will not fork for the server itself; True when it killed something."""
        if sys.platform == "linux" and os.getpid() != 1:
            with contextlib.suppress(OSError, AttributeError):
                ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def start(
        self,
        argv: Sequence[str],
        ended: Callable[[int], None],
        *,
        cwd: str,
        env: Dict[str, str],
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.DEVNULL,
        stderr: int = subprocess.DEVNULL,
    ) -> int:
        """Returns the pid. `ended(exit code)` is called in the event loop's thread; 128 + n for signal n.

        Raises OSError when the system will not fork.
        """
        with self._lock:  # A child may end before it is known here.
            child = subprocess.Popen(
                argv, stdin=stdin, stdout=stdout, stderr=stderr, cwd=cwd, env=env, start_new_session=True
            )
            self._alive[child.pid] = (child, ended)
            return child.pid

    def reap(self) -> None:
        """For SIGCHLD, in the event loop's thread."""
        with self._lock:
            ended: List[Tuple[Callable[[int], None], int]] = []
            while True:
                try:
                    pid, status = os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    break
                if pid == 0:
                    break
                known = self._alive.pop(pid, None)
                if known is not None:
                    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
                    known[0].returncode = code  # So that Popen never waits by itself.
                    ended.append((known[1], code))
        for call, code in ended:
            call(code)

    def run(
        self,
        argv: Sequence[str],
        *,
        cwd: str,
        env: Dict[str, str],
        stdin: Optional[bytes] = None,
        timeout: float = 300,
        ok: Sequence[int] = (0,),
        cap: int = 1024**3,
    ) -> bytes:
        """For a worker thread: runs to its end and returns what it wrote. Raises Failure with stderr."""
        done = threading.Event()
        code: List[int] = []

        def ended(value: int) -> None:
            code.append(value)
            done.set()

        # Files, not pipes: nothing can block, and no thread is needed to pump.
        with contextlib.ExitStack() as files:
            out = files.enter_context(tempfile.TemporaryFile())
            err = files.enter_context(tempfile.TemporaryFile())
            source = subprocess.DEVNULL
            if stdin is not None:
                given = files.enter_context(tempfile.TemporaryFile())
                given.write(stdin)
                given.seek(0)
                source = given.fileno()
            for attempt in range(10):
                try:
                    pid = self.start(
                        argv, ended, cwd=cwd, env=env, stdin=source, stdout=out.fileno(), stderr=err.fileno()
                    )
                    break
                except OSError as exc:
                    # The agent's processes are at the limit. Its work is worth more than they are.
                    if exc.errno != errno.EAGAIN or attempt == 9 or not self.make_room():
                        raise from_os_error(exc, argv[0]) from exc
                    time.sleep(0.1)
            if not done.wait(timeout):
                kill_group(pid)
                done.wait(10)
                raise Failure("rejected", f"{argv[0]} did not end within {timeout:.0f} s")
            err.seek(0)
            message = err.read(8192).decode("utf-8", "replace").strip()
            if code[0] not in ok:
                raise Failure("git", f"{' '.join(_subject(argv))}: {message or f'exit {code[0]}'}")
            out.seek(0)
            return out.read(cap)

    def kill_others(self, patience: float) -> bool:
        """For PID 1: ends every other process of the sandbox, whatever it did to its group or environment.
        False when some still run after `patience` seconds."""
        ends = time.monotonic() + patience
        while _others():
            if time.monotonic() > ends:
                return False
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
            time.sleep(0.02)
        return True

    def kill_all(self) -> None:
        with self._lock:
            pids = list(self._alive)
        for pid in pids:
            kill_group(pid)


def _subject(argv: Sequence[str]) -> List[str]:
    """`git fetch` out of a long command line."""
    words = [word for word in argv[1:3] if not word.startswith("-")]
    return [os.path.basename(argv[0]), *words[:1]]


def _others() -> List[int]:
    """Processes of this PID namespace that are neither this one nor dead."""
    found: List[int] = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                if file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X"):
                    found.append(int(name))
    return found


def kill_group(pid: int) -> None:
    """SIGKILL to the process group that `pid` leads; also when the leader itself is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def kill_marked(mark: str) -> int:
    """Kills every process with `mark` (a `NAME=value`) in its environment: what left its process group.

    A process may wipe its environment; then it lives until the sandbox ends. Returns how many were found.
    """
    needle = b"\0" + mark.encode() + b"\0"
    found = 0
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return 0
    for pid in pids:
        if pid == os.getpid():
            continue
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if needle in b"\0" + file.read():
                    os.kill(pid, signal.SIGKILL)
                    found += 1
        except OSError:
            continue  # Gone meanwhile, or not ours.
    return found
