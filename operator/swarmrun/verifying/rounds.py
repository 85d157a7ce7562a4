"""Whether a fix round is kept, and whether anything is left to fix."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RoundState:
    """A commit as the gates and the judge see it."""

    commit: str
    failing_required: int
    """Required gates with new failures."""
    breaches: int
    """Contracts that the code does not keep."""
    open: frozenset[str]
    """Criteria not answered yes."""
    score: int
    spread: int = 0


def better(before: RoundState, after: RoundState) -> tuple[bool, str]:
    """Whether `after` is kept, and why. In this order: fewer failing required gates, fewer contract
    breaches, more complaints closed than opened, a higher score; the score only beyond the spread of the
    samples, because a judge asked twice answers twice."""
    for what, old, new in (
        ("required gates fail", before.failing_required, after.failing_required),
        ("contracts are broken", before.breaches, after.breaches),
        ("complaints are open", len(before.open), len(after.open)),
    ):
        if old != new:
            return new < old, f"{new} {what}, {old} before"
    gain, noise = after.score - before.score, max(before.spread, after.spread)
    if gain > noise:
        return True, f"score {after.score}, {before.score} before"
    return False, f"score {after.score}, {before.score} before: within the spread of {noise}"


def good(state: RoundState, threshold: int) -> bool:
    """Nothing is left that a fixer must mend."""
    return not state.failing_required and not state.breaches and state.score >= threshold
