"""What a refused `finish` tells the model: the most important first, capped, the next action last."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from swarmrun.merging.guards.finding import Finding

Kind = Literal[
    "empty", "parse", "stub", "tamper", "ownership", "guard", "contract", "acceptance", "test", "lint"
]

REFUSALS = 3
"""After so many the branch goes on as Unverified; the design's number."""
MAX_CHARACTERS = 12_000
"""Of the whole text, about 3,000 tokens. Arbitrary."""
MAX_OUTPUT = 3_000
"""Characters of one problem's output: head and tail. Arbitrary."""

_HEADS: dict[Kind, str] = {
    "empty": "Nothing was written",
    "parse": "Does not parse",
    "stub": "Stubs left",
    "tamper": "Tests or code weakened",
    "ownership": "Outside of your paths",
    "guard": "Guards",
    "contract": "Contracts not kept",
    "acceptance": "Acceptance not met",
    "test": "Tests that fail since your change",
    "lint": "Lint",
}
"""In the order of importance: what is above often causes what is below."""

_KINDS: dict[str, Kind] = {
    "parse": "parse",
    "conflict-marker": "parse",
    "stub": "stub",
    "scaffold-stub": "stub",
    "body-shrunk": "stub",
    "test-deleted": "tamper",
    "test-skipped": "tamper",
    "test-emptied": "tamper",
    "test-loosened": "tamper",
    "one-parent": "tamper",
    "ownership": "ownership",
    "locked": "ownership",
}
"""Kinds of the merge guards; all others are `guard`."""


@dataclass(frozen=True)
class Problem:
    """One thing that stands in the way of the end of a task."""

    kind: Kind
    text: str
    """One or two sentences that name the place and the next action."""
    output: str = ""
    """What a command printed."""

    @property
    def head(self) -> str:
        """For the status: one line."""
        return f"{_HEADS[self.kind]}: {' '.join(self.text.split())}"


def from_findings(findings: Iterable[Finding]) -> list[Problem]:
    """The guards' hard findings; escalations are for the summary, not for a refusal."""
    return [
        Problem(_KINDS.get(finding.kind, "guard"), _located(finding))
        for finding in findings
        if finding.severity == "hard"
    ]


def _located(finding: Finding) -> str:
    place = f"{finding.path}:{finding.line}" if finding.line else finding.path
    return finding.message if finding.path in finding.message else f"{place}: {finding.message}"


def ordered(problems: Sequence[Problem]) -> list[Problem]:
    rank = {kind: n for n, kind in enumerate(_HEADS)}
    return sorted(problems, key=lambda problem: rank[problem.kind])


def refusal(problems: Sequence[Problem], *, refusals_left: int | None = None, undone: bool = False) -> str:
    """The result of a refused `finish`.

    `refusals_left`: how often it can still be refused after this one; None: not told. `undone`: the work tree
    was put back (a refused resolution).
    """
    groups: dict[Kind, list[Problem]] = {}
    for problem in ordered(problems):
        groups.setdefault(problem.kind, []).append(problem)
    parts: list[str] = []
    size, left_out = 0, 0
    for kind, group in groups.items():
        head = f"## {_HEADS[kind]}"
        for problem in group:
            text = _item(problem)
            if size + len(text) > MAX_CHARACTERS and parts:
                left_out += 1
                continue
            if head:
                parts.append(head)
                head = ""
            parts.append(text)
            size += len(text)
    if left_out:
        parts.append(f"[{left_out} more; they show when these are mended]")
    count = len(problems)
    first = f"Not finished: {count} problem{'s' if count != 1 else ''} found in your work tree."
    last = _UNDONE if undone else _next(refusals_left)
    return "\n".join([first, *parts, last])


def _item(problem: Problem) -> str:
    text = f"- {clipped(problem.text.strip())}"
    output = clipped(problem.output.strip())
    return f"{text}\n{_indented(output)}" if output else text


def clipped(output: str, limit: int = MAX_OUTPUT) -> str:
    """Head and tail, as a command's error stands at one of the two."""
    if len(output) <= limit:
        return output
    half = limit // 2
    return f"{output[:half]}\n[{len(output) - 2 * half} characters omitted]\n{output[-half:]}"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.split("\n"))


_UNDONE = (
    "Your resolution was undone: the files are conflicted again as they were. Next: resolve them anew by editing, "
    "without these faults, prove it with run_checks, then call finish again."
)


def _next(refusals_left: int | None) -> str:
    if refusals_left is None:
        return (
            "Next: mend these from the top, prove it with run_checks, then call finish again "
            f"({REFUSALS} refusals end the task unverified)."
        )
    if refusals_left <= 0:
        return "Next: mend what you can. The next finish ends the task, unverified if anything is left."
    again = "once more" if refusals_left == 1 else f"{refusals_left} times more"
    return (
        "Next: mend these from the top, prove it with run_checks, then call finish again "
        f"(it can be refused {again} before the task ends unverified)."
    )


def accepted(*, verified: bool, problems: Sequence[Problem] = ()) -> str:
    """The result of a `finish` that ends the task."""
    if verified:
        return "Finished: everything that was checked holds."
    return f"Finished, unverified: {len(problems)} problem(s) are left and stand on the run's status."
