"""Import lines of Python sources: read, joined, added where they are missing."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from swarmrun.code import python
from swarmrun.planning import declarations


@dataclass
class Import:
    """One imported name. `name` empty: `import module`."""

    module: str
    name: str
    asname: str

    @property
    def binds(self) -> str:
        return self.asname or (self.name if self.name else self.module.partition(".")[0])


def imports_of(module: ast.Module) -> Iterator[Import]:
    for node in module.body:
        if isinstance(node, ast.Import):
            yield from (Import(a.name, "", a.asname or "") for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            yield from (Import(origin, a.name, a.asname or "") for a in node.names)


def with_imports(source: str, wanted: Sequence[Import]) -> str:
    """Adds the imports whose names are not bound yet, behind the last import at the top."""
    module = python.tree(source.encode())
    have = {i.binds for i in imports_of(module)} | {
        n for node in module.body for n in declarations.bound(node)
    }
    lines = import_lines([i for i in wanted if i.binds not in have])
    if not lines:
        return source
    rows = source.split("\n")
    code = python.without_docstring(module.body)
    at = 0 if code == module.body else (module.body[0].end_lineno or 1)
    gap = [""] if at else []
    for node in code:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            break
        at, gap = node.end_lineno or node.lineno, []
    if at == 0:  # below a licence or a `#!` line
        while at < len(rows) and rows[at].startswith("#"):
            at += 1
    return "\n".join([*rows[:at], *gap, *lines, *rows[at:]])


def import_lines(imports: Sequence[Import]) -> list[str]:
    """Standard library first, then the rest; names of one module joined, nothing twice."""
    plain: set[tuple[bool, str, str]] = set()
    modules: dict[str, set[str]] = {}
    for each in imports:
        asname = f" as {each.asname}" if each.asname else ""
        if each.name:
            modules.setdefault(each.module, set()).add(each.name + asname)
        else:
            plain.add((_foreign(each.module), each.module, f"import {each.module}{asname}"))
    whole = {(_foreign(m), m, f"from {m} import {', '.join(sorted(n))}") for m, n in modules.items()}
    found: list[str] = []
    for foreign in (False, True):
        lines = [line for group in (plain, whole) for far, _, line in sorted(group) if far == foreign]
        found += ["", *lines] if found and lines else lines
    return found


def _foreign(module: str) -> bool:
    return module.partition(".")[0] not in sys.stdlib_module_names
