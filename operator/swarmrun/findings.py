"""What a look at a machine or an installation found: one line each, with its mend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """`problem` keeps runs from working, `warning` makes them less safe or less good. `mend` of an `ok` is a hint."""

    name: str
    level: Literal["ok", "warning", "problem"]
    message: str
    mend: str = ""


def line(finding: Finding) -> str:
    """For people; the mend on a line of its own."""
    word = "hint" if finding.level == "ok" else "mend"
    mend = f"\n      {word}: {finding.mend}" if finding.mend else ""
    return f"{finding.level:<8} {finding.name}: {finding.message}{mend}"
