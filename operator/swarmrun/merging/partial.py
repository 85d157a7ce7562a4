"""A file that is not wholly merged: what rules can settle is settled, the rest stands between markers."""

from __future__ import annotations

from swarmrun.merging.cases import Case
from swarmrun.merging.diff3 import Hunk, diff3
from swarmrun.merging.rungs import hunks
from swarmrun.merging.steps import SAFE


def partial(case: Case, labels: tuple[str, str]) -> tuple[bytes, str]:
    """(text with zdiff3 markers, note on what was settled). Bytes that cannot be merged stay ours."""
    if not case.mergeable:
        return case.ours, ""
    text: list[str] = []
    used: list[str] = []
    left = 0
    for part in diff3(*case.lines):
        if not isinstance(part, Hunk):
            text.extend(part.items)
            continue
        lines, name = hunks.one(part, case.language, SAFE)
        if lines is None:
            left += 1
            text.extend(_marked(part, labels))
        else:
            text.extend(lines)
            used.append(name)
    note = f"{len(used)} of {len(used) + left} places: {', '.join(dict.fromkeys(used))}" if used else ""
    return case.encode("".join(text)), note


def _marked(hunk: Hunk[str], labels: tuple[str, str]) -> list[str]:
    """Lines that both sides begin or end with stand outside of the markers, as git's zdiff3 has it."""
    ours, theirs = list(hunk.ours), list(hunk.theirs)
    head = 0
    while head < min(len(ours), len(theirs)) and ours[head] == theirs[head]:
        head += 1
    tail = 0
    while tail < min(len(ours), len(theirs)) - head and ours[-1 - tail] == theirs[-1 - tail]:
        tail += 1

    def whole(lines: list[str]) -> list[str]:
        return [line if line.endswith("\n") else line + "\n" for line in lines]

    return [
        *ours[:head],
        f"<<<<<<< {labels[0]}\n",
        *whole(ours[head : len(ours) - tail]),
        "||||||| base\n",
        *whole(list(hunk.base)),
        "=======\n",
        *whole(theirs[head : len(theirs) - tail]),
        f">>>>>>> {labels[1]}\n",
        *(ours[len(ours) - tail :] if tail else []),
    ]
