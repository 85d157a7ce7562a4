"""The agent's commands: started, awaited for a while, polled, killed with all that they started."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import shutil
import subprocess
import time
from typing import Any, Awaitable, Callable, Dict, List, Optional

from .children import Children, kill_group, kill_marked
from .failures import Failure, from_os_error, rejected
from .output import Output

REMEMBERED = 200
"""Ended commands whose output can still be polled (arbitrary)."""
LONGEST_WAIT = 25.0
"""Seconds that one request may be held; the client asks again. Below the usual time-outs of proxies."""
F_SETPIPE_SZ = 1031
"""linux/fcntl.h; a larger pipe means fewer wake-ups for loud commands."""


class Command:
    def __init__(self, name: str, output: Output) -> None:
        self.name = name
        self.output = output
        self.pid = 0
        self.pipe = -1
        self.started = time.monotonic()
        self.seconds = 0.0
        self.exit_code: Optional[int] = None
        self.ended = asyncio.Event()
        self._afterwards: Optional[Callable[[], None]] = None

    def when_ended(self, call: Callable[[], None]) -> None:
        """Calls it at the end, before anybody who waits is answered; at once when that has been."""
        if self.exit_code is None:
            self._afterwards = call
        else:
            call()

    def end(self, code: int) -> None:
        self.exit_code = code
        self.seconds = time.monotonic() - self.started
        if self.pipe < 0:
            self.output.close()
        if self._afterwards is not None:
            self._afterwards()
        self.ended.set()


class Commands:
    """Lives in the event loop's thread; only the fork itself happens in a worker (`in_worker`)."""

    def __init__(
        self,
        children: Children,
        in_worker: Callable[[Callable[[], int]], Awaitable[int]],
        *,
        env: Dict[str, str],
        out_dir: str,
    ) -> None:
        self._children = children
        self._in_worker = in_worker
        self._env = env
        self._out_dir = out_dir
        self._shell = shutil.which("bash", path=env.get("PATH")) or "/bin/sh"
        self._commands: Dict[str, Command] = {}
        self._count = 0

    async def start(self, command: str, *, cwd: str, env: Dict[str, str]) -> Command:
        """Own session and process group, standard input closed, both outputs in one."""
        self._count += 1
        name = f"p{self._count}"
        it = Command(name, Output(os.path.join(self._out_dir, f"{self._count}.txt")))
        loop = asyncio.get_running_loop()
        try:
            read, write = os.pipe()
        except OSError as exc:
            raise from_os_error(exc, "exec") from exc
        os.set_blocking(read, False)
        with contextlib.suppress(OSError):
            fcntl.fcntl(read, F_SETPIPE_SZ, 1024 * 1024)
        it.pipe = read
        environment = {**self._env, **env, "SWARMRUN_PROCESS": name}

        def fork() -> int:
            return self._children.start(
                [self._shell, "-c", command],
                lambda code: self._ended(it, code),
                cwd=cwd,
                env=environment,
                stdout=write,
                stderr=subprocess.STDOUT,
            )

        try:
            it.pid = await self._in_worker(fork)
        except OSError as exc:
            os.close(read)
            if exc.errno == errno.EAGAIN and self.free(running=False):
                await asyncio.sleep(0.1)  # Until the killed ones are reaped.
                return await self.start(command, cwd=cwd, env=env)
            raise from_os_error(exc, f"exec (running: {', '.join(self.running()) or 'nothing'})") from exc
        except ValueError as exc:
            os.close(read)
            raise rejected(f"exec: {exc}; a command holds no NUL") from exc
        finally:
            os.close(write)
        # When memory runs out, the kernel should take the command and not the server.
        with contextlib.suppress(OSError), open(f"/proc/{it.pid}/oom_score_adj", "w") as file:
            file.write("500")
        self._commands[name] = it
        if it.pipe >= 0:
            loop.add_reader(it.pipe, self._pump, it)
        self._forget()
        return it

    def _pump(self, it: Command) -> bool:
        """One read; False when there is nothing more for now."""
        try:
            chunk = os.read(it.pipe, 1024 * 1024)
        except BlockingIOError:
            return False
        except OSError:
            chunk = b""
        if chunk:
            it.output.add(chunk)
            return True
        asyncio.get_running_loop().remove_reader(it.pipe)
        os.close(it.pipe)
        it.pipe = -1
        if it.exit_code is not None:
            it.output.close()
        return False

    def _ended(self, it: Command, code: int) -> None:
        # What it left in the pipe belongs to it. What a background child writes later is still pumped, or
        # the child would die of SIGPIPE; bounded here, for such a child may write for ever.
        for _ in range(64):
            if it.pipe < 0 or not self._pump(it):
                break
        it.end(code)

    def free(self, *, running: bool) -> bool:
        """Kills what ended commands left behind, with `running` the others too; True when there was any.

        For when nothing can be started any more: a command that goes on forking after its own end is
        nothing that anybody waits for.
        """
        found = False
        for it in self._commands.values():
            if it.pipe >= 0 and (running or it.exit_code is not None):
                kill_group(it.pid)
                found = True
        return found

    def _forget(self) -> None:
        ended = [it for it in self._commands.values() if it.exit_code is not None and it.pipe < 0]
        for it in ended[: max(0, len(self._commands) - REMEMBERED)]:
            it.output.discard()
            del self._commands[it.name]

    def named(self, name: str) -> Command:
        try:
            return self._commands[name]
        except KeyError:
            running = [it.name for it in self._commands.values() if it.exit_code is None]
            raise Failure(
                "not-found", f"no process {name!r}; running: {', '.join(running) or 'none'}"
            ) from None

    async def wait(self, it: Command, seconds: float) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(it.ended.wait(), max(0.0, min(seconds, LONGEST_WAIT)))

    async def kill(self, it: Command) -> None:
        """The process group, and by their environment those who left it."""
        kill_group(it.pid)
        mark = f"SWARMRUN_PROCESS={it.name}"
        for _ in range(20):  # A bomb forks while we look.
            if await self._in_worker(lambda: kill_marked(mark)) == 0:
                break
        await self.wait(it, 5)

    def state(self, it: Command, cap: int) -> Dict[str, Any]:
        text, omitted, path = it.output.shown(cap)
        if it.exit_code is not None and it.pipe >= 0:
            text += f"\n[processes that this command started still run; kill {it.name} to end them]\n"
        seconds = it.seconds if it.exit_code is not None else time.monotonic() - it.started
        return {
            "process": it.name,
            "exit_code": it.exit_code,
            "final": it.exit_code is not None,
            "stdout": text,
            "omitted": omitted,
            "output_file": path,
            "seconds": round(seconds, 4),
        }

    def running(self) -> List[str]:
        return [it.name for it in self._commands.values() if it.exit_code is None]
