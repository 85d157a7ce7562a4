"""The brain's bare repository of one run: a cache over the bundles in the artifact store.

Every commit that matters has a bundle under `<prefix>/bundles/<commit>`, whose header names the commits it builds
on; `ensure` takes in what is missing, prerequisites first, on whatever machine it is called. Deleting the directory
loses nothing that was recorded.

A commit counts as held when `refs/swarm/commits/<commit>` exists: the ref is set last, after all of its objects.
Several threads and processes may use one repository: packs are moved in whole, refs are set by rename.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from swarmrun.errors import GitError, NotFound
from swarmrun.git import bundles, intake
from swarmrun.git.command import checked_sha, disk, git
from swarmrun.git.objects import Objects
from swarmrun.ports import ArtifactStore

_REF = "refs/swarm/commits"
# What one agent may add in one turn, packed (arbitrary; a turn's honest bundle has kilobytes).
MAX_BUNDLE = 128 * 1024 * 1024
# What a sandbox's server takes (sandboxd/wire.py): a history over it could not be worked on.
MAX_HISTORY = 2 * 1024**3


class RunRepo(Objects):
    """`path` is the bare repository (made by `init`), `store` and `prefix` where the bundles are kept."""

    def __init__(self, path: Path, store: ArtifactStore, prefix: str) -> None:
        super().__init__(path)
        self._store = store
        self._prefix = prefix.strip("/")

    def init(self) -> None:
        """Makes the repository when it is not there. Idempotent, safe beside others who do the same."""
        if self.path.joinpath("HEAD").exists():
            return
        with disk(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fresh = Path(tempfile.mkdtemp(prefix=f".{self.path.name}-", dir=self.path.parent))
        try:
            git("init", "--quiet", "--bare", "--template=", "--initial-branch=none", str(fresh))
            fresh.joinpath(_REF).mkdir(parents=True)
            os.rename(fresh, self.path)
        except OSError:
            if not self.path.joinpath("HEAD").exists():  # else somebody else was first
                raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    # ------------------------------------------------------------ what is held

    def holds(self, commit: str) -> bool:
        """Whether the commit and everything it needs is here."""
        return self._ref(commit).exists()

    def hold(self, commit: str) -> None:
        """Marks a commit whose objects are all here as held (commits made or fetched by the brain itself)."""
        ref = self._ref(commit)
        if not ref.exists():
            # git's own ref update leaves a lock behind when it is killed; a rename does not.
            with disk(self.path):
                with tempfile.NamedTemporaryFile("w", dir=self.path, prefix="ref-", delete=False) as file:
                    file.write(f"{commit}\n")
                os.replace(file.name, ref)

    def commit_tree(self, tree: str, parents: Sequence[str], message: str, author: str, date: int) -> str:
        commit = super().commit_tree(tree, parents, message, author, date)
        self.hold(commit)
        return commit

    # ------------------------------------------------------------ bundles

    def add_history(self, data: bytes, *, commit: str, requires: Sequence[str] = ()) -> None:
        """`add_bundle` of what comes from the remote by a git Pod: a whole history, as large as it is."""
        bundle = _accepted(data, commit, cap=MAX_HISTORY)
        needed = [*requires, *bundle.requires]
        self._take_in(bundle, commit, needed, stranger=False)

    def add_bundle(self, data: bytes, *, commit: str, requires: Sequence[str] = ()) -> None:
        """Takes in a bundle that a sandbox made of `commit`, on top of `requires` (which are ensured first).

        The bundle is data from a stranger: it must hold one head, `commit`, be complete with what is held, pass
        fsck, and keep to the size caps. Raises GitError (reason `BundleRefused`), NotFound (a prerequisite).
        """
        bundle = _accepted(data, commit)
        self._take_in(bundle, commit, [*requires, *bundle.requires])

    def keep_bundle(self, data: bytes, *, commit: str, since: Sequence[str] = ()) -> None:
        """Records a sandbox's bundle without taking it in yet: cheap, no git is started. `ensure` checks it.

        `since` are the commits that the sandbox was told the receiver has. What is recorded under this commit stays:
        a sandbox may claim any commit. Raises GitError (`BundleRefused`).
        """
        bundle = _accepted(data, commit)
        if self._store.exists(self._key(commit)):
            return
        requires = [checked_sha(sha) for sha in since] or list(bundle.requires)
        self._store.put(
            self._key(commit),
            bundles.build(bundle.pack, head=commit, ref=_ref_name(commit), requires=requires),
        )

    def record(self, commit: str, since: str | None = None) -> None:
        """Writes the artifact from which another machine can ensure `commit`; that needs `since` (None: nothing)."""
        if not self._store.exists(self._key(commit)):
            self._store.put(self._key(commit), self.bundle(commit, (since,) if since else ()))

    def ensure(self, commit: str) -> None:
        """Makes the commit available here, from the recorded bundles when it is not. Idempotent.

        Raises NotFound (never recorded), GitError (`BundleRefused`: what was recorded cannot be accepted).
        """
        self.init()
        wanted = [checked_sha(commit)]
        opened: set[str] = set()
        while wanted:
            sha = wanted[-1]
            if self.holds(sha) or self._reachable(sha):
                wanted.pop()
                continue
            bundle = self._recorded(sha)
            missing = [needed for needed in bundle.requires if not self.holds(needed)]
            if missing and sha in opened:
                raise bundles.refused(f"the artifact of {sha} builds on itself")
            opened.add(sha)
            wanted.extend(missing)
            if missing:
                continue
            try:
                # What builds on nothing is a history that the brain recorded itself.
                self._take_in(bundle, sha, bundle.requires, stranger=bool(bundle.requires))
            except GitError:
                # Else a sandbox that replaces the one that sent this could never record the same commit.
                self._store.delete(self._key(sha))
                raise

    def bundle(self, commit: str, since: Sequence[str] = ()) -> bytes:
        """A bundle of `commit` for a receiver that has the commits `since`; its ref is `refs/swarm/commits/<commit>`.

        Raises NotFound when a commit is not held here: ensure it first.
        """
        for sha in (commit, *since):
            if not self.holds(checked_sha(sha)):
                raise NotFound(f"commit {sha} is not in {self.path}", mend="ensure it first")
        wanted = "\n".join([commit, *(f"^{sha}" for sha in since), ""])
        pack = git(
            "pack-objects", "--revs", "--thin", "--stdout", "--quiet", "--delta-base-offset", "--threads=1",
            cwd=self.path, stdin=wanted.encode(), timeout=600, cap=8 * 1024**3,
        ).stdout  # fmt: skip
        return bundles.build(pack, head=commit, ref=_ref_name(commit), requires=since)

    # ------------------------------------------------------------

    def _take_in(
        self, bundle: bundles.Bundle, commit: str, requires: Sequence[str], *, stranger: bool = True
    ) -> None:
        """`stranger` False: a whole history, as large as the remote's is."""
        if self.holds(commit):
            return
        for sha in dict.fromkeys(requires):
            self.ensure(sha)
        needed = tuple(dict.fromkeys(requires))
        if stranger:
            intake.take_in(self.path, bundle.pack, commit=commit, requires=needed, max_blob=intake.MAX_BLOB)
        else:
            intake.take_in(
                self.path,
                bundle.pack,
                commit=commit,
                requires=needed,
                max_blob=MAX_HISTORY,
                max_objects=None,
                memory=None,
                timeout=1800,
            )
        self.hold(commit)

    def _recorded(self, commit: str) -> bundles.Bundle:
        try:
            bundle = bundles.parse(self._store.get(self._key(commit)))
        except NotFound as exc:
            raise NotFound(
                f"commit {commit} is neither in {self.path} nor recorded under {self._key(commit)}",
                mend="the run's artifacts are incomplete: start the run again",
            ) from exc
        if bundle.heads != (commit,):
            raise bundles.refused(f"the artifact of {commit} holds {', '.join(bundle.heads)}")
        return bundle

    def _reachable(self, commit: str) -> bool:
        """Whether the commit is in the history of one that is held; it is held itself from then on."""
        if not self._store.exists(self._key(commit)):
            try:
                holder = git("for-each-ref", "--count=1", f"--contains={commit}", _REF, cwd=self.path).text
            except GitError:  # no such object
                return False
            if holder:
                self.hold(commit)
            return bool(holder)
        return False

    def _ref(self, commit: str) -> Path:
        return self.path / _ref_name(commit)

    def _key(self, commit: str) -> str:
        return f"{self._prefix}/bundles/{commit}".lstrip("/")


def _ref_name(commit: str) -> str:
    return f"{_REF}/{checked_sha(commit)}"


def _accepted(data: bytes, commit: str, *, cap: int = MAX_BUNDLE) -> bundles.Bundle:
    checked_sha(commit)
    if len(data) > cap:
        raise bundles.refused(f"it has {len(data)} bytes, {cap} are allowed")
    bundle = bundles.parse(data)
    if bundle.heads != (commit,):
        raise bundles.refused(
            f"its head is {', '.join(bundle.heads)}, not the commit {commit} that was claimed"
        )
    return bundle
