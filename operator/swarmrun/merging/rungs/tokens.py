"""Rules that look at tokens where lines are too coarse: edits of different words, layout, renamed variables."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from itertools import zip_longest

from swarmrun.code.languages import PROGRAMS
from swarmrun.merging.cases import lines_of
from swarmrun.merging.diff3 import merged, regions
from swarmrun.merging.rungs.hunks import Lines, Rule
from swarmrun.merging.rungs.lexing import Token, keys, lex

_MOST = 4000
"""Tokens; a longer hunk is no edit of words. Arbitrary."""


def layout(base: Lines, ours: Lines, theirs: Lines, tongue: str) -> list[str] | None:
    """One side only laid the code out anew (line breaks inside brackets, quotes, trailing commas)."""
    b, o, t = (_with_indent(lines, tongue) for lines in (base, ours, theirs))
    if b not in (o, t) and o != t:
        return None
    return words(base, ours, theirs, tongue) or list(theirs if o == b else ours)


def _with_indent(lines: Lines, tongue: str) -> list[str]:
    first = next((line for line in lines if line.strip()), "")
    return [first[: len(first) - len(first.lstrip())], *keys(lines, tongue)]


def words(base: Lines, ours: Lines, theirs: Lines, tongue: str) -> list[str] | None:
    """Both sides edited different tokens. Layout follows the side that changed it, ours where both did."""
    b, o, t = (lex(lines, tongue) for lines in (base, ours, theirs))
    if not b or max(len(b), len(o), len(t)) > _MOST:
        return None
    result: list[Token] = []
    names = [[token.key for token in side] for side in (b, o, t)]
    for in_base, in_ours, in_theirs in regions(*names):
        kb, ko, kt = names[0][in_base], names[1][in_ours], names[2][in_theirs]
        if kb == ko == kt:
            result += [_three(*row) for row in zip(b[in_base], o[in_ours], t[in_theirs], strict=True)]
        elif ko == kt or kt == kb:
            result += o[in_ours]
        elif ko == kb:
            result += t[in_theirs]
        elif (both := _items(kb, o[in_ours], t[in_theirs], result)) is not None:
            result += both
        else:
            return None
    return lines_of("".join(token.space + token.text for token in result))


def _items(
    base: Sequence[str], ours: Sequence[Token], theirs: Sequence[Token], before: Sequence[Token]
) -> list[Token] | None:
    """Both sides add items at the same place of a list or dictionary (`__all__`, say): ours, then theirs."""
    depth: list[str] = []
    for token in before:
        if token.text in ("(", "[", "{"):
            depth.append(token.text)
        elif token.text in (")", "]", "}") and depth:
            depth.pop()
    if base or not depth or depth[-1] == "(" or not ours or not theirs:
        return None
    mine, new = [t.key for t in ours], [t.key for t in theirs]
    if (
        not (mine[0] == new[0] == "," or mine[-1] == new[-1] == ",")
        or not _balanced(mine)
        or not _balanced(new)
    ):
        return None
    return None if set(mine) & set(new) - {",", ":"} else [*ours, *theirs]


def _balanced(keys: Sequence[str]) -> bool:
    return all(keys.count(a) == keys.count(b) for a, b in ("()", "[]", "{}"))


def _three(base: Token, ours: Token, theirs: Token) -> Token:
    text = theirs.text if ours.text == base.text else ours.text
    space = theirs.space if ours.space == base.space else ours.space
    return Token(ours.key, text, space)


_CHARACTERS = re.compile(r"\w+|\s+|[^\w\s]")


def letters(base: Lines, ours: Lines, theirs: Lines, tongue: str) -> list[str] | None:
    """As `words`, but inside strings and with white space as it stands: for texts and comments."""
    b, o, t = (_CHARACTERS.findall("".join(lines)) for lines in (base, ours, theirs))
    if not b or max(len(b), len(o), len(t)) > _MOST:
        return None
    result = merged(b, o, t)
    return None if result is None else lines_of("".join(result))


_NAME = re.compile(r"[^\W\d]\w*$")


def renames(base: Lines, ours: Lines, theirs: Lines, tongue: str) -> list[str] | None:
    """One side only renamed things, everywhere: the other side's lines with the new names."""
    b, o, t = (lex(lines, tongue) for lines in (base, ours, theirs))
    for side, other in ((o, t), (t, o)):
        names = _renaming(b, side)
        if names is not None and _still_there(names, b, other):
            return _renamed(other, names)
    return None


