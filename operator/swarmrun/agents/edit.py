"""`edit_file`: several exact replacements in one file, all or none."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from swarmrun.agents.closest import describe
from swarmrun.agents.lines import changed_places, decode, encode, new_syntax_errors, split
from swarmrun.agents.tool import Arguments, Hands, Tool, ToolOutcome
from swarmrun.agents.tree import note_outside, read_before, refuse_foreign
from swarmrun.errors import NotFound, ToolRejected

_LINE_NUMBER = re.compile(r"^L\d+: ", re.MULTILINE)
_MOST_PLACES = 8


class Edit(BaseModel):
    model_config = ConfigDict(extra="forbid")

    old: str = Field(description="Text to replace: exact, with its indentation, and only once in the file.")
    new: str = Field(description="Text to put in its place; empty deletes it.")
    replace_all: bool = Field(default=False, description="Replace every occurrence instead.")


def _as_list(value: Any) -> Any:
    """Smaller models send the list as a JSON string, or a single edit without its list."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return value
    return [value] if isinstance(value, dict) else value


class EditFile(Arguments):
    path: str = Field(description="File, relative to the repository.")
    edits: Annotated[list[Edit], BeforeValidator(_as_list)] = Field(
        min_length=1, description="Applied in this order; all or none."
    )


@dataclass(frozen=True)
class Edited:
    text: str
    places: list[tuple[int, int]]
    """Changed lines of the new text, 1-based and inclusive."""


def apply_edits(text: str, edits: list[Edit]) -> Edited:
    """The edited text, or ToolRejected with what to do next. Pure: nothing is applied unless all fit.

    Line ends: where the file has CRLF throughout, LF in `old` and `new` stands for CRLF.
    """
    crlf = "\r\n" in text and text.count("\r\n") == text.count("\n")
    spans: list[tuple[int, int]] = []
    file = text
    for number, edit in enumerate(edits, 1):
        old, new = (_crlf(edit.old), _crlf(edit.new)) if crlf else (edit.old, edit.new)
        starts = _occurrences(text, old)
        problem = _problem(file, text, old, new, starts, edit.replace_all)
        if problem:
            where = f"edit {number} of {len(edits)}: " if len(edits) > 1 else ""
            raise ToolRejected(f"{where}{problem}")
        text, spans = _replaced(text, starts, len(old), new, spans)
    breaks = [at for at, character in enumerate(text) if character == "\n"]
    return Edited(text, list(dict.fromkeys(_lines_of(breaks, span) for span in spans)))


def _replaced(
    text: str, starts: list[int], old: int, new: str, spans: list[tuple[int, int]]
) -> tuple[str, list[tuple[int, int]]]:
    """`old` characters at each of `starts` become `new`; where the changes stand afterwards."""
    pieces: list[str] = []
    done = 0
    for start in starts:
        pieces += (text[done:start], new)
        done = start + old
    grown = len(new) - old

    def moved(offset: int) -> int:
        before = bisect_left(starts, offset)
        if before and offset < starts[before - 1] + old:
            # Inside of what was replaced: the end of its replacement.
            return starts[before - 1] + (before - 1) * grown + len(new)
        return offset + before * grown

    fresh = [(start + n * grown, start + n * grown + len(new)) for n, start in enumerate(starts)]
    return "".join([*pieces, text[done:]]), [*((moved(a), moved(b)) for a, b in spans), *fresh]


def _crlf(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\n", "\r\n")


def _occurrences(text: str, old: str) -> list[int]:
    found: list[int] = []
    at = text.find(old) if old else -1
    while at >= 0:
        found.append(at)
        at = text.find(old, at + len(old))
    return found


def _line(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def _lines_of(breaks: list[int], span: tuple[int, int]) -> tuple[int, int]:
    """1-based lines that a span of characters touches; `breaks` are the places of the line ends."""
    start, end = span
    first = bisect_left(breaks, start) + 1
    return first, max(bisect_left(breaks, max(end - 1, start)) + 1, first)


def _problem(file: str, text: str, old: str, new: str, starts: list[int], replace_all: bool) -> str:
    """`file` is the text as it stays now that nothing is applied, `text` with the edits before this one."""
    if not old:
        return (
            "old is empty; nothing applied. Give the lines to replace, or use write_file for a new file."
            if text
            else "the file is empty; nothing applied. Use write_file with overwrite=true."
        )
    if old == new:
        return "old and new are the same; nothing applied. Say what is to change, or go on."
    if len(starts) > 1 and not replace_all:
        there = _occurrences(file, old)
        where, places = (file, there) if len(there) > 1 else (text, starts)
        lines = [str(_line(where, s)) for s in places]
        more = f" and {len(lines) - _MOST_PLACES} more" if len(lines) > _MOST_PLACES else ""
        return (
            f"old occurs at lines {', '.join(lines[:_MOST_PLACES])}{more}; nothing applied. "
            "Add context to old until it is unique, or set replace_all."
        )
    if starts:
        return ""
    if there := _whole_lines(text, new):
        return (
            f"old not found, and new is already there at line {there}; nothing applied. "
            "Go on, or read_file when something else was meant."
        )
    hint = "\nDo not copy the `L12: ` in front of the lines." if _LINE_NUMBER.match(old) else ""
    wanted = [line.rstrip("\r") for line in split(_LINE_NUMBER.sub("", old))]
    return (
        f"old not found; nothing applied. {describe(split(text), wanted)}{hint}\n"
        "Next: send all edits again with old exactly as the file has it."
    )


def _whole_lines(text: str, new: str) -> int:
    """1-based line at which `new` stands as whole lines; 0: nowhere. A part of a line says nothing."""
    wanted = new.strip()
    found = re.search(rf"(?m)^[ \t]*{re.escape(wanted)}[ \t\r]*$", text) if wanted else None
    return _line(text, found.start()) if found else 0


async def edit_file(arguments: EditFile, hands: Hands) -> ToolOutcome:
    refuse_foreign(arguments.path, hands)
    try:
        before = await read_before(arguments.path, hands)
    except NotFound as exc:
        raise NotFound(exc.message, mend="use write_file to create it, or list_files to find it") from exc
    done = apply_edits(decode(before), arguments.edits)
    after = encode(done.text)
    await hands.sandbox.write(arguments.path, after, key=hands.key)
    rows = split(done.text)
    count = len(done.places)
    head = f"{arguments.path}: {count} place{'s' if count != 1 else ''} changed."
    parts = [head, changed_places(rows, done.places), new_syntax_errors(arguments.path, before, after)]
    parts.append(note_outside([arguments.path], hands))
    return ToolOutcome("\n".join(p for p in parts if p), changed=True)


EDIT_FILE = Tool(
    "edit_file",
    "Replace exact texts in one file, all or none. Shows the changed lines and syntax errors that are new. "
    "Read the file first; copy `old` exactly, without the `L12: ` of read_file.",
    EditFile,
    edit_file,
    lambda a: str(a.get("path", "")),
)
