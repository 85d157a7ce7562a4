"""Bodies that stand in for code: `pass`, `...`, TODO, "not implemented"."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from swarmrun.code import python
from swarmrun.code.languages import PROGRAMS, language
from swarmrun.code.text import readable

_SAYS_SO = re.compile(r"not[ _-]?(yet[ _-]?)?implemented|unimplemented|\b(todo|fixme|xxx)\b", re.IGNORECASE)
_ABSTRACT = frozenset({"abstractmethod", "abstractproperty", "overload"})


@dataclass(frozen=True)
class Stub:
    name: str
    """Qualified, as in `symbols`."""
    line: int
    what: str
    """What stands in the body, for a message: `raise NotImplementedError`."""
    certain: bool
    """The body says itself that it is none (`NotImplementedError`, `...`, TODO). Otherwise it is only
    trivial (`pass`, `return None`, empty), which some functions rightly are: compare with an older body."""


def stubs(path: str, source: bytes) -> Sequence[Stub]:
    """Every function or method without a real body. Declarations that have none by nature are left out:
    `.pyi` files, `@overload`, `@abstractmethod`, protocols, interfaces."""
    tongue = language(path)
    if tongue not in PROGRAMS or path.endswith(".pyi") or not readable(source):
        return []
    return list(_python(source) if tongue == "python" else _tree(tongue, source))


def _python(source: bytes) -> Iterator[Stub]:
    try:
        module = python.tree(source)
    except python.Unparsable:
        return
    rows = source.splitlines()
    for name, node, owner in python.scopes(module):
        if isinstance(node, ast.ClassDef) or _is_abstract(node, owner):
            continue
        body = python.without_docstring(node.body)
        what = _trivial(body)
        if what is None:
            continue
        text = b"\n".join(rows[node.lineno - 1 : node.end_lineno]).decode("utf-8", "replace")
        todo = next((line for line in text.splitlines() if "#" in line and _SAYS_SO.search(line)), "")
        certain = what.startswith(("raise", "...")) or bool(todo)
        yield Stub(name, node.lineno, what + (f"  {todo.strip()}" if todo else ""), certain)


def _is_abstract(node: python.FunctionNode, owner: python.Scope | None) -> bool:
    for decorator in node.decorator_list:
        name = decorator.attr if isinstance(decorator, ast.Attribute) else getattr(decorator, "id", "")
        if name in _ABSTRACT:
            return True
    bases = owner.bases if isinstance(owner, ast.ClassDef) else []
    return any("Protocol" in (getattr(b, "id", ""), getattr(b, "attr", "")) or _subscripted(b) for b in bases)


def _subscripted(base: ast.expr) -> bool:
    return isinstance(base, ast.Subscript) and "Protocol" in (
        getattr(base.value, "id", ""),
        getattr(base.value, "attr", ""),
    )


def _trivial(body: list[ast.stmt]) -> str | None:
    """What a body without substance consists of, or None when it has some."""
    if not body:
        return "a docstring only"
    last = "pass"
    for statement in body:
        if isinstance(statement, ast.Pass):
            last = "pass"
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            last = "..." if statement.value.value is ... else last
        elif isinstance(statement, ast.Return) and _is_none(statement.value):
            last = "return None"
        elif isinstance(statement, ast.Raise) and _not_implemented(statement.exc):
            return "raise NotImplementedError"
        else:
            return None
    return last


def _is_none(value: ast.expr | None) -> bool:
    return value is None or (isinstance(value, ast.Constant) and value.value is None)


def _not_implemented(exc: ast.expr | None) -> bool:
    if isinstance(exc, ast.Call):
        text = " ".join(str(a.value) for a in exc.args if isinstance(a, ast.Constant))
        return _not_implemented(exc.func) or bool(_SAYS_SO.search(text))
    return getattr(exc, "id", getattr(exc, "attr", "")) == "NotImplementedError"


_THROWS = re.compile(r"^(throw\s+new\s+\w*(Error|Exception)\s*\(|throw\s|panic\(|todo!|unimplemented!)")
_ZERO = re.compile(r"^return(\s+(nil|null|undefined|None|false|0|\"\"|''|\{\}|\[\]|\s|,)*)?;?$")
_COMMENTS = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)


def _tree(tongue: str, source: bytes) -> Iterator[Stub]:
    from swarmrun.code.tree_symbols import tree_bodies

    for symbol, body in tree_bodies(tongue, source):
        if symbol.kind not in ("function", "method") or not body.startswith("{") or len(body) > 2000:
            continue
        inside = body[1:-1].strip()
        code = _COMMENTS.sub("", inside).strip()
        todo = bool(_SAYS_SO.search(inside))
        if _THROWS.match(code) and todo and code.count("\n") < 4 and code.count(";") <= 1:
            yield Stub(symbol.name, symbol.lines[0], code.splitlines()[0], True)
        elif not code:
            yield Stub(symbol.name, symbol.lines[0], "an empty body", todo)
        elif _ZERO.match(code):
            yield Stub(symbol.name, symbol.lines[0], code, todo)
