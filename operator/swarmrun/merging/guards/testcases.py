"""Guard over tests: deleted, skipped, emptied or loosened."""

from __future__ import annotations

from collections.abc import Iterator

from swarmrun.code.tests import TestCase, test_cases
from swarmrun.merging.guards.finding import Finding, Versions, wanted, who


def weakened(v: Versions) -> Iterator[Finding]:
    base, ours, theirs, result = (_cases(v.path, d) for d in (v.base, v.ours, v.theirs, v.result))
    for name in sorted(wanted(set(base), set(ours), set(theirs)) - set(result)):
        yield Finding(
            v.path,
            "test-deleted",
            f"{v.path}: test `{name}` of {who(name, set(ours), set(theirs))} is gone. Put it back as it was.",
            "hard",
        )
    for name, case in result.items():
        sides = [s[name] for s in (ours, theirs) if name in s]
        if sides:
            yield from compare(v.path, name, sides, case)


def compare(path: str, name: str, before: list[TestCase], now: TestCase) -> Iterator[Finding]:
    """What a test case lost against all of its older versions."""
    where = f"{path}:{now.line}: test `{name}`"
    if now.skipped and not any(case.skipped for case in before):
        yield Finding(
            path, "test-skipped", f"{where} is skipped now. Remove the skip and let it run.", "hard", now.line
        )
    least = min(case.assertions for case in before)
    if least and not now.assertions:
        yield Finding(
            path,
            "test-emptied",
            f"{where} checks nothing any more (it had {least} assertions). Put its assertions back.",
            "hard",
            now.line,
        )
    elif now.assertions < least:
        yield Finding(
            path,
            "test-loosened",
            f"{where} has {now.assertions} assertions, {least} before. Put the missing ones back.",
            "hard" if now.assertions * 2 < least else "escalate",
            now.line,
        )
    if now.broad > max(case.broad for case in before):
        yield Finding(
            path,
            "test-loosened",
            f"{where} accepts any exception now. Name the exception it has to be.",
            "hard",
            now.line,
        )


def _cases(path: str, data: bytes | None) -> dict[str, TestCase]:
    return {case.name: case for case in test_cases(path, data or b"")}
