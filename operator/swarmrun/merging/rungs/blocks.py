"""A source file as nested blocks: declarations and statements with the lines above them, nothing left out.

Joining all lines of all blocks in order gives the file back.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from swarmrun.code import python
from swarmrun.merging.cases import lines_of

Key = tuple[object, ...]


@dataclass
class Block:
    """One declaration or statement."""

    kind: str
    """`def`, `class`, `import`, `from`, `var`, `doc`, `compound`, `stmt`."""
    key: Key
    """What it is called, the same in all versions; repeated ones of a list are numbered."""
    lead: list[str]
    """Empty and comment lines above it."""
    lines: list[str]
    suites: list[Suite] = field(default_factory=list["Suite"])
    """Parts with blocks of their own; empty for a plain statement. Their lines joined are `lines`."""
    node: ast.stmt | None = None
    more: str = ""
    """Text that stands for it where there is no node (see `norm`)."""

    @cached_property
    def norm(self) -> str:
        """Equal when two blocks mean the same; layout, quotes and comments aside."""
        if self.node is None:
            return self.more
        try:
            return ast.unparse(self.node)
        except (RecursionError, ValueError):
            return "".join(self.lines)

    @cached_property
    def comments(self) -> list[str]:
        return [part.strip() for line in self.lines if (part := line.partition("#")[2])]


@dataclass
class Suite:
    """A header (`else:`, `def f():`) and the blocks under it."""

    header: list[str]
    blocks: list[Block]
    tail: list[str]


class NoBlocks(ValueError):
    """The text cannot be cut into blocks (syntax, or bytes this reading is not made for)."""


def python_blocks(text: str) -> Suite:
    """The module as a suite with an empty header. Raises NoBlocks."""
    if "\r" in text or "\f" in text:
        raise NoBlocks("carriage returns or form feeds inside")
    try:
        module = python.tree(text.encode("utf-8"))
    except (python.Unparsable, UnicodeEncodeError) as exc:
        raise NoBlocks(str(exc)) from exc
    lines = lines_of(text)
    try:
        return _suite(lines, 0, 0, module.body, len(lines))
    except RecursionError as exc:
        raise NoBlocks("nested too deeply") from exc


def _suite(lines: list[str], start: int, body_start: int, body: Sequence[ast.stmt], end: int) -> Suite:
    """`start:body_start` is the header; `end` is where the suite's lines end (0-based, exclusive)."""
    blocks: list[Block] = []
    at = body_start
    seen: dict[Key, int] = {}
    index = 0
    while index < len(body):
        node = body[index]
        first = python.first_line(node) - 1
        last = node.end_lineno or node.lineno
        extra = index + 1
        while extra < len(body) and body[extra].lineno - 1 < last:  # `a = 1; b = 2`
            last = max(last, body[extra].end_lineno or 0)
            extra += 1
        if first < at:
            raise NoBlocks("two statements share a line")
        kind, key = _key(node, not blocks)
        if extra > index + 1:
            kind, key = "stmt", ("stmt", *(ast.unparse(n) for n in body[index:extra]))
        number = seen.get(key, 0)
        seen[key] = number + 1
        block = Block(kind, (*key, number), lines[at:first], lines[first:last])
        if extra == index + 1:
            block.node = node
            block.suites = _suites(lines, node, first, last)
        else:
            block.more = "".join(block.lines)
        blocks.append(block)
        at, index = last, extra
    return Suite(lines[start:body_start], blocks, lines[at:end])


def _suites(lines: list[str], node: ast.stmt, first: int, last: int) -> list[Suite]:
    """The parts of a compound statement; none when a body stands on its header's line."""
    bodies = _bodies(lines, node)
    found: list[Suite] = []
    at = first
    for number, body in enumerate(bodies):
        begin = python.first_line(body[0]) - 1
        while begin > at + 1 and (not lines[begin - 1].strip() or lines[begin - 1].lstrip().startswith("#")):
            begin -= 1
        if begin <= at:
            return []
        end = body[-1].end_lineno or body[-1].lineno
        if number + 1 < len(bodies) and python.first_line(bodies[number + 1][0]) - 1 <= end:
            return []
        try:
            found.append(_suite(lines, at, begin, body, end))
        except NoBlocks:
            return []
        at = end
    return found if at == last else []


def _bodies(lines: list[str], node: ast.stmt) -> list[list[ast.stmt]]:
    bodies: list[list[ast.stmt]] = []
    for block in python.blocks_of(node):
        first = block[0]
        if isinstance(first, ast.If) and lines[first.lineno - 1].lstrip().startswith("elif"):
            bodies += _bodies(lines, first)
        else:
            bodies.append(block)
    return sorted(bodies, key=lambda body: body[0].lineno)


def _key(node: ast.stmt, is_first: bool) -> tuple[str, Key]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return "def", ("def", node.name)
    if isinstance(node, ast.ClassDef):
        return "class", ("def", node.name)
    if isinstance(node, ast.ImportFrom):
        return "from", ("from", node.level, node.module)
    if isinstance(node, ast.Import):
        return "import", ("import", ast.unparse(node))
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        return "var", ("var", ast.unparse(node.targets[0]))
    if isinstance(node, ast.AnnAssign):
        return "var", ("var", ast.unparse(node.target))
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and is_first:
        return "doc", ("doc",)
    if next(python.blocks_of(node), None) is not None:
        return "compound", (type(node).__name__, ast.unparse(node).partition("\n")[0])
    return "stmt", ("stmt", ast.unparse(node))
