"""Whether a Python function keeps what a declaration promises to its callers."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from swarmrun.code.python import FunctionNode
from swarmrun.planning.annotations import normal

_BOUND = frozenset({"staticmethod", "classmethod", "property", "cached_property"})


@dataclass(frozen=True)
class _Parameter:
    name: str
    annotation: ast.expr | None
    default: ast.expr | None
    by_position: bool
    by_name: bool


def incompatible(
    declared: FunctionNode, found: FunctionNode, *, method: bool, strict: bool = False
) -> Iterator[str]:
    """What of `declared` a caller of `found` cannot rely on.

    Further optional parameters are fine, so are looser ones (a default where none was declared, `*args`).
    A missing annotation is fine unless `strict`; one that differs never is.
    """
    if isinstance(declared, ast.AsyncFunctionDef) != isinstance(found, ast.AsyncFunctionDef):
        word = "async def" if isinstance(declared, ast.AsyncFunctionDef) else "def"
        yield f"is not `{word}`"
    bound = _binding(declared)
    # `property` and `cached_property` are the same to a reader.
    same = bound == _binding(found) or {bound, _binding(found)} <= {"property", "cached_property"}
    if method and not same:
        yield f"is not a {bound or 'plain method'}"
        return
    skip = 1 if method and bound != "staticmethod" else 0
    yield from _parameters(declared.args, found.args, skip, strict)
    if {"contextmanager", "asynccontextmanager"} & _decorators(found) - _decorators(declared):
        return  # the decorator turns the annotated iterator into what was declared
    wanted, given = normal(declared.returns), normal(found.returns)
    if wanted and wanted != given and (given or (strict and wanted != "None")):
        yield f"returns {_code(found.returns)} instead of {_code(declared.returns)}"


def _binding(node: FunctionNode) -> str:
    return next(iter(sorted(_decorators(node) & _BOUND)), "")


def _decorators(node: FunctionNode) -> set[str]:
    return {getattr(d, "attr", getattr(d, "id", "")) for d in node.decorator_list}


def _parameters(wanted: ast.arguments, given: ast.arguments, skip: int, strict: bool) -> Iterator[str]:
    mine, its = _listed(wanted, skip), _listed(given, skip)
    by_name = {p.name: p for p in its if p.by_name}
    positional = [p for p in its if p.by_position]
    matched: set[str] = set()
    for at, parameter in enumerate(p for p in mine if p.by_position):
        if at < len(positional):
            counterpart = positional[at]
            if parameter.by_name and counterpart.name != parameter.name:
                if parameter.name in by_name:
                    yield f"takes `{parameter.name}` in another place"
                    matched.add(parameter.name)
                    continue
                yield f"calls parameter {at + 1} `{counterpart.name}` instead of `{parameter.name}`"
            elif parameter.by_name and not counterpart.by_name:
                yield f"takes `{parameter.name}` by position only"
        elif given.vararg is None:
            how = " by position" if parameter.name in by_name else ""
            yield f"does not take `{parameter.name}`{how}"
            continue
        elif parameter.by_name and given.kwarg is None and parameter.name not in by_name:
            yield f"does not take `{parameter.name}` by name"
            continue
        else:
            continue
        matched.add(counterpart.name)
        yield from _compare(parameter, counterpart, strict)
    for parameter in (p for p in mine if not p.by_position):
        counterpart = by_name.get(parameter.name)
        if counterpart is not None:
            matched.add(parameter.name)
            yield from _compare(parameter, counterpart, strict)
        elif given.kwarg is None:
            yield f"does not take `{parameter.name}` by name"
    for parameter in its:
        if parameter.name not in matched and parameter.default is None:
            yield f"needs `{parameter.name}`, which callers do not know: give it a default or remove it"
    if wanted.vararg is not None and given.vararg is None:
        yield f"does not take `*{wanted.vararg.arg}`"
    if wanted.kwarg is not None and given.kwarg is None:
        yield f"does not take `**{wanted.kwarg.arg}`"


def _compare(wanted: _Parameter, given: _Parameter, strict: bool) -> Iterator[str]:
    if wanted.default is not None and given.default is None:
        yield f"needs `{wanted.name}`, which was declared optional"
    elif wanted.default is not None and given.default is not None:
        mine, its = ast.unparse(wanted.default), ast.unparse(given.default)
        constants = isinstance(wanted.default, ast.Constant) and isinstance(given.default, ast.Constant)
        if mine != its and mine != "..." and (constants or strict):
            yield f"has `{wanted.name}={its}` instead of `{wanted.name}={mine}`"
    mine, its = normal(wanted.annotation), normal(given.annotation)
    if mine and mine != its and (its or strict):
        yield f"takes `{wanted.name}: {_code(given.annotation, quoted=False)}` instead of {_code(wanted.annotation)}"


def _listed(arguments: ast.arguments, skip: int) -> list[_Parameter]:
    """Parameters in order; `self` or `cls` left out."""
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    defaults += arguments.defaults
    only = len(arguments.posonlyargs)
    found = [
        _Parameter(a.arg, a.annotation, d, True, n >= only)
        for n, (a, d) in enumerate(zip(positional, defaults, strict=True))
    ][skip:]
    return found + [
        _Parameter(a.arg, a.annotation, d, False, True)
        for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]


def _code(annotation: ast.expr | None, *, quoted: bool = True) -> str:
    text = ast.unparse(annotation) if annotation is not None else "nothing"
    return f"`{text}`" if quoted else text
