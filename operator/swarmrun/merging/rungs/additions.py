"""Both sides add something at the same place."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Sequence

from swarmrun.code.languages import PROGRAMS
from swarmrun.code.symbols import Symbol, symbols
from swarmrun.merging.rungs.hunks import Lines, Rule
from swarmrun.merging.rungs.tokens import alike

_SUFFIX = {
    "javascript": "x.js",
    "typescript": "x.ts",
    "tsx": "x.tsx",
    "go": "x.go",
    "rust": "x.rs",
    "java": "x.java",
}


def declarations(base: Lines, ours: Lines, theirs: Lines, tongue: str) -> list[str] | None:
    """Both add whole functions or classes of different names."""
    if any(line.strip() for line in base):
        return None
    first, second = _declared(ours, tongue), _declared(theirs, tongue)
    if not first or not second or set(first) & set(second):
        return None
    return join(ours, theirs, tongue)


def join(ours: Lines, theirs: Lines, tongue: str) -> list[str]:
    """Two groups of declarations with the empty lines between them that the language is used to."""
    head, tail = list(ours), list(theirs)
    if head and not head[-1].endswith("\n"):
        head[-1] += "\n"
    blank = not head[-1].strip() or not tail[0].strip()
    top = tongue == "python" and not head[0][:1].isspace()
    return head + ([] if blank else ["\n"] * (2 if top else 1)) + tail


def _declared(lines: Lines, tongue: str) -> Sequence[str]:
    """Names of the declarations when there is nothing else in the lines."""
    text = "".join(lines)
    if tongue == "python":
        try:
            body = ast.parse(textwrap.dedent(text)).body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return []
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        names = [node.name for node in body if isinstance(node, kinds)]
        return names if len(names) == len(body) else []
    if tongue not in PROGRAMS:
        return []
    if _depth(lines) and tongue != "go":  # members of a class
        inner = symbols(_SUFFIX[tongue], f"class X {{\n{text}\n}}\n".encode("utf-8", "replace"))
        return _names_if_whole([s for s in inner if s.name.startswith("X.")], lines, 1)
    return _names_if_whole(symbols(_SUFFIX[tongue], text.encode("utf-8", "replace")), lines, 0)


def _names_if_whole(found: Sequence[Symbol], lines: Lines, above: int) -> Sequence[str]:
    """Their names when they cover all lines; `above` lines were put before them."""
    covered: set[int] = set()
    for symbol in found:
        covered.update(range(symbol.lines[0] - above, symbol.lines[1] - above + 1))
    loose = [n for n, line in enumerate(lines, 1) if line.strip() and n not in covered]
    return [] if loose else [symbol.name for symbol in found]


def insertions(base: Lines, ours: Lines, theirs: Lines, tongue: str) -> list[str] | None:
    """Both only insert, whatever it is: ours, then theirs. What both begin or end with is kept once."""
    if any(line.strip() for line in base) or not _says(ours) or not _says(theirs):
        return None
    shorter = min(len(ours), len(theirs))
    head = 0
    while head < shorter and ours[head] == theirs[head]:
        head += 1
    tail = 0
    while tail < shorter - head and ours[-1 - tail] == theirs[-1 - tail]:
        tail += 1
    deeper = _depth(ours[head:]) - _depth(theirs[head:])
    if deeper:  # lines that end a block, and what comes after the block
        first, second = (ours, theirs) if deeper > 0 else (theirs, ours)
        return [*first[: len(first) - tail], *second[head:]]
    if alike(ours[head : len(ours) - tail], theirs[head : len(theirs) - tail]):
        return None
    first = list(ours[: len(ours) - tail])
    if first and not first[-1].endswith("\n"):
        first[-1] += "\n"
    return [*first, *theirs[head:]]


def _depth(lines: Lines) -> int:
    """Indentation of the first line that says something."""
    return next((len(line) - len(line.lstrip()) for line in lines if line.strip()), 0)


def _says(lines: Lines) -> bool:
    return any(line.strip() for line in lines)


DECLARATIONS = Rule("declarations added by both", declarations)
INSERTIONS = Rule("insertions of both", insertions)
