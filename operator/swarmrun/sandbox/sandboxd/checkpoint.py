"""The whole work tree as a commit on a hidden ref, and work trees made from commits.

What the agent did to its branch, index or `.git` does not matter here: the files do.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from typing import Any, Dict, List, Set, Tuple

from .failures import Failure, rejected
from .store import Store, is_id
from .tree import Tree

REF = "refs/swarmrun/checkpoint"
MAX_FILE = 100 * 1024**2
"""GitHub refuses files over 100 MB (docs.github.com, "About large files on GitHub"); so do we, earlier."""
MAX_BUNDLE = 120 * 1024**2
"""Bytes of what one checkpoint adds, packed. Below what the brain takes (sandbox/answers.py): so it can be told."""
_NAMED = 5
"""Files named in a message."""


class Checkpoints:
    """Blocking; one at a time (`Tree.lock`), in a worker thread."""

    def __init__(self, tree: Tree, store: Store) -> None:
        self._tree = tree
        self._store = store
        self._index_seen: Tuple[int, ...] = ()

    # ------------------------------------------------------------ out

    def checkpoint(self, since: str, message: str) -> Tuple[Dict[str, Any], bytes]:
        with self._tree.lock:
            self._tree.check()
            before = self._store.tree_of(since)
            tree = self._write_tree()
            if tree == before:
                return {"commit": since, "tree": tree, "changed": False}, b""
            text = (message or "Checkpoint").encode("utf-8", "replace") + b"\n"
            commit = self._store.line("commit-tree", "-p", since, tree, stdin=text)
            self._keep(commit, REF)
            bundle = self._store.git("bundle", "create", "--quiet", "-", REF, f"^{since}")
            if len(bundle) > MAX_BUNDLE:
                raise rejected(
                    f"what was added since the last checkpoint has {len(bundle) // 1024**2} MB packed, "
                    f"{MAX_BUNDLE // 1024**2} are taken; delete what is not needed or add it to .gitignore"
                )
            return {"commit": commit, "tree": tree, "changed": True}, bundle

    def _write_tree(self) -> str:
        index = self._agents_index()
        changed = self._changed(forced=index != self._index_seen)
        self._refuse_large(changed)
        if changed:
            gone = self._replaced(changed)
            there = [name for name in changed if name not in gone]
            try:
                if gone:
                    self._update_index(sorted(gone), "--force-remove")
                self._update_index(there, "--add", "--remove", "--replace")
            except Failure as exc:
                raise rejected(f"the work tree cannot be stored: {exc.message}; mend the file named") from exc
        self._index_seen = index
        return self._store.line("write-tree")

    def _update_index(self, names: List[str], *how: str) -> None:
        stdin = b"".join(os.fsencode(name) + b"\0" for name in names)
        self._store.git("update-index", *how, "-z", "--stdin", stdin=stdin)

    def _replaced(self, names: List[str]) -> Set[str]:
        """Names that are directories now, and names below what is a link now. git refuses to look at either; as
        files they are gone."""
        linked: Dict[str, bool] = {"": False}

        def is_linked(directory: str) -> bool:
            if directory not in linked:
                above = directory.rpartition("/")[0]
                full = os.path.join(self._tree.root, directory)
                linked[directory] = is_linked(above) or os.path.islink(full)
            return linked[directory]

        def is_directory(name: str) -> bool:
            full = os.path.join(self._tree.root, name)
            # One with a `.git` is a submodule.
            return os.path.isdir(full) and not os.path.islink(full) and not os.path.lexists(full + "/.git")

        return {name for name in names if is_linked(name.rpartition("/")[0]) or is_directory(name)}

    def _changed(self, *, forced: bool) -> List[str]:
        """Names that are new, changed or gone since the store's index was last written."""
        names = self._store.names("ls-files", "-z", "--others", "--modified", "--exclude-standard")
        changed: List[str] = []
        for name in dict.fromkeys(names):
            if name.endswith("/"):
                changed.extend(self._nested(name.rstrip("/")))
            else:
                changed.append(name)
        if forced:
            changed.extend(self._forced())
        return changed

    def _agents_index(self) -> Tuple[int, ...]:
        """Tells one state of the agent's index from another, without reading it."""
        try:
            status = os.lstat(os.path.join(self._tree.root, ".git", "index"))
        except OSError:
            return ()
        return status.st_ino, status.st_size, status.st_mtime_ns

    def _nested(self, directory: str) -> List[str]:
        """Files of a repository inside the repository (`git clone` into the tree), taken as plain files.

        git itself would store a link to a commit that nobody else has, and the work would be lost.
        """
        inner = os.path.join(self._tree.root, directory)
        with tempfile.TemporaryDirectory() as scratch:
            env = {"GIT_WORK_TREE": inner, "GIT_INDEX_FILE": os.path.join(scratch, "index")}
            names = self._store.names("ls-files", "-z", "--others", "--exclude-standard", env=env, cwd=inner)
        files: List[str] = []
        for name in names:
            path = f"{directory}/{name}"
            files.extend(self._nested(path.rstrip("/")) if name.endswith("/") else [path])
        return files

    def _forced(self) -> List[str]:
        """Ignored files that the agent added with force: they are in its index, so they count.

        Its index is read by path alone, as a file of git's format, with the store's configuration.
        """
        index = os.path.join(self._tree.root, ".git", "index")
        try:
            if not stat.S_ISREG(os.lstat(index).st_mode):
                return []
            with tempfile.TemporaryDirectory() as scratch:
                copy = shutil.copy(index, os.path.join(scratch, "index"))
                theirs = self._store.names(
                    "ls-files",
                    "-z",
                    "--cached",
                    "--ignored",
                    "--exclude-standard",
                    env={"GIT_INDEX_FILE": copy},
                )
        except (OSError, Failure):
            return []  # No index, or a broken one: then there is nothing to learn from it.
        if not theirs:
            return []
        known = set(self._store.names("ls-files", "-z", "--cached", "--ignored", "--exclude-standard"))
        return [n for n in theirs if n not in known and os.path.lexists(os.path.join(self._tree.root, n))]

    def _refuse_large(self, names: List[str]) -> None:
        large: List[str] = []
        for name in names:
            try:
                status = os.lstat(os.path.join(self._tree.root, name))
            except OSError:
                continue  # Deleted.
            if stat.S_ISREG(status.st_mode) and status.st_size > MAX_FILE:
                large.append(f"{name} ({status.st_size // 1024**2} MB)")
        if large:
            more = f" and {len(large) - _NAMED} more" if len(large) > _NAMED else ""
            raise rejected(
                f"too large to be stored (over {MAX_FILE // 1024**2} MB): {', '.join(large[:_NAMED])}{more}; "
                "delete them or add them to .gitignore"
            )

    # ------------------------------------------------------------ in

    def load(self, bundle: bytes, commit: str, branch: str) -> None:
        if not is_id(commit):
            raise rejected(f"{commit!r} is not a full commit id")
        with self._tree.lock:
            self._tree.restore()
            if branch.startswith("-"):
                raise rejected(f"{branch!r} cannot be a branch")
            self._store.git("check-ref-format", f"refs/heads/{branch}")
            if bundle:
                self._take_in(bundle)
            tree = self._store.tree_of(commit)
            if self._is_there(commit, tree, branch):
                return
            self._store.git("read-tree", "--reset", "-u", commit)
            # Twice f: nested repositories as well. Without x: what is ignored (caches, .venv) stays.
            self._store.git("clean", "-ffdq")
            self._keep(commit)
            self._make_git_directory(commit, branch)

    def _take_in(self, bundle: bytes) -> None:
        """Objects only: under which names they come does not matter here."""
        with tempfile.NamedTemporaryFile(suffix=".bundle") as file:
            file.write(bundle)
            file.flush()
            self._store.git("bundle", "unbundle", file.name)

    def _keep(self, commit: str, *names: str) -> None:
        """Refs for it: git asks that what a later bundle builds on is reachable from one."""
        refs = [*names, f"refs/swarmrun/kept/{commit}"]
        self._store.git(
            "update-ref", "--stdin", stdin="".join(f"update {r} {commit}\n" for r in refs).encode()
        )

    def _is_there(self, commit: str, tree: str, branch: str) -> bool:
        git = os.path.join(self._tree.root, ".git")
        try:
            with open(os.path.join(git, "HEAD"), encoding="utf-8") as head:
                if head.read().strip() != f"ref: refs/heads/{branch}":
                    return False
            with open(os.path.join(git, "refs", "heads", *branch.split("/")), encoding="utf-8") as ref:
                if ref.read().strip() != commit:
                    return False
        except (OSError, UnicodeDecodeError):
            return False
        try:
            return self._write_tree() == tree
        except Failure:
            return False

    def _make_git_directory(self, commit: str, branch: str) -> None:
        """A fresh `.git` on `branch`. Written by hand: no git process ever reads what was there before."""
        git = os.path.join(self._tree.root, ".git")
        if os.path.islink(git) or os.path.isfile(git):
            os.unlink(git)
        elif os.path.isdir(git):
            shutil.rmtree(git)
        ref = os.path.join(git, "refs", "heads", *branch.split("/"))
        for directory in ("objects/info", "objects/pack", "refs/tags", "info", os.path.dirname(ref)):
            os.makedirs(os.path.join(git, directory), exist_ok=True)
        # Relative, so that a copy of the whole volume elsewhere still holds together.
        objects = os.path.relpath(os.path.join(self._store.path, "objects"), os.path.join(git, "objects"))
        files = {
            "HEAD": f"ref: refs/heads/{branch}\n",
            "config": "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n"
            "\tlogallrefupdates = true\n[gc]\n\tauto = 0\n",
            "objects/info/alternates": objects + "\n",
            "info/exclude": "",
            ref: commit + "\n",
        }
        for name, text in files.items():
            with open(os.path.join(git, name), "w", encoding="utf-8") as file:
                file.write(text)
        shutil.copy2(os.path.join(self._store.path, "index"), os.path.join(git, "index"))
