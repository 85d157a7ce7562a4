"""A contract's declaration as a syntax tree of Python, lightly mended where only one reading makes sense."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from swarmrun.code import python

_HEADER = re.compile(r"^\s*(async\s+def|def|class)\s")


def source(declaration: str) -> str:
    """The declaration as text that parses, where bodies or colons were left out. Raises python.Unparsable."""
    if parses(declaration):
        return declaration
    mended = _with_bodies(declaration)
    if not parses(mended):
        python.tree(declaration.encode())  # the error in the planner's own line numbers
    return mended


def tree(declaration: str) -> ast.Module:
    """Raises python.Unparsable. Shared: not to be changed."""
    return python.tree(source(declaration).encode())


def parses(text: str) -> bool:
    try:
        python.tree(text.encode("utf-8", "replace"))
    except python.Unparsable:
        return False
    return True


def _with_bodies(text: str) -> str:
    """`def f(a: int) -> str` → `def f(a: int) -> str: ...`, line by line."""
    rows = text.splitlines()
    found: list[str] = []
    for at, row in enumerate(rows):
        bare = row.rstrip().removesuffix(";")
        if _HEADER.match(row) and bare.count("(") == bare.count(")"):
            after = next((r for r in rows[at + 1 :] if r.strip()), "")
            deeper = len(after) - len(after.lstrip()) > len(row) - len(row.lstrip())
            if not bare.endswith(":") and not re.search(r":\s*(\.\.\.|pass)$", bare):
                bare += ":"
            if bare.endswith(":") and not deeper:
                bare += " ..."
            row = bare
        found.append(row)
    return "\n".join(found)


def bound(node: ast.stmt) -> list[str]:
    """Names that a statement of a module or class binds; imports aside."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        # `@size.setter def size` adds to a name that is bound already.
        accessor = any(getattr(d, "attr", "") in ("setter", "deleter") for d in node.decorator_list)
        return [] if accessor else [node.name]
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    return [t.id for t in targets if isinstance(t, ast.Name)]


def is_stub(node: python.FunctionNode) -> bool:
    """Whether the body says nothing: `...`, `pass`, `raise NotImplementedError`, or a docstring alone."""
    for statement in python.without_docstring(node.body):
        if isinstance(statement, ast.Pass):
            continue
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue
        if isinstance(statement, ast.Raise):
            raised = statement.exc.func if isinstance(statement.exc, ast.Call) else statement.exc
            if getattr(raised, "id", "") == "NotImplementedError":
                continue
        return False
    return True


def without_body(node: python.FunctionNode, owner: ast.ClassDef | None) -> bool:
    """Functions that have none by nature: abstract, overload, members of a protocol."""
    names = {_last(d) for d in node.decorator_list}
    bases = {_last(b) for b in owner.bases} if owner else set[str]()
    return bool(names & {"abstractmethod", "overload"}) or "Protocol" in bases


def functions(module: ast.Module) -> Iterator[tuple[python.FunctionNode, ast.ClassDef | None]]:
    """Functions of the module and methods of its classes (of classes inside classes, too)."""
    stack: list[tuple[ast.stmt, ast.ClassDef | None]] = [(node, None) for node in reversed(module.body)]
    while stack:
        node, owner = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node, owner
        elif isinstance(node, ast.ClassDef):
            stack.extend((inner, node) for inner in reversed(node.body))


def _last(node: ast.expr) -> str:
    if isinstance(node, ast.Call):
        node = node.func
    if isinstance(node, ast.Subscript):
        node = node.value
    return getattr(node, "attr", getattr(node, "id", ""))
