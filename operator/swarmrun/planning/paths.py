"""Owned paths: files, directories (`a/`), globs; which path falls under which, and whether two can meet."""

from __future__ import annotations

import re
from functools import lru_cache

BROAD = frozenset({".", "./", "/", "*", "**", "**/", "**/*", "*/**"})
"""Owning one of these is owning everything."""


def owns(pattern: str, path: str) -> bool:
    """Whether a path of the repository falls under an owned path."""
    if not re.search(r"[*?\[]", pattern) and pattern not in BROAD:
        plain = pattern.removeprefix("./").rstrip("/")
        return path == plain or path.startswith(plain + "/")
    return overlap(pattern, path, exact=True)


def overlap(one: str, other: str, *, exact: bool = False) -> bool:
    """Whether some path could fall under both. A name without a slash at its end may be a directory, too,
    unless `exact` says that `other` is a file's path."""
    right = _parts(other, literal=True) if exact else _parts(other)
    return _meet(_parts(one), right)


@lru_cache(maxsize=4096)
def _parts(pattern: str, *, literal: bool = False) -> tuple[str, ...]:
    pattern = pattern.removeprefix("./")
    if literal:
        return tuple(re.sub(r"([*?\[])", r"[\1]", part) for part in pattern.split("/") if part)
    if pattern in BROAD or not pattern:
        return ("**",)
    parts = tuple(part for part in pattern.split("/") if part)
    # `a/` and a plain `a` hold what is below them; `a/*.py` is what it says.
    if parts[-1] != "**" and (pattern.endswith("/") or not re.search(r"[*?\[]", parts[-1])):
        parts = (*parts, "**")
    return parts


@lru_cache(maxsize=16384)
def _meet(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    if not one or not other:
        return all(part == "**" for part in one or other)
    if one[0] == "**":
        return _meet(one[1:], other) or _meet(one, other[1:])
    if other[0] == "**":
        return _meet(one, other[1:]) or _meet(one[1:], other)
    return _segments_meet(_tokens(one[0]), _tokens(other[0])) and _meet(one[1:], other[1:])


@lru_cache(maxsize=4096)
def _tokens(segment: str) -> tuple[str, ...]:
    """One entry a character: `*`, `?`, or the character itself. `[…]` of one character is that character,
    any other class is read as `?`: it may report an overlap that is none, never miss one."""
    found: list[str] = []
    for match in re.finditer(r"\[(!?[^\]]+)\]|(.)", segment, re.DOTALL):
        inside, plain = match.groups()
        if inside is None:
            found.append(plain if plain in "*?" else "=" + plain)
        else:
            found.append("=" + inside if len(inside) == 1 else "?")
    return tuple(found)


@lru_cache(maxsize=16384)
def _segments_meet(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether some text matches both patterns."""
    if not one or not other:
        return all(token == "*" for token in one or other)
    if one[0] == "*":
        return _segments_meet(one[1:], other) or _segments_meet(one, other[1:])
    if other[0] == "*":
        return _segments_meet(one, other[1:]) or _segments_meet(one[1:], other)
    if one[0] != other[0] and "?" not in (one[0], other[0]):
        return False
    return _segments_meet(one[1:], other[1:])
