"""The ladder's order: which rungs a file goes through, from the soundest to the boldest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from swarmrun.merging.cases import Attempt, Case, How
from swarmrun.merging.rungs import Rung, hunks
from swarmrun.merging.rungs.additions import DECLARATIONS, INSERTIONS
from swarmrun.merging.rungs.declarations import Declarations
from swarmrun.merging.rungs.hunks import ADJACENT, INCLUDED, INDENTED, ITEMS, WHITESPACE, Rule
from swarmrun.merging.rungs.imports import UNION
from swarmrun.merging.rungs.tokens import DROPPED, LAYOUT, LETTERS, RENAMES, VERSIONS, WORDS

SAFE = (WHITESPACE, LAYOUT, INDENTED, UNION, ADJACENT, DECLARATIONS, ITEMS, RENAMES)
BOLD = (*SAFE, VERSIONS, WORDS, INCLUDED, INSERTIONS)
BOLDEST = (*BOLD, LETTERS, DROPPED)


@dataclass(frozen=True)
class HunkRules:
    """All conflicting hunks by rules alone."""

    rules: Sequence[Rule]
    how: How = "Rules"

    def resolve(self, case: Case) -> Attempt | None:
        base, ours, theirs = case.lines
        lines, used = hunks.apply(base, ours, theirs, case.language, self.rules)
        return None if lines is None else Attempt("".join(lines), ", ".join(dict.fromkeys(used)))


_PROGRAM: Sequence[Rung] = (
    HunkRules(SAFE),
    Declarations(SAFE),
    HunkRules(BOLD),
    Declarations(BOLD),
    HunkRules(BOLDEST, "Tokens"),
    Declarations(BOLDEST, "Tokens"),
)


def steps_for(case: Case) -> Sequence[Rung]:
    return _PROGRAM


def lockfile_commands(path: str) -> str:
    return ""
