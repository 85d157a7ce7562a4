"""Which files are tests, and how much each test case holds its subject to."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from swarmrun.code import python
from swarmrun.code.languages import language
from swarmrun.code.text import readable

_NAMES = re.compile(
    r"^(test_.*\.py|.*_test\.py|tests?\.py|conftest\.py|.*_test\.go|.*[.-](test|spec)\.[cm]?[jt]sx?|Test.*\.java|.*Test\.java)$"
)
_FOLDERS = frozenset({"tests", "test", "testing", "__tests__", "spec", "e2e"})


def is_test(path: str) -> bool:
    """Whether a path is a test's by the usual names: its own name, or source code in a tests folder."""
    pure = PurePosixPath(path)
    if _NAMES.match(pure.name):
        return True
    return bool(_FOLDERS & set(pure.parts[:-1])) and language(path) in (
        "python",
        "javascript",
        "typescript",
        "tsx",
        "go",
    )


@dataclass(frozen=True)
class TestCase:
    __test__ = False

    name: str
    """Qualified, as in `symbols`."""
    line: int
    assertions: int
    """Checks that can fail; those behind an unconditional `return` and `assert True` are not counted."""
    skipped: bool
    """Skipped or expected to fail, whatever the condition."""
    broad: int
    """Checks that accept anything: `pytest.raises(Exception)`, an `except …: pass` around an assertion."""


def test_cases(path: str, source: bytes) -> Sequence[TestCase]:
    """The test cases of a file, whatever its name; helpers are not listed."""
    if not readable(source):
        return []
    tongue = language(path)
    if tongue == "python":
        return list(_python(source))
    return list(_tree(tongue, source))


test_cases.__test__ = False  # type: ignore[attr-defined]

_SKIPS = re.compile(r"(^|\.)(skip|skipif|skipIf|skipUnless|xfail|expectedFailure|skipTest|importorskip)$")


def _python(source: bytes) -> Iterator[TestCase]:
    try:
        module = python.tree(source)
    except python.Unparsable:
        return
    skipped_scopes: set[int] = set()
    whole = any(_is_pytestmark_skip(node) for node in module.body)
    for name, node, owner in python.scopes(module):
        marked = any(_SKIPS.search(_dotted(d)) for d in node.decorator_list)
        if isinstance(node, ast.ClassDef):
            if marked or id(owner) in skipped_scopes or any(_is_pytestmark_skip(n) for n in node.body):
                skipped_scopes.add(id(node))
            continue
        if not node.name.startswith("test") or (owner and not isinstance(owner, ast.ClassDef)):
            continue
        assertions, broad, calls_skip = _count(node)
        skipped = marked or calls_skip or whole or id(owner) in skipped_scopes
        yield TestCase(name, node.lineno, assertions, skipped, broad)


def _is_pytestmark_skip(node: ast.stmt) -> bool:
    if not isinstance(node, ast.Assign):
        return False
    if not any(isinstance(t, ast.Name) and t.id == "pytestmark" for t in node.targets):
        return False
    values = node.value.elts if isinstance(node.value, ast.List | ast.Tuple) else [node.value]
    return any(_SKIPS.search(_dotted(v)) for v in values)


def _dotted(node: ast.expr) -> str:
    parts: list[str] = []
    while True:
        if isinstance(node, ast.Call):
            node = node.func
        elif isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        else:
            parts.append(getattr(node, "id", ""))
            return ".".join(reversed(parts))


def _count(function: python.FunctionNode) -> tuple[int, int, bool]:
    """(assertions, broad ones, whether it skips itself)."""
    body: list[ast.stmt] = []
    for statement in function.body:
        body.append(statement)
        if isinstance(statement, ast.Return | ast.Raise):
            break
    assertions = broad = 0
    skips = False
    todo: list[ast.AST] = list(body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Assert):
            assertions += not _always_true(node.test)
        elif isinstance(node, ast.Call):
            name = _dotted(node.func)
            last = name.rpartition(".")[2]
            if _SKIPS.search(name):
                skips = True
            elif last in ("raises", "warns", "deprecated_call", "fail") or re.match(
                r"_?(assert|check|expect)", last
            ):
                if (
                    node.args
                    and all(_always_true(a) for a in node.args[:1])
                    and last.startswith("assertTrue")
                ):
                    continue
                assertions += 1
                broad += (
                    last == "raises"
                    and bool(node.args)
                    and _dotted(node.args[0]) in ("Exception", "BaseException")
                )
        elif isinstance(node, ast.Try) and any(_swallows(h) for h in node.handlers):
            broad += any(isinstance(inner, ast.Assert) for part in node.body for inner in ast.walk(part))
        todo.extend(ast.iter_child_nodes(node))
    return assertions, broad, skips


def _always_true(test: ast.expr) -> bool:
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.Or):
        return any(_always_true(value) for value in test.values)
    return isinstance(test, ast.Constant) and bool(test.value)


def _swallows(handler: ast.ExceptHandler) -> bool:
    caught = _dotted(handler.type) if handler.type else ""
    return caught in ("", "Exception", "BaseException", "AssertionError") and all(
        isinstance(s, ast.Pass) for s in handler.body
    )


_SCRIPT_CASE = re.compile(r"(^|> )(x?it|x?test|test)(\.[a-zA-Z.]+)? ")
_SCRIPT_SKIP = re.compile(r"(^|> )(xit|xtest|xdescribe|(it|test|describe|suite)\.(skip|todo|fixme|failing)) ")
_CHECKS = {
    "go": re.compile(r"\b(t\.(Error|Errorf|Fatal|Fatalf|Fail|FailNow)|assert\.\w+|require\.\w+)\("),
    "javascript": re.compile(r"\b(expect|assert(\.\w+)*)\s*\("),
}


def _tree(tongue: str, source: bytes) -> Iterator[TestCase]:
    from swarmrun.code.tree_symbols import tree_bodies

    checks = _CHECKS["go" if tongue == "go" else "javascript"]
    for symbol, body in tree_bodies(tongue, source):
        if tongue == "go":
            if not re.match(r"(Test|Fuzz|Benchmark|Example)([A-Z_]|$)", symbol.name):
                continue
            skipped = bool(re.search(r"\bt\.(Skip|Skipf|SkipNow)\(", body))
        elif _SCRIPT_CASE.search(symbol.name):
            skipped = bool(_SCRIPT_SKIP.search(symbol.name))
        else:
            continue
        code = re.sub(r"expect\((true|1)\)\.(toBe|toEqual)\((true|1)\)|//[^\n]*", "", body)
        name = re.sub(
            r"(^|> )x?(it|test|describe)(\.(skip|todo|only|fixme|failing))? ", r"\1\2 ", symbol.name
        )
        yield TestCase(name, symbol.lines[0], len(checks.findall(code)), skipped, 0)
