"""What a guard says, and what it looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from swarmrun.code.symbols import Symbol, symbols
from swarmrun.code.text import readable

Severity = Literal["hard", "escalate"]


@dataclass(frozen=True)
class Finding:
    """`hard` stops a result; `escalate` asks for the reason or a second look. The message is written for
    the model: it names file, symbol, what was expected, and ends with the next action."""

    path: str
    kind: str
    """One of the table in the package's docstring."""
    message: str
    severity: Severity
    line: int = 0
    """1-based line of the result, 0 for none."""


@dataclass(frozen=True)
class Versions:
    """One file in the base, in both parents and in the result; None where it does not exist."""

    path: str
    base: bytes | None
    ours: bytes | None
    theirs: bytes | None
    result: bytes

    @cached_property
    def parents(self) -> Sequence[tuple[str, bytes]]:
        """(side, bytes) of the parents that hold the file."""
        return [(n, d) for n, d in (("ours", self.ours), ("theirs", self.theirs)) if d is not None]

    @cached_property
    def is_text(self) -> bool:
        parts = [p for p in (self.base, self.ours, self.theirs, self.result) if p is not None]
        return all(readable(part) for part in parts)

    def symbols(self, data: bytes | None) -> dict[str, Symbol]:
        """By name; imports have their kind before the name, for a name can be bound twice."""
        found: dict[str, Symbol] = {}
        for symbol in symbols(self.path, data or b""):
            found[f"import {symbol.name}" if symbol.kind == "import" else symbol.name] = symbol
        return found


def wanted(base: set[str], ours: set[str], theirs: set[str]) -> set[str]:
    """Three ways over names: in both parents, or added by one. What one side deleted may go."""
    return (ours & theirs) | (ours - base) | (theirs - base)


def who(name: str, ours: set[str], theirs: set[str]) -> str:
    """For messages: which parents hold the name."""
    return "both sides" if name in ours and name in theirs else "ours" if name in ours else "theirs"
