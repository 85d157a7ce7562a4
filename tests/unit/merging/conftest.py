"""Real git repositories, made commit by commit from dictionaries of files."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from swarmrun.merging.cases import Case
from swarmrun.merging.ladder import resolve

Files = Mapping[str, bytes | str | None]


class GitRepo:
    """A bare repository; commits are made without a work tree of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.git("init", "-q", "--bare", "-b", "main", ".")

    def git(self, *args: str, stdin: bytes = b"", **env: str) -> str:
        known = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", **env}
        who = {
            f"GIT_{role}_{what}": "t@localhost"
            for role in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        }
        done = subprocess.run(
            ["git", *args], cwd=self.path, input=stdin, capture_output=True, check=True, env={**known, **who}
        )
        return done.stdout.decode("utf-8", "surrogateescape").strip()

    def commit(self, files: Files, *parents: str, modes: Mapping[str, str] | None = None) -> str:
        """The first parent's files with these changed; None removes."""
        index = str(self.path / "test-index")
        if parents:
            self.git("read-tree", parents[0], GIT_INDEX_FILE=index)
        else:
            self.git("read-tree", "--empty", GIT_INDEX_FILE=index)
        for name, content in files.items():
            if content is None:
                self.git("rm", "-q", "--cached", "--", name, GIT_INDEX_FILE=index, GIT_WORK_TREE=".")
                continue
            mode = (modes or {}).get(name, "100644")
            data = content.encode() if isinstance(content, str) else content
            oid = data.decode() if mode == "160000" else self.git("hash-object", "-w", "--stdin", stdin=data)
            self.git("update-index", "--add", "--cacheinfo", f"{mode},{oid},{name}", GIT_INDEX_FILE=index)
        tree = self.git("write-tree", GIT_INDEX_FILE=index)
        marks = [arg for parent in parents for arg in ("-p", parent)]
        return self.git("commit-tree", tree, *marks, stdin=b"change")

    def show(self, rev: str, path: str) -> bytes:
        done = subprocess.run(
            ["git", "cat-file", "blob", f"{rev}:{path}"], cwd=self.path, capture_output=True, check=True
        )
        return done.stdout


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    return GitRepo(tmp_path / "bare.git")


@pytest.fixture
def merged() -> Callable[..., tuple[str, str]]:
    """(text, how) of three texts sent through the ladder; fails when conflicts are left."""

    def go(path: str, base: str, ours: str, theirs: str) -> tuple[str, str]:
        found = resolve(Case(path, base.encode(), ours.encode(), theirs.encode()))
        assert found is not None, "not resolved"
        return found[0].decode(), found[1].how

    return go
