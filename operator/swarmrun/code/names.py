"""Names that are used but nowhere bound, and definitions that hide one another."""

from __future__ import annotations

import ast
import builtins
import symtable
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from swarmrun.code import python
from swarmrun.code.languages import language
from swarmrun.code.symbols import symbols

_KNOWN = frozenset(dir(builtins)) | {
    "__file__",
    "__name__",
    "__doc__",
    "__path__",
    "__package__",
    "__spec__",
    "__loader__",
    "__builtins__",
    "__annotations__",
    "__module__",
    "__qualname__",
    "__class__",
    "WindowsError",
}


@lru_cache(maxsize=128)
def undefined_names(path: str, source: bytes) -> Mapping[str, int]:
    """Python: global names that are read and never bound, and entries of `__all__` without a binding, each
    with the line of its first use. The interpreter's own symbol tables are asked, so scopes are exact.

    Empty for other languages, for sources that do not parse, and where a star import may bind anything.
    """
    if language(path) != "python":
        return {}
    try:
        module = python.tree(source)
        top = symtable.symtable(source, "<source>", "exec")  # type: ignore[arg-type]
    except (python.Unparsable, SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    if any(isinstance(n, ast.ImportFrom) and n.names[0].name == "*" for n in ast.walk(module)):
        return {}
    bound: set[str] = set()
    used: set[str] = set()
    stack = [top]
    while stack:
        table = stack.pop()
        is_module = table is top
        for symbol in table.get_symbols():
            binds = symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
            if binds and (is_module or symbol.is_declared_global()):
                bound.add(symbol.get_name())
            if symbol.is_referenced() and (is_module or symbol.is_global()):
                used.add(symbol.get_name())
        stack.extend(table.get_children())
    missing = used - bound - _KNOWN
    exports = {name: line for name, line in _exports(module) if name not in bound and name not in _KNOWN}
    if "__getattr__" in bound:
        exports = {}
    lines = _first_uses(module, missing) if missing else {}
    return {**exports, **lines}


def _first_uses(module: ast.Module, names: set[str]) -> dict[str, int]:
    found = dict.fromkeys(sorted(names), 1)
    seen: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Name) and node.id in names and node.id not in seen:
            seen.add(node.id)
            found[node.id] = node.lineno
    return found


def _exports(module: ast.Module) -> Iterator[tuple[str, int]]:
    for node in module.body:
        if not isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if not any(isinstance(t, ast.Name) and t.id == "__all__" for t in targets):
            continue
        for item in getattr(node.value, "elts", []):
            if isinstance(item, ast.Constant) and isinstance(item.value, str):
                yield item.value, item.lineno


@lru_cache(maxsize=128)
def definition_counts(path: str, source: bytes) -> Mapping[str, int]:
    """How often each function, method and class is defined in its scope. More than once means that the
    later one hides the earlier, except where the language gives that a meaning (overloads, property
    setters, branches of an `if`), which count once."""
    if language(path) == "python":
        try:
            return Counter(_python_definitions(python.tree(source)))
        except python.Unparsable:
            return {}
    return Counter(
        symbol.name
        for symbol in symbols(path, source)
        if symbol.kind in ("function", "method", "class", "type")
        and not symbol.signature.startswith(("get ", "set ", "static get ", "static set ", "declare "))
        and symbol.body_size
        and symbol.name not in ("init", "_")
    )


def _python_definitions(module: ast.Module) -> Iterator[str]:
    stack: list[tuple[str, Sequence[ast.stmt]]] = [("", module.body)]
    while stack:
        prefix, block = stack.pop()
        for node in block:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            if node.name != "_" and not any(_redefines(d, node.name) for d in node.decorator_list):
                yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                stack.append((prefix + node.name + ".", node.body))


def _redefines(decorator: ast.expr, name: str) -> bool:
    """`@x.setter`, `@f.register`, `@overload`, `@app.route(…)`: a second definition is meant."""
    node = decorator.func if isinstance(decorator, ast.Call) else decorator
    if isinstance(node, ast.Attribute):
        return not (isinstance(node.value, ast.Name) and node.value.id in ("functools", "pytest", "abc"))
    return getattr(node, "id", "") in ("overload", "property")
