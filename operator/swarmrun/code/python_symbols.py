"""Symbols of Python sources, by the standard library's `ast`."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from swarmrun.code import python
from swarmrun.code.symbols import Kind, Symbol
from swarmrun.code.text import code_lines, digest, line_starts


def _indent(row: bytes) -> int:
    return len(row) - len(row.lstrip())


class _Lines:
    def __init__(self, source: bytes) -> None:
        self.starts = line_starts(source)
        self.rows = source.splitlines()

    def span(self, first: int, last: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Line and byte span, the comment lines directly above included."""
        last = min(last, len(self.rows))
        first = min(first, last)
        indent = _indent(self.rows[first - 1]) if self.rows else 0
        while first > 1 and self._is_comment(first - 1, indent):
            first -= 1
        return (first, last), (self.starts[first - 1], self.starts[last])

    def _is_comment(self, line: int, indent: int) -> bool:
        row = self.rows[line - 1]
        return row.lstrip().startswith(b"#") and _indent(row) == indent


def python_symbols(source: bytes) -> Iterator[Symbol]:
    try:
        module = python.tree(source)
    except python.Unparsable:
        return
    lines = _Lines(source)
    found = [*_scopes(module, lines), *_bindings(module, lines)]
    yield from sorted(found, key=lambda s: (s.lines[0], s.name))


def _scopes(module: ast.Module, lines: _Lines) -> Iterator[Symbol]:
    for name, node, owner in python.scopes(module):
        at, where = lines.span(python.first_line(node), node.end_lineno or node.lineno)
        body = python.without_docstring(node.body)
        rows = lines.rows[python.first_line(body[0]) - 1 : node.end_lineno] if body else []
        if body and body[0].lineno == node.lineno:
            # `def f(): return 1`: the body is the rest of the header's line.
            rows = [ast.unparse(ast.Module(body, [])).encode("utf-8", "replace")]
        code = code_lines(rows)
        kind: Kind = (
            "class"
            if isinstance(node, ast.ClassDef)
            else "method"
            if isinstance(owner, ast.ClassDef)
            else "function"
        )
        yield Symbol(name, kind, at, where, signature(node), digest(code), len(code))
        if isinstance(node, ast.ClassDef):
            yield from _fields(name, node, lines)


def signature(node: python.Scope) -> str:
    """The header on one line, decorators left out."""
    try:
        if isinstance(node, ast.ClassDef):
            args = [ast.unparse(base) for base in node.bases]
            args += [
                f"{k.arg}={ast.unparse(k.value)}" if k.arg else f"**{ast.unparse(k.value)}"
                for k in node.keywords
            ]
            return f"class {node.name}" + (f"({', '.join(args)})" if args else "")
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        word = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
        return f"{word} {node.name}({ast.unparse(node.args)}){returns}"
    except RecursionError:
        return node.name


def _statements(block: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of one scope: into `if`, `try`, `with`, not into functions and classes."""
    stack = list(reversed(block))
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for inner in python.blocks_of(node):
                stack.extend(reversed(inner))


def _targets(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.Assign):
        todo: list[ast.expr] = list(node.targets)
    elif isinstance(node, ast.AnnAssign):
        todo = [node.target]
    elif type(node).__name__ == "TypeAlias":  # `type X = …`, Python 3.12
        todo = [node.name]  # type: ignore[attr-defined]
    else:
        return
    while todo:
        target = todo.pop(0)
        if isinstance(target, ast.Name):
            yield target.id
        elif isinstance(target, ast.Tuple | ast.List):
            todo.extend(target.elts)


def _value(node: ast.stmt, name: str, kind: Kind, lines: _Lines) -> Symbol:
    at, where = lines.span(node.lineno, node.end_lineno or node.lineno)
    rows = lines.rows[node.lineno - 1 : node.end_lineno]
    text = b" ".join(row.strip() for row in rows).decode("utf-8", "replace")
    return Symbol(name, kind, at, where, text[:400], digest(code_lines(rows)), len(rows))


def _fields(owner: str, node: ast.ClassDef, lines: _Lines) -> Iterator[Symbol]:
    """Names bound in the class body, and `self.x = …` of `__init__`."""
    seen: set[str] = set()
    for statement in _statements(node.body):
        for name in _targets(statement):
            if name not in seen:
                seen.add(name)
                yield _value(statement, f"{owner}.{name}", "field", lines)
    for method in node.body:
        if not isinstance(method, ast.FunctionDef) or method.name != "__init__" or not method.args.args:
            continue
        me = method.args.args[0].arg
        for statement in _statements(method.body):
            targets = statement.targets if isinstance(statement, ast.Assign) else []
            if isinstance(statement, ast.AnnAssign):
                targets = [statement.target]
            for target in targets:
                if not isinstance(target, ast.Attribute):
                    continue
                on = target.value
                if isinstance(on, ast.Name) and on.id == me and target.attr not in seen:
                    seen.add(target.attr)
                    yield _value(statement, f"{owner}.{target.attr}", "field", lines)


def _bindings(module: ast.Module, lines: _Lines) -> Iterator[Symbol]:
    for node in _statements(module.body):
        for name in _targets(node):
            yield _value(node, name, "variable", lines)
        if isinstance(node, ast.Import | ast.ImportFrom):
            at, where = lines.span(node.lineno, node.end_lineno or node.lineno)
            origin = "." * node.level + (node.module or "") if isinstance(node, ast.ImportFrom) else ""
            for alias in node.names:
                asname = f" as {alias.asname}" if alias.asname else ""
                text = f"from {origin} import {alias.name}" if origin else f"import {alias.name}"
                bound = alias.asname or (alias.name if origin else alias.name.partition(".")[0])
                name = text if alias.name == "*" else bound
                yield Symbol(name, "import", at, where, text + asname, digest([(text + asname).encode()]), 1)
