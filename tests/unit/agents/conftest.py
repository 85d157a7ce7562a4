"""One real sandbox for all tests of this room; every test finds an empty work tree."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from swarmrun.agents.roles import role
from swarmrun.agents.tool import ToolContext, ToolOutcome
from swarmrun.agents.toolset import execute
from swarmrun.ports import Profile, Sandbox, SandboxSpec, ToolCall
from swarmrun.sandbox.process import ProcessProvider


@dataclass
class Bench:
    runner: asyncio.Runner
    sandbox: Sandbox
    tree: Path
    """The sandbox's work tree, seen from outside."""
    profile: Profile = field(default_factory=lambda: Profile("scripted"))
    count: int = 0
    prefix: str = ""

    def put(self, path: str, content: str | bytes) -> None:
        file = self.tree / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)

    def get(self, path: str) -> str:
        return (self.tree / path).read_bytes().decode()

    def context(self, role_name: str = "coder", **changes: Any) -> ToolContext:
        return replace(ToolContext(role(role_name), "storage", self.profile), **changes)

    def call(
        self, name: str, arguments: dict[str, Any] | None = None, *, key: str = "", **changes: Any
    ) -> ToolOutcome:
        """One call as a model would make it; `changes` are of the context, or of the call."""
        self.count += 1
        problem, raw = changes.pop("problem", ""), changes.pop("raw", "")
        call = ToolCall(0, f"c{self.count}", name, arguments or {}, raw=raw, problem=problem)
        context = self.context(changes.pop("role", "coder"), **changes)
        key = key or f"{self.prefix}/{self.count}"
        return self.runner.run(execute(call, sandbox=self.sandbox, key=key, context=context))


@pytest.fixture(scope="session")
def _sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, Sandbox, Path]]:
    home = tmp_path_factory.mktemp("agents")
    provider = ProcessProvider(home / "root", b"k" * 32, unsafe_no_sandbox=True)

    async def start() -> Sandbox:
        state = await provider.ensure(SandboxSpec(id="bench", run="tests"))
        assert state.phase == "Ready", state
        sandbox = await provider.connect("bench")
        bundle, commit = _first_commit(home)
        await sandbox.load(bundle, commit=commit, branch="work")
        return sandbox

    with asyncio.Runner() as runner:
        sandbox = runner.run(start())
        (tree,) = home.glob("root/*/volume/repo")
        yield runner, sandbox, tree
        runner.run(provider.release_run("tests"))


def _first_commit(home: Path) -> tuple[bytes, str]:
    origin = home / "origin"
    origin.mkdir()

    def git(*arguments: str) -> str:
        line = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", *arguments]
        return subprocess.run(line, cwd=origin, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q", "-b", "main")
    git("commit", "-q", "--allow-empty", "-m", "base")
    git("bundle", "create", "-q", "../base.bundle", "main")
    return (home / "base.bundle").read_bytes(), git("rev-parse", "HEAD")


@pytest.fixture
def bench(_sandbox: tuple[asyncio.Runner, Sandbox, Path], request: pytest.FixtureRequest) -> Bench:
    runner, sandbox, tree = _sandbox
    for entry in tree.iterdir():
        if entry.name != ".git":
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else os.unlink(entry)
    return Bench(runner, sandbox, tree, prefix=request.node.nodeid)
