"""Rules for one hunk: small patterns of change that have one sound answer.

A rule gets the three versions of the lines that conflict and gives the merged lines, or None.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from swarmrun.merging.diff3 import Hunk, diff3

Lines = Sequence[str]


@dataclass(frozen=True)
class Rule:
    name: str
    """For the note of a resolution: what kind of conflict it was."""
    apply: Callable[[Lines, Lines, Lines, str], list[str] | None]
    """(base, ours, theirs, language) → merged lines."""


_TOKEN = re.compile(r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|\w+|[^\w\s]")
_BY_INDENT = frozenset({"python", "yaml"})


def essence(lines: Lines, tongue: str) -> list[str]:
    """What counts of each line: tokens, and indentation where the language lives by it."""
    found: list[str] = []
    for line in lines:
        if line.strip():
            indent = line[: len(line) - len(line.lstrip())] if tongue in _BY_INDENT else ""
            found.append(indent + "\0".join(_TOKEN.findall(line)))
    return found


def whitespace(base: Lines, ours: Lines, theirs: Lines, tongue: str) -> list[str] | None:
    """One side changed only blank lines or spaces between tokens: the other side's change counts."""
    b, o, t = (essence(lines, tongue) for lines in (base, ours, theirs))
    if o in (t, b):
        return list(theirs) if o == b and t != b else list(ours)
    return list(ours) if t == b else None


def adjacent(base: Lines, ours: Lines, theirs: Lines, tongue: str) -> list[str] | None:
    """Neighbouring lines, each changed by one side."""
    if not len(base) == len(ours) == len(theirs) or not base:
        return None
    merged: list[str] = []
    for b, o, t in zip(base, ours, theirs, strict=True):
        if t not in (o, b) and o != b:
            return None
        merged.append(t if o == b else o)
    return merged


def items(base: Lines, ours: Lines, theirs: Lines, tongue: str) -> list[str] | None:
    """Both sides add whole items of a list or dictionary, one a line."""
    if base or not ours or not theirs:
        return None
    if not all(_is_item(line) for line in [*ours, *theirs]):
        return None
    keys = [_item_key(line) for line in ours]
    if any(_item_key(line) in keys and line not in ours for line in theirs):
        return None  # the same key with another value
    return [*ours, *(line for line in theirs if line not in ours)]


def _is_item(line: str) -> bool:
    text = line.strip()
    return text.endswith(",") and all(text.count(a) == text.count(b) for a, b in ("()", "[]", "{}"))


def _item_key(line: str) -> str:
    return re.split(r"\s*[:=]\s*", line.strip(), maxsplit=1)[0]


def apply(
    base: Lines, ours: Lines, theirs: Lines, tongue: str, rules: Sequence[Rule]
) -> tuple[list[str] | None, list[str]]:
    """All hunks of a text by the first rule that fits each: (merged lines or None, names of the rules)."""
    merged: list[str] = []
    used: list[str] = []
    for part in diff3(base, ours, theirs):
        if not isinstance(part, Hunk):
            merged.extend(part.items)
            continue
        lines, name = one(part, tongue, rules)
        if lines is None:
            return None, used
        merged.extend(lines)
        used.append(name)
    return merged, used


def one(hunk: Hunk[str], tongue: str, rules: Sequence[Rule]) -> tuple[list[str] | None, str]:
    """One hunk: as it is, then without the lines at its ends on which the sides agree."""
    for base, ours, theirs, head, tail in _trimmings(hunk):
        for rule in rules:
            lines = rule.apply(base, ours, theirs, tongue)
            if lines is not None:
                return [*head, *lines, *tail], rule.name
    return None, ""


def _trimmings(hunk: Hunk[str]) -> list[tuple[Lines, Lines, Lines, Lines, Lines]]:
    base, ours, theirs = hunk.base, hunk.ours, hunk.theirs
    whole = [(base, ours, theirs, list[str](), list[str]())]
    shorter = min(len(ours), len(theirs))
    head = 0
    while head < shorter and ours[head] == theirs[head]:
        head += 1
    tail = 0
    while tail < shorter - head and ours[-1 - tail] == theirs[-1 - tail]:
        tail += 1
    if not head and not tail:
        return whole
    o, t = ours[head : len(ours) - tail], theirs[head : len(theirs) - tail]
    # What both sides put there may stand in the base's hunk as well; then it is taken off there, too.
    b0 = head if list(base[:head]) == list(ours[:head]) else 0
    b1 = (
        tail
        if tail and list(base[-tail:]) == list(ours[len(ours) - tail :]) and b0 + tail <= len(base)
        else 0
    )
    b = base[b0 : len(base) - b1]
    ends = list(ours[:head]), list(ours[len(ours) - tail :] if tail else [])
    return [*whole, (b, o, t, *ends)]


WHITESPACE = Rule("white space", whitespace)
ADJACENT = Rule("adjacent lines", adjacent)
ITEMS = Rule("items added by both", items)
