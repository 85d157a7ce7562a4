"""A work tree that plays the sandbox, a RunRepo that plays the brain, remotes in a directory. git is real."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from swarmrun.artifacts.store import open_store
from swarmrun.git.repo import RunRepo

AUTHOR = "Swarm <swarm@example.invalid>"
ENV = {
    **{k: v for k, v in os.environ.items() if not k.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ann",
    "GIT_AUTHOR_EMAIL": "ann@example.invalid",
    "GIT_COMMITTER_NAME": "Ann",
    "GIT_COMMITTER_EMAIL": "ann@example.invalid",
}


class WorkTree:
    """A repository somebody works in, with the helpers tests need."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *args: str, stdin: bytes | None = None) -> str:
        done = subprocess.run(
            ["git", *args], cwd=self.path, env=ENV, input=stdin, capture_output=True, check=False
        )
        assert done.returncode == 0, (args, done.stderr.decode())
        return done.stdout.decode().strip()

    def commit(self, files: dict[str, str | bytes], message: str = "work") -> str:
        for name, content in files.items():
            target = self.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.encode() if isinstance(content, str) else content)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def bundle(self, *revisions: str) -> bytes:
        done = subprocess.run(
            ["git", "bundle", "create", "-q", "-", *revisions],
            cwd=self.path,
            env=ENV,
            capture_output=True,
            check=True,
        )
        return done.stdout

    def raw_commit(self, tree: str, *parents: str) -> str:
        return self.git("commit-tree", tree, *(a for p in parents for a in ("-p", p)), "-m", "made by hand")


@pytest.fixture
def work(tmp_path: Path) -> WorkTree:
    return WorkTree(tmp_path / "work")


@pytest.fixture
def make_work(tmp_path: Path) -> Callable[[str], WorkTree]:
    return lambda name: WorkTree(tmp_path / name)


@pytest.fixture
def store(tmp_path: Path):
    return open_store((tmp_path / "artifacts").as_uri())


@pytest.fixture
def repo(tmp_path: Path, store) -> RunRepo:
    made = RunRepo(tmp_path / "brain.git", store, "runs/r1")
    made.init()
    return made


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """An empty remote in a directory."""
    path = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(path)], env=ENV, check=True)
    return path
