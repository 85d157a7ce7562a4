"""Python contracts merged into one source file: imports joined, bodies as stubs, nothing overwritten."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import dedent, indent

from swarmrun.api.plan import Contract, ContractKind
from swarmrun.code import python
from swarmrun.planning import declarations
from swarmrun.planning.python_imports import Import, import_lines, imports_of, with_imports
from swarmrun.planning.python_names import FUTURE, unknown

STUB = "raise NotImplementedError"
_WELL_KNOWN: Mapping[str, str] = {
    **dict.fromkeys(
        ("Any", "Literal", "NamedTuple", "Optional", "Protocol", "TypedDict", "TypeVar", "Union", "ClassVar"),
        "typing",
    ),
    **dict.fromkeys(("Dict", "List", "Set", "Tuple", "Final", "Generic", "overload", "Self"), "typing"),
    **dict.fromkeys(
        ("AsyncIterator", "Awaitable", "Callable", "Iterable", "Iterator", "Mapping", "Sequence"),
        "collections.abc",
    ),
    **dict.fromkeys(("dataclass", "field"), "dataclasses"),
    **dict.fromkeys(("Enum", "IntEnum", "StrEnum"), "enum"),
    **dict.fromkeys(("ABC", "abstractmethod"), "abc"),
    "Decimal": "decimal",
    "Path": "pathlib",
    "UUID": "uuid",
    "datetime": "datetime",
    "timedelta": "datetime",
    "timezone": "datetime",
}
"""Names that mean one thing to every reader: their import is added rather than asked for."""
_KIND_ORDER = (ContractKind.DATA_MODEL, ContractKind.CLASS, ContractKind.FUNCTION, ContractKind.ROUTE)


@dataclass
class _Segment:
    names: list[str]
    text: str
    node: ast.stmt
    contract: str


@dataclass
class Merged:
    source: str
    errors: list[str] = field(default_factory=list[str])


def merged(
    path: str, existing: str | None, contracts: Sequence[Contract], homes: Mapping[str, str]
) -> Merged:
    """`homes`: name → dotted module, for names that exactly one contract of another file declares."""
    result = Merged(existing or "")
    if existing is not None and not declarations.parses(existing):
        result.errors.append(f"{path} in the repository does not parse: contracts cannot be added to it")
        return result
    imports: list[Import] = []
    segments: list[_Segment] = []
    docstring = ""
    for contract in sorted(contracts, key=lambda c: _KIND_ORDER.index(c.kind)):
        try:
            text = declarations.source(contract.declaration)
        except python.Unparsable as exc:
            result.errors.append(
                f"contract {contract.id}: line {exc.line} of the declaration does not parse as Python "
                f"({exc}): give imports, then `def name(…) -> T: ...` or a class"
            )
            continue
        text = stubbed(text)
        module = python.tree(text.encode())
        result.errors += _bodiless(contract, declarations.tree(contract.declaration))
        imports += imports_of(module)
        docstring = docstring or (ast.get_docstring(module, clean=False) or "")
        for segment in _segments(contract, text, module):
            problem = _add(segments, segment)
            if problem:
                result.errors.append(problem)
    if result.errors:
        return result
    segments = _ordered(segments)

    def render(imports: Sequence[Import]) -> str:
        return _new(docstring, imports, segments) if existing is None else _added(existing, imports, segments)

    missing = unknown(path, render(imports)) - unknown(path, existing or "")
    given = [n for n in sorted(missing) if n in homes or n in _WELL_KNOWN]
    imports += [Import(homes.get(name) or _WELL_KNOWN[name], name, "") for name in given]
    result.source = render(imports)
    result.errors += [_undefined(name, path, contracts) for name in sorted(missing - set(given))]
    if not result.errors and not declarations.parses(result.source):
        result.errors.append(f"the contracts in {path} do not parse when they are put together")
    return result


def stubbed(text: str) -> str:
    """Every function without a body raises NotImplementedError; docstrings stay."""
    data = text.encode()
    rows = data.splitlines(keepends=True)
    starts = [0]
    for row in rows:
        starts.append(starts[-1] + len(row))
    edits: list[tuple[int, int, bytes]] = []
    for node, owner in declarations.functions(python.tree(data)):
        if declarations.without_body(node, owner) or not declarations.is_stub(node):
            continue
        rest = python.without_docstring(node.body)
        pad = b" " * (node.col_offset + 4)
        first = node.body[0]
        own_line = not rows[first.lineno - 1][: first.col_offset].strip()
        if own_line:
            pad = rows[first.lineno - 1][: first.col_offset]
        replaced = rest if own_line else node.body
        last = node.body[-1]
        end = starts[(last.end_lineno or last.lineno) - 1] + (last.end_col_offset or 0)
        if not replaced:
            edits.append((end, end, b"\n" + pad + STUB.encode()))
            continue
        start = starts[replaced[0].lineno - 1] + replaced[0].col_offset
        kept = b""
        if not own_line:
            kept = b"\n" + pad
            if len(rest) < len(node.body):
                kept += ast.unparse(first).encode() + b"\n" + pad
        edits.append((start, end, kept + STUB.encode()))
    for start, end, new in sorted(edits, reverse=True):
        data = (
            data[:start].rstrip(b" ") + new + data[end:]
            if new[:1] == b"\n"
            else data[:start] + new + data[end:]
        )
    return data.decode()


def _bodiless(contract: Contract, module: ast.Module) -> Iterator[str]:
    if contract.kind is not ContractKind.DATA_MODEL:
        return
    for node, owner in declarations.functions(module):
        if declarations.is_stub(node) and not declarations.without_body(node, owner):
            yield (
                f"contract {contract.id}: the data model's method {node.name} has no body, and nobody would "
                "write it: give the body, or make the contract a class"
            )


def _segments(contract: Contract, text: str, module: ast.Module) -> Iterator[_Segment]:
    """Top-level statements with the comments above them; imports and the docstring left out."""
    rows = text.split("\n")
    for node in python.without_docstring(module.body):
        if isinstance(node, ast.Import | ast.ImportFrom):
            continue
        first = python.first_line(node)
        while first > 1 and rows[first - 2].startswith("#"):
            first -= 1
        yield _Segment(
            declarations.bound(node), "\n".join(rows[first - 1 : node.end_lineno]), node, contract.id
        )


def _add(segments: list[_Segment], new: _Segment) -> str:
    """Adds a segment; two contracts may give members to one class. Returns what is wrong."""
    for old in segments:
        if not set(old.names) & set(new.names):
            continue
        if ast.unparse(old.node) == ast.unparse(new.node):
            return ""
        if isinstance(old.node, ast.ClassDef) and isinstance(new.node, ast.ClassDef):
            text = _with_members(old.text, new.text, new.node)
            old.text, old.node = text, python.tree(text.encode()).body[0]
            return ""
        return (
            f"contracts {old.contract} and {new.contract} both declare {', '.join(new.names)} and differ: "
            "keep one of them"
        )
    segments.append(new)
    return ""


def _with_members(source: str, other: str, wanted: ast.ClassDef) -> str:
    """`source` with the members that its class lacks of `wanted`, whose text `other` ends with."""
    node = _class(source, wanted.name)
    have = {b for statement in node.body for b in declarations.bound(statement)}
    rows = other.split("\n")
    parts: list[str] = []
    for statement in _class(other, wanted.name).body:
        names = declarations.bound(statement)
        if names and not have & set(names):
            first = python.first_line(statement) - 1
            parts.append(dedent("\n".join(rows[first : statement.end_lineno])))
    if not parts:
        return source
    lines = source.split("\n")
    at = node.end_lineno or node.lineno
    column = node.body[0].col_offset
    if node.body[0].lineno == node.lineno:  # `class C: ...`
        lines[at - 1] = lines[at - 1][:column].rstrip()
        column = node.col_offset + 4
    block = ""
    before = lines[python.first_line(node.body[-1]) - 1]
    for part in parts:
        # Functions stand apart, fields one below the other.
        apart = any(re.match(r"\s*(@|(async\s+)?def\b|class\b)", text) for text in (before, part))
        block += ("\n" if apart else "") + indent(part, " " * column) + "\n"
        before = part
    return "\n".join([*lines[:at], block.rstrip("\n"), *lines[at:]])


def _class(source: str, name: str) -> ast.ClassDef:
    return next(
        n for n in python.tree(source.encode()).body if isinstance(n, ast.ClassDef) and n.name == name
    )


def _ordered(segments: Sequence[_Segment]) -> list[_Segment]:
    """What runs at import time (bases, decorators, defaults, values) comes after what it names."""
    left, found = list(segments), list[_Segment]()
    while left:
        ready = next((s for s in left if not _waits(s, left)), left[0])  # a ring: the import will say so
        left.remove(ready)
        found.append(ready)
    return found


def _waits(segment: _Segment, others: Sequence[_Segment]) -> bool:
    names = {name for other in others if other is not segment for name in other.names}
    return not names.isdisjoint(_eager(segment.node))


def _eager(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield node.id
        return
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        parts: list[ast.AST | None] = [*node.decorator_list, *node.args.defaults, *node.args.kw_defaults]
    elif isinstance(node, ast.AnnAssign):
        parts = [node.value]
    elif isinstance(node, ast.Lambda):
        parts = []
    else:
        parts = list(ast.iter_child_nodes(node))
    for part in parts:
        if part is not None:
            yield from _eager(part)


def _new(docstring: str, imports: Sequence[Import], segments: Sequence[_Segment]) -> str:
    head: list[str] = []
    if docstring:
        quotes = "'''" if '"""' in docstring else '"""'
        head.append(f"{quotes}{docstring}{quotes}\n")
    head.append(FUTURE + "\n")
    lines = import_lines([i for i in imports if i.module != "__future__"])
    if lines:
        head.append("\n".join(lines) + "\n")
    return "\n".join(head) + "".join(f"\n\n{segment.text.rstrip()}\n" for segment in segments)


def _added(existing: str, imports: Sequence[Import], segments: Sequence[_Segment]) -> str:
    module = python.tree(existing.encode())
    have = {name for node in module.body for name in declarations.bound(node)}
    source = existing if existing.endswith("\n") else existing + "\n"
    fresh = [s for s in segments if have.isdisjoint(s.names)]
    classes = {n.name for n in module.body if isinstance(n, ast.ClassDef)}
    extended = [s for s in segments if isinstance(s.node, ast.ClassDef) and s.node.name in classes]
    early = _early(fresh, extended)
    for segment in extended:
        assert isinstance(segment.node, ast.ClassDef)
        source = _with_members(source, segment.text, segment.node)
    if early:
        source = _above(source, {name for s in extended for name in s.names}, early)
    late = [s.text.rstrip() for s in fresh if s not in early]
    if late:
        source = _appended(source, late)
    return with_imports(source, [i for i in imports if i.module != "__future__"])


def _early(fresh: Sequence[_Segment], extended: Sequence[_Segment]) -> list[_Segment]:
    """What new members of existing classes name at import time (the default `Priority.NORMAL`)."""
    needed = {name for s in extended for name in _eager(s.node)}
    found: list[_Segment] = []
    for segment in reversed(fresh):
        if not needed.isdisjoint(segment.names):
            found.insert(0, segment)
            needed |= set(_eager(segment.node))
    return found


def _above(source: str, classes: Collection[str], segments: Sequence[_Segment]) -> str:
    """Puts the segments above the first of these classes and the comments that belong to it."""
    rows = source.split("\n")
    body = python.tree(source.encode()).body
    at = python.first_line(next(n for n in body if isinstance(n, ast.ClassDef) and n.name in classes)) - 1
    while at > 0 and rows[at - 1].startswith("#"):
        at -= 1
    blocks = [row for s in segments for row in (*s.text.rstrip().split("\n"), "", "")]
    return "\n".join([*rows[:at], *blocks, *rows[at:]])


def _appended(source: str, blocks: Sequence[str]) -> str:
    """At the end, but before `if __name__ == "__main__":`, which would call what is not there yet."""
    body = python.tree(source.encode()).body
    last = body[-1] if body else None
    if isinstance(last, ast.If) and "__name__" in ast.unparse(last.test):
        rows = source.split("\n")
        head, tail = (
            "\n".join(rows[: last.lineno - 1]).rstrip() + "\n",
            "\n\n" + "\n".join(rows[last.lineno - 1 :]),
        )
    else:
        head, tail = source, ""
    return head + "".join(f"\n\n{block}\n" for block in blocks) + tail


def _undefined(name: str, path: str, contracts: Sequence[Contract]) -> str:
    word = re.compile(rf"\b{re.escape(name)}\b")
    by = next((c.id for c in contracts if word.search(c.declaration)), contracts[0].id)
    return (
        f"contract {by} ({path}) uses {name}, which is neither declared nor imported there: add its import to "
        "the declaration"
    )
