"""Files as the model sees them: numbered lines, changed places, syntax errors that are new."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

AROUND = 4
"""Lines shown before and after a change."""
MAX_LINE = 2_000
"""Characters of one line that are shown. Arbitrary; minified files have lines of a megabyte."""
MAX_SHOWN = 200
"""Lines of changed places that are shown of one call. Arbitrary."""


def decode(data: bytes) -> str:
    """UTF-8; other bytes survive the round trip through `encode`."""
    return data.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """Back to the very same bytes. Lone surrogates that a model wrote become `?`."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        safe = "".join(c if not "\ud800" <= c <= "\udfff" or "\udc80" <= c <= "\udcff" else "?" for c in text)
        return safe.encode("utf-8", "surrogateescape")


def shown(line: str) -> str:
    """A line as it may travel in JSON, cut where it is very long."""
    text = line.encode("utf-8", "replace").decode("utf-8").rstrip("\r")
    return text if len(text) <= MAX_LINE else f"{text[:MAX_LINE]}… [{len(text) - MAX_LINE} characters more]"


def split(text: str) -> list[str]:
    """Lines by LF alone, as git counts them; an end of line at the end opens no further line."""
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def numbered(lines: Sequence[str], first: int, last: int) -> list[str]:
    """`L12: …` for the 1-based, inclusive range, clipped to what there is."""
    return [f"L{n}: {shown(lines[n - 1])}" for n in range(max(first, 1), min(last, len(lines)) + 1)]


def changed_places(lines: Sequence[str], places: Iterable[tuple[int, int]]) -> str:
    """The changed lines ± 4. `places` are 1-based, inclusive; near ones are joined. A place whose last line
    is before its first (lines were taken out there) shows its surroundings."""
    joined: list[list[int]] = []
    for first, last in sorted(places):
        low, high = max(first - AROUND, 1), min(max(last, first - 1) + AROUND, len(lines))
        if joined and low <= joined[-1][1] + 1:
            joined[-1][1] = max(joined[-1][1], high)
        else:
            joined.append([low, high])
    rows: list[str] = []
    for low, high in joined:
        if rows:
            rows.append("…")
        rows += numbered(lines, low, high)
    if len(rows) > MAX_SHOWN:
        left = len(rows) - MAX_SHOWN
        rows = [*rows[:MAX_SHOWN], f"[{left} more lines; read_file shows them]"]
    return "\n".join(rows)


def new_syntax_errors(path: str, before: bytes, after: bytes) -> str:
    """A text for the model about what does not parse now and did before; empty when there is nothing new."""
    # Imported here: parsers of several languages are heavy, and only edits need them.
    from swarmrun.code.parse import syntax_errors

    known = Counter(problem.message for problem in syntax_errors(path, before))
    found: list[str] = []
    for problem in syntax_errors(path, after):
        if known[problem.message]:
            known[problem.message] -= 1
        else:
            found.append(f"  line {problem.line}: {problem.message}")
    if not found:
        return ""
    return f"New syntax errors in {path}; mend them next:\n" + "\n".join(found[:5])
