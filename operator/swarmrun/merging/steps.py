"""The ladder's order: which rungs a file goes through, from the soundest to the boldest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from swarmrun.code.languages import PROGRAMS
from swarmrun.merging.cases import Attempt, Case, How
from swarmrun.merging.rungs import Rung, hunks, lockfiles
from swarmrun.merging.rungs.additions import DECLARATIONS, INSERTIONS
from swarmrun.merging.rungs.declarations import Declarations
from swarmrun.merging.rungs.documents import FORMS
from swarmrun.merging.rungs.hunks import ADJACENT, INCLUDED, INDENTED, ITEMS, WHITESPACE, Rule
from swarmrun.merging.rungs.imports import UNION
from swarmrun.merging.rungs.keyed import (
    ENTRIES,
    GO_IMPORTS,
    LINES,
    MODULES,
    REQUIREMENTS,
    SCRIPT_IMPORTS,
    flavour,
)
from swarmrun.merging.rungs.keys import Keys
from swarmrun.merging.rungs.structural import Structural
from swarmrun.merging.rungs.tokens import DROPPED, LAYOUT, LETTERS, RENAMES, VERSIONS, WORDS

SAFE = (
    WHITESPACE,
    LAYOUT,
    INDENTED,
    UNION,
    GO_IMPORTS,
    SCRIPT_IMPORTS,
    ADJACENT,
    DECLARATIONS,
    ITEMS,
    RENAMES,
)
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


def steps_for(case: Case) -> Sequence[Rung]:
    """Lockfiles have one step; lists and logs know their lines; documents are merged by key before lines
    are joined boldly; programs go the whole way."""
    if lockfiles.command(case.path):
        return [lockfiles.Lockfiles()]
    kind = flavour(case.path)
    if kind:
        return [HunkRules((*_PLAIN, *_LINES[kind]))]
    if case.language in FORMS:
        return [
            Keys(),
            HunkRules((*_PLAIN, ITEMS, VERSIONS)),
            HunkRules((*_PLAIN, ITEMS, VERSIONS, WORDS), "Tokens"),
        ]
    if case.language in PROGRAMS:
        return _PROGRAM
    return [HunkRules(_PLAIN), HunkRules((*_PLAIN, INCLUDED, LETTERS), "Tokens")]


_PLAIN = (WHITESPACE, ADJACENT)
_LINES: dict[str, Sequence[Rule]] = {
    "requirements": (REQUIREMENTS,),
    "gomod": (MODULES,),
    "list": (LINES,),
    "log": (ENTRIES, INCLUDED, LETTERS),
}
_PROGRAM: Sequence[Rung] = (
    HunkRules(SAFE),
    Declarations(SAFE),
    HunkRules(BOLD),
    Declarations(BOLD),
    HunkRules(BOLDEST, "Tokens"),
    Declarations(BOLDEST, "Tokens"),
    Structural(),
)
