"""Bytes as lines, whatever the bytes are."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

MAX_BYTES = 1_500_000
"""Larger sources are not read: no person wrote them, and parsing 10 MB takes gigabytes. Arbitrary."""

_BRACKET = re.compile(rb"[\[\]{}]")
_COMMENT = re.compile(rb"^\s*(#|//|/\*|\*/|\* )")


def is_binary(data: bytes) -> bool:
    """git's own rule: a NUL byte among the first 8000."""
    return b"\0" in data[:8000]


def readable(data: bytes) -> bool:
    """Whether this room looks into the bytes at all."""
    return len(data) <= MAX_BYTES and not is_binary(data)


def too_deep(data: bytes, most: int = 300) -> bool:
    """Whether brackets nest deeper than any person writes: some parsers take minutes then. Arbitrary."""
    if data.count(b"[") + data.count(b"{") <= most:
        return False
    depth = 0
    for match in _BRACKET.finditer(data):
        depth += 1 if match[0] in b"[{" else -1
        if depth > most:
            return True
    return False


def line_starts(data: bytes) -> list[int]:
    """Byte offset of each line's start, and the length as the last entry. Lines end as Python's and git's
    do (LF, CRLF, CR), not at form feeds or Unicode separators."""
    starts = [0]
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return starts


def code_lines(lines: Sequence[bytes]) -> list[bytes]:
    """Lines without white space at their ends; empty ones and whole-line comments left out."""
    return [s for line in lines if (s := line.strip()) and not _COMMENT.match(s)]


def digest(lines: Sequence[bytes]) -> str:
    """A hash that white space and comments do not change."""
    return hashlib.blake2b(b"\n".join(b"".join(line.split()) for line in lines), digest_size=8).hexdigest()
