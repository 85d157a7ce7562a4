"""A later attempt's store is filled from an earlier one's: real git, real stores."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from swarmrun.activities.adopting import adopt
from swarmrun.activities.preflight import preflight
from swarmrun.artifacts.store import Artifacts, open_store
from swarmrun.errors import InvalidResource, NotFound, StorageUnavailable
from swarmrun.git.repo import RunRepo
from swarmrun.steps import Adopt, Look


@pytest.fixture
def second(lab, tmp_path: Path):
    """The world of a second attempt, on another machine: nothing of the first one's repository is there."""
    lab.start()
    first = lab.world
    head = lab.commit({"new.py": "X = 1\n"}, take=True)
    first.repo.record(head, lab.base)
    top = lab.commit({"newer.py": "Y = 2\n"}, onto=head, take=True)
    first.repo.record(top, head)
    first.store.put("plans/p.json", b"{}")
    first.store.put("gates/baseline.json", b"[]")
    first.store.put("turns/coder/a/1/0001/reply.json", b"{}")
    world = lab.a_world()
    world.store = open_store((tmp_path / "second").as_uri())
    world.repo = RunRepo(tmp_path / "second.git", world.store, "")
    world.earlier = lambda run: first.store
    given = Adopt(
        run="r2",
        earlier=first.snapshot.run,
        commits=[lab.base, top],
        scaffold=head,
        artifacts=["plans/p.json"],
    )
    return world, given, top


def test_commits_come_with_all_that_they_build_on_and_replies_stay_behind(lab, second) -> None:
    world, given, top = second
    adopt(world, given)
    assert world.repo.read(top, "newer.py") == b"Y = 2\n"
    assert world.repo.read(top, "new.py") == b"X = 1\n"
    keys = world.store.list("")
    assert {"base.txt", "scaffold.txt", "plans/p.json", "gates/baseline.json"} <= set(keys)
    assert not [key for key in keys if key.startswith("turns/")]
    # The base is held although its branch has moved on; the remote is still asked whether pushing is allowed.
    lab.commit({"later.py": ""})
    subprocess.run(["git", "push", "-q", "origin", "HEAD:main"], cwd=lab.work, check=True)
    found = preflight(world, Look(run="r2", base_branch="main", base_commit=lab.base, anew=True))
    assert (found.base_commit, found.base_branch, found.already_published) == (lab.base, "main", "")


def test_a_copy_that_was_cut_short_is_finished_by_the_next_call(second) -> None:
    world, given, top = second

    class Fails(Artifacts):
        left = 1

        def put_new(self, key: str, data: bytes) -> bytes:
            self.left -= 1
            if self.left < 0:
                raise StorageUnavailable("gone for a moment")
            return super().put_new(key, data)

    whole, broken = world.store, Fails(world.store._store, world.store.place)
    for allowed in range(3):
        broken.left = allowed
        world.store = broken
        with pytest.raises(StorageUnavailable):
            adopt(world, given)
    world.store = whole
    adopt(world, given)
    assert world.repo.read(top, "newer.py") == b"Y = 2\n"


@pytest.mark.parametrize("missing", ["base.txt", "plans/p.json", "bundles"])
def test_work_that_is_gone_is_said(second, missing: str) -> None:
    world, given, _ = second
    world.earlier(given.earlier).delete(missing)
    with pytest.raises(InvalidResource) as caught:
        adopt(world, given)
    assert (caught.value.reason, bool(caught.value.mend)) == ("EarlierAttemptGone", True)
    with pytest.raises(NotFound):
        world.store.get("scaffold.txt")
