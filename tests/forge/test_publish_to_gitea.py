"""Preflight, push and pull requests against a real Gitea."""

from __future__ import annotations

import asyncio

import pytest

from swarmrun.errors import NotFound, PermissionDenied, PublishRefused
from swarmrun.git import trailers
from swarmrun.git.credentials import Token
from swarmrun.git.publish import find_published, publish
from swarmrun.git.pull_requests import for_remote
from swarmrun.git.remote import FIRST_COMMIT, Remote

pytestmark = pytest.mark.forge

AUTHOR = "Swarm <swarm@example.invalid>"


def remote_of(repository, token: str = "") -> Remote:
    return Remote(
        repository.url, credential=Token(token or repository.forge.token), schemes=("http", "https")
    )


def result(repo, base: str, content: bytes = b"done", *, run: str = "run-1") -> str:
    message = trailers.add("The result\n", trailers.run_trailers(run=run, spec_hash="h1"))
    return repo.commit_tree(repo.with_files(base, {"result": content}), [base], message, AUTHOR, 100)


@pytest.fixture
def base(repository, repo) -> str:
    remote = remote_of(repository)
    found = remote.preflight()
    assert (found.branch, found.push) == ("main", "ok")
    remote.fetch(repo, found.base_commit, branch="main")
    return found.base_commit


def pulls(repository, *, head: str, body: str):
    client = for_remote(repository.url, repository.forge.token, "gitea", allow_http=True)
    return asyncio.run(client.open_or_update(head=head, base="main", title="A run", body=body))


def test_the_whole_way_push_and_pull_request_once(repository, repo, base):
    remote = remote_of(repository)
    commit = result(repo, base)
    assert not publish(repo, remote, branch="swarm/x", commit=commit).already
    assert publish(repo, remote, branch="swarm/x", commit=commit).already
    assert find_published(remote, "swarm/x", "h1").commit == commit
    first = pulls(repository, head="swarm/x", body="first")
    again = pulls(repository, head="swarm/x", body="second")
    assert (first.created, again.created, again.number) == (True, False, first.number)
    rows = repository.forge.api("GET", f"{repository.path}/pulls?state=open")
    assert [(row["body"], row["head"]["sha"]) for row in rows] == [("second", commit)]
    assert rows[0]["html_url"] == first.url


def test_an_empty_repository_gets_base_branch_and_pull_request(make_repository, repo):
    repository = make_repository(auto_init=False)
    remote = remote_of(repository)
    found = remote.preflight()
    assert (found.empty, found.branch, found.base_commit, found.push) == (True, "main", FIRST_COMMIT, "ok")
    remote.fetch(repo, found.base_commit)
    publish(repo, remote, branch="swarm/x", commit=result(repo, found.base_commit), base_branch=found.branch)
    assert repository.forge.api("GET", repository.path)["default_branch"] == "main"
    assert pulls(repository, head="swarm/x", body="b").created


def test_a_wrong_token_is_refused_and_not_shown(repository):
    with pytest.raises(PermissionDenied) as caught:
        remote_of(repository, "0123456789abcdef0123456789abcdef01234567").preflight()
    assert "0123456789abcdef" not in f"{caught.value} {caught.value.__cause__}"


def test_a_read_only_token_is_found_at_preflight(repository, other_token):
    name, token = other_token("read:repository")
    # The user may write, the token may not.
    repository.forge.api("PUT", f"{repository.path}/collaborators/{name}", {"permission": "write"})
    found = remote_of(repository, token).preflight()
    with pytest.raises(PermissionDenied) as caught:
        found.require_push()
    assert caught.value.reason == "PushDenied"


def test_a_user_who_may_only_read_is_found_at_preflight(repository, other_token):
    name, token = other_token("write:repository")
    repository.forge.api("PUT", f"{repository.path}/collaborators/{name}", {"permission": "read"})
    with pytest.raises(PermissionDenied):
        remote_of(repository, token).preflight().require_push()


def test_an_archived_repository_is_found_at_preflight(repository):
    repository.forge.api("PATCH", repository.path, {"archived": True})
    with pytest.raises(PermissionDenied):
        remote_of(repository).preflight().require_push()


def test_a_repository_that_is_not_there_or_hidden_is_not_found(repository, other_token):
    _, stranger = other_token("write:repository")
    with pytest.raises(NotFound, match="no such repository"):
        remote_of(repository, stranger).preflight()
    with pytest.raises(NotFound, match="'nope'"):
        remote_of(repository).preflight("nope")


def test_a_protected_branch_is_refused_in_the_hosts_words(repository, repo, base):
    rule = {"rule_name": "swarm/*", "enable_push": False}
    repository.forge.api("POST", f"{repository.path}/branch_protections", rule)
    with pytest.raises(PublishRefused, match="protected branch") as caught:
        publish(repo, remote_of(repository), branch="swarm/x", commit=result(repo, base))
    assert repository.forge.token not in str(caught.value)


def test_a_branch_somebody_moved_is_left_alone(repository, repo, base):
    remote = remote_of(repository)
    theirs = repository.commit_by_somebody("swarm/x", "theirs.txt")
    done = publish(repo, remote, branch="swarm/x", commit=result(repo, base))
    assert (done.branch, done.beside) == ("swarm/x-2", True)
    assert remote.heads()["swarm/x"] == theirs


def test_an_earlier_attempt_of_ours_is_replaced_until_somebody_adds_to_it(repository, repo, base):
    remote = remote_of(repository)
    publish(repo, remote, branch="swarm/x", commit=result(repo, base, b"first"))
    assert not publish(repo, remote, branch="swarm/x", commit=result(repo, base, b"second")).beside
    theirs = repository.commit_by_somebody("swarm/x", "review.txt")
    assert publish(repo, remote, branch="swarm/x", commit=result(repo, base, b"third")).beside
    assert remote.heads()["swarm/x"] == theirs


def test_a_pinned_commit_is_fetched_though_its_branch_moved_on(repository, repo):
    remote = remote_of(repository)
    pinned = remote.preflight().base_commit
    repository.commit_by_somebody("main", "later.txt")
    remote.fetch(repo, pinned, branch="main")
    assert "later.txt" not in [entry.path for entry in repo.list_tree(pinned)]


def test_a_pull_request_with_a_token_that_may_not_is_refused(repository, repo, base, other_token):
    publish(repo, remote_of(repository), branch="swarm/x", commit=result(repo, base))
    name, token = other_token("read:repository")
    repository.forge.api("PUT", f"{repository.path}/collaborators/{name}", {"permission": "read"})
    client = for_remote(repository.url, token, "gitea", allow_http=True)
    with pytest.raises(PermissionDenied):
        asyncio.run(client.open_or_update(head="swarm/x", base="main", title="t", body="b"))


def test_a_pull_request_without_anything_new_is_refused(repository, repo, base):
    publish(repo, remote_of(repository), branch="swarm/x", commit=result(repo, base))
    client = for_remote(repository.url, repository.forge.token, "gitea", allow_http=True)
    with pytest.raises((PublishRefused, PermissionDenied)):
        asyncio.run(client.open_or_update(head="swarm/nope", base="main", title="t", body="b"))
