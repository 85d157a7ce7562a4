"""Contracts of TypeScript, JavaScript and Go merged into one source file, by tree-sitter."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from swarmrun.api.plan import Contract, ContractKind
from swarmrun.code import grammars
from swarmrun.code.languages import language
from swarmrun.code.parse import syntax_errors
from swarmrun.code.symbols import symbols

if TYPE_CHECKING:
    from tree_sitter import Node

STUBS = {
    "typescript": 'throw new Error("not implemented");',
    "tsx": 'throw new Error("not implemented");',
    "javascript": 'throw new Error("not implemented");',
    "go": 'panic("not implemented")',
}
"""Languages whose functions can be scaffolded here, and what stands in their bodies."""
_ELLIPSIS = re.compile(r"\{\s*(\.\.\.|…)\s*;?\s*\}")
_FUNCTIONS = frozenset(
    {
        "function_declaration",
        "generator_function_declaration",
        "method_definition",
        "method_declaration",
        "arrow_function",
    }
)
_BODILESS = frozenset(
    {"function_signature", "method_signature", "function_declaration", "method_declaration"}
)
"""The last two: Go allows a declaration without a body, for functions written in assembly."""
_WITHOUT_BODIES = frozenset(
    {"interface_declaration", "ambient_declaration", "object_type", "type_declaration"}
)


@dataclass
class Merged:
    source: str
    errors: list[str] = field(default_factory=list[str])


def merged(path: str, existing: str | None, contracts: Sequence[Contract]) -> Merged:
    tongue = language(path)
    result = Merged(existing or "")
    package, imports, segments = "", list[str](), list[tuple[set[str], str, str]]()
    for contract in contracts:
        text = stubbed(tongue, contract.declaration, complete=contract.kind is ContractKind.DATA_MODEL)
        problems = syntax_errors(path, text.encode())
        if problems:
            first = problems[0]
            result.errors.append(
                f"contract {contract.id}: line {first.line} of the declaration does not parse as {tongue} "
                f"({first.message}): give imports, then declarations"
            )
            continue
        for kind, part in _parts(tongue, text):
            if kind == "package":
                package = package or part
            elif kind == "import":
                imports += [line for line in _import_lines(tongue, part) if line not in imports]
            else:
                names = {s.name for s in symbols(path, part.encode()) if s.kind != "import"}
                tops = {n for n in names if "." not in n} or names
                clash = next((s for s in segments if tops & s[0]), None)
                if clash is None:
                    segments.append((tops, part, contract.id))
                elif " ".join(clash[1].split()) != " ".join(part.split()):
                    result.errors.append(
                        f"contracts {clash[2]} and {contract.id} both declare {', '.join(sorted(tops))} and "
                        "differ: keep one of them"
                    )
    if result.errors:
        return result
    if existing is None:
        head = [package or f"package {_package(path)}"] if tongue == "go" else []
        blocks = [*head, *(["\n".join(imports)] if imports else []), *(part for _, part, _ in segments)]
        result.source = "\n\n".join(blocks) + "\n"
    else:
        result.source = _added(path, tongue, existing, imports, [(n, p) for n, p, _ in segments])
    for problem in syntax_errors(path, result.source.encode())[:3]:
        result.errors.append(f"{path} line {problem.line}: {problem.message} (contracts put together)")
    return result


def stubbed(tongue: str, declaration: str, *, complete: bool = False) -> str:
    """Functions without a body get one that fails; a complete data model is left as it is."""
    text = _ELLIPSIS.sub("{}", declaration)
    data = text.encode()
    edits: list[tuple[int, int, bytes]] = []
    stack = [] if complete else [grammars.parse(tongue, data).root_node]
    while stack:
        node = stack.pop()
        if node.type in _WITHOUT_BODIES:
            continue
        stack.extend(node.named_children)
        name = node.child_by_field_name("name")
        if name is not None and name.text == b"constructor":
            continue  # `constructor(private db: Db) {}` is complete
        body = node.child_by_field_name("body")
        if node.type in _FUNCTIONS and body is not None:
            inside = data[body.start_byte + 1 : body.end_byte - 1]
            if body.type in ("statement_block", "block") and not inside.strip():
                edits.append((body.start_byte, body.end_byte, _block(tongue, data, node)))
        elif node.type in _BODILESS:
            end = node.end_byte
            while data[end - 1 : end] == b";":
                end -= 1
            after = node.end_byte + (data[node.end_byte : node.end_byte + 1] == b";")
            edits.append((end, after, b" " + _block(tongue, data, node)))
    for start, end, new in sorted(edits, reverse=True):
        data = data[:start] + new + data[end:]
    return data.decode()


def _block(tongue: str, data: bytes, node: Node) -> bytes:
    """A body that fails, indented as the line that the function starts on."""
    line = data[data.rfind(b"\n", 0, node.start_byte) + 1 : node.start_byte]
    margin = line[: len(line) - len(line.lstrip())]
    step = b"\t" if tongue == "go" else b"  "
    return b"{\n" + margin + step + STUBS[tongue].encode() + b"\n" + margin + b"}"


def _parts(tongue: str, text: str) -> Iterator[tuple[str, str]]:
    """(package | import | code, text) of each top-level node, comments with what follows them."""
    grammar = grammars.GRAMMARS[tongue]
    data = text.encode()
    start: int | None = None
    for node in grammars.parse(tongue, data).root_node.children:
        if node.type in grammar.comments or node.type in grammar.decorators:
            start = node.start_byte if start is None else start
            continue
        if node.type in (";", "\n"):
            continue
        begin = node.start_byte if start is None else start
        start = None
        end = node.end_byte + (data[node.end_byte : node.end_byte + 1] == b";")
        if node.type == "package_clause":
            yield "package", data[node.start_byte : node.end_byte].decode()
        elif node.type in grammar.imports:
            yield "import", data[node.start_byte : end].decode()
        else:
            yield "code", data[begin:end].decode()


def _import_lines(tongue: str, text: str) -> list[str]:
    if tongue != "go":
        return [text.strip()]
    # `import ( … )`: one line a package, so that they can be compared and joined.
    return [
        f"import {spec.strip()}" for spec in re.findall(r'(?:[\w.]+\s+)?"[^"]+"', text.removeprefix("import"))
    ]


def _added(
    path: str, tongue: str, existing: str, imports: Sequence[str], segments: Sequence[tuple[set[str], str]]
) -> str:
    have = {s.name for s in symbols(path, existing.encode()) if s.kind != "import"}
    source = existing if existing.endswith("\n") or not existing else existing + "\n"
    bare = " ".join(existing.split())
    new_imports = [
        line for line in imports if line.removeprefix("import ") not in bare and line.rstrip(";") not in bare
    ]
    for names, part in segments:
        if not names & have:
            source += f"\n{part}\n" if source else f"{part}\n"
    if not new_imports:
        return source
    data = source.encode()
    at = 0
    for node in grammars.parse(tongue, data).root_node.named_children:
        if node.type in grammars.GRAMMARS[tongue].imports or node.type == "package_clause":
            at = data.find(b"\n", node.end_byte) + 1 or len(data)
    return (data[:at] + ("\n".join(new_imports) + "\n").encode() + data[at:]).decode()


def _package(path: str) -> str:
    folder = path.rpartition("/")[0].rpartition("/")[2]
    return re.sub(r"\W", "", folder) or "main"
