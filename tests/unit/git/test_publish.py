from __future__ import annotations

import subprocess

import pytest

from swarmrun.errors import InvalidResource, NotFound, PublishRefused
from swarmrun.git import trailers
from swarmrun.git.objects import EMPTY_TREE
from swarmrun.git.publish import find_published, publish
from swarmrun.git.remote import FIRST_COMMIT, Remote

AUTHOR = "Swarm <swarm@example.invalid>"
LOCAL = ("file",)


@pytest.fixture
def remote(bare):
    return Remote(str(bare), schemes=LOCAL)


@pytest.fixture
def base(work, bare, repo, remote):
    sha = work.commit({"a": "1"})
    work.git("push", "-q", str(bare), "main")
    remote.fetch(repo, sha)
    return sha


def result(
    repo, base, content: bytes = b"done", *, run="run-1", spec_hash="h1", task="", date=100, partial=""
) -> str:
    message = trailers.add("The result\n", trailers.run_trailers(run=run, spec_hash=spec_hash, task=task))
    if partial:
        message = trailers.add(message, {trailers.PARTIAL: partial})
    return repo.commit_tree(repo.with_files(base, {"result": content}), [base], message, AUTHOR, date)


def hook(bare, name: str, text: str) -> None:
    path = bare / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_a_new_branch_is_made_and_the_second_call_finds_it(repo, remote, base):
    commit = result(repo, base)
    first = publish(repo, remote, branch="swarm/x", commit=commit)
    assert (first.branch, first.beside, first.already) == ("swarm/x", False, False)
    assert remote.heads()["swarm/x"] == commit
    assert publish(repo, remote, branch="swarm/x", commit=commit).already


def test_an_ancestor_is_moved_forward(repo, remote, base, work, bare):
    work.git("push", "-q", str(bare), "main:swarm/x")
    done = publish(repo, remote, branch="swarm/x", commit=result(repo, base))
    assert (done.branch, done.beside) == ("swarm/x", False)


def test_somebody_elses_branch_is_left_alone_and_the_result_goes_beside_it(repo, remote, base, work, bare):
    theirs = work.commit({"theirs": "x"})
    work.git("push", "-q", str(bare), "main:swarm/x", "main:swarm/x-2")
    commit = result(repo, base)
    done = publish(repo, remote, branch="swarm/x", commit=commit)
    assert (done.branch, done.beside, done.already) == ("swarm/x-3", True, False)
    assert remote.heads()["swarm/x"] == theirs
    again = publish(repo, remote, branch="swarm/x", commit=commit)
    assert (again.branch, again.beside, again.already) == ("swarm/x-3", True, True)


def test_an_earlier_attempt_of_the_same_run_is_replaced(repo, remote, base):
    publish(repo, remote, branch="swarm/x", commit=result(repo, base, b"first"))
    commit = result(repo, base, b"second", date=200)
    done = publish(repo, remote, branch="swarm/x", commit=commit)
    assert (done.branch, done.beside) == ("swarm/x", False)
    assert remote.heads()["swarm/x"] == commit


@pytest.mark.parametrize("other", [{"run": "run-2"}, {"spec_hash": "h2"}, {"task": "t1"}])
def test_another_runs_branch_is_not_replaced(repo, remote, base, other):
    publish(repo, remote, branch="swarm/x", commit=result(repo, base, b"first", **other))
    assert publish(repo, remote, branch="swarm/x", commit=result(repo, base, b"second")).branch == "swarm/x-2"


def test_a_commit_of_ours_that_somebody_amended_is_theirs(repo, remote, base, work, bare):
    publish(repo, remote, branch="swarm/x", commit=result(repo, base))
    work.git("fetch", "-q", str(bare), "swarm/x")
    work.git("reset", "-q", "--hard", "FETCH_HEAD")
    work.git("commit", "-q", "--amend", "--no-edit", "--allow-empty")  # keeps our trailers
    work.git("push", "-q", "--force", str(bare), "HEAD:swarm/x")
    assert publish(repo, remote, branch="swarm/x", commit=result(repo, base, b"second")).beside


def test_a_tip_the_caller_expects_is_replaced(repo, remote, base, work, bare):
    old = work.commit({"old": "x"})
    work.git("push", "-q", str(bare), "main:swarm/x")
    assert not publish(repo, remote, branch="swarm/x", commit=result(repo, base), expect_old=old).beside


def test_a_branch_that_moves_while_we_push_is_not_overwritten(repo, remote, base, work, bare, monkeypatch):
    commit = result(repo, base)
    honest = remote.push
    moved: list[str] = []

    def racing(*args, **kwargs):
        if not moved:
            moved.append(work.commit({"theirs": "x"}))
            work.git("push", "-q", str(bare), "main:swarm/x")
        return honest(*args, **kwargs)

    monkeypatch.setattr(remote, "push", racing)
    assert publish(repo, remote, branch="swarm/x", commit=commit).branch == "swarm/x-2"
    assert remote.heads()["swarm/x"] == moved[0]


def test_a_hook_that_declines_is_told_in_its_own_words(repo, remote, base, bare):
    hook(bare, "pre-receive", "echo 'branch swarm/* is frozen until Monday' >&2; exit 1")
    with pytest.raises(PublishRefused, match="frozen until Monday") as caught:
        publish(repo, remote, branch="swarm/x", commit=result(repo, base))
    assert "pre-receive hook declined" in str(caught.value)
    assert "swarm/x" not in remote.heads()


