"""Guards over names: symbols missing, defined twice, used but not bound, and bodies that are stubs."""

from __future__ import annotations

from collections.abc import Iterator

from swarmrun.code.names import definition_counts, undefined_names
from swarmrun.code.stubs import stubs
from swarmrun.code.symbols import Symbol
from swarmrun.code.text import is_binary
from swarmrun.merging.guards.finding import Finding, Versions, wanted, who

_DEFINITIONS = ("function", "method", "class", "type")


def missing(v: Versions) -> Iterator[Finding]:
    """Functions, classes, methods and types of both parents, or added by one, that are not in the result.

    A body that stands there unchanged under another name was renamed, not lost. Variables and fields
    that one side lost are told, not stopped: people fold them when they merge.
    """
    base, ours, theirs, result = (v.symbols(d) for d in (v.base, v.ours, v.theirs, v.result))
    if not result and _unreadable(v):
        return
    bodies = {(s.kind, s.body_hash) for s in result.values() if s.body_size > 1}
    lost = wanted(set(base), set(ours), set(theirs)) - set(result)
    for name in sorted(lost):
        symbol = ours.get(name) or theirs[name]
        if symbol.kind == "import" or _gone_with_owner(name, lost):
            continue
        if symbol.body_size > 1 and (symbol.kind, symbol.body_hash) in bodies:
            continue
        hard = symbol.kind in _DEFINITIONS
        holder = who(name, set(ours), set(theirs))
        yield Finding(
            v.path,
            "missing-symbol" if hard else "missing-name",
            f"{v.path}: {symbol.kind} `{name}` of {holder} is missing. "
            f"Put `{_short(symbol)}` back with its body.",
            "hard" if hard else "escalate",
        )


def _unreadable(v: Versions) -> bool:
    return not v.result.strip() and not v.parents


def _gone_with_owner(name: str, lost: set[str]) -> bool:
    """`C.m` is not told when `C` itself is."""
    owner = name
    while "." in owner:
        owner = owner.rpartition(".")[0].removesuffix(".<locals>")
        if owner in lost:
            return True
    return "<locals>" in name


def _short(symbol: Symbol) -> str:
    return symbol.signature if len(symbol.signature) <= 160 else symbol.signature[:157] + "…"


def duplicates(v: Versions) -> Iterator[Finding]:
    """Definitions that hide an earlier one of the same name more often than in any parent."""
    counts = [definition_counts(v.path, data) for _, data in v.parents]
    at = v.symbols(v.result)
    for name, count in definition_counts(v.path, v.result).items():
        if count > 1 and count > max((c.get(name, 0) for c in counts), default=1):
            line = at[name].lines[0] if name in at else 0
            yield Finding(
                v.path,
                "duplicate",
                f"{v.path}:{line}: `{name}` is defined {count} times; the later hides the earlier. "
                "Join the definitions into one, or rename one of them and its uses.",
                "hard",
                line,
            )


def undefined(v: Versions) -> Iterator[Finding]:
    """Names that are read and nowhere bound, and were not so in a parent."""
    known: set[str] = set()
    for _, data in v.parents:
        known |= set(undefined_names(v.path, data))
    for name, line in sorted(undefined_names(v.path, v.result).items(), key=lambda item: item[1]):
        if name not in known:
            yield Finding(
                v.path,
                "undefined-name",
                f"{v.path}:{line}: `{name}` is used but not defined or imported. "
                "Bring in its definition or import from the side that has it.",
                "hard",
                line,
            )


def stubbed(v: Versions) -> Iterator[Finding]:
    """Bodies without substance that had some in a parent, and new ones that say so themselves."""
    if is_binary(v.result):
        return
    before = {stub.name for data in (v.ours, v.theirs) if data is not None for stub in stubs(v.path, data)}
    parents = [v.symbols(data) for _, data in v.parents]
    for stub in stubs(v.path, v.result):
        if stub.name in before:
            continue
        had_body = any(stub.name in names for names in parents)
        yield Finding(
            v.path,
            "stub",
            f"{v.path}:{stub.line}: the body of `{stub.name}` is only `{stub.what}`"
            + (", but it has code in the sides that were merged" if had_body else "")
            + ". Write the whole body.",
            "hard" if stub.certain or had_body else "escalate",
            stub.line,
        )
