"""Command line, signals, and the table of operations."""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures
import contextlib
import hashlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
from typing import Any, Callable, Dict, List, Optional, Tuple, TypeVar

from . import PROTOCOL, certificates
from .apart import keep_apart
from .checkpoint import Checkpoints
from .children import Children, kill_marked
from .commands import Commands
from .failures import Failure, rejected
from .journal import Journal
from .looking import Looking
from .store import Store
from .tree import Tree
from .voice import Voice
from .wire import Wire

WORKERS = 16
"""Threads for blocking work, all started before anything of the agent's runs."""

SEAL_SECONDS = 10.0
"""That killed processes get to end (arbitrary)."""

NOTED = 10_000
"""Bytes of a command's output that the journal keeps."""

T = TypeVar("T")
Answer = Tuple[Dict[str, Any], bytes]


def arguments(argv: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sandboxd", description="The server inside a SwarmRun sandbox.")
    parser.add_argument(
        "--volume",
        required=True,
        help="directory that holds repo/, git/, home/ and tmp/ (made where missing)",
    )
    parser.add_argument("--state", required=True, help="directory of the journal, outside the work tree")
    parser.add_argument("--tmp", default="", help="TMPDIR of commands (default: VOLUME/tmp)")
    parser.add_argument("--listen", required=True, help="unix:PATH or tcp:HOST:PORT")
    parser.add_argument(
        "--token-sha256", default="", help="SHA-256 of the token, in hex; or SWARMRUN_TOKEN_SHA256"
    )
    parser.add_argument("--token-sha256-file", default="", help="file that holds it")
    parser.add_argument(
        "--lifeline", type=int, default=-1, help="descriptor whose end of file ends the server"
    )
    parser.add_argument("--max-processes", type=int, default=0, help="RLIMIT_NPROC, where there is no cgroup")
    parser.add_argument("--max-memory-mb", type=int, default=0, help="RLIMIT_DATA, where there is no cgroup")
    parser.add_argument("--ca", default="", help="certificates to trust besides the system's (PEM)")
    parser.add_argument("--ca-joined", default="", help="file that is written with both")
    return parser.parse_args(argv)


def token_hash(given: argparse.Namespace) -> str:
    """Raises SystemExit: a server without a token is never started."""
    value = given.token_sha256 or os.environ.pop("SWARMRUN_TOKEN_SHA256", "")
    if given.token_sha256_file:
        with open(given.token_sha256_file, encoding="ascii") as file:
            value = file.read()
    value = value.strip().lower()
    if len(value) != 64 or any(c not in "0123456789abcdef" for c in value):
        raise SystemExit("sandboxd: --token-sha256 needs the 64 hex digits of a token's SHA-256")
    if value == hashlib.sha256(b"").hexdigest():
        raise SystemExit("sandboxd: this is the hash of an empty token; give a real one")
    return value


def limit(given: argparse.Namespace) -> None:
    import resource

    for what, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, given.max_processes),
        (resource.RLIMIT_DATA, given.max_memory_mb * 1024**2),
    ):
        if value or what == resource.RLIMIT_CORE:
            hard = resource.getrlimit(what)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(what, (value, value))


def environment(volume: str, tmp: str) -> Dict[str, str]:
    """What commands see: the server's own environment, and a terminal that never waits for anybody."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("SWARMRUN_TOKEN")}
    env.setdefault("HOME", os.path.join(volume, "home"))
    env.setdefault("LANG", "C.UTF-8")
    env.update(
        TMPDIR=tmp,
        PAGER="cat",
        MANPAGER="cat",
        GIT_PAGER="cat",
        GIT_EDITOR=":",
        GIT_TERMINAL_PROMPT="0",
        COLUMNS="120",
        LINES="40",
        TERM="dumb",
        PIP_PROGRESS_BAR="off",
    )
    return env


GITCONFIG = """\
[user]
\tname = SwarmRun agent
\temail = agent@swarmrun.invalid
[init]
\tdefaultBranch = main
[safe]
\tdirectory = *
[advice]
\tdetachedHead = false
"""
"""In $HOME, not as GIT_AUTHOR_*: those would override what a project's own tests configure."""


