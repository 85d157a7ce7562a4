"""Sandboxes as local processes, in bubblewrap where it works.

```
ROOT/<id>/sandbox.json   the marker: what this was, whose run, how it was started. Written before the start
          volume/        repo/ git/ home/ tmp/: all that the agent may write, /sandbox inside
          server/        socket and journal, /run/sandboxd inside
          etc/           passwd, group, hosts of the sandbox
          server.log     what the server printed
```

A sandbox lives as long as this process: bubblewrap dies with it (and by a pipe whose other end we hold, so
does a server without bubblewrap). One whose marker stands there without a live process of ours is Lost, and
is never started again: what had run in it is gone. Several processes may share a root for different runs.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarmrun.errors import SandboxLost, SandboxRefused
from swarmrun.ports import SandboxSpec, SandboxState
from swarmrun.sandbox import bubblewrap, cgroups
from swarmrun.sandbox.client import SandboxClient
from swarmrun.sandbox.sandboxd.children import kill_marked
from swarmrun.sandbox.tokens import token, token_sha256
from swarmrun.sandbox.toolchains import Toolchains, toolchains

SERVER = Path(__file__).parent / "sandboxd"
START_SECONDS = 2.0
"""How long `ensure` waits for a server; it takes about 0.2 s on an idle machine."""

ANSWER_SECONDS = 10.0
"""After so long without an answer a sandbox that was ready counts as lost (arbitrary)."""

_spawner = ThreadPoolExecutor(1, thread_name_prefix="sandbox-spawner")
"""All sandboxes are started from one thread that lives as long as the process: the kernel's
"die with parent" means the thread that forked (prctl(2), PR_SET_PDEATHSIG)."""


@dataclass
class _Live:
    process: subprocess.Popen[bytes]
    lifeline: int
    """Our end of the pipe; the server ends when it is closed."""
    directory_fd: int
    """Of `server/`: a unix socket's path may have 107 bytes only, and roots are long."""
    client: SandboxClient
    loop: asyncio.AbstractEventLoop
    note: str
    cloned: bool
    ready: bool = False


