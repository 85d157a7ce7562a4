"""Guards over a merge's whole result: every file that one of the parents or the result changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from swarmrun.code.symbols import symbols
from swarmrun.merging.guards.files import inspect
from swarmrun.merging.guards.finding import Finding, Versions
from swarmrun.merging.plumbing import Entry, Repo


def check(
    repo: Path,
    result: str,
    *,
    ours: str,
    theirs: str,
    base: str = "",
    allowed_deletions: Collection[str] = (),
    paths: Collection[str] | None = None,
) -> Sequence[Finding]:
    """What a merge has broken, `result` (a commit or tree) compared with both parents, file by file.

    `base` defaults to the parents' merge base. `allowed_deletions` are paths that may be gone although no
    side deleted them; with `paths` only those are looked at. Hard findings come first.
    """
    git = Repo(repo)
    base = base or git.merge_base(ours, theirs)
    trees = _Trees(
        git.entries(base),
        git.entries(ours),
        git.entries(theirs),
        git.entries(result),
    )
    renamed = _renames(git, trees, base, ours, theirs)
    findings: list[Finding] = []
    look: list[_Quad] = []
    every = {*trees.base, *trees.ours, *trees.theirs, *trees.result}
    for path in sorted(every if paths is None else every & set(paths)):
        quad = trees.at(path, renamed)
        if quad.result is None:
            findings += _deleted(quad, renamed, trees, allowed_deletions)
        elif not quad.as_expected:
            look.append(quad)
            findings += _modes(quad)
    findings += _inspect_all(git, look)
    return sorted(_without_moved(git, trees, findings), key=lambda f: (f.severity != "hard", f.path, f.line))


@dataclass(frozen=True)
class _Quad:
    """One path's entries."""

    path: str
    base: Entry | None
    ours: Entry | None
    theirs: Entry | None
    result: Entry | None

    @property
    def as_expected(self) -> bool:
        """The result is what three-way merging says without looking inside."""
        if self.ours == self.theirs or self.theirs == self.base:
            return self.result == self.ours
        return self.ours == self.base and self.result == self.theirs


@dataclass(frozen=True)
class _Trees:
    base: Mapping[str, Entry]
    ours: Mapping[str, Entry]
    theirs: Mapping[str, Entry]
    result: Mapping[str, Entry]

    def at(self, path: str, renamed: _Renames) -> _Quad:
        old = renamed.to_old.get(path, path) if path not in self.base else path
        return _Quad(
            path,
            self.base.get(old),
            self.ours.get(path) or self.ours.get(old),
            self.theirs.get(path) or self.theirs.get(old),
            self.result.get(path),
        )


@dataclass(frozen=True)
class _Renames:
    to_old: Mapping[str, str]
    to_new: Mapping[str, str]


def _renames(git: Repo, trees: _Trees, base: str, ours: str, theirs: str) -> _Renames:
    to_new: dict[str, str] = {}
    for rev, side in ((ours, trees.ours), (theirs, trees.theirs)):
        if set(trees.base) - set(side) and set(side) - set(trees.base):
            to_new |= git.renames(base, rev)
    return _Renames({new: old for old, new in to_new.items()}, to_new)


def _deleted(quad: _Quad, renamed: _Renames, trees: _Trees, allowed: Collection[str]) -> Sequence[Finding]:
    if quad.as_expected or quad.path in allowed or (quad.ours is None and quad.theirs is None):
        return []
    if renamed.to_new.get(quad.path, "") in trees.result:
        return []
    if quad.ours is None or quad.theirs is None:
        if quad.base is None or quad.base in (quad.ours, quad.theirs):
            adder = "ours" if quad.ours else "theirs"
            if quad.base is not None:
                return []
            text = f"{quad.path} was added by {adder} and is gone from the result. Put the file back."
            return [Finding(quad.path, "file-deleted", text, "hard")]
        changer, remover = ("ours", "theirs") if quad.ours else ("theirs", "ours")
        text = (
            f"{quad.path} was changed by {changer} and deleted by {remover}; the result has dropped it. "
            f"Say where the change of {changer} went, or keep the file."
        )
        return [Finding(quad.path, "file-deleted", text, "escalate")]
    text = f"{quad.path} is in both sides and gone from the result. Put the file back."
    return [Finding(quad.path, "file-deleted", text, "hard")]


def _modes(quad: _Quad) -> Sequence[Finding]:
    modes = {entry.mode for entry in (quad.ours, quad.theirs) if entry}
    if quad.result and modes and quad.result.mode not in modes:
        text = (
            f"{quad.path} has mode {quad.result.mode}, its parents {' and '.join(sorted(modes))}. Restore it."
        )
        return [Finding(quad.path, "mode", text, "hard")]
    return []


def _inspect_all(git: Repo, quads: Sequence[_Quad]) -> list[Finding]:
    def oids(quad: _Quad) -> list[str]:
        entries = (quad.base, quad.ours, quad.theirs, quad.result)
        return [entry.oid for entry in entries if entry and entry.mode != "160000"]

    blobs = git.blobs(oid for quad in quads for oid in oids(quad))

    def data(entry: Entry | None) -> bytes | None:
        return blobs[entry.oid] if entry and entry.regular else None

    findings: list[Finding] = []
    for quad in quads:
        if quad.result and quad.result.regular:
            content = data(quad.result) or b""
            findings += inspect(
                Versions(quad.path, data(quad.base), data(quad.ours), data(quad.theirs), content)
            )
    return findings


def _without_moved(git: Repo, trees: _Trees, findings: Sequence[Finding]) -> list[Finding]:
    """Symbols that are missing from one file and new in another one were moved."""
    if not any(f.kind in ("missing-symbol", "missing-name", "test-deleted") for f in findings):
        return list(findings)
    changed = {
        path: entry
        for path, entry in trees.result.items()
        if (
            entry.regular
            and entry not in (trees.ours.get(path), trees.theirs.get(path), trees.base.get(path))
        )
        or path not in trees.base
    }
    blobs = git.blobs(e.oid for e in changed.values() if e.mode != "160000")
    homes = {
        (s.name, path) for path, e in changed.items() if e.oid in blobs for s in symbols(path, blobs[e.oid])
    }
    names = {name: {p for n, p in homes if n == name} for name, _ in homes}

    def moved(finding: Finding) -> bool:
        if finding.kind not in ("missing-symbol", "missing-name", "test-deleted"):
            return False
        name = finding.message.split("`")[1]
        return bool(names.get(name, set()) - {finding.path})

    return [finding for finding in findings if not moved(finding)]
