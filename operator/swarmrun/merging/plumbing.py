"""git's plumbing on a bare repository: objects in, objects out; no work tree, no hooks, no user's settings."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from swarmrun.errors import GitError, NotFound, SandboxRefused

EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"

_OPTIONS = (
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "safe.directory=*"),
    *("-c", "core.quotePath=false"),
    *("-c", "gc.auto=0"),
    *("-c", "merge.renames=true"),
    *("-c", "merge.directoryRenames=conflict"),
    # More renames than this in one merge are matched by exact content only (git's own limit is 7000).
    *("-c", "merge.renameLimit=1000"),
)


@dataclass(frozen=True)
class Entry:
    """One path of a tree, or one side of a conflict."""

    mode: str
    """`100644`, `100755`, `120000` (symlink), `160000` (submodule)."""
    oid: str

    @property
    def regular(self) -> bool:
        return self.mode.startswith("100")


@dataclass(frozen=True)
class Change:
    """One path that differs between two trees; renames are told as a deletion and an addition."""

    path: str
    old: Entry | None
    new: Entry | None


@dataclass(frozen=True)
class MergeTree:
    """What `git merge-tree --write-tree` says. `stages` has a row for every conflicted path."""

    tree: str
    clean: bool
    stages: Mapping[str, Mapping[int, Entry]]
    """path → {1: base, 2: ours, 3: theirs}."""
    messages: Sequence[tuple[str, tuple[str, ...]]]
    """(kind such as `CONFLICT (contents)`, paths)."""


class Repo:
    """A repository by its path. Calls raise GitError with what git printed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def git(
        self,
        *args: str,
        stdin: bytes = b"",
        ok: tuple[int, ...] = (0,),
        env: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """(exit code, standard output)."""
        try:
            done = subprocess.run(
                ["git", *_OPTIONS, *args],
                input=stdin,
                capture_output=True,
                check=False,
                cwd=self.path,
                env={**_environment(), **(env or {})},
            )
        except FileNotFoundError as exc:
            if not self.path.exists():
                raise NotFound(f"no repository at {self.path}") from exc
            raise SandboxRefused("git is not installed", mend="install git 2.38 or newer") from exc
        if done.returncode not in ok:
            said = done.stderr.decode("utf-8", "replace").strip()
            raise GitError(f"git {args[0]} failed ({done.returncode}): {said[:500]}", output=said)
        return done.returncode, done.stdout

    def text(self, *args: str) -> str:
        return self.git(*args)[1].decode("utf-8", "surrogateescape").strip()

    def commit_id(self, rev: str) -> str:
        """Raises GitError for what names no commit."""
        return self.text("rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}")

    def tree_id(self, rev: str) -> str:
        return self.text("rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{tree}}")

    def merge_base(self, ours: str, theirs: str) -> str:
        """The best common ancestor, or the empty tree for unrelated histories."""
        code, out = self.git("merge-base", ours, theirs, ok=(0, 1))
        return EMPTY_TREE if code else out.decode().split()[0]

    def merge_tree(self, ours: str, theirs: str) -> MergeTree:
        code, out = self.git(
            *("merge-tree", "--write-tree", "-z", "--messages", "--allow-unrelated-histories"),
            *(ours, theirs),
            ok=(0, 1),
        )
        fields = out.decode("utf-8", "surrogateescape").split("\0")
        tree, rest = fields[0], iter(fields[1:])
        stages: dict[str, dict[int, Entry]] = {}
        for field in rest:
            if not field:
                break
            info, _, path = field.partition("\t")
            mode, oid, stage = info.split()
            stages.setdefault(path, {})[int(stage)] = Entry(mode, oid)
        messages: list[tuple[str, tuple[str, ...]]] = []
        for count in rest:
            if not count.isdigit():
                break
            paths = tuple(next(rest) for _ in range(int(count)))
            messages.append((next(rest), paths))
            next(rest, None)
        return MergeTree(tree, code == 0, stages, messages)

    def changes(self, old: str, new: str) -> Sequence[Change]:
        """Paths that differ, sorted."""
        _, out = self.git("diff-tree", "-r", "-z", "--raw", "--no-renames", old, new, "--")
        fields = out.decode("utf-8", "surrogateescape").split("\0")
        found: list[Change] = []
        for info, path in zip(fields[0::2], fields[1::2], strict=False):
            if not info.startswith(":"):
                continue
            old_mode, new_mode, old_id, new_id, _status = info[1:].split()
            before = None if old_mode == "000000" else Entry(old_mode, old_id)
            after = None if new_mode == "000000" else Entry(new_mode, new_id)
            found.append(Change(path, before, after))
        return sorted(found, key=lambda c: c.path)

    def renames(self, old: str, new: str) -> Mapping[str, str]:
        """Old path → new path of files that git takes for renamed (at least half alike)."""
        _, out = self.git(
            "diff-tree", "-r", "-z", "-M50%", "--diff-filter=R", "--name-status", old, new, "--"
        )
        fields = out.decode("utf-8", "surrogateescape").split("\0")
        return {fields[i + 1]: fields[i + 2] for i in range(0, len(fields) - 2, 3)}

    def entries(self, tree: str, paths: Iterable[str] | None = None) -> Mapping[str, Entry]:
        """The files of a tree; with `paths` only those (missing ones are left out)."""
        wanted = None if paths is None else set(paths)
        _, out = self.git("ls-tree", "-r", "-z", "--full-tree", tree)
        found: dict[str, Entry] = {}
        for row in out.decode("utf-8", "surrogateescape").split("\0"):
            info, _, path = row.partition("\t")
            if path and (wanted is None or path in wanted):
                mode, _kind, oid = info.split()
                found[path] = Entry(mode, oid)
        return found

    def blobs(self, oids: Iterable[str]) -> Mapping[str, bytes]:
        """Contents by id; all in one process. Raises NotFound."""
        wanted = sorted(set(oids))
        if not wanted:
            return {}
        _, out = self.git("cat-file", "--batch", stdin="\n".join(wanted).encode() + b"\n")
        found: dict[str, bytes] = {}
        at = 0
        for oid in wanted:
            end = out.index(b"\n", at)
            header = out[at:end].split()
            if header[-1] == b"missing":
                raise NotFound(f"object {oid} is not in {self.path}")
            size = int(header[2])
            found[oid] = out[end + 1 : end + 1 + size]
            at = end + 1 + size + 1
        return found

    def write_blob(self, data: bytes) -> str:
        return self.git("hash-object", "-w", "--stdin", stdin=data)[1].decode().strip()

    def write_tree(self, tree: str, updates: Mapping[str, Entry | None]) -> str:
        """`tree` with some paths replaced, or removed where the entry is None."""
        if not updates:
            return tree
        zero = "0" * 40
        rows = [f"{e.mode} {e.oid}\t{p}" if e else f"0 {zero}\t{p}" for p, e in updates.items()]
        with tempfile.TemporaryDirectory() as folder:
            env = {"GIT_INDEX_FILE": f"{folder}/index"}
            self.git("read-tree", tree, env=env)
            lines = "\0".join(rows).encode("utf-8", "surrogateescape") + b"\0"
            self.git("update-index", "-z", "--index-info", stdin=lines, env=env)
            return self.git("write-tree", env=env)[1].decode().strip()

    def commit(self, tree: str, parents: Sequence[str], message: str, signature: Signature) -> str:
        marks = [arg for parent in parents for arg in ("-p", parent)]
        who = {
            "GIT_AUTHOR_NAME": signature.name,
            "GIT_AUTHOR_EMAIL": signature.email,
            "GIT_AUTHOR_DATE": signature.date,
            "GIT_COMMITTER_NAME": signature.name,
            "GIT_COMMITTER_EMAIL": signature.email,
            "GIT_COMMITTER_DATE": signature.date,
        }
        text = message.encode("utf-8", "replace")
        return self.git("commit-tree", tree, *marks, stdin=text, env=who)[1].decode().strip()


@dataclass(frozen=True)
class Signature:
    """Who a commit is by, and when: passed in, so that the same merge made twice is the same commit."""

    name: str = "SwarmRun"
    email: str = "swarmrun@localhost"
    date: str = "1970-01-01T00:00:00Z"
    """RFC 3339."""


@lru_cache(maxsize=1)
def _environment() -> Mapping[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    return {
        **kept,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "LC_ALL": "C.UTF-8",
    }
