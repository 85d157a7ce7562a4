"""`ports.RepositoryAccess` without a detour: this process fetches and pushes with git itself."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from swarmrun.errors import InvalidResource
from swarmrun.git.publish import find_published, publish
from swarmrun.git.remote import Remote
from swarmrun.git.repo import RunRepo
from swarmrun.ports import Published, PullRequest, PullRequests, RemoteState


class DirectAccess:
    """`repo` is the run's. `remote` and `pull_requests` are asked when they are needed (they may raise; None: the
    host has no pull requests that we know of); `run` waits for a coroutine."""

    def __init__(
        self,
        repo: RunRepo,
        remote: Callable[[], Remote],
        pull_requests: Callable[[], PullRequests | None],
        run: Callable[[Coroutine[Any, Any, PullRequest]], PullRequest],
    ) -> None:
        self._repo = repo
        self._remote = remote
        self._pull_requests = pull_requests
        self._run = run

    def preflight(self, branch: str) -> RemoteState:
        return self._remote().preflight(branch)

    def check_pull_requests(self) -> None:
        self._host()

    def find_published(self, branch: str, spec_hash: str) -> Published:
        return find_published(self._remote(), branch, spec_hash)

    def fetch(self, commit: str, *, branch: str) -> None:
        self._repo.init()
        self._remote().fetch(self._repo, commit, branch=branch)

    def publish(self, commit: str, *, branch: str, base_branch: str = "", base_commit: str = "") -> Published:
        return publish(self._repo, self._remote(), branch=branch, commit=commit, base_branch=base_branch)

    def open_pull_request(self, *, head: str, base: str, title: str, body: str) -> PullRequest:
        return self._run(self._host().open_or_update(head=head, base=base, title=title, body=body))

    def _host(self) -> PullRequests:
        host = self._pull_requests()
        if host is None:
            raise InvalidResource(
                "the repository's host is not known",
                mend="set spec.publish.pullRequest.provider",
                field="spec.publish.pullRequest.provider",
            )
        return host
