"""A real server in a process of its own, with a real repository in it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from swarmrun.sandbox.client import SandboxClient

SERVER = Path(__file__).parents[3] / "operator/swarmrun/sandbox/sandboxd"
TOKEN = "a token of the tests"


def python39() -> str:
    """A Python 3.9, the oldest that the server supports, or nothing."""
    candidates = [os.environ.get("SWARMRUN_TEST_PYTHON39", ""), shutil.which("python3.9") or ""]
    candidates += [str(p) for p in sorted(Path.home().glob(".pyenv/versions/3.9*/bin/python"))]
    for candidate in filter(None, candidates):
        said = subprocess.run(
            [candidate, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True
        )
        if said.stdout.strip() == b"(3, 9)":
            return candidate
    return ""


@pytest.fixture(scope="session")
def old_python() -> str:
    found = python39()
    if not found:
        pytest.skip("no Python 3.9 here: set SWARMRUN_TEST_PYTHON39 to one")
    return found


@pytest.fixture(scope="session")
def python() -> str:
    """The server must run on 3.9, so its tests use one where there is one. Our own Python is what
    the provider's tests and test_commands.py start."""
    return python39() or sys.executable


def _listens(where: str | tuple[str, int]) -> bool:
    family = socket.AF_UNIX if isinstance(where, str) else socket.AF_INET
    with socket.socket(family) as probe:
        return probe.connect_ex(where) == 0


@dataclass
class Box:
    """One running server: `home` is the directory it lives in, `origin` a repository beside it."""

    home: Path
    python: str
    stdout: int | None = None
    """Of the server: a descriptor; None: the tests' own."""
    process: subprocess.Popen[bytes] = field(init=False)
    client: SandboxClient = field(init=False)

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.origin = self.home / "origin"
        self.start()

    @property
    def repo(self) -> Path:
        return self.home / "volume" / "repo"

    def start(self, *options: str, port: int = 0) -> None:
        """`port`: listens there instead."""
        path = self.home / "s"
        line = [self.python, "-I", str(SERVER), f"--volume={self.home / 'volume'}"]
        listen = f"tcp:127.0.0.1:{port}" if port else f"unix:{path}"
        line += [f"--state={self.home / 'state'}", f"--listen={listen}"]
        line += [f"--token-sha256={hashlib.sha256(TOKEN.encode()).hexdigest()}", *options]
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home / "volume/home"),
            "SWARMRUN_SANDBOX": self.home.name,
        }
        path.unlink(missing_ok=True)
        self.process = subprocess.Popen(line, env=env, stdout=self.stdout)
        ends = time.monotonic() + 20
        while not _listens(("127.0.0.1", port) if port else str(path)):
            assert self.process.poll() is None, "the server ended at once"
            assert time.monotonic() < ends, "the server does not listen"
            time.sleep(0.005)
        self.client = SandboxClient("box", TOKEN, socket=str(path))

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def git(self, *arguments: str) -> str:
        """In the origin."""
        done = subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", *arguments],
            cwd=self.origin,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, files: dict[str, bytes]) -> str:
        """Makes a commit in the origin and returns its id."""
        if not (self.origin / ".git").exists():
            self.origin.mkdir()
            self.git("init", "-q", "-b", "main")
        for name, content in files.items():
            (self.origin / name).parent.mkdir(parents=True, exist_ok=True)
            (self.origin / name).write_bytes(content)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "base")
        return self.git("rev-parse", "HEAD")

    def bundle(self, *revisions: str) -> bytes:
        path = self.home / "out.bundle"
        self.git("bundle", "create", "-q", str(path), *(revisions or ("main",)))
        return path.read_bytes()

    async def loaded(self, files: dict[str, bytes] | None = None) -> str:
        """Loads a base commit with these files on branch `work` and returns its id."""
        base = self.commit(files if files is not None else {"a.py": b"one = 1\n"})
        await self.client.load(self.bundle(), commit=base, branch="work")
        return base

    def receive(self, bundle: bytes, commit: str) -> dict[str, tuple[str, bytes]]:
        """What a receiver of the bundle finds in the commit: name -> (mode, content)."""
        path = self.home / "in.bundle"
        path.write_bytes(bundle)
        self.git("fetch", "-q", str(path), "+refs/swarmrun/checkpoint:refs/in")
        assert self.git("rev-parse", "refs/in") == commit
        return self.files(commit)

    def files(self, commit: str) -> dict[str, tuple[str, bytes]]:
        found = {}
        for line in self.git("ls-tree", "-r", "-z", commit).split("\0"):
            if line:
                mode, _, rest = line.partition(" ")
                blob = rest.split(" ")[1].partition("\t")[0]
                if mode != "160000":
                    content = subprocess.run(
                        ["git", "cat-file", "blob", blob], cwd=self.origin, capture_output=True
                    )
                    found[rest.partition("\t")[2]] = (mode, content.stdout)
        return found


Scenario = Callable[[Box], Awaitable[Any]]


@pytest.fixture
def make_box(tmp_path: Path, python: str) -> Iterator[Callable[..., Box]]:
    """Starts a server; whatever still runs afterwards is ended."""
    boxes: list[Box] = []

    def make(stdout: int | None = None) -> Box:
        boxes.append(Box(tmp_path / "box", python, stdout))
        return boxes[-1]

    yield make
    for box in boxes:
        box.stop()


@pytest.fixture
def in_sandbox(make_box: Callable[[], Box]) -> Callable[[Scenario], Any]:
    """Runs a coroutine function against a fresh server."""

    def run(scenario: Scenario) -> Any:
        box = make_box()

        async def go() -> Any:
            try:
                return await scenario(box)
            finally:
                await box.client.close()

        return asyncio.run(go())

    return run
