"""Three-way merge of declarations: each is compared with its own older version, wherever it stands.

Modules and classes are merged by name, function bodies as sequences of statements; what both sides changed
is merged inside, part by part, and what is left over goes to the hunk rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from swarmrun.code.grammars import GRAMMARS
from swarmrun.merging.cases import Attempt, Case, How
from swarmrun.merging.diff3 import regions
from swarmrun.merging.rungs import hunks
from swarmrun.merging.rungs.blocks import Block, Key, NoBlocks, Suite, python_blocks
from swarmrun.merging.rungs.hunks import Rule
from swarmrun.merging.rungs.imports import union
from swarmrun.merging.rungs.tree_blocks import reader

READERS: dict[str, Callable[[str], Suite]] = {
    "python": python_blocks,
    **{tongue: reader(tongue) for tongue in GRAMMARS},
}


class _Stuck(Exception):
    """Two changes that do not go together."""


@dataclass(frozen=True)
class Declarations:
    """The rung. `rules` are asked for text that both sides changed."""

    rules: Sequence[Rule]
    how: How = "Declarations"

    def resolve(self, case: Case) -> Attempt | None:
        reader = READERS.get(case.language)
        if reader is None:
            return None
        try:
            base, ours, theirs = (reader(text) for text in case.texts)
            merger = _Merger(self.rules, case.language)
            lines = merger.suite(base, ours, theirs, by_name=True)
        except (NoBlocks, _Stuck, RecursionError):
            return None
        names = ", ".join(dict.fromkeys(merger.merged)) or "moved or neighbouring declarations"
        return Attempt("".join(lines), f"merged by declaration: {names}"[:300])


@dataclass
class _Merger:
    rules: Sequence[Rule]
    tongue: str

    def __post_init__(self) -> None:
        self.merged: list[str] = []

    # ------------------------------------------------------------ suites

    def suite(self, base: Suite, ours: Suite, theirs: Suite, *, by_name: bool) -> list[str]:
        header = self.text(base.header, ours.header, theirs.header)
        if by_name:
            body = self._by_name(base.blocks, ours.blocks, theirs.blocks)
        else:
            body = self._in_sequence(base.blocks, ours.blocks, theirs.blocks)
        lines = [*header, *body, *self.trivia(base.tail, ours.tail, theirs.tail)]
        return [line if line.endswith("\n") else line + "\n" for line in lines[:-1]] + lines[-1:]

    def _by_name(self, base: Sequence[Block], ours: Sequence[Block], theirs: Sequence[Block]) -> list[str]:
        _pair_nameless(base, ours, theirs)
        db, do, dt = ({block.key: block for block in side} for side in (base, ours, theirs))
        kept: dict[Key, list[str]] = {}
        for key in [*do, *(k for k in dt if k not in do)]:
            b, o, t = db.get(key), do.get(key), dt.get(key)
            if b and (not o or not t):
                survivor = o or t
                if survivor and not _same(survivor, b):
                    raise _Stuck(key)
                continue
            if o and t:
                kept[key] = self.block(b, o, t)
            elif alone := o or t:
                kept[key] = [*alone.lead, *alone.lines]
        lines: list[str] = []
        for key in _arranged(db, do, dt, kept):
            if lines and not lines[-1].endswith("\n"):
                lines[-1] += "\n"
            lines += kept[key]
        return lines

    def _in_sequence(
        self, base: Sequence[Block], ours: Sequence[Block], theirs: Sequence[Block]
    ) -> list[str]:
        lines: list[str] = []
        norms = [[block.norm for block in side] for side in (base, ours, theirs)]
        for in_base, in_ours, in_theirs in regions(*norms):
            b, o, t = base[in_base], ours[in_ours], theirs[in_theirs]
            nb, no, nt = ([block.norm for block in part] for part in (b, o, t))
            if nb == no == nt:
                for one, two, three in zip(b, o, t, strict=True):
                    lines += self.block(one, two, three)
            elif no == nt or nt == nb:
                lines += _text(o)
            elif no == nb:
                lines += _text(t)
            else:
                lines += self._region(b, o, t)
        return lines

    def _region(self, base: Sequence[Block], ours: Sequence[Block], theirs: Sequence[Block]) -> list[str]:
        """Statements that both sides changed: pairwise when they correspond, else by the hunk rules."""
        kinds = [[_shape(block) for block in side] for side in (base, ours, theirs)]
        if base and kinds[0] == kinds[1] == kinds[2] and len(set(kinds[0])) == len(kinds[0]):
            lines: list[str] = []
            for b, o, t in zip(base, ours, theirs, strict=True):
                lines += self.block(b, o, t)
            return lines
        return self.text(_text(base), _text(ours), _text(theirs))

    # ------------------------------------------------------------ one block

    def block(self, base: Block | None, ours: Block, theirs: Block) -> list[str]:
        lead = self.trivia(base.lead if base else [], ours.lead, theirs.lead)
        return [*lead, *self._code(base, ours, theirs)]

    def _code(self, base: Block | None, ours: Block, theirs: Block) -> list[str]:
        if base is None:
            if ours.norm == theirs.norm:
                return ours.lines
            if ours.kind == theirs.kind == "from":
                return self._imports([], ours, theirs)
            if ours.kind == theirs.kind == "import":
                return self.text([], ours.lines, theirs.lines)
            raise _Stuck(ours.key)
        if ours.lines == theirs.lines or theirs.lines == base.lines:
            return ours.lines
        if ours.lines == base.lines:
            return theirs.lines
        if theirs.norm in (base.norm, ours.norm) and theirs.comments == base.comments:
            return ours.lines  # theirs is only laid out anew
        if ours.norm in (base.norm, theirs.norm) and ours.comments == base.comments:
            return theirs.lines
        self.merged.append(next((p for p in reversed(ours.key) if isinstance(p, str) and p), "docstring"))
        if ours.kind == theirs.kind == "from":
            return self._imports(base.lines, ours, theirs)
        if base.suites and len(base.suites) == len(ours.suites) == len(theirs.suites):
            return self._inside(base, ours, theirs)
        return self.text(base.lines, ours.lines, theirs.lines)

    def _inside(self, base: Block, ours: Block, theirs: Block) -> list[str]:
        named = base.kind == ours.kind == theirs.kind == "class"
        lines: list[str] = []
        try:
            for b, o, t in zip(base.suites, ours.suites, theirs.suites, strict=True):
                lines += self.suite(b, o, t, by_name=named)
        except _Stuck:
            return self.text(base.lines, ours.lines, theirs.lines)
        return lines

    def _imports(self, base: Sequence[str], ours: Block, theirs: Block) -> list[str]:
        lines = union(base, ours.lines, theirs.lines, self.tongue)
        if lines is None:
            raise _Stuck(ours.key)
        return lines

    # ------------------------------------------------------------ text

    def text(self, base: Sequence[str], ours: Sequence[str], theirs: Sequence[str]) -> list[str]:
        if ours == theirs or theirs == base:
            return list(ours)
        if ours == base:
            return list(theirs)
        lines, _ = hunks.apply(base, ours, theirs, self.tongue, self.rules)
        if lines is None:
            raise _Stuck("text")
        return lines

    def trivia(self, base: Sequence[str], ours: Sequence[str], theirs: Sequence[str]) -> list[str]:
        """Comments and empty lines: differences of empty lines alone never conflict."""
        b, o, t = ([line.strip() for line in part if line.strip()] for part in (base, ours, theirs))
        if o in (t, b):
            return list(theirs) if o == b and t != b else list(ours if ours != base else theirs)
        return list(ours) if t == b else self.text(base, ours, theirs)


_NAMELESS = ("stmt", "compound")


def _pair_nameless(base: Sequence[Block], ours: Sequence[Block], theirs: Sequence[Block]) -> None:
    """Statements are known by their text, so one that both sides changed would be lost once and found
    twice. Those get a common key by their shape; when shapes are not unique, there is no telling."""
    keys = [{block.key for block in side} for side in (base, ours, theirs)]
    gone = [b for b in base if b.kind in _NAMELESS and b.key not in keys[1] | keys[2]]
    if not gone:
        return
    left = [b for b in ours if b.kind in _NAMELESS and b.key not in keys[0] | keys[2]]
    right = [b for b in theirs if b.kind in _NAMELESS and b.key not in keys[0] | keys[1]]
    shapes = [[_head(block) for block in side] for side in (gone, left, right)]
    for block in gone:
        shape = _head(block)
        counts = [side.count(shape) for side in shapes]
        if counts == [1, 1, 1]:
            for side, names in zip((gone, left, right), shapes, strict=True):
                side[names.index(shape)].key = ("same", *shape)
        elif left and right:
            raise _Stuck(shape)


def _head(block: Block) -> Key:
    """Kind of statement and what it is about: the called function, the first word."""
    first = block.norm.partition("\n")[0]
    return (type(block.node).__name__, first.partition("(")[0].split(" ")[0])


def _text(blocks: Sequence[Block]) -> list[str]:
    return [line for block in blocks for line in (*block.lead, *block.lines)]


def _same(one: Block, other: Block) -> bool:
    return one.lines == other.lines or (one.norm == other.norm and one.comments == other.comments)


def _shape(block: Block) -> Key:
    """What makes two statements correspond although their inside differs."""
    if block.kind in ("def", "class", "var", "from"):
        return block.key
    if block.kind == "compound":
        return (block.key[0],)
    return (type(block.node).__name__,)


def _arranged(
    base: dict[Key, Block], ours: dict[Key, Block], theirs: dict[Key, Block], kept: dict[Key, list[str]]
) -> list[Key]:
    """Order of ours (of theirs when only theirs moved things); what only the other side has comes after the
    neighbour it follows there."""
    both = ours.keys() & theirs.keys()
    common = [key for key in base if key in both]
    if (
        [k for k in ours if k in both and k in base]
        == common
        != [k for k in theirs if k in both and k in base]
    ):
        ours, theirs = theirs, ours
    order = [key for key in ours if key in kept]
    before: list[Key] = []
    for key in theirs:
        if key in kept and key not in ours:
            at = next((order.index(p) + 1 for p in reversed(before) if p in order), 0)
            # Behind what ours added at the same place.
            while at < len(order) and order[at] not in base and order[at] not in theirs:
                at += 1
            order.insert(at, key)
        before.append(key)
    return order
