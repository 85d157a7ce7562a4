"""A later attempt takes over what an earlier one has made: copied, so that either can be removed by itself.

Only what stays: no reply of any agent, so that a task that is done again asks its model again.
"""

from __future__ import annotations

from swarmrun.activities.gates import BASELINE
from swarmrun.activities.merging import LOCKFILES
from swarmrun.activities.world import BASE, SCAFFOLD, RunWorld
from swarmrun.errors import InvalidResource, NotFound
from swarmrun.git import bundles
from swarmrun.ports import ArtifactStore
from swarmrun.steps import Adopt, Nothing

BUNDLES = "bundles"


def adopt(world: RunWorld, given: Adopt) -> Nothing:
    """Copied as often as it is called; the first copy stays. Raises InvalidResource `EarlierAttemptGone`."""
    source = _source(world, given.earlier)
    try:
        for key in given.artifacts:
            world.store.put_new(key, source.get(key))
        _copy_commits(world, source, given.commits)
    except NotFound as exc:
        raise _gone(given.earlier, str(exc)) from exc
    # Neither is there in every run: an empty repository has no baseline.
    for key in [BASELINE, *(f"{LOCKFILES}/{task}.json" for task in given.tasks)]:
        if source.exists(key):
            world.store.put_new(key, source.get(key))
    if given.scaffold:
        world.store.put(SCAFFOLD, given.scaffold.encode())
    world.store.put(BASE, given.commits[0].encode())
    return Nothing()


def _source(world: RunWorld, earlier: str) -> ArtifactStore:
    if world.earlier is None:
        raise _gone(earlier, "this place keeps no earlier attempts")
    source = world.earlier(earlier)
    if not source.exists(BASE):
        raise _gone(earlier, "its artifacts have been removed")
    return source


def _copy_commits(world: RunWorld, source: ArtifactStore, commits: list[str]) -> None:
    """Each with the bundles that its own builds on; one without a bundle is in the history of another."""
    wanted, seen = list(commits), set[str]()
    while wanted:
        commit = wanted.pop()
        key = f"{BUNDLES}/{commit}"
        if commit in seen or not source.exists(key):
            continue
        seen.add(commit)
        data = source.get(key)
        world.store.put_new(key, data)
        wanted.extend(bundles.parse(data).requires)
    for commit in commits:
        world.repo.ensure(commit)


def _gone(earlier: str, why: str) -> InvalidResource:
    return InvalidResource(
        f"the work of attempt {earlier} cannot be taken over: {why}",
        reason="EarlierAttemptGone",
        mend="begin afresh, without naming a point; spec.ttlSecondsAfterFinished says how long work is kept",
    )
