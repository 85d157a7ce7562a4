"""Guards over lines of any text: markers, syntax, one side taken whole, lines that vanished."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from swarmrun.code.parse import syntax_errors
from swarmrun.merging.diff3 import Hunk, diff3
from swarmrun.merging.guards.finding import Finding, Versions

_OPEN = re.compile(rb"^<{7,}( |\r?$)", re.MULTILINE)
_CLOSE = re.compile(rb"^(>{7,}( |\r?$)|\|{7,}( |\r?$))", re.MULTILINE)
# Closers and keywords that stand everywhere say nothing about whether a hunk was kept.
_TRIVIAL = re.compile(rb"^([\W_]*|else:|try:|pass|return|finally:|end)$")


def markers(v: Versions) -> Iterator[Finding]:
    """Conflict markers at a line's start that no parent had (documents show them on purpose)."""
    for pattern in (_OPEN, _CLOSE):
        allowed = max((len(pattern.findall(data)) for _, data in v.parents), default=0)
        hits = list(pattern.finditer(v.result))
        if len(hits) > allowed:
            line = v.result.count(b"\n", 0, hits[0].start()) + 1
            yield Finding(
                v.path,
                "conflict-marker",
                f"{v.path}:{line}: a conflict marker is left. Resolve this place and remove the lines that "
                "start with <<<<<<<, |||||||, ======= and >>>>>>>.",
                "hard",
                line,
            )
            return


def parses(v: Versions) -> Iterator[Finding]:
    """Hard when every parent that holds the file parses; else told."""
    problems = syntax_errors(v.path, v.result)
    if problems:
        broken = [side for side, data in v.parents if syntax_errors(v.path, data)]
        first = problems[0]
        yield Finding(
            v.path,
            "parse",
            f"{v.path}:{first.line}:{first.column}: does not parse: {first.message}. Repair the syntax there.",
            "escalate" if broken else "hard",
            first.line,
        )


def _essence(data: bytes | None) -> list[bytes]:
    return [s for line in (data or b"").splitlines() if (s := b"".join(line.split()))]


def one_parent(v: Versions) -> Iterator[Finding]:
    """The file equals one parent although the other changed it, too: `git restore --source=…`."""
    if v.ours is None or v.theirs is None:
        return
    base, ours, theirs, result = map(_essence, (v.base, v.ours, v.theirs, v.result))
    if ours == theirs or base in (ours, theirs) or set(ours) == set(theirs):
        return
    for side, same, other in (("ours", ours, "theirs"), ("theirs", theirs, "ours")):
        if result == same:
            yield Finding(
                v.path,
                "one-parent",
                f"{v.path} equals {side} although {other} changed it, too: the changes of {other} are lost. "
                f"Put the changes of {other} back beside those of {side}.",
                "hard",
            )


def lines(v: Versions) -> Iterator[Finding]:
    """Lines that base and both parents hold, and that the result has lost."""
    if v.base is None or v.ours is None or v.theirs is None:
        return
    common = Counter(_essence(v.base)) & Counter(_essence(v.ours)) & Counter(_essence(v.theirs))
    gone = common - Counter(_essence(v.result))
    lost = [line for line in gone if not _TRIVIAL.match(line)]
    if lost:
        shown = ", ".join(f"`{_original(v, line)}`" for line in lost[:3])
        yield Finding(
            v.path,
            "lines-vanished",
            f"{v.path}: {len(lost)} lines that base and both sides hold are gone, such as {shown}. "
            "Put them back, or say why they had to go.",
            "escalate",
        )


def _original(v: Versions, essence: bytes) -> str:
    for line in (v.base or b"").splitlines():
        if b"".join(line.split()) == essence:
            return line.strip().decode("utf-8", "replace")[:80]
    return essence.decode("utf-8", "replace")[:80]


def hunks(v: Versions) -> Iterator[Finding]:
    """A place both sides changed, where nothing of what one side added is left anywhere in the file."""
    if v.ours is None or v.theirs is None:
        return
    rows = set(_essence(v.result))
    parts = diff3(*([line + b"\n" for line in (d or b"").splitlines()] for d in (v.base, v.ours, v.theirs)))
    for part in parts:
        if not isinstance(part, Hunk):
            continue
        base, ours, theirs = (
            {e for line in side if not _TRIVIAL.match(e := b"".join(line.split()))}
            for side in (part.base, part.ours, part.theirs)
        )
        for side, own in (("ours", ours - base - theirs), ("theirs", theirs - base - ours)):
            if own and not own & rows:
                first = _first(part.ours if side == "ours" else part.theirs, own)
                yield Finding(
                    v.path,
                    "hunk-lost",
                    f"{v.path}: nothing is left of what {side} changed around `{first}`. "
                    "Bring that change in, or say why it is not needed.",
                    "escalate",
                )


def _first(lines: Sequence[bytes], own: set[bytes]) -> str:
    for line in lines:
        if b"".join(line.split()) in own:
            return line.strip().decode("utf-8", "replace")[:80]
    return ""
