"""What agents did to merges in the field, done to a human's resolution: does a hard guard say so?"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Callable

from merge_cases import Replayed

from swarmrun.code.symbols import Symbol, symbols
from swarmrun.merging.cases import Case
from swarmrun.merging.diff3 import Hunk, diff3
from swarmrun.merging.rungs.hunks import Lines

_SMALLEST = 3
"""Lines of code of a function that is worth damaging."""


def _functions(case: Replayed) -> list[Symbol]:
    """Functions of the result with some body; those that a side changed, where there are any."""
    base = {s.name: s.body_hash for s in symbols(case.path, case.base or b"")}
    sides = [{s.name: s.body_hash for s in symbols(case.path, d)} for d in (case.ours, case.theirs)]
    all_ = [
        s
        for s in symbols(case.path, case.human)
        if s.kind in ("function", "method") and s.body_size >= _SMALLEST and "<locals>" not in s.name
    ]
    changed = [s for s in all_ if any(s.name in x and x[s.name] != base.get(s.name) for x in sides)]
    return changed or all_


def _node(case: Replayed, symbol: Symbol) -> ast.FunctionDef:
    for node in ast.walk(ast.parse(case.human)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if symbol.lines[0] <= node.lineno <= symbol.lines[1] and symbol.name.endswith(node.name):
            return node  # type: ignore[return-value]
    raise LookupError(symbol.name)


def _body(case: Replayed, symbol: Symbol) -> tuple[list[bytes], int, int, str]:
    """(lines, first line of the body, its end, indentation); the docstring stays."""
    node = _node(case, symbol)
    body = node.body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) and len(body) > 1:
        body = body[1:]
    lines = case.human.splitlines(keepends=True)
    return lines, body[0].lineno - 1, body[-1].end_lineno or 0, " " * body[0].col_offset


def restore_one_side(case: Replayed, rng: random.Random) -> bytes | None:
    return case.ours if rng.random() < 0.5 else case.theirs


def ours_on_hunks(case: Replayed, rng: random.Random) -> bytes | None:
    three = Case(case.path, case.base, case.ours, case.theirs)
    if not three.mergeable:
        return None
    lines: list[str] = []
    for part in diff3(*three.lines):
        lines += part.ours if isinstance(part, Hunk) else part.items
    return three.encode("".join(lines))


def _stub(text: str) -> Callable[[Replayed, random.Random], bytes | None]:
    def damage(case: Replayed, rng: random.Random) -> bytes | None:
        found = _functions(case)
        if not found:
            return None
        lines, start, end, indent = _body(case, rng.choice(found))
        return b"".join([*lines[:start], f"{indent}{text}\n".encode(), *lines[end:]])

    return damage


def delete_function(case: Replayed, rng: random.Random) -> bytes | None:
    found = _functions(case)
    if not found:
        return None
    symbol = rng.choice(found)
    return case.human[: symbol.bytes[0]] + case.human[symbol.bytes[1] :]


def half_a_function(case: Replayed, rng: random.Random) -> bytes | None:
    """The last half of the statements goes."""
    found = [s for s in _functions(case) if len(_node(case, s).body) >= 2]
    if not found:
        return None
    symbol = rng.choice(found)
    node = _node(case, symbol)
    lines = case.human.splitlines(keepends=True)
    kept = node.body[: max(1, len(node.body) // 2)]
    return b"".join([*lines[: kept[-1].end_lineno], *lines[node.body[-1].end_lineno or 0 :]])


def tail_elided(case: Replayed, rng: random.Random) -> bytes | None:
    lines = case.human.splitlines(keepends=True)
    if len(lines) < 20:
        return None
    return b"".join(lines[: len(lines) * 3 // 4]) + b"# ... the rest is unchanged\n"


def markers_left(case: Replayed, rng: random.Random) -> bytes | None:
    lines: Lines = case.human.decode("utf-8", "replace").splitlines(keepends=True)
    at = rng.randrange(len(lines) + 1)
    new = [
        *lines[:at],
        "<<<<<<< HEAD\n",
        *lines[at : at + 1],
        "=======\n",
        ">>>>>>> theirs\n",
        *lines[at + 1 :],
    ]
    return "".join(new).encode()


def test_skipped(case: Replayed, rng: random.Random) -> bytes | None:
    tests = [s for s in _functions(case) if re.match(r"(.*\.)?test", s.name)]
    if not tests:
        return None
    symbol = rng.choice(tests)
    lines = case.human.splitlines(keepends=True)
    node = _node(case, symbol)
    at = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
    return b"".join([*lines[:at], b" " * node.col_offset + b"@pytest.mark.skip\n", *lines[at:]])


test_skipped.__test__ = False  # type: ignore[attr-defined]

DAMAGE: dict[str, Callable[[Replayed, random.Random], bytes | None]] = {
    "one side restored": restore_one_side,
    "-X ours on hunks": ours_on_hunks,
    "stub: pass # TODO": _stub("pass  # TODO"),
    "stub: return result": _stub("return result"),
    "a changed function deleted": delete_function,
    "half a function dropped": half_a_function,
    "tail of the file elided": tail_elided,
    "markers left": markers_left,
    "a test skipped": test_skipped,
}
COUNTED = [name for name in DAMAGE if name != "-X ours on hunks"]


def damaged(case: Replayed, kind: str, seed: int) -> bytes | None:
    """The damaged file, or None where this damage cannot be done to it."""
    try:
        return DAMAGE[kind](case, random.Random(f"{seed}/{kind}/{case.merge}/{case.path}"))
    except (SyntaxError, ValueError, LookupError, RecursionError):
        return None
