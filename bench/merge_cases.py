"""Conflicting files of a repository's own history: every two-parent merge is made again by git, and what
conflicts is kept with the result that a human gave it."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from swarmrun.merging.plumbing import Repo


@dataclass(frozen=True)
class Replayed:
    """One conflicting file of one merge."""

    repo: str
    merge: str
    parents: tuple[str, str]
    path: str
    base: bytes | None
    ours: bytes
    theirs: bytes
    human: bytes

    @property
    def mixed(self) -> bool:
        """The human took neither side whole, white space aside; and left no conflict markers."""
        human, ours, theirs = (b"".join(side.split()) for side in (self.human, self.ours, self.theirs))
        return human not in (ours, theirs) and b"\n>>>>>>> " not in self.human


def collect(repo: Path, cache: Path) -> list[Replayed]:
    """All of them, from the cache when the repository's merges are the same as then."""
    git = Repo(repo)
    rows = [
        row.split()
        for row in git.text(
            "rev-list", "--branches", "--tags", "--remotes", "--merges", "--parents"
        ).splitlines()
    ]
    merges = sorted(tuple(row) for row in rows if len(row) == 3)
    key = hashlib.sha256(repr(merges).encode()).hexdigest()[:16]
    kept = cache / f"{key}.pickle"
    if kept.exists():
        return pickle.loads(kept.read_bytes())
    found = [case for row in merges for case in _replay(git, repo, *row)]
    cache.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(pickle.dumps(found))
    return found


def _replay(git: Repo, repo: Path, commit: str, ours: str, theirs: str) -> Iterator[Replayed]:
    merged = git.merge_tree(ours, theirs)
    if merged.clean:
        return
    human = git.entries(commit, merged.stages)
    rows = {
        path: stages
        for path, stages in merged.stages.items()
        if 2 in stages and 3 in stages and path in human and all(e.regular for e in stages.values())
    }
    blobs = git.blobs(
        [e.oid for stages in rows.values() for e in stages.values()] + [human[path].oid for path in rows]
    )
    name = repo.parent.name if repo.name in ("repo", ".git") else repo.name
    for path, stages in rows.items():
        base = blobs[stages[1].oid] if 1 in stages else None
        yield Replayed(
            name,
            commit,
            (ours, theirs),
            path,
            base,
            blobs[stages[2].oid],
            blobs[stages[3].oid],
            blobs[human[path].oid],
        )
