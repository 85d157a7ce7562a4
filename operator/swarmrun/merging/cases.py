"""One file that both sides changed: its three versions as text, and how a result becomes bytes again."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from swarmrun.code.languages import language
from swarmrun.code.text import readable

How = Literal["Clean", "Rules", "Declarations", "Keys", "Tokens", "Lockfile", "Structural"]

BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Style:
    """What of a file is about its bytes and not about its text."""

    encoding: str
    bom: bool
    newline: str
    """`\\n`, `\\r\\n`, or empty when the file mixes them (then they stay in the text)."""


def style(data: bytes) -> Style:
    bom = data.startswith(BOM)
    try:
        data.decode("utf-8")
        encoding = "utf-8"
    except UnicodeDecodeError:
        encoding = "latin-1"  # maps every byte to one character and back
    crlf = data.count(b"\r\n")
    if data.count(b"\r") == crlf == data.count(b"\n") and crlf:
        return Style(encoding, bom, "\r\n")
    return Style(encoding, bom, "" if b"\r" in data else "\n")


def _kept(base: Style, ours: Style, theirs: Style) -> Style:
    """Three ways: what one side changed wins."""

    def three(b: object, o: object, t: object) -> object:
        return t if o == b else o

    return Style(
        "latin-1" if "latin-1" in (base.encoding, ours.encoding, theirs.encoding) else "utf-8",
        bool(three(base.bom, ours.bom, theirs.bom)),
        str(three(base.newline, ours.newline, theirs.newline)),
    )


@dataclass(frozen=True)
class Case:
    """`base` is None when both sides added the file."""

    path: str
    base: bytes | None
    ours: bytes
    theirs: bytes

    @property
    def language(self) -> str:
        return language(self.path)

    @cached_property
    def mergeable(self) -> bool:
        """Text of one encoding, small enough to be looked into."""
        parts = [part for part in (self.base, self.ours, self.theirs) if part]
        return all(readable(part) for part in parts) and len({style(part).encoding for part in parts}) <= 1

    @cached_property
    def style(self) -> Style:
        ours, theirs = style(self.ours), style(self.theirs)
        return _kept(style(self.base) if self.base else ours, ours, theirs)

    @cached_property
    def texts(self) -> tuple[str, str, str]:
        """(base, ours, theirs) with LF line ends where the whole file has CRLF, without byte order mark."""
        return self._text(self.base or b""), self._text(self.ours), self._text(self.theirs)

    @cached_property
    def lines(self) -> tuple[list[str], list[str], list[str]]:
        base, ours, theirs = self.texts
        return lines_of(base), lines_of(ours), lines_of(theirs)

    def _text(self, data: bytes) -> str:
        own = style(data)
        text = data.removeprefix(BOM).decode(self.style.encoding)
        return text.replace("\r\n", "\n") if own.newline == "\r\n" else text

    def encode(self, text: str) -> bytes:
        """A merged text as bytes in the merged style."""
        if self.style.newline == "\r\n":
            text = text.replace("\n", "\r\n")
        return (BOM if self.style.bom else b"") + text.encode(self.style.encoding)


def lines_of(text: str) -> list[str]:
    """Lines with their ends, cut at LF only: form feeds and Unicode separators are part of a line."""
    parts = text.split("\n")
    lines = [part + "\n" for part in parts[:-1]]
    return [*lines, parts[-1]] if parts[-1] else lines


@dataclass(frozen=True)
class Attempt:
    """What a rung made of a case; it counts only when the guards let it pass."""

    text: str
    note: str
