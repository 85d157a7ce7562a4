"""The repository as the verification reads it: definitions by name, followed through imports."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import lru_cache

from swarmrun.code import python

_HOPS = 4
"""Re-exports followed; a longer chain is a maze."""


@dataclass(frozen=True)
class Definition:
    """Where a name leads to. `node` is None when it is bound to something that tells no signature."""

    path: str
    line: int
    node: python.FunctionNode | ast.ClassDef | ast.stmt | None


@dataclass
class Sources:
    """`read` gives one of `paths`; each file is read once."""

    read: Callable[[str], bytes]
    paths: Collection[str]
    _bytes: dict[str, bytes] = field(default_factory=dict[str, bytes])
    _by_tail: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def __post_init__(self) -> None:
        self.paths = frozenset(self.paths)
        for path in sorted(self.paths):
            if path.endswith(".py"):
                self._by_tail.setdefault(path.rpartition("/")[2], []).append(path)

    def get(self, path: str) -> bytes:
        if path not in self._bytes:
            self._bytes[path] = self.read(path)
        return self._bytes[path]

    def find(self, path: str, name: str, hops: int = _HOPS) -> Definition | None:
        """The definition behind a module's top-level name; None when nothing binds it."""
        try:
            table = bindings(self.get(path))
        except python.Unparsable:
            return None
        node = table.get(name)
        if node is None:
            return None
        if isinstance(node, ast.ImportFrom):
            original = next((a.name for a in node.names if (a.asname or a.name) == name), name)
            home = self.module(path, "." * node.level + (node.module or ""))
            if home and hops and (found := self.find(home, original, hops - 1)):
                return found
            return Definition(path, node.lineno, None)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name) and hops:
            return self.find(path, node.value.id, hops - 1) or Definition(path, node.lineno, None)
        return Definition(path, getattr(node, "lineno", 1), node)

    def module(self, path: str, dotted: str) -> str:
        """The file of a module that `path` imports; empty when the repository does not hold it."""
        level = len(dotted) - len(dotted.lstrip("."))
        parts = [p for p in dotted.lstrip(".").split(".") if p]
        if level:
            folder = path.split("/")[:-level]
            return self._file("/".join([*folder, *parts]))
        if not parts:
            return ""
        ending = "/".join(parts)
        for file in (f"{parts[-1]}.py", "__init__.py"):
            tail = f"{ending}.py" if file != "__init__.py" else f"{ending}/__init__.py"
            for candidate in self._by_tail.get(file, []):
                if candidate == tail or candidate.endswith("/" + tail):
                    return candidate
        return ""

    def _file(self, stem: str) -> str:
        for candidate in (f"{stem}.py", f"{stem}/__init__.py".lstrip("/")):
            if candidate in self.paths:
                return candidate
        return ""


@lru_cache(maxsize=256)
def bindings(source: bytes) -> dict[str, ast.stmt]:
    """Top-level name → the statement that binds it, inside `if` and `try` too; the last one wins.
    Raises python.Unparsable."""
    found: dict[str, ast.stmt] = {}
    stack: list[ast.stmt] = list(reversed(python.tree(source).body))
    while stack:
        node = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                found[alias.asname or alias.name.partition(".")[0]] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                for name in ast.walk(target):
                    if isinstance(name, ast.Name):
                        found[name.id] = node
        else:
            for block in python.blocks_of(node):
                stack.extend(reversed(block))
    return found
