"""A git store of the server's own, beside the work tree, and git started without anything of the agent's.

The agent owns `.git`: its configuration, hooks, index, filters and excludes may be broken or hostile, and it
may delete the whole directory. So nothing here reads it. The store has its own objects, index, configuration
and `info/attributes`; the agent's `.git` borrows the store's objects through `objects/info/alternates`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import Dict, List, Optional, Sequence

from .children import Children
from .failures import Failure

CONFIG = """\
[core]
\trepositoryformatversion = 0
\tbare = false
\tfilemode = true
\tsymlinks = true
\tignorecase = false
\tautocrlf = false
\tsafecrlf = false
\tfsmonitor = false
\tuntrackedCache = false
\tprotectHFS = false
\tprotectNTFS = false
\thooksPath = /dev/null
\texcludesFile = /dev/null
\tattributesFile = /dev/null
\tbigFileThreshold = 64m
[gc]
\tauto = 0
[maintenance]
\tauto = false
[submodule]
\trecurse = false
[fetch]
\trecurseSubmodules = false
\tfsckObjects = false
[protocol]
\tallow = never
[protocol "file"]
\tallow = always
[pack]
\tthreads = 1
"""
ATTRIBUTES = "* -filter -ident -working-tree-encoding\n"
"""$GIT_DIR/info/attributes wins over every .gitattributes: no program runs, no encoding can fail. Line
endings are still normalised as the repository says."""


class Store:
    """The git directory at `path`, whose work tree is `worktree`."""

    def __init__(self, path: str, worktree: str, children: Children, env: Dict[str, str]) -> None:
        self.path = path
        self.worktree = worktree
        self._children = children
        self._trees: Dict[str, str] = {}
        self._git = shutil.which("git", path=env.get("PATH")) or shutil.which("git") or "git"
        self._env = {
            "PATH": env.get("PATH", os.defpath),
            "HOME": "/nonexistent",
            "LC_ALL": "C",
            "GIT_DIR": path,
            "GIT_WORK_TREE": worktree,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_LITERAL_PATHSPECS": "0",
            # Fixed: the same tree gives the same commit, whenever and wherever it is made.
            "GIT_AUTHOR_NAME": "SwarmRun",
            "GIT_AUTHOR_EMAIL": "swarmrun@localhost",
            "GIT_AUTHOR_DATE": "1700000000 +0000",
            "GIT_COMMITTER_NAME": "SwarmRun",
            "GIT_COMMITTER_EMAIL": "swarmrun@localhost",
            "GIT_COMMITTER_DATE": "1700000000 +0000",
        }
        for directory in ("objects/info", "objects/pack", "refs/heads", "info"):
            os.makedirs(os.path.join(path, directory), exist_ok=True)
        self._file("HEAD", "ref: refs/heads/none\n")
        self._file("config", CONFIG)
        self._file("info/attributes", ATTRIBUTES)
        self._file("info/exclude", "")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(path, "index.lock"))  # Copied or left behind in the middle of a change.

    def _file(self, name: str, text: str) -> None:
        with open(os.path.join(self.path, name), "w", encoding="utf-8") as file:
            file.write(text)

    def git(
        self,
        *arguments: str,
        stdin: Optional[bytes] = None,
        env: Optional[Dict[str, str]] = None,
        cwd: str = "",
        ok: Sequence[int] = (0,),
        timeout: float = 300,
        cap: int = 1024**3,
    ) -> bytes:
        """Runs git in a worker thread. Raises Failure `git` with what it printed."""
        return self._children.run(
            [self._git, *arguments],
            cwd=cwd or self.worktree,
            env={**self._env, **(env or {})},
            stdin=stdin,
            ok=ok,
            timeout=timeout,
            cap=cap,
        )

    def line(self, *arguments: str, stdin: Optional[bytes] = None) -> str:
        return self.git(*arguments, stdin=stdin).decode().strip()

    def names(self, *arguments: str, env: Optional[Dict[str, str]] = None, cwd: str = "") -> List[str]:
        """Names as `-z` prints them; bytes that are no UTF-8 survive as surrogates."""
        return [os.fsdecode(name) for name in self.git(*arguments, env=env, cwd=cwd).split(b"\0") if name]

    def tree_of(self, commit: str) -> str:
        """The tree's id. Raises Failure `not-found` when the commit is not here."""
        if not is_id(commit):
            raise Failure("rejected", f"{commit!r} is not a full commit id")
        known = self._trees.get(commit)
        if known is not None:
            return known
        try:
            self._trees[commit] = self.line("rev-parse", "--verify", "--quiet", f"{commit}^{{tree}}")
        except Failure as exc:
            raise Failure("not-found", f"commit {commit} is not in this sandbox; load it first") from exc
        return self._trees[commit]


def is_id(text: object) -> bool:
    return isinstance(text, str) and len(text) in (40, 64) and all(c in "0123456789abcdef" for c in text)
