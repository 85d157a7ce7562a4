"""Brings back imports that a merged file needs: one side dropped an import that the other side's code uses."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from swarmrun.code import python
from swarmrun.code.names import undefined_names
from swarmrun.merging.cases import Case, lines_of
from swarmrun.merging.rungs.imports import union


def imports(case: Case, text: str) -> tuple[str, list[str]]:
    """The text with the imports it lacks, as one of the three versions had them, and their names. Unchanged
    where it lacks none, or where something else is missing, too."""
    if case.language != "python":
        return text, []
    missing = _missing(case, text)
    known: dict[str, str] = {}
    for version in reversed(case.texts):
        known |= dict(_bound(version))
    if not missing or not set(missing) <= set(known):
        return text, []
    for name in missing:
        text = _with(text, known[name])
    return text, missing


def _missing(case: Case, text: str) -> list[str]:
    try:
        found = undefined_names(case.path, text.encode("utf-8"))
        before: set[str] = set()
        for version in case.texts[1:]:
            before |= set(undefined_names(case.path, version.encode("utf-8")))
    except UnicodeEncodeError:
        return []
    return sorted(set(found) - before)


def _bound(text: str) -> Iterator[tuple[str, str]]:
    """name → the import statement that binds it, of the module's own level."""
    try:
        module = python.tree(text.encode("utf-8"))
    except (python.Unparsable, UnicodeEncodeError):
        return
    for node in module.body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                yield name, f"import {alias.name}{f' as {alias.asname}' if alias.asname else ''}\n"
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            origin = "." * node.level + (node.module or "")
            for alias in node.names:
                asname = f" as {alias.asname}" if alias.asname else ""
                yield alias.asname or alias.name, f"from {origin} import {alias.name}{asname}\n"


def _with(text: str, statement: str) -> str:
    """Joins the statement of the same module, else stands after the last import."""
    module = python.tree(text.encode("utf-8"))
    lines = lines_of(text)
    wanted = ast.parse(statement).body[0]
    last = _after_docstring(module)
    for node in module.body:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        last = node.end_lineno or node.lineno
        if _same_module(node, wanted):
            joined = union([], lines[node.lineno - 1 : last], [statement], "python")
            if joined is not None:
                return "".join([*lines[: node.lineno - 1], *joined, *lines[last:]])
    return "".join([*lines[:last], statement, *lines[last:]])


def _same_module(node: ast.stmt, wanted: ast.stmt) -> bool:
    if not isinstance(node, ast.ImportFrom) or not isinstance(wanted, ast.ImportFrom):
        return False
    return (node.level, node.module) == (wanted.level, wanted.module)


def _after_docstring(module: ast.Module) -> int:
    rest = python.without_docstring(module.body)
    return 0 if len(rest) == len(module.body) else module.body[0].end_lineno or 0
