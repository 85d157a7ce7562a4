"""Where in a file a text that does not occur was probably meant, and how it differs."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from difflib import get_close_matches
from heapq import nlargest

from swarmrun.agents.lines import numbered, shown

_MOST_LINES = 300
"""Different lines that are compared letter by letter: that is slow. Those that share the most words. Arbitrary."""
_WORD = re.compile(r"\w+")
_MOST_SHOWN = 12


def _bare(line: str) -> str:
    return " ".join(line.split())


def closest(lines: Sequence[str], wanted: Sequence[str]) -> int | None:
    """1-based line where `wanted` most likely belongs; None when nothing is near.

    Lines that agree but for white space vote for a place; without any, the longest line is matched fuzzily.
    """
    at: dict[str, list[int]] = defaultdict(list)
    for n, line in enumerate(lines):
        if bare := _bare(line):
            at[bare].append(n)
    votes: Counter[int] = Counter()
    for offset, line in enumerate(wanted):
        places = at.get(_bare(line), ())
        # A line that stands everywhere (`}`, `return None`) says little about the place.
        if len(places) <= 50:
            votes.update({max(n - offset, 0): 1 + len(_bare(line)) // 8 for n in places})
    if votes:
        best = max(votes.values())
        return min(n for n, v in votes.items() if v == best) + 1
    longest = max(range(len(wanted)), key=lambda i: len(_bare(wanted[i])), default=0)
    if not wanted or not _bare(wanted[longest]):
        return None
    near = _similar(_bare(wanted[longest]), list(at))
    return max(at[near][0] - longest, 0) + 1 if near else None


def _similar(wanted: str, lines: list[str]) -> str:
    """The line most like `wanted`, or the empty string."""
    if len(lines) > _MOST_LINES:
        words = set(_WORD.findall(wanted))
        lines = nlargest(_MOST_LINES, lines, key=lambda line: len(words.intersection(_WORD.findall(line))))
    near = get_close_matches(wanted, [line[:500] for line in lines], n=1, cutoff=0.6)
    return next((line for line in lines if near and line.startswith(near[0])), "")


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" \t"))]


def _in_words(indent: str) -> str:
    """`4 spaces`, `a tab`, `2 tabs and 1 space`, `no indentation`."""
    if not indent:
        return "no indentation"
    tabs, spaces = indent.count("\t"), indent.count(" ")
    words = []
    if tabs:
        words.append("a tab" if tabs == 1 else f"{tabs} tabs")
    if spaces:
        words.append("1 space" if spaces == 1 else f"{spaces} spaces")
    return " and ".join(words)


def difference(mine: str, theirs: str) -> str:
    """How two lines differ: indentation in words, else white space at the end, else both lines."""
    if mine.strip() == theirs.strip():
        if _indent(mine) != _indent(theirs):
            return f"{_in_words(_indent(mine))}, the file has {_in_words(_indent(theirs))}"
        end = theirs[len(theirs.rstrip()) :] or "nothing"
        return f"white space at the end of the line, the file has {end!r} there"
    return f"{shown(mine.strip())!r}, the file has {shown(theirs.strip())!r}"


def describe(lines: Sequence[str], wanted: Sequence[str]) -> str:
    """`Closest, lines 88-94: … first difference line 90: 4 spaces, the file has a tab`."""
    first = closest(lines, wanted)
    if first is None:
        return "Nothing in the file is near it; read_file shows what is there."
    last = min(first + len(wanted) - 1, len(lines))
    rows = numbered(lines, first, min(last, first + _MOST_SHOWN - 1))
    text = [f"Closest, lines {first}-{last}:", *rows]
    for offset, mine in enumerate(wanted):
        n = first + offset
        if n > len(lines):
            text.append(f"first difference line {n}: {shown(mine.strip())!r}, the file has ended")
            break
        if mine.rstrip("\r") != lines[n - 1].rstrip("\r"):
            text.append(f"first difference line {n}: {difference(mine, lines[n - 1].rstrip(chr(13)))}")
            break
    return "\n".join(text)
