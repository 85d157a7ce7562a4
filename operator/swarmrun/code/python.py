"""Python sources as syntax trees, kept for the next question about the same bytes."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from functools import lru_cache

from swarmrun.code.text import readable

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
Scope = FunctionNode | ast.ClassDef

# A stranger's invalid escape sequences are no news for our own standard error.
warnings.filterwarnings("ignore", category=SyntaxWarning, module=r"<source>")


class Unparsable(ValueError):
    """These bytes are not Python that this interpreter's grammar accepts (or they are too large)."""

    def __init__(self, message: str, line: int = 1, column: int = 0) -> None:
        super().__init__(message)
        self.line = line
        self.column = column


@lru_cache(maxsize=64)
def _parsed(source: bytes) -> ast.Module | Unparsable:
    if not readable(source):
        return Unparsable("binary, or too large to be read")
    try:
        return ast.parse(source, filename="<source>")
    except SyntaxError as exc:
        return Unparsable(exc.msg or "invalid syntax", exc.lineno or 1, exc.offset or 0)
    except (ValueError, RecursionError, MemoryError) as exc:
        return Unparsable(str(exc) or type(exc).__name__)


def tree(source: bytes) -> ast.Module:
    """The module's tree; shared between callers, so never changed by them. Raises Unparsable."""
    result = _parsed(source)
    if isinstance(result, Unparsable):
        raise Unparsable(str(result), result.line, result.column)
    return result


def first_line(node: ast.stmt) -> int:
    """1-based, decorators included."""
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(d.lineno for d in decorators)])


def blocks_of(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """The statement lists directly inside a compound statement (body, else, except …)."""
    for name in ("body", "orelse", "finalbody"):
        block = getattr(node, name, None)
        if isinstance(block, list) and block and isinstance(block[0], ast.stmt):
            yield block
    for child in [*getattr(node, "handlers", []), *getattr(node, "cases", [])]:
        yield child.body


def scopes(module: ast.Module) -> Iterator[tuple[str, Scope, Scope | None]]:
    """(qualified name, node, enclosing scope) of every function and class, as `__qualname__` gives it.

    Uses a stack of its own: deeply nested sources must not end in RecursionError.
    """
    stack: list[tuple[str, ast.AST, Scope | None]] = [("", module, None)]
    while stack:
        prefix, node, owner = stack.pop()
        inner: list[tuple[str, ast.AST, Scope | None]] = []
        for block in blocks_of(node):
            for child in block:
                if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    name = prefix + child.name
                    yield name, child, owner
                    tail = "." if isinstance(child, ast.ClassDef) else ".<locals>."
                    inner.append((name + tail, child, child))
                elif next(blocks_of(child), None) is not None:
                    inner.append((prefix, child, owner))
        stack.extend(reversed(inner))


def without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    value = first.value if isinstance(first, ast.Expr) else None
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return body[1:]
    return body
