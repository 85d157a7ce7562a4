"""The nearest known name to one that was not found."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str:
    """The closest of `known`, or the empty string when none is close."""
    found = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return found[0] if found else ""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """`no role 'codr'; did you mean 'coder'? Known: coder, judge`."""
    names = sorted(known)
    guess = nearest(name, names)
    hint = f"; did you mean {guess!r}?" if guess else "."
    return f"no {kind} {name!r}{hint} Known: {', '.join(names) or 'none'}"
