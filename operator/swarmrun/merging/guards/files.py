"""All guards over one file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from swarmrun.merging.guards import bodies, names, testcases, texts
from swarmrun.merging.guards.finding import Finding, Versions

Guard = Callable[[Versions], Iterator[Finding]]

GUARDS: Sequence[Guard] = (
    texts.markers,
    texts.parses,
    texts.one_parent,
    names.missing,
    names.duplicates,
    names.undefined,
    names.stubbed,
    bodies.shrunk,
    testcases.weakened,
    texts.lines,
    texts.hunks,
)


def inspect(versions: Versions, guards: Sequence[Guard] = GUARDS) -> list[Finding]:
    """Findings of one file. A file that does not parse is told so and not asked further questions; binary
    files and those over the size limit are only compared with their parents."""
    if not versions.is_text:
        return list(texts.one_parent(versions)) if len(versions.result) < 5_000_000 else []
    findings: list[Finding] = []
    for guard in guards:
        found = list(guard(versions))
        findings += found
        if guard is texts.parses and any(f.severity == "hard" for f in found):
            break
    return findings
