"""Imports between the tasks' modules: a quick look first, the exact one only where that is not enough."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from swarmrun.code.imports import ImportProblem, unresolved

_IMPORT = re.compile(
    rb"^[ \t]*(?:from[ \t]+(?P<origin>[.\w]+)[ \t]+import[ \t]+(?P<names>\([^)]*\)|[^\n#;\\]+)"
    rb"|import[ \t]+(?P<modules>[^\n#;\\]+))",
    re.MULTILINE,
)
_DEFINED = re.compile(
    rb"^(?:(?:async[ \t]+def|def|class)[ \t]+(\w+)|(\w+)[ \t]*(?::[^\n=]+)?=[^=])", re.MULTILINE
)
_ROOTS = ("", "src/")


@dataclass
class ImportCheck:
    """Parsing every file of a large repository takes seconds. Here import lines are found as text and their
    names looked for among what starts a line of the target; a file whose imports are all found so is done.
    Anything else (nested packages, re-exports, a missing name) is asked of the syntax tree."""

    read: Callable[[str], bytes]
    paths: Collection[str]
    _words: frozenset[str] = field(init=False)
    _defined: dict[str, frozenset[bytes]] = field(default_factory=dict[str, frozenset[bytes]])

    def __post_init__(self) -> None:
        self.paths = frozenset(self.paths)
        parts = {part for path in self.paths for part in path.split("/")}
        self._words = frozenset(part.partition(".")[0] for part in parts)

    def problems(self, path: str) -> list[ImportProblem]:
        source = self.read(path)
        if all(self._found(path, match) for match in _IMPORT.finditer(source)):
            return []
        return list(unresolved(path, source, self.paths, self.read))

    def _found(self, path: str, match: re.Match[bytes]) -> bool:
        if match.string[match.end() : match.end() + 1] == b"\\":
            return False  # goes on in the next line
        if match["modules"]:
            modules = [part.split()[0].decode() for part in match["modules"].split(b",") if part.split()]
            return all(self._foreign(m) or self._module(path, m) for m in modules)
        origin = match["origin"].decode()
        if self._foreign(origin):
            return True
        home = self._module(path, origin)
        names = match["names"].strip(b"() \t\r\n")
        wanted = [part.split()[0] for part in names.split(b",") if part.split()]
        return bool(home) and set(wanted) <= self._names(home)

    def _foreign(self, module: str) -> bool:
        """No file or folder of the repository has the name of its first part."""
        return not module.startswith(".") and module.partition(".")[0] not in self._words

    def _module(self, path: str, module: str) -> str:
        return next((c for c in self._candidates(path, module) if c in self.paths), "")

    def _candidates(self, path: str, module: str) -> Iterator[str]:
        level = len(module) - len(module.lstrip("."))
        rest = module.lstrip(".").replace(".", "/")
        if level:
            folder = path.split("/")[:-level]
            stems = ["/".join([*folder, rest] if rest else folder)]
        else:
            stems = [root + rest for root in _ROOTS]
        for stem in stems:
            yield f"{stem}.py"
            yield f"{stem}/__init__.py".lstrip("/")

    def _names(self, path: str) -> frozenset[bytes]:
        if path not in self._defined:
            found = _DEFINED.findall(self.read(path))
            self._defined[path] = frozenset(name for pair in found for name in pair if name)
        return self._defined[path]