def test_an_update_hook_that_declines_is_refused_too(repo, remote, base, bare):
    hook(bare, "update", 'echo "no $1" >&2; exit 1')
    with pytest.raises(PublishRefused, match="no refs/heads/swarm/x"):
        publish(repo, remote, branch="swarm/x", commit=result(repo, base))


def test_a_branch_that_the_user_has_checked_out_is_not_pulled_from_under_them(repo, base, work):
    work.git("checkout", "-q", "-b", "swarm/x")
    done = publish(repo, Remote(str(work.path), schemes=LOCAL), branch="swarm/x", commit=result(repo, base))
    assert (done.branch, done.beside) == ("swarm/x-2", True)


def test_names_that_git_cannot_hold_together(repo, remote, base, work, bare):
    work.git("push", "-q", str(bare), "main:swarm/x/inner", "main:taken")
    assert publish(repo, remote, branch="swarm/x", commit=result(repo, base)).branch == "swarm/x-2"
    with pytest.raises(PublishRefused, match="there is a branch taken"):
        publish(repo, remote, branch="taken/x", commit=result(repo, base))
    with pytest.raises(InvalidResource):
        publish(repo, remote, branch="a..b", commit=result(repo, base))


def test_an_empty_remote_gets_its_base_branch_first(repo, remote):
    remote.fetch(repo, FIRST_COMMIT)
    commit = result(repo, FIRST_COMMIT)
    publish(repo, remote, branch="swarm/x", commit=commit, base_branch="main")
    assert remote.heads() == {"main": FIRST_COMMIT, "swarm/x": commit}
    # The next run starts from it as from any base.
    assert not remote.preflight().empty


def test_task_branches_stand_under_their_run(repo, remote, base):
    for task in ("one", "two"):
        publish(repo, remote, branch=f"swarm-tasks/x/{task}", commit=result(repo, base, task=task))
    assert {"swarm-tasks/x/one", "swarm-tasks/x/two"} < set(remote.heads())


def test_a_published_result_is_found_by_its_spec_hash_under_later_commits(repo, remote, base, work, bare):
    commit = result(repo, base)
    publish(repo, remote, branch="swarm/x", commit=commit)
    work.git("fetch", "-q", str(bare), "swarm/x")
    work.git("reset", "-q", "--hard", "FETCH_HEAD")
    work.commit({"review": "a person's fix"}, "fix\n\nSigned-off-by: Ann")
    work.git("push", "-q", str(bare), "HEAD:swarm/x")
    assert find_published(remote, "swarm/x", "h1").commit == commit
    with pytest.raises(NotFound):
        find_published(remote, "swarm/x", "other")
    with pytest.raises(NotFound):
        find_published(remote, "swarm/y", "h1")


UID, LATER = "6a6f1ef2-1a50-4f4b-b6ee-7191db4fc90f", "0c2d1ef2-1a50-4f4b-b6ee-7191db4fc90a"


def partly(repo, remote, base) -> str:
    """What the first attempt of a run leaves on its branch: some of its commits, and one that says so."""
    commit = result(repo, base, b"half", run=f"{UID}-1")
    tip = result(repo, commit, b"half", run=f"{UID}-1", partial="Incomplete")
    publish(repo, remote, branch="swarm/x", commit=tip)
    return tip


def test_a_partial_result_is_not_found_either_under_later_commits(repo, remote, base, work, bare):
    partly(repo, remote, base)
    with pytest.raises(NotFound):
        find_published(remote, "swarm/x", "h1")
    work.git("fetch", "-q", str(bare), "swarm/x")
    work.git("reset", "-q", "--hard", "FETCH_HEAD")
    work.commit({"review": "a person's fix"}, "fix\n\nSigned-off-by: Ann")
    work.git("push", "-q", str(bare), "HEAD:swarm/x")
    with pytest.raises(NotFound):
        find_published(remote, "swarm/x", "h1")


@pytest.mark.parametrize("on_top", [True, False])
@pytest.mark.parametrize("task", ["", "api"])
def test_a_later_attempt_replaces_the_partial_result_and_is_found(repo, remote, base, on_top, task):
    tip = partly(repo, remote, base)
    whole = result(repo, tip if on_top else base, b"whole", run=f"{UID}-2", date=200, task=task)
    assert publish(repo, remote, branch="swarm/x", commit=whole).branch == "swarm/x"
    assert find_published(remote, "swarm/x", "h1").commit == whole


def test_a_rebuilt_cluster_publishes_beside_a_partial_result_and_is_found_there(repo, remote, base):
    tip = partly(repo, remote, base)
    whole = result(repo, base, b"whole", run=f"{LATER}-1", date=200)
    assert publish(repo, remote, branch="swarm/x", commit=whole).branch == "swarm/x-2"
    assert remote.heads()["swarm/x"] == tip
    found = find_published(remote, "swarm/x", "h1")
    assert (found.branch, found.commit, found.beside) == ("swarm/x-2", whole, True)


def test_the_published_branch_is_whole_after_the_cache_was_lost(repo, remote, base, tmp_path, store, bare):
    import shutil

    repo.record(base)
    commit = result(repo, base)
    repo.record(commit, base)
    shutil.rmtree(repo.path)
    publish(repo, remote, branch="swarm/x", commit=commit)
    assert subprocess.run(["git", "fsck", "--strict"], cwd=bare, check=False).returncode == 0


def test_an_unrelated_result_may_be_published_to_a_new_branch(repo, remote, base):
    commit = repo.commit_tree(EMPTY_TREE, [], "alone\n", AUTHOR, 1)
    assert publish(repo, remote, branch="swarm/alone", commit=commit).branch == "swarm/alone"
