"""Names in a Python source that nothing binds, those in postponed and quoted annotations too."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from swarmrun.code import python
from swarmrun.code.names import undefined_names
from swarmrun.planning import declarations

FUTURE = "from __future__ import annotations"


def unknown(path: str, source: str) -> set[str]:
    """Names that nothing binds, those in postponed and quoted annotations too."""
    if not declarations.parses(source):
        return set()
    # With the future import the compiler keeps annotations out of its symbol tables.
    plain = re.sub(rf"^{FUTURE}[ \t]*$", "", source, flags=re.MULTILINE)
    found = set(undefined_names(path, plain.encode()))
    module = python.tree(plain.encode())
    for annotation in _annotations(module):
        for node in ast.walk(annotation):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
                probe = f"{plain}\n{node.value}\n"
                if declarations.parses(probe) and not _in_literal(annotation, node):
                    found |= set(undefined_names(path, probe.encode()))
    return found


def _annotations(module: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(module):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            yield node.annotation
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is not None:
            yield node.returns


def _in_literal(annotation: ast.expr, text: ast.Constant) -> bool:
    """`Literal["open"]` and the extras of `Annotated` hold values, not names."""
    return any(
        isinstance(node, ast.Subscript)
        and getattr(node.value, "attr", getattr(node.value, "id", "")) in ("Literal", "Annotated")
        and any(inner is text for inner in ast.walk(node.slice))
        for node in ast.walk(annotation)
    )
