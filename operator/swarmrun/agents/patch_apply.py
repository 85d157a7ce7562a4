"""One file's hunks applied to its text. Pure, all or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from swarmrun.agents.closest import describe
from swarmrun.agents.patch_format import Hunk
from swarmrun.errors import ToolRejected

_PLAIN = str.maketrans("‐‑‒–—−‘’‚‛“”„‟\u00a0\u2009\u202f", "------''''\"\"\"\"   ")
"""Typographic characters that models write for plain ones, or the other way round."""


@dataclass(frozen=True)
class Patched:
    text: str
    places: list[tuple[int, int]]
    """Changed lines of the new text, 1-based and inclusive; `last < first` where lines were only taken out."""


def apply_hunks(path: str, text: str, hunks: Sequence[Hunk]) -> Patched:
    """Context keeps the file's own bytes; line ends too. Raises ToolRejected when a hunk fits nowhere or in
    several places."""
    rows = text.split("\n")
    whole = rows.pop() == ""
    # A last line without its end stays without, unless something is put behind it.
    if not whole:
        rows = text.split("\n")
    bare = [row.rstrip("\r") for row in rows]
    crlf = sum(row.endswith("\r") for row in rows) * 2 > len(rows)
    end = "\r" if crlf else ""
    out: list[str] = []
    places: list[tuple[int, int]] = []
    done = 0
    for number, hunk in enumerate(hunks, 1):
        name = f"{path}, hunk {number} of {len(hunks)}" if len(hunks) > 1 else path
        at = _place(name, bare, hunk, done)
        out += rows[done:at]
        done = at
        for mark, line in hunk.lines:
            if mark == "+":
                _mark(places, len(out) + 1, added=True)
                out.append(line + end)
            elif mark == "-":
                _mark(places, len(out) + 1, added=False)
                done += 1
            else:
                out.append(rows[done])
                done += 1
    out += rows[done:]
    joined = "\n".join(out)
    grew_at_end = bool(out) and (not rows or out[-1] is not rows[-1])
    if out and (whole or grew_at_end):
        joined += "\n"
    return Patched(joined, places)


def _mark(places: list[tuple[int, int]], line: int, *, added: bool) -> None:
    if not places or places[-1][1] < line - 1:
        places.append((line, line - 1))
    if added:
        places[-1] = (places[-1][0], line)


def _place(name: str, rows: Sequence[str], hunk: Hunk, start: int) -> int:
    """Index of the first row the hunk stands on, at or after `start`."""
    first = start
    for anchor in hunk.anchors:
        first = _anchor(name, rows, anchor, start)
        start = first + 1
    wanted = hunk.old
    if not wanted:
        return start if hunk.anchors and not hunk.at_end else len(rows)
    # The line of the anchor is often repeated as the first context line.
    start = first
    if hunk.at_end:
        at = len(rows) - len(wanted)
        if at >= start and _fits(rows, wanted, at):
            return at
    found = [n for n in range(start, len(rows) - len(wanted) + 1) if _fits(rows, wanted, n)]
    exact = [n for n in found if list(rows[n : n + len(wanted)]) == wanted]
    found = exact or found
    if not found:
        earlier = (
            " (it does occur further up: give hunks in the file's order)"
            if _anywhere(rows, wanted, start)
            else ""
        )
        raise ToolRejected(
            f"{name}: these lines are not in the file{earlier}; nothing applied. {describe(rows, wanted)}\n"
            "Next: send the whole patch again with context and - lines exactly as the file has them."
        )
    # Under an anchor the first place is the one that is meant.
    if len(found) > 1 and not hunk.anchors:
        lines = ", ".join(str(n + 1) for n in found[:8])
        raise ToolRejected(
            f"{name}: these lines occur at lines {lines}; nothing applied. "
            "Add context lines, or an `@@` line with the function or class they stand in"
        )
    return found[0]


def _anchor(name: str, rows: Sequence[str], anchor: str, start: int) -> int:
    """The row that an `@@` line names: equal but for indentation, else starting with it."""
    wanted = anchor.strip().translate(_PLAIN)
    for fits in (str.__eq__, str.startswith):
        for n in range(start, len(rows)):
            if fits(rows[n].strip().translate(_PLAIN), wanted):
                return n
    raise ToolRejected(
        f"{name}: no line `{anchor[:120]}` for the `@@`; nothing applied. {describe(rows, [anchor])}\n"
        "Next: send the whole patch again with an `@@` line that the file has, or without one."
    )


def _fits(rows: Sequence[str], wanted: Sequence[str], at: int) -> bool:
    return all(_same(rows[at + i], line) for i, line in enumerate(wanted))


def _same(theirs: str, mine: str) -> bool:
    """White space at the end and typography may differ; indentation may not."""
    if theirs == mine:
        return True
    return theirs.rstrip().translate(_PLAIN) == mine.rstrip().translate(_PLAIN)


def _anywhere(rows: Sequence[str], wanted: Sequence[str], before: int) -> bool:
    return any(_fits(rows, wanted, n) for n in range(min(before, len(rows) - len(wanted) + 1)))
