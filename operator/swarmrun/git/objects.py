"""Reading and writing a bare repository's objects by plumbing commands; no work tree, no index of its own.

Commits and trees are named by full ids. Paths are relative to the root, `/`-separated; names that are not UTF-8
come as surrogates (`os.fsdecode`).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from swarmrun.errors import GitError, InvalidResource, NotFound
from swarmrun.git.command import DEFAULT_CAP, Output, checked_sha, disk, git

EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


@dataclass(frozen=True)
class Change:
    """One path that differs. `status`: `A`, `M`, `D`, `T` (kind of entry), or `R` (then `old_path` is set)."""

    path: str
    status: str
    old_path: str = ""


@dataclass(frozen=True)
class LineCount:
    """Lines a change adds and removes; None for binary files."""

    path: str
    added: int | None
    removed: int | None


@dataclass(frozen=True)
class TreeEntry:
    path: str
    mode: str
    """`100644`, `100755`, `120000` (symbolic link) or `160000` (submodule)."""
    sha: str
    size: int
    """Bytes; 0 for a submodule."""


class Objects:
    """The objects of one bare repository."""

    def __init__(self, path: Path) -> None:
        self.path = path

    # ------------------------------------------------------------ commits

    def commit_tree(self, tree: str, parents: Sequence[str], message: str, author: str, date: int) -> str:
        """Makes a commit and returns its id. The same arguments give the same id, everywhere.

        `author` is `Name <email>` (the committer too); `date` is in seconds since the epoch, written as UTC.
        """
        name, _, email = author.removesuffix(">").partition(" <")
        if not name.strip() or not email or set(author) & set("\n\0"):
            raise InvalidResource(f"author {author!r} is not `Name <email>`")
        parent_args = [a for parent in parents for a in ("-p", checked_sha(parent))]
        who = {
            f"GIT_{role}_{part}": value
            for role in ("AUTHOR", "COMMITTER")
            for part, value in (("NAME", name), ("EMAIL", email), ("DATE", f"@{date} +0000"))
        }
        text = message.encode("utf-8", "replace")
        return git(
            "commit-tree", checked_sha(tree), *parent_args, "-F", "-", cwd=self.path, stdin=text, env=who
        ).text

    def message(self, commit: str) -> str:
        """The commit's message. Raises NotFound."""
        return self._header(commit)[1]

    def committer(self, commit: str) -> str:
        """`Name <email>` of the commit's committer. Raises NotFound."""
        for line in self._header(commit)[0].splitlines():
            if line.startswith("committer "):
                return line.removeprefix("committer ").rsplit(" ", 2)[0]
        raise NotFound(f"commit {commit} names no committer")

    def tree_of(self, commit: str) -> str:
        """The id of the commit's tree. Raises NotFound."""
        return self._header(commit)[0].splitlines()[0].removeprefix("tree ")

    def parents(self, commit: str) -> list[str]:
        """Raises NotFound."""
        lines = self._header(commit)[0].splitlines()
        return [line.removeprefix("parent ") for line in lines if line.startswith("parent ")]

    def is_ancestor(self, ancestor: str, commit: str) -> bool:
        """Whether `commit` holds `ancestor` (a commit holds itself). Raises NotFound."""
        return (
            self._ask(
                "merge-base", "--is-ancestor", checked_sha(ancestor), checked_sha(commit), ok=(0, 1)
            ).code
            == 0
        )

    def merge_base(self, one: str, other: str) -> str:
        """A best common ancestor. Raises NotFound: unknown commits, or unrelated histories."""
        found = self._ask("merge-base", checked_sha(one), checked_sha(other), ok=(0, 1))
        if found.code:
            raise NotFound(f"commits {one} and {other} have no common ancestor")
        return found.text

    def commits(self, base: str, head: str) -> list[str]:
        """Commits in `head` that are not in `base`, oldest first."""
        return self._ask(
            "rev-list", "--reverse", "--topo-order", checked_sha(head), f"^{checked_sha(base)}"
        ).text.split()

    # ------------------------------------------------------------ differences

    def diff(
        self,
        base: str,
        head: str,
        *,
        paths: Sequence[str] = (),
        context: int = 3,
        color: bool = False,
        stat: bool = False,
        cap: int = 16 * 1024 * 1024,
    ) -> str:
        """What changed from `base` to `head` as a patch (`stat`: as a summary). `paths` are literal.

        Over `cap` bytes the text is cut and its last line says so.
        """
        shape = ["--stat=120"] if stat else ["--patch", f"--unified={context}"]
        found = self._ask(
            "diff-tree", "-r", "-M", "--full-index", *shape, "--color=always" if color else "--no-color",
            "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/",
            checked_sha(base), checked_sha(head), *_literal(paths), cap=cap, cut_ok=True,
        )  # fmt: skip
        text = found.stdout.decode("utf-8", "replace")
        return text + f"\n[cut after {cap} bytes; name paths to see the rest]\n" if found.cut else text

    def changed_files(self, base: str, head: str) -> list[str]:
        """Paths that differ, sorted; a rename is both its names."""
        found = self._ask(
            "diff-tree", "-r", "-z", "--no-renames", "--name-only", checked_sha(base), checked_sha(head)
        )
        return sorted(_split(found.stdout))

    def changes(self, base: str, head: str) -> list[Change]:
        """Paths that differ and how, renames found, sorted by path."""
        fields = _split(
            self._ask(
                "diff-tree", "-r", "-z", "-M", "--name-status", checked_sha(base), checked_sha(head)
            ).stdout
        )
        result: list[Change] = []
        at = 0
        while at < len(fields):
            status = fields[at][0]
            renamed = status in "RC"
            old, new = (fields[at + 1], fields[at + 2]) if renamed else ("", fields[at + 1])
            result.append(Change(new, status, old))
            at += 3 if renamed else 2
        return sorted(result, key=lambda change: change.path)

    def numstat(self, base: str, head: str) -> list[LineCount]:
        """Lines added and removed per path; renames count as removal and addition."""
        found = self._ask(
            "diff-tree", "-r", "-z", "--no-renames", "--numstat", checked_sha(base), checked_sha(head)
        )
        result: list[LineCount] = []
        for row in _split(found.stdout):
            added, removed, path = row.split("\t", 2)
            binary = added == "-"
            result.append(LineCount(path, None if binary else int(added), None if binary else int(removed)))
        return result

    # ------------------------------------------------------------ trees and files

    def list_tree(self, commit: str) -> list[TreeEntry]:
        """Every file of a commit or tree, sorted by path."""
        result: list[TreeEntry] = []
        for row in _split(
            self._ask("ls-tree", "-r", "-z", "--long", "--full-tree", checked_sha(commit)).stdout
        ):
            about, path = row.split("\t", 1)
            mode, _, sha, size = about.split()
            result.append(TreeEntry(path, mode, sha, 0 if size == "-" else int(size)))
        return sorted(result, key=lambda entry: entry.path)

    def read(self, commit: str, path: str) -> bytes:
        """A file's bytes in a commit or tree (a symbolic link's target). Raises NotFound."""
        return self.read_many(commit, [path])[path]

    def read_many(self, commit: str, paths: Sequence[str]) -> dict[str, bytes]:
        """Several files by one process. Raises NotFound naming the first that is missing."""
        for path in paths:
            if "\n" in path:
                raise NotFound(f"no file {path!r} in {commit}: a name with a line break cannot be asked for")
        asked = "".join(f"{checked_sha(commit)}:{path}\n" for path in paths).encode(
            "utf-8", "surrogateescape"
        )
        found = self._ask("cat-file", "--batch", stdin=asked).stdout
        result: dict[str, bytes] = {}
        at = 0
        for path in paths:
            end = found.index(b"\n", at)
            head = found[at:end].split(b" ")
            if head[-1] == b"missing" or head[1] != b"blob":
                raise NotFound(f"no file {path!r} in {commit}")
            size = int(head[2])
            result[path] = found[end + 1 : end + 1 + size]
            at = end + 1 + size + 1
        return result

    def with_files(self, commit: str, files: Mapping[str, bytes | None]) -> str:
        """The tree of `commit` (a commit or tree; EMPTY_TREE to start from nothing) with these files in place.

        None deletes. A file keeps its mode when it has one; new ones are `100644`. Returns the new tree's id.
        Raises InvalidResource for a path that no checkout should ever see.
        """
        for path in files:
            _check_path(path)
        with disk(self.path), tempfile.TemporaryDirectory(prefix="index-", dir=self.path) as folder:
            index = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
            git("read-tree", checked_sha(commit), cwd=self.path, env=index)
            listed = git("ls-files", "-z", "--stage", cwd=self.path, env=index)
            modes = {
                path: about.split(" ")[0] for about, path in (r.split("\t", 1) for r in _split(listed.stdout))
            }
            written = {path: data for path, data in files.items() if data is not None}
            names = [Path(folder, f"blob-{number}") for number in range(len(written))]
            for name, data in zip(names, written.values(), strict=True):
                name.write_bytes(data)
            shas = git(
                "hash-object", "-w", "--no-filters", "--stdin-paths",
                cwd=self.path, stdin="".join(f"{name}\n" for name in names).encode(),
            ).text.split()  # fmt: skip
            rows = [f"0 {'0' * 40}\t{path}\0" for path, data in files.items() if data is None]
            for path, sha in zip(written, shas, strict=True):
                mode = modes.get(path, "100644")
                rows.append(f"{'100644' if mode in ('120000', '160000') else mode} {sha}\t{path}\0")
            # Deletions come first, so that a file may take a deleted directory's place.
            info = "".join(rows).encode("utf-8", "surrogateescape")
            git("update-index", "-z", "--replace", "--index-info", cwd=self.path, env=index, stdin=info)
            return git("write-tree", cwd=self.path, env=index).text

    # ------------------------------------------------------------

    def _header(self, commit: str) -> tuple[str, str]:
        found = self._ask("cat-file", "commit", checked_sha(commit)).stdout.decode("utf-8", "replace")
        header, _, message = found.partition("\n\n")
        return header, message

    def _ask(
        self,
        *args: str,
        stdin: bytes | None = None,
        ok: Sequence[int] = (0,),
        cap: int = DEFAULT_CAP,
        cut_ok: bool = False,
    ) -> Output:
        """git on this repository; an unknown object becomes NotFound."""
        try:
            return git(*args, cwd=self.path, stdin=stdin, ok=ok, cap=cap, cut_ok=cut_ok)
        except GitError as exc:
            unknown = (
                "bad object",
                "Not a valid",
                "not a tree object",
                "bad file",
                "Not a valid object name",
            )
            if any(sign in exc.output for sign in unknown):
                raise NotFound(
                    f"{self.path.name} does not hold what was asked for: {exc.output.splitlines()[-1]}",
                    mend="ensure the commit first",
                ) from exc
            raise


def _literal(paths: Sequence[str]) -> list[str]:
    return ["--", *(f":(literal){path}" for path in paths)] if paths else []


def _split(output: bytes) -> list[str]:
    return [os.fsdecode(part) for part in output.split(b"\0") if part]


def _check_path(path: str) -> None:
    parts = path.split("/")
    bad = path.startswith("/") or "\0" in path or any(p in ("", ".", "..") for p in parts)
    # git~1 is .git's short name on Windows file systems.
    if bad or any(p.lower().rstrip(". ") in (".git", "git~1") for p in parts):
        raise InvalidResource(f"path {path!r} cannot stand in a repository")
