"""Merges two commits: git first, then each rung of the ladder on the files git left, every result guarded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from swarmrun.code.text import is_binary
from swarmrun.merging.cases import Case, How
from swarmrun.merging.guards import texts
from swarmrun.merging.guards.files import GUARDS, inspect
from swarmrun.merging.guards.finding import Finding, Versions
from swarmrun.merging.partial import partial
from swarmrun.merging.plumbing import Entry, MergeTree, Repo, Signature
from swarmrun.merging.rungs import lockfiles, repair
from swarmrun.merging.steps import steps_for

ConflictKind = Literal[
    "content", "add/add", "modify/delete", "rename", "binary", "symlink", "submodule", "mode", "too-large"
]


@dataclass(frozen=True)
class Resolution:
    """One file that both sides changed and that was merged by code."""

    path: str
    how: How
    note: str = ""
    command: str = ""
    """For lockfiles: what makes the file anew; to be run in the integration sandbox."""


@dataclass(frozen=True)
class ConflictFile:
    """One file that is left for the integrator. The three versions are None where there is none."""

    path: str
    kind: ConflictKind
    base: bytes | None
    ours: bytes | None
    theirs: bytes | None
    partial: bytes
    """What stands in the partial tree: text with zdiff3 markers at the places that are left."""
    resolved_hunks: str = ""
    """What was merged in it already, for the integrator: `3 of 5 places: adjacent lines, …`."""


@dataclass(frozen=True)
class MergeOutcome:
    """`commit` is empty when conflicts are left; then `partial_tree` is where the integrator starts."""

    commit: str
    partial_tree: str
    """All that was merged, markers in the rest. With `commit` it is that commit's tree."""
    resolutions: Sequence[Resolution]
    conflicts: Sequence[ConflictFile]
    findings: Sequence[Finding]
    """What the guards say about files that were merged, clean ones of git among them. A hard one means:
    merged as git would, but wrong (two definitions of one name, say): gates and fixer must know."""
    how: How = "Clean"
    """The furthest rung that was needed."""

    @property
    def resolved(self) -> bool:
        return bool(self.commit)

    @property
    def commands(self) -> Sequence[str]:
        """Commands that make lockfiles anew."""
        return list(dict.fromkeys(r.command for r in self.resolutions if r.command))


@dataclass
class _Work:
    updates: dict[str, Entry | None] = field(default_factory=dict[str, Entry | None])
    resolutions: list[Resolution] = field(default_factory=list[Resolution])
    conflicts: list[ConflictFile] = field(default_factory=list[ConflictFile])
    findings: list[Finding] = field(default_factory=list[Finding])


_ORDER: Sequence[How] = ("Clean", "Rules", "Declarations", "Keys", "Lockfile", "Tokens", "Structural")


def merge(
    repo: Path,
    ours: str,
    theirs: str,
    *,
    message: str,
    author: Signature | None = None,
    labels: tuple[str, str] = ("integration", "task"),
) -> MergeOutcome:
    """Merges `theirs` into `ours` (commits). The commit has both as parents, in this order, and its author
    and dates are those given: the same call makes the same commit. Writes objects only, no ref."""
    git = Repo(repo)
    merged = git.merge_tree(ours, theirs)
    work = _Work()
    _check_clean(git, merged, ours, theirs, work)
    for path in sorted(merged.stages):
        _one(git, merged, path, labels, work)
    tree = git.write_tree(merged.tree, work.updates)
    commit = "" if work.conflicts else git.commit(tree, [ours, theirs], message, author or Signature())
    needed: set[How] = {resolution.how for resolution in work.resolutions}
    how: How = "Clean"
    for step in _ORDER:
        how = step if step in needed else how
    return MergeOutcome(commit, tree, work.resolutions, work.conflicts, work.findings, how)


def _check_clean(git: Repo, merged: MergeTree, ours: str, theirs: str, work: _Work) -> None:
    """Files that git merged without conflict may be wrong all the same."""
    base = git.merge_base(ours, theirs)
    left = {c.path: c for c in git.changes(base, ours)}
    both = [
        (c, left[c.path])
        for c in git.changes(base, theirs)
        if c.path in left and c.path not in merged.stages and c.new != left[c.path].new
    ]
    if not both:
        return
    result = git.entries(merged.tree, [c.path for c, _ in both])
    rows = [(c.path, [c.old, o.new, c.new, result.get(c.path)]) for c, o in both]
    blobs = git.blobs(e.oid for _, row in rows for e in row if e and e.regular)
    for path, row in rows:
        b, o, t, r = (blobs.get(e.oid) if e else None for e in row)
        if o is None or t is None or r is None:
            continue
        work.resolutions.append(Resolution(path, "Clean"))
        work.findings += [f for f in inspect(Versions(path, b, o, t, r)) if f.severity == "hard"]


