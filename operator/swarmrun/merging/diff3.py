"""Three-way comparison of sequences: of lines, tokens or keys.

Lines are matched by patience (lines that are unique on both sides anchor the rest) and, between anchors, by
the standard library's difflib. Patience keeps functions together where git's default would match their
braces and blank lines.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

_LARGEST = 4_000_000
"""Product of two lengths over which difflib is not asked: it takes seconds there. Arbitrary."""


@dataclass(frozen=True)
class Hunk(Generic[T]):
    """A place where both sides changed the base differently."""

    base: Sequence[T]
    ours: Sequence[T]
    theirs: Sequence[T]


@dataclass(frozen=True)
class Settled(Generic[T]):
    """A place that is the same everywhere, or that one side changed, or both in the same way."""

    items: Sequence[T]


def diff3(base: Sequence[T], ours: Sequence[T], theirs: Sequence[T]) -> list[Settled[T] | Hunk[T]]:
    """The merged sequence with the conflicts in it. Neighbouring settled parts are joined."""
    parts: list[Settled[T] | Hunk[T]] = []
    settled: list[T] = []
    for in_base, in_ours, in_theirs in regions(base, ours, theirs):
        b, o, t = base[in_base], ours[in_ours], theirs[in_theirs]
        if o == t or t == b:
            settled.extend(o)
        elif o == b:
            settled.extend(t)
        else:
            if settled:
                parts.append(Settled(settled))
                settled = []
            parts.append(Hunk(b, o, t))
    if settled:
        parts.append(Settled(settled))
    return parts


def merged(base: Sequence[T], ours: Sequence[T], theirs: Sequence[T]) -> list[T] | None:
    """The merged sequence, or None when there is a conflict."""
    result: list[T] = []
    for part in diff3(base, ours, theirs):
        if isinstance(part, Hunk):
            return None
        result.extend(part.items)
    return result


def regions(
    base: Sequence[T], ours: Sequence[T], theirs: Sequence[T]
) -> Iterator[tuple[slice, slice, slice]]:
    """Cuts the three into aligned pieces, at every stretch of base that both sides kept."""
    b = o = t = 0
    for start, in_ours, in_theirs, length in _kept_by_both(base, ours, theirs):
        if start > b or in_ours > o or in_theirs > t:
            yield slice(b, start), slice(o, in_ours), slice(t, in_theirs)
        b, o, t = start + length, in_ours + length, in_theirs + length
        yield slice(start, b), slice(in_ours, o), slice(in_theirs, t)
    if b < len(base) or o < len(ours) or t < len(theirs):
        yield slice(b, len(base)), slice(o, len(ours)), slice(t, len(theirs))


def _kept_by_both(
    base: Sequence[T], ours: Sequence[T], theirs: Sequence[T]
) -> Iterator[tuple[int, int, int, int]]:
    left, right = matching(base, ours), matching(base, theirs)
    i = j = 0
    while i < len(left) and j < len(right):
        (b1, o, n1), (b2, t, n2) = left[i], right[j]
        start, end = max(b1, b2), min(b1 + n1, b2 + n2)
        if start < end:
            yield start, o + start - b1, t + start - b2, end - start
        if b1 + n1 < b2 + n2:
            i += 1
        else:
            j += 1


def matching(a: Sequence[T], b: Sequence[T]) -> list[tuple[int, int, int]]:
    """(start in a, start in b, length) of common stretches, ascending in both, none adjoining in both."""
    pairs: list[tuple[int, int, int]] = []
    stack = [(0, len(a), 0, len(b))]
    while stack:
        a0, a1, b0, b1 = stack.pop()
        head = 0
        while a0 + head < a1 and b0 + head < b1 and a[a0 + head] == b[b0 + head]:
            head += 1
        if head:
            pairs.append((a0, b0, head))
            a0, b0 = a0 + head, b0 + head
        tail = 0
        while a1 - tail > a0 and b1 - tail > b0 and a[a1 - tail - 1] == b[b1 - tail - 1]:
            tail += 1
        if tail:
            a1, b1 = a1 - tail, b1 - tail
            pairs.append((a1, b1, tail))
        if a0 == a1 or b0 == b1:
            continue
        anchors = _anchors(a, a0, a1, b, b0, b1)
        if anchors:
            for i, j in anchors:
                stack.append((a0, i, b0, j))
                pairs.append((i, j, 1))
                a0, b0 = i + 1, j + 1
            stack.append((a0, a1, b0, b1))
        elif (a1 - a0) * (b1 - b0) <= _LARGEST:
            matcher = SequenceMatcher(None, a[a0:a1], b[b0:b1], autojunk=False)
            pairs += [(a0 + m.a, b0 + m.b, m.size) for m in matcher.get_matching_blocks() if m.size]
    return _joined(sorted(pairs))


def _anchors(a: Sequence[T], a0: int, a1: int, b: Sequence[T], b0: int, b1: int) -> list[tuple[int, int]]:
    """The longest ascending run of items that are unique on both sides."""
    in_a, in_b = Counter(a[a0:a1]), Counter(b[b0:b1])
    at = {b[j]: j for j in range(b0, b1) if in_b[b[j]] == 1}
    common = [(i, at[a[i]]) for i in range(a0, a1) if in_a[a[i]] == 1 and a[i] in at]
    tails: list[int] = []
    last: list[int] = []
    back: list[int] = []
    for index, (_, j) in enumerate(common):
        place = bisect_left(tails, j)
        back.append(last[place - 1] if place else -1)
        if place == len(tails):
            tails.append(j)
            last.append(index)
        else:
            tails[place], last[place] = j, index
    run: list[tuple[int, int]] = []
    index = last[-1] if last else -1
    while index >= 0:
        run.append(common[index])
        index = back[index]
    return run[::-1]


def _joined(pairs: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    result: list[tuple[int, int, int]] = []
    for a, b, n in pairs:
        if result and result[-1][0] + result[-1][2] == a and result[-1][1] + result[-1][2] == b:
            result[-1] = (result[-1][0], result[-1][1], result[-1][2] + n)
        else:
            result.append((a, b, n))
    return result
