"""What models and repositories wrote, made harmless for a terminal."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters but tab and newline, and those that turn the reading direction: an escape sequence can
rewrite what was printed before, or a terminal's title and clipboard."""


def printable(text: str) -> str:
    """Control characters shown as what they are: `\\x1b`."""
    return _CONTROL.sub(lambda m: m[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """White space folded, so that one thing stays one line."""
    return printable(" ".join(text.split()))
