"""Union of Python's imports."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from swarmrun.merging.rungs.hunks import Lines, Rule

_WIDTH = 89
"""Longer import lines are broken into one name a line."""

Name = tuple[str, str, str]
"""(module, name or empty for `import module`, alias)."""


@dataclass(frozen=True)
class _Statement:
    module: str | None
    """None for `import …`."""
    names: Sequence[Name]
    lines: Lines


def _read(lines: Lines) -> list[_Statement] | None:
    """The statements of lines that hold imports only."""
    try:
        body = ast.parse(textwrap.dedent("".join(lines))).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    found: list[_Statement] = []
    last = 0
    for node in body:
        if node.lineno <= last:
            return None
        last = node.end_lineno or node.lineno
        rows = lines[node.lineno - 1 : last]
        if isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            found.append(_Statement(module, [(module, a.name, a.asname or "") for a in node.names], rows))
        elif isinstance(node, ast.Import):
            found.append(_Statement(None, [(a.name, "", a.asname or "") for a in node.names], rows))
        else:
            return None
    return found


def union(base: Lines, ours: Lines, theirs: Lines, tongue: str) -> list[str] | None:
    """Names of both, without those that one side removed, in the form the sides give them."""
    if tongue != "python" or any(line.lstrip().startswith("#") for line in [*base, *ours, *theirs]):
        return None
    b, o, t = _read(base), _read(ours), _read(theirs)
    if b is None or o is None or t is None or not (o or t):
        return None
    nb, no, nt = ([n for s in part for n in s.names] for part in (b, o, t))
    kept = [n for n in no if n in nt or n not in nb] + [n for n in nt if n not in no and n not in nb]
    first = next(line for line in [*ours, *theirs] if line.strip())
    indent = first[: len(first) - len(first.lstrip())]
    written: set[Name] = set()
    result: list[list[str]] = []
    for side, other in ((o, t), (t, o)):
        for statement in side:
            names = [n for n in statement.names if n in kept and n not in written]
            if not names:
                continue
            if side is o and _only_one(statement, o) and _only_one(statement, t):
                names += [n for n in kept if n[0] == statement.module and n[1] and n not in names]
            names = [n for n in names if n not in written]
            written.update(names)
            same = next((s for s in (statement, *other) if set(s.names) == set(names)), None)
            result.append(list(same.lines) if same else _render(statement, names, indent))
    return _sorted_like(result, o or t)


def _only_one(statement: _Statement, side: Sequence[_Statement]) -> bool:
    return statement.module is not None and sum(s.module == statement.module for s in side) == 1


def _render(statement: _Statement, names: Sequence[Name], indent: str) -> list[str]:
    if statement.module is None:
        return [f"{indent}import {m}{f' as {a}' if a else ''}\n" for m, _, a in names]
    old = [n[1] for n in statement.names]
    words = [n + (f" as {a}" if a else "") for _, n, a in names]
    if old == sorted(old) and len(old) > 1:
        words.sort()
    elif old == sorted(old, key=str.lower):
        words.sort(key=str.lower)
    line = f"{indent}from {statement.module} import {', '.join(words)}\n"
    if len(statement.lines) == 1 and len(line) <= _WIDTH:
        return [line]
    head = f"{indent}from {statement.module} import (\n"
    return [head, *(f"{indent}    {word},\n" for word in words), f"{indent})\n"]


def _sorted_like(statements: list[list[str]], ours: Sequence[_Statement]) -> list[str]:
    """Sorted where ours was."""
    before = ["".join(s.lines) for s in ours]
    for key in (str, str.lower):
        if len(before) > 1 and before == sorted(before, key=key):
            statements = sorted(statements, key=lambda s, key=key: key("".join(s)))
            break
    lines = [line for statement in statements for line in statement]
    return [line if line.endswith("\n") else line + "\n" for line in lines]


UNION = Rule("union of imports", union)
