from __future__ import annotations

import pytest

from swarmrun.errors import NotFound
from swarmrun.git import local
from swarmrun.git.remote import Remote


def test_a_work_tree_is_resolved_from_anywhere_inside_it(work):
    head = work.commit({"dir/a": "1"})
    found = local.open_work_tree(work.path / "dir")
    assert (found.root, found.branch, found.head, found.dirty) == (work.path, "main", head, False)
    assert Remote(found.url, schemes=("file",)).preflight(found.branch).base_commit == head


def test_uncommitted_work_and_a_detached_head_are_told(work):
    work.commit({"a": "1"})
    work.git("checkout", "-q", "--detach")
    (work.path / "new").write_text("x")
    found = local.open_work_tree(work.path)
    assert (found.branch, found.dirty) == ("", True)


def test_a_repository_without_commits_is_fine(work):
    found = local.open_work_tree(work.path)
    assert (found.branch, found.head) == ("main", "")
    assert Remote(found.url, schemes=("file",)).preflight(found.branch).empty


def test_a_linked_work_tree_and_a_bare_repository_are_found(work, bare, tmp_path):
    head = work.commit({"a": "1"})
    work.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "linked"))
    linked = local.open_work_tree(tmp_path / "linked")
    assert (linked.branch, linked.head) == ("side", head)
    assert Remote(linked.url, schemes=("file",)).preflight("side").push == "ok"
    assert local.open_work_tree(bare).root == bare


def test_git_variables_of_a_hook_do_not_redirect_us(work, bare, monkeypatch):
    work.commit({"a": "1"})
    monkeypatch.setenv("GIT_DIR", str(bare))
    assert local.open_work_tree(work.path).root == work.path


def test_no_repository_is_a_clear_error(tmp_path):
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(NotFound):
            local.open_work_tree(path)


def test_the_difference_is_what_the_branch_added_since_it_left(work):
    work.commit({"a": "1\n"})
    work.git("checkout", "-q", "-b", "swarm/x")
    work.commit({"b": "2\n"})
    work.git("checkout", "-q", "main")
    work.commit({"later": "3\n"})
    text = local.diff(work.path, "main", "swarm/x")
    assert "+2" in text
    assert "later" not in text
    assert "\x1b[" in local.diff(work.path, "main", "swarm/x", color=True)
    assert "b | 1 +" in local.diff(work.path, "main", "swarm/x", stat=True)
    with pytest.raises(NotFound, match="nope"):
        local.diff(work.path, "main", "nope")
