"""Python annotations brought to one form, so that equal types compare equal."""

from __future__ import annotations

import ast
from functools import lru_cache

_SAME = {
    "List": "list",
    "Dict": "dict",
    "Set": "set",
    "FrozenSet": "frozenset",
    "Tuple": "tuple",
    "Type": "type",
    "Text": "str",
}


def normal(annotation: ast.expr | None) -> str:
    """`Optional["models.Link"]`, `Link | None` and `typing.Union[None, Link]` are one text; empty when there
    is no annotation. Modules' names are left out: how a type was imported does not change it."""
    return "" if annotation is None else _normal(ast.unparse(annotation))


@lru_cache(maxsize=4096)
def _normal(text: str) -> str:
    try:
        return _text(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError):
        return "".join(text.split())


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            return _normal(node.value)
        return "..." if node.value is ... else repr(node.value)
    if isinstance(node, ast.Name):
        return _SAME.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return _SAME.get(node.attr, node.attr)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _union([node.left, node.right])
    if isinstance(node, ast.Subscript):
        head = _text(node.value)
        inside = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if head == "Optional":
            return _union([*inside, ast.Constant(None)])
        if head == "Union":
            return _union(inside)
        if head == "Annotated":
            return _text(inside[0])
        if head == "Literal":
            return f"Literal[{', '.join(sorted(ast.unparse(e) for e in inside))}]"
        return f"{head}[{', '.join(_text(e) for e in inside)}]"
    if isinstance(node, ast.List):
        return f"[{', '.join(_text(e) for e in node.elts)}]"
    return ast.unparse(node)


def _union(members: list[ast.expr]) -> str:
    parts = {part for member in members for part in _split(_text(member))}
    return " | ".join(sorted(parts))


def _split(text: str) -> list[str]:
    """The members of a union's text; bars inside brackets are not its own."""
    found, depth, start = list[str](), 0, 0
    for at, letter in enumerate(text):
        depth += (letter in "[(") - (letter in "])")
        if letter == "|" and depth == 0:
            found.append(text[start:at].strip())
            start = at + 1
    return [*found, text[start:].strip()]
