"""YAML text to plain values with the line of every one of them; bounded, duplicate keys refused.

Values are built from PyYAML's node tree instead of by its constructor: only there are the marks, the
duplicate keys and the aliases still visible.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import yaml

from swarmrun.errors import InvalidResource

Path = tuple[str | int, ...]

_STANDARD = "tag:yaml.org,2002:"
_TAKEN = frozenset({"map", "seq", "str", "null", "bool", "int", "float", "timestamp", "value"})
"""Tags that mean what they say; a date stays the text it was written as."""

_yaml: Any = yaml  # its stubs leave these functions untyped

MAX_BYTES = 2 * 1024 * 1024
"""Larger than the API server takes (etcd: 1.5 MiB an object), small enough to parse at once."""
MAX_DEPTH = 40
"""The schema is 8 levels deep; parsers recurse."""
MAX_NODES = 50_000
"""Values after all aliases are followed: a "billion laughs" document is 1 KiB of text."""


@dataclass(frozen=True)
class Problem:
    """Something wrong at a place. `path` is dotted, as people write it."""

    line: int
    path: str
    text: str


@dataclass
class Document:
    """One document: its values, and where they stand. `number` counts from 1."""

    number: int
    value: Any
    lines: dict[Path, int] = field(default_factory=dict[Path, int])
    """1-based line of each value (of its key, inside a mapping)."""
    problems: list[Problem] = field(default_factory=lambda: list[Problem]())
    """Duplicate keys."""

    def line(self, path: Path) -> int:
        """Line of the value, or of the nearest thing around it that was written."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def documents(text: str, source: str) -> Iterator[Document]:
    """Empty documents are left out. Raises InvalidResource where the text is no YAML or is hostile."""
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise InvalidResource(f"{source}: larger than {MAX_BYTES // 1024} KiB")
    try:
        _check_shape(text, source)
        for number, node in enumerate(_yaml.compose_all(text, Loader=yaml.SafeLoader), start=1):
            if node is None:
                continue
            document = Document(number, None)
            document.value = _Builder(document, source).build(node, (), _line(node), ())
            if document.value is not None:
                yield document
    except yaml.YAMLError as exc:
        raise InvalidResource(f"{source}{_place(exc)}: not YAML: {_problem(exc)}") from exc


def _check_shape(text: str, source: str) -> None:
    """Depth is bounded on the flat event stream, before anything recurses."""
    depth = 0
    for event in _yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            depth += 1
            if depth > MAX_DEPTH:
                mark = event.start_mark
                raise InvalidResource(
                    f"{source}, line {mark.line + 1}: nested deeper than {MAX_DEPTH} levels"
                )
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            depth -= 1


class _Builder:
    def __init__(self, document: Document, source: str) -> None:
        self.document = document
        self.source = source
        self.left = MAX_NODES
        self.scalars: Any = _yaml.constructor.SafeConstructor()

    def build(self, node: yaml.Node, path: Path, line: int, above: tuple[int, ...]) -> Any:
        """`above` are the nodes around this one: an alias to one of them would never end."""
        self.left -= 1
        if self.left < 0:
            raise InvalidResource(
                f"{self.source}, document {self.document.number}: more than {MAX_NODES} values "
                "once its aliases are followed"
            )
        if id(node) in above or len(above) > MAX_DEPTH:
            raise InvalidResource(f"{self.source}, line {line}: an alias contains itself, or nests too deep")
        self.document.lines[path] = line
        above = (*above, id(node))
        kind = str(node.tag).removeprefix(_STANDARD)
        if kind not in _TAKEN:
            raise InvalidResource(f"{self.source}, line {line}: tag {node.tag!r} is not taken")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, above)
        if isinstance(node, yaml.SequenceNode):
            items = cast("list[yaml.Node]", node.value)
            return [self.build(item, (*path, i), _line(item), above) for i, item in enumerate(items)]
        return self._scalar(cast("yaml.ScalarNode", node), kind, line)

    def _mapping(self, node: yaml.MappingNode, path: Path, above: tuple[int, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        pairs = cast("list[tuple[yaml.Node, yaml.Node]]", node.value)
        for key_node, value_node in pairs:
            line = _line(key_node)
            if key_node.tag == f"{_STANDARD}merge":
                # Only what the merged mapping holds counts here, so its values keep no lines of their own.
                sources = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                for source in reversed(sources):
                    value = self.build(source, (*path, "<<"), line, above)
                    if not isinstance(value, dict):
                        raise InvalidResource(f"{self.source}, line {line}: `<<` merges mappings only")
                    merged |= cast("dict[str, Any]", value)
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise InvalidResource(f"{self.source}, line {line}: a key must be a plain word")
            key = str(key_node.value)
            if key in found:
                first = self.document.lines.get((*path, key), 0)
                text = f"written twice (first on line {first})"
                self.document.problems.append(Problem(line, dotted((*path, key)), text))
                continue
            found[key] = self.build(value_node, (*path, key), line, above)
        return merged | found

    def _scalar(self, node: yaml.ScalarNode, kind: str, line: int) -> Any:
        if kind in ("str", "timestamp", "value"):
            return node.value
        try:
            return self.scalars.construct_object(node)
        except ValueError as exc:
            raise InvalidResource(f"{self.source}, line {line}: {node.value!r} is no {kind}") from exc


def dotted(path: Path) -> str:
    """`("spec", "gates", 0, "name")` → `spec.gates[0].name`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _line(node: yaml.Node) -> int:
    return cast("int", node.start_mark.line) + 1


def _place(exc: yaml.YAMLError) -> str:
    mark = getattr(exc, "problem_mark", None)
    return f", line {mark.line + 1}" if mark is not None else ""


def _problem(exc: yaml.YAMLError) -> str:
    text = getattr(exc, "problem", None) or getattr(exc, "reason", None) or str(exc)
    context = getattr(exc, "context", None)
    return f"{text} {context}" if context else str(text)
