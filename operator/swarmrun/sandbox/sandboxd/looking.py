"""Listing and searching: what git ignores is left out, links are not followed, time is bounded."""

from __future__ import annotations

import difflib
import fnmatch
import os
from typing import Dict, List, Set, Tuple

from .failures import Failure, rejected
from .store import Store
from .tree import Tree

SEARCH_SECONDS = 20.0
SEARCH_BYTES = 8 * 1024**2
"""Of git's output looked at; more matches than fit are not counted."""
LINE = 400
"""Characters of one line that are shown (minified files have one line of a megabyte)."""
ROWS = 128 * 1024
"""Characters of all rows together (file names may have thousands each); the rest is counted only."""


class Looking:
    """Blocking, for worker threads."""

    def __init__(self, tree: Tree, store: Store) -> None:
        self._tree = tree
        self._store = store
        self._dialect = "-P"

    def files(self) -> List[str]:
        """All files that are not ignored, sorted."""
        names = self._store.names("ls-files", "-z", "--cached", "--others", "--exclude-standard")
        root = self._tree.root
        return sorted({n for n in names if os.path.lexists(os.path.join(root, n))})

    def list(self, path: str, depth: int, glob: str, max_entries: int) -> Tuple[List[str], int]:
        base = self._tree.resolve(path)
        if not os.path.isdir(os.path.join(self._tree.root, base)):
            raise Failure("not-found", f"{path}: no such directory{self.similar(path)}")
        prefix = "" if base == "." else base + "/"
        found: Dict[str, None] = {}
        for name in self.files():
            if not name.startswith(prefix):
                continue
            inner = name[len(prefix) :]
            if glob:
                if fnmatch.fnmatch(inner, glob) or fnmatch.fnmatch(os.path.basename(inner), glob):
                    found[name] = None
                continue
            parts = inner.rstrip("/").split("/")
            for level in range(1, min(depth, len(parts)) + 1):
                is_file = level == len(parts) and not inner.endswith("/")
                found[prefix + "/".join(parts[:level]) + ("" if is_file else "/")] = None
        entries = sorted(found)
        return _fitting([_text(entry) for entry in entries[:max_entries]]), len(entries)

    def similar(self, path: str) -> str:
        """`; similar: a.py, b.py`, or nothing."""
        names = self.files()
        close = [n for n in names if os.path.basename(n) == os.path.basename(path)][:3]
        close += difflib.get_close_matches(path, names, n=3, cutoff=0.6)
        found = list(dict.fromkeys(close))[:3]
        return f"; similar: {', '.join(_text(n) for n in found)}" if found else ""

    def search(
        self, pattern: str, path: str, glob: str, context: int, max_matches: int
    ) -> Tuple[List[str], int]:
        if not pattern or "\n" in pattern or "\0" in pattern:
            raise rejected("search: give a regular expression of one line")
        base = self._tree.resolve(path)
        if not os.path.lexists(os.path.join(self._tree.root, base)):
            raise Failure("not-found", f"{path}: not found{self.similar(path)}")
        spec = _pathspec(base, glob)
        matches = self._grep(pattern, spec, 0)
        rows = matches
        hits = {(name, number) for name, number, _ in matches}
        if context > 0 and len(matches) <= 10 * max_matches:
            rows = self._grep(pattern, spec, min(context, 20))
        shown: List[str] = []
        count = 0
        for name, number, text in rows:
            is_hit = (name, number) in hits
            count += is_hit
            if count > max_matches:
                break
            mark = ":" if is_hit else "-"
            shown.append(f"{_text(name)}{mark}{number}{mark} {text}")
        return _fitting(shown), len(matches)

    def _grep(self, pattern: str, spec: List[str], context: int) -> List[Tuple[str, int, str]]:
        """Rows of `git grep`: it is there, it is bounded (PCRE's match limit), it knows what is ignored."""
        command = ["grep", self._dialect, "-n", "-I", "--null", "--full-name", "--no-color", "--untracked"]
        if context:
            command.append(f"-C{context}")
        try:
            out = self._store.git(
                *command, "-e", pattern, "--", *spec, ok=(0, 1), timeout=SEARCH_SECONDS, cap=SEARCH_BYTES
            )
        except Failure as exc:
            if "compiled" in exc.message and self._dialect == "-P":  # "… when not compiled with USE_LIBPCRE"
                self._dialect = "-E"
                return self._grep(pattern, spec, context)
            if exc.code == "rejected":
                raise rejected(
                    f"search: no answer within {SEARCH_SECONDS:.0f} s; simplify the pattern or narrow the path"
                ) from exc
            raise rejected(f"search: {exc.message}; mend the regular expression (Perl's syntax)") from exc
        rows: List[Tuple[str, int, str]] = []
        seen: Set[Tuple[str, int]] = set()
        for line in out.split(b"\n"):
            parts = line.split(b"\0", 2)
            if len(parts) != 3 or not parts[1].isdigit():
                continue  # The `--` between groups, or the end of a capped answer.
            key = (os.fsdecode(parts[0]), int(parts[1]))
            if key not in seen:
                seen.add(key)
                text = parts[2].decode("utf-8", "replace").rstrip("\r")
                rows.append((*key, text if len(text) <= LINE else text[:LINE] + "…"))
        return rows


def _pathspec(base: str, glob: str) -> List[str]:
    """git's pathspec for everything below `base` whose path or file name fits `glob`."""
    if not glob:
        return [":(top)"] if base == "." else [f":(top,literal){base}"]
    plain = "" if base == "." else "".join("\\" + c if c in "*?[\\" else c for c in base) + "/"
    specs = [f":(top,glob){plain}{glob}"]
    if "/" not in glob:
        specs.append(f":(top,glob){plain}**/{glob}")
    return specs


def _fitting(rows: List[str]) -> List[str]:
    size = 0
    for number, row in enumerate(rows):
        size += len(row)
        if size > ROWS:
            return rows[:number]
    return rows


def _text(name: str) -> str:
    """A file name as JSON can carry it."""
    return os.fsencode(name).decode("utf-8", "replace")