def _one(git: Repo, merged: MergeTree, path: str, labels: tuple[str, str], work: _Work) -> None:
    stages = merged.stages[path]
    blobs = git.blobs(e.oid for e in stages.values() if e.mode != "160000")
    base, ours, theirs = (stages.get(n) for n in (1, 2, 3))
    data = [blobs.get(e.oid) if e else None for e in (base, ours, theirs)]
    kind = _kind(path, merged, base, ours, theirs, blobs)
    if kind in ("content", "add/add") and ours and theirs:
        case = Case(path, data[0], data[1] or b"", data[2] or b"")
        solved = resolve(case)
        mode = _mode(base, ours, theirs)
        if solved is not None and mode:
            content, resolution = solved
            work.updates[path] = Entry(mode, git.write_blob(content))
            work.resolutions.append(resolution)
            return
        content, note = partial(case, labels)
        work.updates[path] = Entry(mode or ours.mode, git.write_blob(content))
        work.conflicts.append(ConflictFile(path, kind, data[0], data[1], data[2], content, note))
        return
    standing = git.entries(merged.tree, [path]).get(path)
    if kind == "modify/delete" and _deletion_wins(path, data):
        work.updates[path] = None
        work.resolutions.append(
            Resolution(path, "Rules", "deleted by one side, only laid out anew by the other")
        )
        return
    left = git.blobs([standing.oid])[standing.oid] if standing and standing.mode != "160000" else b""
    work.conflicts.append(ConflictFile(path, kind, data[0], data[1], data[2], left))


def resolve(case: Case) -> tuple[bytes, Resolution] | None:
    """One file through the ladder: bytes and how, or None."""
    if not case.mergeable:
        return None
    seen: set[str] = set()
    for rung in steps_for(case):
        attempt = rung.resolve(case)
        if attempt is None or attempt.text in seen:
            continue
        seen.add(attempt.text)
        text, brought = repair.imports(case, attempt.text)
        note = attempt.note + (f"; imports brought back: {', '.join(brought)}" if brought else "")
        try:
            content = case.encode(text)
        except UnicodeEncodeError:
            continue
        versions = Versions(case.path, case.base, case.ours, case.theirs, content)
        if not any(f.severity == "hard" for f in inspect(versions, _OWN_GUARDS)):
            command = lockfiles.command(case.path) if rung.how == "Lockfile" else ""
            return content, Resolution(case.path, rung.how, note, command)
    return None


_OWN_GUARDS = [guard for guard in GUARDS if guard not in (texts.one_parent, texts.lines, texts.hunks)]
"""A rule may well end with the text of one side (the other only laid it out anew), and these three look for
what a model forgets, not for what a rule decides."""


def _kind(
    path: str,
    merged: MergeTree,
    base: Entry | None,
    ours: Entry | None,
    theirs: Entry | None,
    blobs: Mapping[str, bytes],
) -> ConflictKind:
    present = [e for e in (base, ours, theirs) if e]
    if any(e.mode == "160000" for e in present):
        return "submodule"
    if any(e.mode == "120000" for e in present):
        return "symlink"
    about = [kind for kind, paths in merged.messages if path in paths and kind.startswith("CONFLICT")]
    if any("rename" in kind or "directory" in kind for kind in about):
        return "rename" if ours is None or theirs is None or len(about) > 1 else "content"
    if ours is None or theirs is None:
        return "modify/delete"
    if any(is_binary(blobs[e.oid]) for e in present):
        return "binary"
    return "content" if base else "add/add"


def _mode(base: Entry | None, ours: Entry, theirs: Entry) -> str:
    """Three ways over the file's mode; empty when both sides changed it differently."""
    if ours.mode == theirs.mode or (base and theirs.mode == base.mode):
        return ours.mode
    return theirs.mode if base and ours.mode == base.mode else ""


def _deletion_wins(path: str, data: Sequence[bytes | None]) -> bool:
    base, survivor = data[0], data[1] if data[1] is not None else data[2]
    return base is not None and survivor is not None and base.split() == survivor.split()


__all__ = ["ConflictFile", "MergeOutcome", "Resolution", "Signature", "merge", "resolve"]