class Server:
    def __init__(self, given: argparse.Namespace) -> None:
        volume = os.path.abspath(given.volume)
        tmp = os.path.abspath(given.tmp) if given.tmp else os.path.join(volume, "tmp")
        repo = os.path.join(volume, "repo")
        env = environment(volume, tmp)
        for directory in (repo, tmp, env["HOME"], given.state):
            os.makedirs(directory, exist_ok=True)
        if given.ca:
            certificates.join(given.ca, given.ca_joined)
        gitconfig = os.path.join(env["HOME"], ".gitconfig")
        if not os.path.lexists(gitconfig):
            with open(gitconfig, "w", encoding="utf-8") as file:
                file.write(GITCONFIG)
        self.boot_id = secrets.token_hex(8)
        self.children = Children()
        self._pool = concurrent.futures.ThreadPoolExecutor(WORKERS)
        self._start_workers()
        self._tree = Tree(repo)
        store = Store(os.path.join(volume, "git"), self._tree.root, self.children, env)
        self._checkpoints = Checkpoints(self._tree, store)
        self._looking = Looking(self._tree, store)
        self._env = env
        self._commands = Commands(self.children, self._in_worker, env=env, out_dir=os.path.join(tmp, "out"))
        self.children.make_room = lambda: self._commands.free(running=True)
        self._voice = Voice()
        self._journal = Journal(os.path.join(given.state, "journal.jsonl"))
        self._git_version = ""
        git = shutil.which("git", path=env.get("PATH"))
        if git:
            self._git_version = subprocess.run(
                [git, "version"], capture_output=True, text=True
            ).stdout.strip()

    def _start_workers(self) -> None:
        """All of them now: later the sandbox may be at its limit of processes."""
        gate = threading.Barrier(WORKERS + 1)
        for _ in range(WORKERS):
            self._pool.submit(gate.wait)
        gate.wait()

    def _in_worker(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        return asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def handle(self, op: str, args: Dict[str, Any], payload: bytes) -> Answer:
        work = getattr(self, "_op_" + op, None) if op.isalpha() else None
        if work is None:
            raise Failure("unknown-op", f"no operation {op!r} in protocol {PROTOCOL}")
        key = args.pop("key", "")
        if not key:
            return await work(args, payload)

        async def once() -> Dict[str, Any]:
            return (await work(args, payload))[0]

        what = {name: value for name, value in args.items() if name not in ("wait_s", "cap")}
        call = {"op": op, "args": what, "payload": hashlib.sha256(payload).hexdigest()}
        if op == "exec":
            return await self._exec_once(key, call, args), b""
        return await self._journal.once(key, call, once), b""

    # ------------------------------------------------------------ operations

    async def _op_health(self, args: Dict[str, Any], payload: bytes) -> Answer:
        return {
            "protocol": PROTOCOL,
            "boot_id": self.boot_id,
            "python": ".".join(str(part) for part in sys.version_info[:3]),
            "git": self._git_version,
            "running": self._commands.running(),
        }, b""

    async def _start(self, args: Dict[str, Any]) -> Any:
        workdir = self._tree.resolve(args.get("workdir", "."))
        cwd = os.path.join(self._tree.root, workdir)
        if not os.path.isdir(cwd):
            raise Failure("not-found", f"workdir {args.get('workdir')}: no such directory in the repository")
        env = {str(name): str(value) for name, value in (args.get("env") or {}).items()}
        return await self._commands.start(args["command"], cwd=cwd, env=env)

    async def _op_exec(self, args: Dict[str, Any], payload: bytes) -> Answer:
        """Starts; answers when the command has ended, or after `wait_s`: then it goes on and is polled."""
        it = await self._start(args)
        await self._commands.wait(it, float(args.get("wait_s", 0)))
        return self._commands.state(it, int(args.get("cap", 10_000))), b""

    async def _exec_once(self, key: str, call: Dict[str, Any], args: Dict[str, Any]) -> Dict[str, Any]:
        """A repeated exec joins the command that the first call started, however far that is."""

        async def start() -> Dict[str, Any]:
            it = await self._start(args)
            it.when_ended(lambda: self._journal.keep(key, self._commands.state(it, NOTED)))
            return {"process": it.name, "boot_id": self.boot_id}

        answer = await self._journal.once(key, call, start)
        if "final" in answer:
            return answer
        if answer["boot_id"] != self.boot_id:
            raise Failure("interrupted", f"the command {key!r} was cut off when the sandbox restarted")
        it = self._commands.named(answer["process"])
        await self._commands.wait(it, float(args.get("wait_s", 0)))
        return self._commands.state(it, int(args.get("cap", 10_000)))

    async def _op_poll(self, args: Dict[str, Any], payload: bytes) -> Answer:
        it = self._commands.named(args["process"])
        await self._commands.wait(it, float(args.get("wait_s", 0)))
        return self._commands.state(it, int(args.get("cap", 10_000))), b""

    async def _op_kill(self, args: Dict[str, Any], payload: bytes) -> Answer:
        it = self._commands.named(args["process"])
        await self._commands.kill(it)
        return self._commands.state(it, int(args.get("cap", 10_000))), b""

    async def _op_read(self, args: Dict[str, Any], payload: bytes) -> Answer:
        path = args["path"]
        limit = int(args.get("max_bytes", 2_000_000))

        def work() -> bytes:
            try:
                return self._tree.read(path, limit)
            except Failure as exc:
                if exc.code == "not-found":
                    exc.message += self._looking.similar(path)
                raise

        return {}, await self._in_worker(work)

    async def _op_write(self, args: Dict[str, Any], payload: bytes) -> Answer:
        path, mode = args["path"], args.get("mode")
        await self._in_worker(lambda: self._tree.write(path, payload, mode))
        return {}, b""

    async def _op_delete(self, args: Dict[str, Any], payload: bytes) -> Answer:
        path = args["path"]
        await self._in_worker(lambda: self._tree.delete(path))
        return {}, b""

    async def _op_move(self, args: Dict[str, Any], payload: bytes) -> Answer:
        source, target = args["source"], args["target"]
        await self._in_worker(lambda: self._tree.move(source, target))
        return {}, b""

    async def _op_list(self, args: Dict[str, Any], payload: bytes) -> Answer:
        path, glob = args.get("path", "."), args.get("glob", "")
        depth, most = int(args.get("depth", 2)), int(args.get("max_entries", 500))
        rows, total = await self._in_worker(lambda: self._looking.list(path, depth, glob, most))
        return {"rows": rows, "total": total}, b""

    async def _op_search(self, args: Dict[str, Any], payload: bytes) -> Answer:
        pattern, path, glob = args["pattern"], args.get("path", "."), args.get("glob", "")
        context, most = int(args.get("context", 0)), int(args.get("max_matches", 50))
        rows, total = await self._in_worker(lambda: self._looking.search(pattern, path, glob, context, most))
        return {"rows": rows, "total": total}, b""

    async def _op_load(self, args: Dict[str, Any], payload: bytes) -> Answer:
        commit, branch = args["commit"], args["branch"]
        await self._in_worker(lambda: self._checkpoints.load(payload, commit, branch))
        return {}, b""

    async def _op_checkpoint(self, args: Dict[str, Any], payload: bytes) -> Answer:
        since, message = args["since"], args.get("message", "")
        return await self._in_worker(lambda: self._checkpoints.checkpoint(since, message))

    async def _op_seal(self, args: Dict[str, Any], payload: bytes) -> Answer:
        """Set-up is over: what it left running ends, with every connection it holds, and later commands are
        not told of what it alone could reach (`forget`: names of variables). Idempotent."""
        if os.getpid() != 1:
            self.end()
        elif not await self._in_worker(lambda: self.children.kill_others(SEAL_SECONDS)):
            raise rejected("processes of set-up do not end")
        for name in args.get("forget", []):
            self._env.pop(str(name), None)
        return {}, b""

    async def _op_say(self, args: Dict[str, Any], payload: bytes) -> Answer:
        """`said` is false when nobody takes it; lines are lost then, and nothing waits."""
        lines = [str(line) for line in args["lines"]]
        return {"said": await self._in_worker(lambda: self._voice.say(lines))}, b""

    def end(self) -> None:
        """Kills every command, also those that left their process group."""
        self.children.kill_all()
        sandbox = os.environ.get("SWARMRUN_SANDBOX", "")
        for _ in range(20):
            if not sandbox or kill_marked(f"SWARMRUN_SANDBOX={sandbox}") == 0:
                break


async def serve(given: argparse.Namespace, token_sha256: str) -> None:
    server = Server(given)
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    loop.add_signal_handler(signal.SIGCHLD, server.children.reap)
    wire = Wire(token_sha256, server.boot_id, server.handle)
    kind, _, where = given.listen.partition(":")
    if kind == "unix":
        with contextlib.suppress(FileNotFoundError):
            os.unlink(where)
        await asyncio.start_unix_server(wire.serve, where, limit=1024 * 1024)
    elif kind == "tcp":
        host, _, port = where.rpartition(":")
        listener = await asyncio.start_server(wire.serve, host, int(port), limit=1024 * 1024)
        for sock in listener.sockets:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            print(f"listening on port {sock.getsockname()[1]}", flush=True)
    else:
        raise SystemExit(f"sandboxd: --listen {given.listen}: give unix:PATH or tcp:HOST:PORT")
    if given.lifeline >= 0:
        # Whoever started us holds the other end; when it dies, by whatever signal, nothing is left behind.
        os.set_inheritable(given.lifeline, False)
        loop.add_reader(given.lifeline, stopped.set)
    await stopped.wait()
    server.end()
    # Not sys.exit: worker threads may be in the middle of something, and nobody waits for them.
    os._exit(0)


def main(argv: Optional[List[str]] = None) -> int:
    given = arguments(argv)
    token_sha256 = token_hash(given)
    limit(given)
    keep_apart()
    asyncio.run(serve(given, token_sha256))
    return 0
