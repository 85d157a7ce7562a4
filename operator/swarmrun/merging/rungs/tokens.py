"""Merges the tokens of a hunk where lines are too coarse: both sides edited different words of one line."""

from __future__ import annotations

import re

from swarmrun.merging.diff3 import merged
from swarmrun.merging.rungs.hunks import Lines, Rule

_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")
_MOST = 4000
"""Tokens; a longer hunk is no edit of words. Arbitrary."""


def tokens(base: Lines, ours: Lines, theirs: Lines, tongue: str) -> list[str] | None:
    b, o, t = (_TOKEN.findall("".join(lines)) for lines in (base, ours, theirs))
    if not b or max(len(b), len(o), len(t)) > _MOST:
        return None
    result = merged(b, o, t)
    return None if result is None else ["".join(result)]


TOKENS = Rule("words of one line", tokens)
