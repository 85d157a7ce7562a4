"""The `*** Begin Patch` format that GPT-5-class models are trained on: parsed, and applied to one file's text.

    *** Begin Patch
    *** Add File: a.py          every line starts with +
    *** Delete File: b.py
    *** Update File: c.py
    *** Move to: d.py           optional
    @@ class C                  optional: where to look, may be repeated to go deeper
     context                    a space, then the line as it is
    -old
    +new
    *** End of File             optional: the hunk stands at the file's end
    *** End Patch

Source of the format: the `apply_patch` tool of OpenAI's published Codex client. Stricter here: a hunk that
fits in several places is refused, and indentation must agree, so that no patch lands in the wrong place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from swarmrun.errors import ToolRejected

_BEGIN, _END = "*** Begin Patch", "*** End Patch"
_FILE = re.compile(r"^\*\*\* (Add|Delete|Update) File: *(.+?)\s*$")
_MOVE = re.compile(r"^\*\*\* Move to: *(.+?)\s*$")
_END_OF_FILE = "*** End of File"
_UNIFIED = re.compile(r"^-\d+(?:,\d+)? \+\d+(?:,\d+)? @@ ?")
"""Line numbers of a unified diff after `@@`: they are not part of this format, and often wrong."""
_SHAPE = f"A patch starts with `{_BEGIN}`, ends with `{_END}`, and names each file: `*** Update File: path`."


@dataclass
class Hunk:
    """Neighbouring lines: what is there now and what will be."""

    anchors: list[str] = field(default_factory=list[str])
    """Lines of `@@` that come before it, outermost first."""
    lines: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """(` `, `-` or `+`; text)."""
    at_end: bool = False

    @property
    def old(self) -> list[str]:
        return [text for mark, text in self.lines if mark != "+"]


@dataclass
class FileChange:
    action: Literal["add", "delete", "update"]
    path: str
    content: str = ""
    """Of an added file."""
    move_to: str = ""
    hunks: list[Hunk] = field(default_factory=list[Hunk])


def parse_patch(text: str) -> list[FileChange]:
    """Raises ToolRejected naming the line that does not belong there."""
    lines = [line.rstrip("\r") for line in text.strip().split("\n")]
    lines = _inner(lines)
    changes: list[FileChange] = []
    for number, line in enumerate(lines, 1):
        if head := _FILE.match(line):
            action: Literal["add", "delete", "update"] = head[1].lower()  # type: ignore[assignment]
            changes.append(FileChange(action, head[2]))
        elif not changes:
            if line.strip():
                raise ToolRejected(f"patch line {number}: {line[:80]!r} stands before any file. {_SHAPE}")
        else:
            _take(changes[-1], line, number)
    for change in changes:
        change.hunks = [hunk for hunk in change.hunks if hunk.lines]
        if change.action == "update" and not change.hunks and not change.move_to:
            raise ToolRejected(
                f"{change.path}: the update holds no changed line. Give lines that start with - or +"
            )
    if not changes:
        raise ToolRejected(f"the patch names no file. {_SHAPE}")
    doubled = {c.path for c in changes if sum(o.path == c.path for o in changes) > 1}
    if doubled:
        raise ToolRejected(
            f"{', '.join(sorted(doubled))}: named twice. Put all hunks of a file under one header"
        )
    return changes


def _inner(lines: list[str]) -> list[str]:
    """What stands between begin and end. A shell here-document or code fence around them is put up with."""
    begins = [n for n, line in enumerate(lines) if line.strip() == _BEGIN]
    ends = [n for n, line in enumerate(lines) if line.strip() == _END]
    if not begins:
        raise ToolRejected(f"no `{_BEGIN}`. {_SHAPE}")
    if not ends or ends[-1] < begins[0]:
        raise ToolRejected(
            f"no `{_END}`: the patch seems cut off. Send it again whole, or in smaller patches"
        )
    return lines[begins[0] + 1 : ends[-1]]


def _take(change: FileChange, line: str, number: int) -> None:
    if change.action == "add":
        if line.startswith("+"):
            change.content += line[1:] + "\n"
        elif line.strip():
            raise ToolRejected(
                f"patch line {number}: every line of an added file starts with +, not {line[:80]!r}"
            )
        return
    if change.action == "delete":
        if line.strip():
            raise ToolRejected(
                f"patch line {number}: nothing may follow `*** Delete File`, but {line[:80]!r} does"
            )
        return
    if moved := _MOVE.match(line):
        change.move_to = moved[1]
    elif line.startswith("@@"):
        anchor = _UNIFIED.sub("", line[2:].strip()).removesuffix("@@").strip()
        if not change.hunks or change.hunks[-1].lines:
            change.hunks.append(Hunk())
        if anchor:
            change.hunks[-1].anchors.append(anchor)
    elif line.strip() == _END_OF_FILE:
        if change.hunks:
            change.hunks[-1].at_end = True
    else:
        if not change.hunks:
            change.hunks.append(Hunk())
        # An empty context line often loses its space on the way.
        mark, text = (line[0], line[1:]) if line else (" ", "")
        if mark not in " +-":
            raise ToolRejected(
                f"patch line {number}: a line of a hunk starts with a space, - or +, not {line[:80]!r}. "
                "Put a space before context lines"
            )
        change.hunks[-1].lines.append((mark, text))
