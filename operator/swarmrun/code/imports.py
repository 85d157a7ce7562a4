"""What a Python file imports, and whether the repository holds it."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath

from swarmrun.code import python
from swarmrun.code.symbols import symbols


@dataclass(frozen=True)
class Import:
    module: str
    """Dotted; empty for `from . import x`."""
    names: tuple[str, ...]
    """The imported names; empty for `import module`, `*` for a star import."""
    level: int
    """Number of leading dots."""
    line: int
    optional: bool
    """Stands under `try` or `if`: its absence may be meant."""

    @property
    def text(self) -> str:
        if not self.names:
            return f"import {self.module}"
        return f"from {'.' * self.level}{self.module} import {', '.join(self.names)}"


@dataclass(frozen=True)
class ImportProblem:
    path: str
    line: int
    message: str


def imports(source: bytes) -> Sequence[Import]:
    """Every import of a Python file, those inside functions too. Empty for what does not parse."""
    try:
        module = python.tree(source)
    except python.Unparsable:
        return []
    found: list[Import] = []
    stack: list[tuple[list[ast.stmt], bool]] = [(module.body, False)]
    while stack:
        block, optional = stack.pop()
        for node in block:
            if isinstance(node, ast.Import):
                found += [Import(alias.name, (), 0, node.lineno, optional) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = tuple(alias.name for alias in node.names)
                found.append(Import(node.module or "", names, node.level, node.lineno, optional))
            else:
                doubtful = optional or isinstance(node, ast.If | ast.Try)
                stack.extend((inner, doubtful) for inner in python.blocks_of(node))
    return sorted(found, key=lambda i: i.line)


def unresolved(
    path: str, source: bytes, paths: Collection[str], read: Callable[[str], bytes]
) -> Sequence[ImportProblem]:
    """Imports of modules or names that the repository should hold and does not.

    `paths` are all files of the repository, `read` gives one's bytes. Imports of packages that are not the
    repository's own are not judged, nor are those under `try` and `if`.
    """
    index = _index(frozenset(paths))
    problems: list[ImportProblem] = []
    for item in imports(source):
        if item.optional:
            continue
        bases = _bases(item, path, index)
        if bases is None:
            continue
        parts = [p for p in item.module.split(".") if p]
        homes = [home for base in bases if (home := _module(base, parts, index)) is not None]
        if not homes:
            where = f"none of the files gives the module `{'.' * item.level}{item.module}`"
            problems.append(ImportProblem(path, item.line, f"`{item.text}`: {where}"))
            continue
        for name in item.names:
            if name != "*" and not any(_has(home, name, index, read) for home in homes):
                where = " or ".join(home for home in homes)
                problems.append(
                    ImportProblem(path, item.line, f"`{item.text}`: `{name}` is not defined in {where}")
                )
    return problems


@dataclass(frozen=True)
class _Index:
    files: frozenset[str]
    folders: frozenset[str]
    roots: tuple[str, ...]


@lru_cache(maxsize=8)
def _index(paths: frozenset[str]) -> _Index:
    files = frozenset(p for p in paths if p.endswith((".py", ".pyi")))
    folders = {str(parent) for p in files for parent in PurePosixPath(p).parents} - {"."}
    roots = {"", "src", "lib"} & (folders | {""})
    for file in files:
        folder = str(PurePosixPath(file).parent)
        while folder != "." and _join(folder, "__init__.py") in files:
            folder = str(PurePosixPath(folder).parent)
        roots.add("" if folder == "." else folder)
    return _Index(files, frozenset(folders), tuple(sorted(roots)))


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder and folder != "." else name


def _bases(item: Import, path: str, index: _Index) -> list[str] | None:
    """Folders the module is looked for in; None when it is not the repository's."""
    if item.level:
        folder = PurePosixPath(path).parent
        for _ in range(item.level - 1):
            if str(folder) == ".":
                return []
            folder = folder.parent
        return ["" if str(folder) == "." else str(folder)]
    first = item.module.partition(".")[0]
    own = [root for root in index.roots if _module(root, [first], index) is not None]
    regular = [root for root in own if _module(root, [first], index) != _join(root, first)]
    # A bare folder that happens to be called like a dependency (`docs`, `redis/`) proves nothing.
    return regular or None


def _module(base: str, parts: Sequence[str], index: _Index) -> str | None:
    """The file (or folder without `__init__.py`) that is the module `parts` under `base`."""
    stem = "/".join([base, *parts] if base else parts)
    for candidate in (f"{stem}.py", f"{stem}.pyi", _join(stem, "__init__.py"), _join(stem, "__init__.pyi")):
        if candidate in index.files:
            return candidate
    return stem if stem in index.folders or (not stem and index.files) else None


def _has(home: str, name: str, index: _Index, read: Callable[[str], bytes]) -> bool:
    if home.endswith((".py", ".pyi")):
        folder = home.rpartition("/")[0] if PurePosixPath(home).stem == "__init__" else ""
        if folder and _module(folder, [name], index) is not None:
            return True
        source = read(home)
        try:
            module = python.tree(source)
        except python.Unparsable:
            return True  # told by the parse guard already
        bound = {s.name for s in symbols(home, source)}
        if name in bound or "__getattr__" in bound or name.startswith("__"):
            return True
        stars = any(b.endswith("import *") for b in bound)
        return stars or any(isinstance(n, ast.Name) and n.id == name for n in ast.walk(module))
    return _module(home, [name], index) is not None
