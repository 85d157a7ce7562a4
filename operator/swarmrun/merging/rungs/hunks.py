"""Rules for one hunk: small patterns of change that have one sound answer.

A rule gets the three versions of the lines that conflict and gives the merged lines, or None.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from swarmrun.merging.diff3 import Hunk, diff3, matching

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
    """Edits of different base lines that only touch each other, with no unchanged line between them."""
    if not base:
        return None
    edits = [*_edits(base, ours), *_edits(base, theirs)]
    edits.sort(key=lambda e: (e.start, e.end))
    for one, other in pairwise(edits):
        if one == other:
            continue
        if other.start < one.end or (one.start == one.end == other.start == other.end):
            return None
    merged: list[str] = []
    at = 0
    for edit in dict.fromkeys(edits):
        merged += [*base[at : edit.start], *edit.lines]
        at = edit.end
    return [*merged, *base[at:]]


@dataclass(frozen=True)
class _Edit:
    """base[start:end] becomes these lines."""

    start: int
    end: int
    lines: tuple[str, ...]


def _edits(base: Lines, side: Lines) -> list[_Edit]:
    edits: list[_Edit] = []
    b = s = 0
    for in_base, in_side, length in [*matching(base, side), (len(base), len(side), 0)]:
        replaced, by = list(base[b:in_base]), tuple(side[s:in_side])
        if len(replaced) == len(by):  # line by line, so that neighbours stay apart
            edits += [_Edit(b + n, b + n + 1, (line,)) for n, line in enumerate(by)]
        elif replaced or by:
            edits.append(_Edit(b, in_base, by))
        b, s = in_base + length, in_side + length
    return edits


def indented(base: Lines, ours: Lines, theirs: Lines, tongue: str) -> list[str] | None:
    """One side only moved the lines in or out: the other side's lines, moved likewise."""
    for side, other in ((ours, theirs), (theirs, ours)):
        shift = _shift(base, side)
        if shift and (moved := _shifted(other, shift)) is not None:
            return moved
    return None


def _shift(base: Lines, side: Lines) -> int:
    """By how many columns all lines moved; 0 when that is not all that happened."""
    b, s = ([line for line in lines if line.strip()] for lines in (base, side))
    if not b or len(b) != len(s):
        return 0
    shifts = {_indent(y) - _indent(x) for x, y in zip(b, s, strict=True)}
    same = all(x.strip() == y.strip() for x, y in zip(b, s, strict=True))
    return shifts.pop() if same and len(shifts) == 1 else 0


def _shifted(lines: Lines, columns: int) -> list[str] | None:
    if any("\t" in line[: _indent(line)] or _indent(line) < -columns for line in lines if line.strip()):
        return None
    if columns < 0:
        return [line[-columns:] if line.strip() else line for line in lines]
    return [" " * columns + line if line.strip() else line for line in lines]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def included(base: Lines, ours: Lines, theirs: Lines, tongue: str) -> list[str] | None:
    """One side's change holds the other's: the same lines go, and all new lines come in the same order."""
    for side, other in ((ours, theirs), (theirs, ours)):
        gone, came = _difference(base, other)
        if gone or came:
            all_gone, all_came = _difference(base, side)
            if not Counter(gone) - Counter(all_gone) and _is_subsequence(came, all_came):
                return list(side)
    return None


def _difference(base: Lines, side: Lines) -> tuple[list[str], list[str]]:
    gone: list[str] = []
    came: list[str] = []
    for edit in _edits(base, side):
        gone += [line.strip() for line in base[edit.start : edit.end] if line.strip()]
        came += [line.strip() for line in edit.lines if line.strip()]
    return gone, came


def _is_subsequence(short: Sequence[str], long: Sequence[str]) -> bool:
    rest = iter(long)
    return all(line in rest for line in short)


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


def _trimmings(hunk: Hunk[str]) -> Sequence[tuple[Lines, Lines, Lines, Lines, Lines]]:
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
INDENTED = Rule("moved in or out by one side", indented)
INCLUDED = Rule("one side includes the other", included)
ITEMS = Rule("items added by both", items)