class ProcessProvider:
    """`ports.SandboxProvider` on this machine.

    `master_key` (at least 16 bytes) gives each sandbox's token. Without bubblewrap every `ensure` raises
    SandboxRefused unless `unsafe_no_sandbox` is set; then commands run as the user, with the user's files in
    reach, and `isolation` is `none`. `disk_mb` and `cpu` of a spec are not enforced here.
    """

    logged = False

    def __init__(
        self,
        root: Path,
        master_key: bytes,
        *,
        unsafe_no_sandbox: bool = False,
        bwrap: bubblewrap.Usable | None = None,
    ) -> None:
        self._root = root.absolute()
        self._master_key = master_key
        self._bwrap = bwrap if bwrap is not None else bubblewrap.usable()
        self._unsafe = unsafe_no_sandbox
        self.isolation = "none" if self._bwrap.problem else "bubblewrap"
        self._live: dict[str, _Live] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._tools: Toolchains | None = None
        self._swept = False

    def preflight(self) -> None:
        """Raises SandboxRefused when no sandbox can be started here."""
        if self._bwrap.problem and not self._unsafe:
            raise SandboxRefused(
                f"agents cannot be isolated on this machine: {self._bwrap.problem}",
                mend="install bubblewrap, see `swarmrun doctor`, "
                "or accept --unsafe-no-sandbox: agents then run commands as you",
            )

    # ------------------------------------------------------------ protocol

    async def ensure(self, spec: SandboxSpec) -> SandboxState:
        self.preflight()
        async with self._locks.setdefault(spec.id, asyncio.Lock()):
            live = self._live.get(spec.id)
            if live is None:
                if await asyncio.to_thread((self._directory(spec.id) / "sandbox.json").exists):
                    await asyncio.to_thread(self._leave_no_cgroup, spec.id)
                    return SandboxState(
                        "Lost", "Ended", f"sandbox {spec.id} ended with the process that held it"
                    )
                try:
                    live = await self._start(spec)
                except OSError as exc:
                    return SandboxState("Refused", "CannotStart", f"sandbox {spec.id} cannot start: {exc}")
                self._live[spec.id] = live
            return await self._state(spec.id, live)

    async def connect(self, sandbox_id: str) -> SandboxClient:
        live = self._live.get(sandbox_id)
        if live is None or live.process.poll() is not None:
            raise SandboxLost(f"sandbox {sandbox_id} is not running")
        if live.loop is not asyncio.get_running_loop():
            live.client = self._client(sandbox_id, live.directory_fd, live.client.boot_id)
            live.loop = asyncio.get_running_loop()
        return live.client

    async def release(self, sandbox_id: str) -> None:
        async with self._locks.setdefault(sandbox_id, asyncio.Lock()):
            live = self._live.pop(sandbox_id, None)
            await asyncio.to_thread(self._remove, sandbox_id, live)
            if live is not None and live.loop is asyncio.get_running_loop():
                await live.client.close()
        self._locks.pop(sandbox_id, None)

    async def release_run(self, run: str) -> None:
        def ids() -> list[str]:
            markers = (_marker(directory) for directory in self._root.glob("*/sandbox.json"))
            return [marker["id"] for marker in markers if marker.get("run") == run and "id" in marker]

        for sandbox_id in await asyncio.to_thread(ids):
            await self.release(sandbox_id)

    # ------------------------------------------------------------ starting

    async def _state(self, sandbox_id: str, live: _Live) -> SandboxState:
        ends = time.monotonic() + START_SECONDS
        while not live.ready:
            if live.process.poll() is not None:
                log = self._directory(sandbox_id) / "server.log"
                said = log.read_text(errors="replace").strip()[-500:] if log.exists() else ""
                return SandboxState("Refused", "ServerEnded", f"sandbox {sandbox_id} did not start: {said}")
            try:
                await (await self.connect(sandbox_id)).health(timeout_s=START_SECONDS)
                live.ready = True
            except SandboxLost as exc:
                if time.monotonic() > ends:
                    return SandboxState("Starting", "NotAnswering", str(exc))
                await asyncio.sleep(0.01)
        try:
            # Asked, not only looked at: a process that is being killed is still there for a moment.
            await (await self.connect(sandbox_id)).health(timeout_s=ANSWER_SECONDS)
        except SandboxLost as exc:
            live.process.kill()
            return SandboxState("Lost", "ServerEnded", str(exc))
        return SandboxState("Ready", message=live.note, cloned=live.cloned)

    async def _start(self, spec: SandboxSpec) -> _Live:
        directory = self._directory(spec.id)
        cloned = await asyncio.to_thread(self._prepare, spec, directory)
        loop = asyncio.get_running_loop()
        process, lifeline, note = await loop.run_in_executor(_spawner, self._spawn, spec, directory)
        fd = os.open(directory / "server", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return _Live(process, lifeline, fd, self._client(spec.id, fd, ""), loop, note, cloned)

    def _prepare(self, spec: SandboxSpec, directory: Path) -> bool:
        """Makes the directories; returns whether the volume is a copy."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
        volume = directory / "volume"
        if volume.exists():
            _remove_tree(volume)  # Half made by a process that was killed before it wrote the marker.
        cloned = self._clone(spec.clone_of, volume)
        for name in ("repo", "git", "home", "tmp"):
            (volume / name).mkdir(parents=True, exist_ok=True)
        (directory / "server").mkdir(mode=0o700, exist_ok=True)
        bubblewrap.write_etc(directory / "etc")
        return cloned

    def _clone(self, source_id: str, volume: Path) -> bool:
        """Copies another sandbox's files, sharing blocks where the file system can."""
        # Without bubblewrap each sandbox has paths of its own, and prepared trees (a .venv) hold them.
        if not source_id or self.isolation == "none":
            return False
        source = self._directory(source_id) / "volume"
        parts = [str(source / name) for name in ("repo", "git", "home") if (source / name).is_dir()]
        if not parts:
            return False
        volume.mkdir(parents=True)
        copied = subprocess.run(["cp", "-a", "--reflink=auto", *parts, str(volume)], capture_output=True)
        if copied.returncode != 0:
            _remove_tree(volume)
        return copied.returncode == 0

    def _spawn(self, spec: SandboxSpec, directory: Path) -> tuple[subprocess.Popen[bytes], int, str]:
        """In the spawner's thread."""
        if not self._swept:
            self._swept = True
            cgroups.sweep()  # Of runs that were killed and never resumed, or deleted by hand.
        group = cgroups.create(
            f"{cgroups.PREFIX}{_short(str(directory))}", pids=spec.pids, memory_mb=spec.memory_mb
        )
        self._mark_started(spec, directory, group.directories if group else ())
        theirs, ours = os.pipe()
        os.set_inheritable(theirs, True)
        limits: list[str] = []
        note = ""
        if group is None:
            limits = [f"--max-processes={spec.pids}", f"--max-memory-mb={spec.memory_mb}"]
            note = "no cgroup on this machine: processes and memory are capped by RLIMITs, per process"
            if os.geteuid() == 0:
                note = "no cgroup on this machine and RLIMITs on processes do not bind root: fork bombs are not capped"
        hashed = token_sha256(token(self._master_key, spec.id))
        server = [f"--token-sha256={hashed}", f"--lifeline={theirs}", *limits]
        build = self._command if self.isolation == "bubblewrap" else self._plain_command
        line, env = build(spec, directory, server)
        try:
            with open(directory / "server.log", "wb") as log:
                process = subprocess.Popen(
                    [*(group.prefix if group else ()), *line],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=directory / "server",
                    env=env,
                    pass_fds=[theirs],
                    start_new_session=True,
                )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        return process, ours, note

    def _mark_started(self, spec: SandboxSpec, directory: Path, groups: tuple[Path, ...] = ()) -> None:
        marker = {"id": spec.id, "run": spec.run, "cgroups": [str(path) for path in groups]}
        _write_durably(directory / "sandbox.json", json.dumps(marker))

    def _command(
        self, spec: SandboxSpec, directory: Path, server: list[str]
    ) -> tuple[list[str], dict[str, str]]:
        tools = self._toolchains()
        env = self._environment(spec, tools, home="/sandbox/home", tmp="/tmp")
        line = bubblewrap.command(
            self._bwrap,
            volume=directory / "volume",
            state=directory / "server",
            etc=directory / "etc",
            server=SERVER,
            roots=tools.roots,
            env=env,
            egress=spec.egress,
        )
        where = [
            "--volume=/sandbox",
            "--state=/run/sandboxd",
            "--tmp=/tmp",
            "--listen=unix:/run/sandboxd/sock",
        ]
        # bubblewrap itself needs nothing of our environment; --clearenv keeps it from the sandbox.
        return [*line, sys.executable, "-I", "/opt/swarmrun/sandboxd", *where, *server], {"PATH": os.defpath}

    def _plain_command(
        self, spec: SandboxSpec, directory: Path, server: list[str]
    ) -> tuple[list[str], dict[str, str]]:
        volume = directory / "volume"
        tools = self._toolchains()
        env = self._environment(spec, tools, home=str(volume / "home"), tmp=str(volume / "tmp"))
        where = [f"--volume={volume}", f"--state={directory / 'server'}", "--listen=unix:sock"]
        return [sys.executable, "-I", str(SERVER), *where, *server], env

    def _toolchains(self) -> Toolchains:
        if self._tools is None:
            path = os.environ.get("PATH", os.defpath)
            self._tools = toolchains(path, home=Path.home(), environ=dict(os.environ))
        return self._tools

    def _environment(self, spec: SandboxSpec, tools: Toolchains, *, home: str, tmp: str) -> dict[str, str]:
        """Nothing of the user's environment but the path to the tools: it often holds keys."""
        return {
            "LANG": "C.UTF-8",
            # Tests of a Python project must not fill the tree with caches that differ from run to run.
            "PYTHONDONTWRITEBYTECODE": "1",
            **tools.env,
            "PATH": tools.path,
            **spec.env,
            "HOME": home,
            "TMPDIR": tmp,
            "SWARMRUN_SANDBOX": self._mark(spec.id),
        }

    # ------------------------------------------------------------ ending

    def _remove(self, sandbox_id: str, live: _Live | None) -> None:
        directory = self._directory(sandbox_id)
        if live is not None:
            live.process.kill()
            live.process.wait()
            os.close(live.lifeline)
            os.close(live.directory_fd)
        self._end(sandbox_id)
        for _ in range(20):  # Also of a process that was killed: its commands may outlive it by a moment.
            if kill_marked(f"SWARMRUN_SANDBOX={self._mark(sandbox_id)}") == 0:
                break
            time.sleep(0.01)
        self._leave_no_cgroup(sandbox_id)
        if directory.exists():
            _remove_sandbox(directory)

    def stop(self) -> None:
        """Ends the sandboxes of a process that ends before its run does: they would die with it, but nobody
        would remove their cgroups. Their files and markers stay, so each is Lost to whoever resumes."""
        for sandbox_id, live in list(self._live.items()):
            if _marker(self._directory(sandbox_id) / "sandbox.json").get("cgroups"):
                del self._live[sandbox_id]
                live.process.kill()
                live.process.wait()
                os.close(live.lifeline)
                os.close(live.directory_fd)
                self._leave_no_cgroup(sandbox_id)

    def _leave_no_cgroup(self, sandbox_id: str) -> None:
        marker = _marker(self._directory(sandbox_id) / "sandbox.json")
        cgroups.remove([Path(path) for path in marker.get("cgroups", [])])

    def _end(self, sandbox_id: str) -> None:
        """What else has to be ended before the directories go. Also of a sandbox that another process held."""

    # ------------------------------------------------------------ names

    def _directory(self, sandbox_id: str) -> Path:
        """Safe as a file name, and still readable."""
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", sandbox_id):
            return self._root / sandbox_id
        readable = re.sub(r"[^A-Za-z0-9_-]", "-", sandbox_id)[:60]
        return self._root / f"x-{readable}-{_short(sandbox_id)}"

    def _mark(self, sandbox_id: str) -> str:
        return _short(str(self._directory(sandbox_id)))

    def _client(self, sandbox_id: str, directory_fd: int, boot_id: str) -> SandboxClient:
        if sys.platform == "linux":
            socket = f"/proc/self/fd/{directory_fd}/sock"
        else:
            socket = str(self._directory(sandbox_id) / "server" / "sock")
        return SandboxClient(sandbox_id, token(self._master_key, sandbox_id), socket=socket, boot_id=boot_id)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _marker(file: Path) -> dict[str, Any]:
    """Empty when it is not there or was cut off."""
    try:
        value = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def sweep(root: Path) -> None:
    """Ends what sandboxes below `root` left when their process was killed: commands, cgroups. Files stay."""
    for file in root.glob("*/sandbox.json"):
        kill_marked(f"SWARMRUN_SANDBOX={_short(str(file.parent))}")
        cgroups.remove([Path(path) for path in _marker(file).get("cgroups", [])])


def _write_durably(file: Path, text: str) -> None:
    draft = file.with_suffix(".tmp")
    with open(draft, "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    os.replace(draft, file)


def _remove_sandbox(directory: Path) -> None:
    # The marker goes last: what is half removed is still Lost, not new.
    for entry in directory.iterdir():
        if entry.is_dir():
            _remove_tree(entry)
        elif entry.name != "sandbox.json":
            entry.unlink(missing_ok=True)
    (directory / "sandbox.json").unlink(missing_ok=True)
    directory.rmdir()


def _remove_tree(directory: Path) -> None:
    """Also when the agent took its own rights away from directories (`chmod 000`)."""
    try:
        shutil.rmtree(directory)
    except PermissionError:
        for base, names, _ in os.walk(directory):
            for name in names:
                if not os.path.islink(os.path.join(base, name)):
                    os.chmod(os.path.join(base, name), 0o700)
        shutil.rmtree(directory)
