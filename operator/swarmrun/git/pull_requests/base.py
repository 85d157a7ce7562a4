"""What all hosts have in common: look for an open pull request of the same head and base, update it or open one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from swarmrun.errors import PublishRefused
from swarmrun.git.pull_requests.rest import EXISTS
from swarmrun.ports import PullRequest


@dataclass(frozen=True)
class Open:
    number: int
    url: str
    """The page for people."""


class Host(ABC):
    """One repository on one host. Implements `ports.PullRequests` over three small steps.

    An update replaces the body alone: the title and whether it is a draft belong to people once it is open.
    """

    max_body: int
    """Characters the host takes."""
    draft: bool = False
    """Whether a new one is opened as a draft."""

    async def open_or_update(self, *, head: str, base: str, title: str, body: str) -> PullRequest:
        title, body = cut(" ".join(title.split()), 250), cut(body, self.max_body)
        try:
            for existing in await self._list(head, base):
                await self._update(existing.number, body)
                return PullRequest(existing.number, existing.url, created=False)
            made = await self._create(head, base, title, body)
            return PullRequest(made.number, made.url, created=True)
        except PublishRefused as exc:
            if exc.reason != EXISTS:
                raise
            # Somebody opened it between the two requests: a repeated call of ours, usually.
            for existing in await self._list(head, base):
                await self._update(existing.number, body)
                return PullRequest(existing.number, existing.url, created=False)
            raise

    def may_push(self) -> bool:
        """Whether the host says that the token's owner may write to the repository. True when it does not say.

        Needed because Gitea checks a person's rights only when a push arrives (a dry run is let through).
        """
        return True

    @abstractmethod
    async def _list(self, head: str, base: str) -> Sequence[Open]:
        """Open pull requests from branch `head` of this repository to branch `base`."""

    @abstractmethod
    async def _create(self, head: str, base: str, title: str, body: str) -> Open: ...

    @abstractmethod
    async def _update(self, number: int, body: str) -> None: ...


def cut(text: str, limit: int) -> str:
    """`text` in at most `limit` characters; a cut is visible."""
    return text if len(text) <= limit else text[: limit - 2].rstrip() + " …"
