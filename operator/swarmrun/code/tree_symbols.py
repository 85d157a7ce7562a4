"""Symbols of languages with a tree-sitter grammar."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from swarmrun.code.grammars import GRAMMARS, Grammar, available, parse
from swarmrun.code.symbols import Kind, Symbol
from swarmrun.code.text import code_lines, digest, line_starts

if TYPE_CHECKING:
    from tree_sitter import Node


def tree_symbols(tongue: str, source: bytes) -> Iterator[Symbol]:
    yield from sorted((s for s, _ in tree_bodies(tongue, source)), key=lambda s: s.lines)


def tree_bodies(tongue: str, source: bytes) -> Iterator[tuple[Symbol, str]]:
    """Each symbol with the text of its body (braces included)."""
    if not available(tongue):
        return
    grammar = GRAMMARS[tongue]
    rows = _Rows(source)
    # (node, prefix of its names, the outermost node that belongs to the declaration)
    stack: list[tuple[Node, str, Node | None]] = [(parse(tongue, source).root_node, "", None)]
    while stack:
        node, prefix, outer = stack.pop()
        inner: list[tuple[Node, str, Node | None]] = []
        for child in node.named_children:
            if child.type in grammar.imports:
                yield rows.symbol(_text(child), "import", child, child, grammar, child), ""
                continue
            kind = grammar.symbols.get(child.type)
            call = _named_call(child, grammar)
            if call:
                yield (
                    rows.symbol(prefix + call, "function", child, outer or child, grammar, child),
                    _text(child),
                )
                inner.extend((part, f"{prefix}{call} > ", None) for part in _callbacks(child, grammar))
            elif kind:
                names = _names(child, grammar)
                body = _body(child, grammar)
                for name in names:
                    actual = _kind(kind, child, prefix, grammar)
                    symbol = rows.symbol(prefix + name, actual, child, outer or child, grammar, body or child)
                    yield symbol, _text(body) if body else ""
                if child.type in grammar.containers and names:
                    for part in _members(child, grammar):
                        inner.append((part, f"{prefix}{names[0]}.", None))
            elif child.type in grammar.wrappers or child.type == "ERROR":
                inner.append((child, prefix, outer or child))
        stack.extend(reversed(inner))


class _Rows:
    def __init__(self, source: bytes) -> None:
        self.rows = source.splitlines()
        self.starts = line_starts(source)

    def symbol(self, name: str, kind: Kind, node: Node, outer: Node, grammar: Grammar, body: Node) -> Symbol:
        first = outer
        while (before := first.prev_sibling) is not None:
            if before.type not in grammar.comments | grammar.decorators:
                break
            if first.start_point[0] - before.end_point[0] > 1:
                break
            if (previous := before.prev_sibling) and previous.end_point[0] == before.start_point[0]:
                break  # a comment at the end of the line above is somebody else's
            first = before
        top = min(first.start_point[0], max(len(self.rows) - 1, 0))
        last = min(max(outer.end_point[0], top), max(len(self.rows) - 1, 0))
        text = _text(node)
        header = text[: body.start_byte - node.start_byte] if body is not node else text
        code = code_lines(_text(body).encode("utf-8", "surrogateescape").splitlines())
        return Symbol(
            name,
            kind,
            (top + 1, last + 1),
            (self.starts[top], self.starts[last + 1] if last + 1 < len(self.starts) else self.starts[-1]),
            re.sub(r"\s+", " ", header)
            .strip()
            .removesuffix("{")
            .rstrip("= ")
            .removesuffix("=>")
            .strip()[:400],
            digest(code),
            len([row for row in code if row.strip(b"{}()[];, ")]),
        )


def _text(node: Node) -> str:
    return (node.text or b"").decode("utf-8", "surrogateescape")


def _body(node: Node, grammar: Grammar) -> Node | None:
    value = node.child_by_field_name("value")
    if value is not None and value.type in grammar.function_values:
        return value.child_by_field_name("body")
    return node.child_by_field_name("body") or value


def _callbacks(call: Node, grammar: Grammar) -> Iterator[Node]:
    """The blocks of functions handed to a call: `describe("x", () => { … })`."""
    arguments = call.child_by_field_name("arguments")
    for argument in arguments.named_children if arguments else []:
        body = argument.child_by_field_name("body") if argument.type in grammar.function_values else None
        if body is not None:
            yield body


def _kind(kind: str, node: Node, prefix: str, grammar: Grammar) -> Kind:
    value = node.child_by_field_name("value")
    if kind == "variable" and value is not None and value.type in grammar.function_values:
        return "function"
    if kind == "function" and prefix:
        return "method"
    return cast(Kind, kind)


def _names(node: Node, grammar: Grammar) -> list[str]:
    receiver = node.child_by_field_name("receiver")
    prefix = ""
    if receiver is not None:  # Go: func (t *T) M()
        prefix = (
            re.sub(r"\[.*|[()*]", "", _text(receiver)).split()[-1] + "." if _text(receiver) != "()" else ""
        )
    names = [_text(n) for n in node.children_by_field_name("name")] or [
        _text(n) for n in node.children_by_field_name("type")[:1]
    ]
    declarator = node.child_by_field_name("declarator")  # Java fields
    if declarator is not None:
        names = [_text(declarator.child_by_field_name("name") or declarator)]
    return [prefix + re.sub(r"\s+", " ", name) for name in names if name]


def _members(node: Node, grammar: Grammar) -> Iterator[Node]:
    todo = list(node.named_children)
    while todo:
        child = todo.pop(0)
        if child.type in grammar.bodies:
            yield child
        elif child.type in ("struct_type",):
            todo.extend(child.named_children)


def _named_call(node: Node, grammar: Grammar) -> str:
    """`describe("x", …)` as the name `describe x`; empty for anything else."""
    if not grammar.keep_calls or node.type != "call_expression":
        return ""
    function, arguments = node.child_by_field_name("function"), node.child_by_field_name("arguments")
    if function is None or arguments is None or not arguments.named_children:
        return ""
    word = _text(function)
    title = arguments.named_children[0]
    if word.split(".")[0] not in grammar.keep_calls or title.type not in ("string", "template_string"):
        return ""
    return f"{word} {_text(title)[1:-1]}"
