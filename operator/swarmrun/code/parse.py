"""Does a file parse? Told with line and column."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from swarmrun.code import grammars, python
from swarmrun.code.languages import language
from swarmrun.code.text import readable, too_deep


@dataclass(frozen=True)
class SyntaxProblem:
    line: int
    """1-based."""
    column: int
    """0-based."""
    message: str


_MOST = 20
"""Further problems of one file are left out: the first ones are the cause of the others."""


def supported(path: str) -> bool:
    """Whether `syntax_errors` can tell anything about this kind of file here."""
    tongue = language(path)
    return tongue in ("python", "json", "toml", "yaml") or grammars.available(tongue)


def syntax_errors(path: str, source: bytes) -> Sequence[SyntaxProblem]:
    """What keeps the file from parsing. Empty for unknown languages, and for files over
    `text.MAX_BYTES`, which are not read."""
    if not supported(path) or not source:
        return []
    if not readable(source):
        return [] if b"\0" not in source[:8000] else [SyntaxProblem(1, 0, "binary data in a source file")]
    tongue = language(path)
    if tongue == "python":
        return _python(source)
    if tongue in _READERS:
        return _READERS[tongue](source)
    return _tree_errors(tongue, source)


def _python(source: bytes) -> Sequence[SyntaxProblem]:
    """The compiler's rules as well (`return` outside a function, an argument twice); nothing is run."""
    try:
        python.tree(source)
        compile(source, "<source>", "exec", dont_inherit=True, optimize=0)
    except python.Unparsable as exc:
        return [SyntaxProblem(exc.line, max(exc.column - 1, 0), str(exc))]
    except SyntaxError as exc:
        return [SyntaxProblem(exc.lineno or 1, max((exc.offset or 1) - 1, 0), exc.msg or "invalid syntax")]
    except (ValueError, RecursionError, MemoryError) as exc:
        return [SyntaxProblem(1, 0, str(exc) or type(exc).__name__)]
    return []


def _json(source: bytes) -> Sequence[SyntaxProblem]:
    try:
        json.loads(source.decode("utf-8-sig"))
    except json.JSONDecodeError as exc:
        return [SyntaxProblem(exc.lineno, exc.colno - 1, exc.msg)]
    except (UnicodeDecodeError, RecursionError) as exc:
        return [SyntaxProblem(1, 0, str(exc))]
    return []


def _toml(source: bytes) -> Sequence[SyntaxProblem]:
    import re
    import tomllib

    try:
        tomllib.loads(source.decode("utf-8-sig"))
    except tomllib.TOMLDecodeError as exc:
        at = re.search(r"line (\d+), column (\d+)", str(exc))
        return [SyntaxProblem(int(at[1]) if at else 1, int(at[2]) - 1 if at else 0, str(exc))]
    except (UnicodeDecodeError, RecursionError) as exc:
        return [SyntaxProblem(1, 0, str(exc))]
    return []


def _yaml(source: bytes) -> Sequence[SyntaxProblem]:
    import yaml

    if too_deep(source):
        return [SyntaxProblem(1, 0, "nested too deeply")]
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        for _ in yaml.parse(source.decode("utf-8-sig"), Loader=loader):
            pass
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark
        return [SyntaxProblem(mark.line + 1 if mark else 1, mark.column if mark else 0, exc.problem or "")]
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as exc:
        return [SyntaxProblem(1, 0, str(exc).splitlines()[0])]
    return []


_READERS = {"json": _json, "toml": _toml, "yaml": _yaml}


def _tree_errors(tongue: str, source: bytes) -> Sequence[SyntaxProblem]:
    root = grammars.parse(tongue, source).root_node
    if not root.has_error:
        return []
    found: list[SyntaxProblem] = []
    stack = [root]
    while stack and len(found) < _MOST:
        node = stack.pop()
        line, column = node.start_point
        if node.is_missing:
            found.append(SyntaxProblem(line + 1, column, f"expected {node.type}"))
        elif node.type == "ERROR":
            text = (node.text or b"").decode("utf-8", "replace").strip().splitlines()
            found.append(SyntaxProblem(line + 1, column, f"unexpected {(text or [''])[0][:60]!r}"))
        else:
            stack.extend(reversed([child for child in node.children if child.has_error or child.is_missing]))
    return found