def _still_there(names: Mapping[str, str], base: Sequence[Token], other: Sequence[Token]) -> bool:
    """The other side did not touch what was renamed, nor add declarations with names of their own."""
    before, after = Counter(t.key for t in base), Counter(t.key for t in other)
    if any(after[word] > before[word] for word in ("def", "class", "func", "function")):
        return False
    return all(after[name] >= before[name] for name in names)


def _renaming(base: Sequence[Token], side: Sequence[Token]) -> Mapping[str, str] | None:
    """Old name → new name, when that is all the side did."""
    names: dict[str, str] = {}
    for old, new in zip_longest(base, side):
        if old is None or new is None:
            return None
        if old.key == new.key:
            continue
        if not (_NAME.match(old.key) and _NAME.match(new.key)) or names.get(old.key, new.key) != new.key:
            return None
        names[old.key] = new.key
    kept = {token.key for token in side}
    return names if names and not kept & set(names) else None


def _renamed(tokens: Sequence[Token], names: Mapping[str, str]) -> list[str]:
    return lines_of("".join(t.space + names.get(t.key, t.text) for t in tokens))


_VERSION = re.compile(
    r"(?:(?<=[=<>~]=)|(?<=[\^~]))\d+\b(?![.\d])|\d+(?:\.\d+)+(?:[.-]?(?:dev|a|b|rc|alpha|beta|post)\.?\d*)?|\b0x[0-9a-fA-F]+\b"
)


_ABOUT_VERSIONS = re.compile(r"version|\d\.\d+\.\d|[\"'][\w.\[\]-]+\s*[<>=~]=", re.IGNORECASE)


def versions(base: Lines, ours: Lines, theirs: Lines, tongue: str) -> list[str] | None:
    """Both sides set another version number and nothing else: the higher one. In programs only where the
    lines say that it is one: any decimal fraction looks like a version."""
    if tongue in PROGRAMS and not _ABOUT_VERSIONS.search("".join(ours)):
        return None
    shapes = [_VERSION.sub("§", "".join(keys(lines, tongue))) for lines in (base, ours, theirs)]
    if not shapes[0] or len(set(shapes)) > 1 or "§" not in shapes[0]:
        return None
    o, t = (_numbers(lines) for lines in (ours, theirs))
    if len(o) != len(t):
        return None
    if all(x >= y for x, y in zip(o, t, strict=True)):
        return list(ours)
    return list(theirs) if all(x <= y for x, y in zip(o, t, strict=True)) else None


def _numbers(lines: Lines) -> list[list[tuple[int, int]]]:
    """Each version as comparable parts; a pre-release comes before its release."""
    found: list[list[tuple[int, int]]] = []
    for version in _VERSION.findall("".join(lines)):
        if version.startswith("0x"):
            found.append([(2, int(version, 16))])
            continue
        parts = re.findall(r"\d+|[a-z]+", version)
        rank = {"dev": -4, "a": -3, "alpha": -3, "b": -2, "beta": -2, "rc": -1, "post": 3}
        found.append(
            [(2, int(p)) if p.isdigit() else (1, rank[p]) if rank[p] < 0 else (3, 0) for p in parts]
            + [(1, 0)]
        )
    return found


def alike(ours: Lines, theirs: Lines, share: float = 0.6) -> bool:
    """Whether two insertions say nearly the same, so that keeping both would say it twice."""
    o = [line.strip() for line in ours if len(line.strip()) > 8]
    t = [line.strip() for line in theirs if len(line.strip()) > 8]
    return any(
        SequenceMatcher(None, x, y, autojunk=False).ratio() > share for x in o[:40] for y in t[:40] if x != y
    )


_RETOUCHED = 0.25
"""A block of which less than this share of lines was changed was only retouched. Arbitrary."""


def dropped(base: Lines, ours: Lines, theirs: Lines, tongue: str) -> list[str] | None:
    """One side deleted the lines, the other retouched them (not added to them): they go. Whether something
    still needs them is for the guards: a name that is used stays defined."""
    for side, other in ((ours, theirs), (theirs, ours)):
        if any(line.strip() for line in side):
            continue
        old, new = (Counter(line.strip() for line in lines if line.strip()) for lines in (base, other))
        came, size = (new - old).total(), old.total()
        if came <= _RETOUCHED * size and new.total() <= size + came / 2:
            return list(side)
    return None


LAYOUT = Rule("layout", layout)
RENAMES = Rule("renamed by one side", renames)
VERSIONS = Rule("higher version", versions)
DROPPED = Rule("deleted by one side, retouched by the other", dropped)
WORDS = Rule("words of one line", words)
LETTERS = Rule("parts of a text", letters)
