"""Sources of languages with a tree-sitter grammar as blocks: top-level declarations and members of classes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from swarmrun.code.grammars import GRAMMARS, Grammar, available, parse
from swarmrun.merging.cases import lines_of
from swarmrun.merging.rungs.blocks import Block, Key, NoBlocks, Suite
from swarmrun.merging.rungs.lexing import keys

if TYPE_CHECKING:
    from tree_sitter import Node


def reader(tongue: str):
    """A function that reads this language's text as a suite. It raises NoBlocks."""

    def read(text: str) -> Suite:
        if not available(tongue):
            raise NoBlocks(f"no grammar for {tongue}")
        if "\r" in text:
            raise NoBlocks("carriage returns inside")
        try:
            root = parse(tongue, text.encode("utf-8")).root_node
        except UnicodeEncodeError as exc:
            raise NoBlocks("not UTF-8") from exc
        if root.has_error:
            raise NoBlocks("does not parse")
        lines = lines_of(text)
        return _suite(lines, 0, 0, list(_declarations(root, GRAMMARS[tongue])), len(lines), tongue)

    return read


def _declarations(node: Node, grammar: Grammar) -> Iterator[list[Node]]:
    """Each declaration with the decorators that stand before it."""
    group: list[Node] = []
    for child in node.named_children:
        if child.type in grammar.comments:
            continue
        group.append(child)
        if child.type not in grammar.decorators:
            yield group
            group = []
    if group:
        yield group


def _suite(
    lines: list[str], start: int, body: int, groups: Sequence[list[Node]], end: int, tongue: str
) -> Suite:
    blocks: list[Block] = []
    at = body
    seen: dict[Key, int] = {}
    for group in groups:
        first, last = group[0].start_point[0], group[-1].end_point[0] + 1
        if group[-1].end_point[1] == 0 and last > first + 1:
            last -= 1  # the node ends with the line's end
        if first < at or last > end:
            raise NoBlocks("two declarations share a line")
        kind, key = _key(group[-1], GRAMMARS[tongue])
        number = seen.get(key, 0)
        seen[key] = number + 1
        block = Block(kind, (*key, number), lines[at:first], lines[first:last])
        block.more = " ".join(keys(block.lines, tongue))
        block.suites = _members(lines, group[-1], first, last, tongue)
        blocks.append(block)
        at = last
    return Suite(lines[start:body], blocks, lines[at:end])


def _members(lines: list[str], node: Node, first: int, last: int, tongue: str) -> list[Suite]:
    """A class or interface as header with members, and its closing brace; none where lines are shared."""
    grammar = GRAMMARS[tongue]
    body = _body(node, grammar)
    if body is None:
        return []
    top, bottom = body.start_point[0] + 1, body.end_point[0]
    if top >= bottom:
        return []
    try:
        inside = _suite(lines, first, top, list(_declarations(body, grammar)), bottom, tongue)
    except NoBlocks:
        return []
    return [inside, Suite(lines[bottom:last], [], [])]


def _body(node: Node, grammar: Grammar) -> Node | None:
    todo = [node]
    while todo:
        current = todo.pop(0)
        if current.type in grammar.containers or current.type in grammar.wrappers or current is node:
            for child in current.named_children:
                if child.type in grammar.bodies and current.type in grammar.containers:
                    return child
                todo.append(child)
        elif current.type == "struct_type":
            found = [c for c in current.named_children if c.type in grammar.bodies]
            if found:
                return found[0]
    return None


def _key(node: Node, grammar: Grammar) -> tuple[str, Key]:
    """By name where there is one: `export class C` is C; imports and statements by their text."""
    text = (node.text or b"").decode("utf-8", "replace")
    if node.type in grammar.imports:
        origin = re.search(r"(['\"])([^'\"]+)\1;?\s*$", text)
        return "import", ("import", origin[2] if origin and "(" not in text else node.type)
    inner = node
    while inner.type in grammar.wrappers:
        children = [
            c for c in inner.named_children if c.type in grammar.symbols or c.type in grammar.wrappers
        ]
        if len(children) != 1:
            break
        inner = children[0]
    name = inner.child_by_field_name("name")
    if inner.type in grammar.symbols and name is not None:
        receiver = inner.child_by_field_name("receiver")
        owner = (receiver.text or b"").decode("utf-8", "replace") if receiver is not None else ""
        parameters = ""
        if grammar.overloads and (found := inner.child_by_field_name("parameters")) is not None:
            parameters = (found.text or b"").decode("utf-8", "replace")
        kind = "class" if inner.type in grammar.containers else "def"
        return kind, ("def", owner, (name.text or b"").decode("utf-8", "replace"), parameters)
    return "stmt", ("stmt", " ".join(text.split()))
