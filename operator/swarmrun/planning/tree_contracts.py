"""Does TypeScript, JavaScript or Go code keep a declaration? Compared by symbols and their headers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from swarmrun.api.plan import Contract
from swarmrun.code.languages import language
from swarmrun.code.stubs import stubs
from swarmrun.code.symbols import Symbol, symbols
from swarmrun.planning.python_contracts import Finding
from swarmrun.planning.tree_scaffold import STUBS, stubbed

_WORDS = re.compile(
    r"^(export|default|declare|async|public|static|readonly|abstract|override|function|func)\s+"
)


def supported(path: str) -> bool:
    return language(path) in STUBS


def findings(contract: Contract, path: str, source: bytes, *, strict: bool = False) -> Iterator[Finding]:
    tongue = language(path)
    declared = symbols(path, stubbed(tongue, contract.declaration).encode())
    there: dict[str, list[Symbol]] = {}
    for symbol in symbols(path, source):
        there.setdefault(symbol.name, []).append(symbol)
    for wanted in declared:
        if wanted.kind == "import":
            continue
        found = there.get(wanted.name)
        if not found:
            yield Finding(
                wanted.signature,
                "nothing",
                path,
                1,
                f"`{wanted.name}` is missing in {path}: `{wanted.signature}`",
            )
        elif wanted.kind in ("function", "method"):
            problems = [list(_incompatible(tongue, wanted, each)) for each in found]
            for problem in min(problems, key=len):
                yield Finding(
                    wanted.signature,
                    found[0].signature,
                    path,
                    found[0].lines[0],
                    f"`{wanted.name}` {problem}",
                )
        elif wanted.kind == "field" and _squeezed(wanted.signature) != _squeezed(found[0].signature):
            yield Finding(
                wanted.signature,
                found[0].signature,
                path,
                found[0].lines[0],
                f"`{wanted.name}` is `{found[0].signature}` instead of `{wanted.signature}`",
            )
    if strict:
        return
    names = {s.name for s in declared if s.kind in ("function", "method")}
    for stub in stubs(path, source):
        if stub.certain and stub.name in names:
            yield Finding(
                "a body", stub.what, path, stub.line, f"`{stub.name}` is still a stub (`{stub.what.strip()}`)"
            )


def _incompatible(tongue: str, wanted: Symbol, given: Symbol) -> Iterator[str]:
    mine, its = _header(wanted.signature), _header(given.signature)
    if mine is None or its is None:
        return  # a value that holds a function, and its type stands elsewhere
    its_parameters = _go_types(its[0]) if tongue == "go" else its[0]
    my_parameters = _go_types(mine[0]) if tongue == "go" else mine[0]
    for at, parameter in enumerate(my_parameters):
        if at >= len(its_parameters):
            yield f"does not take `{parameter}`"
        elif not _same(parameter, its_parameters[at], tongue):
            yield f"takes `{its_parameters[at]}` instead of `{parameter}`"
    for extra in its_parameters[len(my_parameters) :]:
        optional = extra.startswith("...") or (tongue != "go" and _optional(extra))
        if not optional:
            yield f"needs `{extra}`, which callers do not know"
    if mine[1] and its[1] and _squeezed(mine[1]) != _squeezed(its[1]):
        yield f"returns `{its[1]}` instead of `{mine[1]}`"


def _same(mine: str, its: str, tongue: str) -> bool:
    if tongue == "go":
        return _squeezed(mine) == _squeezed(its)
    # Names of positional parameters are nobody's business in TypeScript; `x: T` may become `x?: T`.
    my_type, its_type = mine.partition(":")[2].partition("=")[0], its.partition(":")[2].partition("=")[0]
    if _optional(mine) and not _optional(its):
        return False
    return not my_type.strip() or not its_type.strip() or _squeezed(my_type) == _squeezed(its_type)


def _optional(parameter: str) -> bool:
    """`x?: T` and `x = 1`; the `=` of an arrow type is none."""
    return bool(re.match(r"^\w+\?", parameter) or re.search(r"=(?!>)", parameter))


def _header(text: str) -> tuple[list[str], str] | None:
    """(parameters, result type) of a function's header."""
    text = re.sub(r"^func\s*\([^)]*\)\s*", "func ", text)
    start = text.find("(")
    if start < 0:
        return None
    depth = 0
    for at in range(start, len(text)):
        depth += (text[at] in "([{") - (text[at] in ")]}")
        if depth == 0:
            result = text[at + 1 :].strip().lstrip(":").strip().removesuffix(";").removesuffix("=>").strip()
            return _split(text[start + 1 : at]), result
    return None


def _split(text: str) -> list[str]:
    """At commas outside of brackets; `=>` is no bracket."""
    found, depth, start = list[str](), 0, 0
    for at, letter in enumerate(text):
        depth += (letter in "([{<") - (letter in ")]}" or (letter == ">" and text[at - 1 : at] != "="))
        if letter == "," and depth == 0:
            found.append(text[start:at].strip())
            start = at + 1
    return [part for part in [*found, text[start:].strip()] if part]


def _go_types(parameters: list[str]) -> list[str]:
    """`a, b string` → two times `string`."""
    found: list[str] = []
    named = any(re.match(r"^\w+\s+\S", p) and not p.startswith(("func", "chan", "map")) for p in parameters)
    last = ""
    for parameter in reversed(parameters):
        match = re.match(r"^\w+\s+(.+)$", parameter) if named else None
        if match:
            last = match[1]
        elif not named:
            last = parameter
        found.append(last)
    return found[::-1]


def _squeezed(text: str) -> str:
    while (shorter := _WORDS.sub("", text)) != text:
        text = shorter
    return re.sub(r"\s+", "", text).rstrip(";,").replace('"', "'")
