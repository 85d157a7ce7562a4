"""Gitea, Forgejo, Codeberg. https://docs.gitea.com/api (version 1). Seen against a real Gitea 1.26."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from swarmrun.errors import PermissionDenied, RemoteUnavailable
from swarmrun.git.pull_requests.base import Host, Open
from swarmrun.git.pull_requests.rest import Rest

# The list has no filter by head that all versions know; 50 rows is the default largest page.
_PAGE = 50
_PAGES = 40
# Seconds after which a repository that was empty is asked again (it mostly takes less than one).
_NOTICED = 1.0


class Gitea(Host):
    """`name` is `owner/repository`."""

    max_body = 65_000

    def __init__(self, origin: str, name: str, token: str) -> None:
        self._rest = Rest(f"{origin}/api/v1", headers={"Authorization": f"token {token}"}, secret=token)
        self._repository = f"/repos/{name}"
        self._path = f"{self._repository}/pulls"

    def may_push(self) -> bool:
        found = self._rest.look(self._repository) or {}
        return found.get("permissions", {}).get("push", True)

    async def _list(self, head: str, base: str) -> Sequence[Open]:
        for page in range(1, _PAGES + 1):
            query = {"state": "open", "sort": "recentupdate", "limit": _PAGE, "page": page}
            rows = await self._rows(query)
            found = [
                _open(row)
                for row in rows
                if row["head"]["ref"] == head
                and row["base"]["ref"] == base
                and row["head"]["repo_id"] == row["base"]["repo_id"]
            ]
            if found or not rows:
                return found
        return []

    async def _rows(self, query: dict[str, str | int]) -> list[dict[str, Any]]:
        """A repository's first push is noticed by a queue; until then it counts as empty and has no pulls (404)."""
        try:
            return await self._rest.call("GET", self._path, params=query)
        except PermissionDenied as exc:
            found = await self._rest.call("GET", self._repository)
            if not found.get("empty"):
                # Perhaps since a moment ago.
                return await self._rest.call("GET", self._path, params=query)
            raise RemoteUnavailable(
                f"{exc.message}; the host has not noticed yet that the repository was pushed to",
                retry_after=_NOTICED,
                reason="PushNotNoticed",
            ) from exc

    async def _create(self, head: str, base: str, title: str, body: str) -> Open:
        # There is no field for it: the title says so (repository.pull-request.WORK_IN_PROGRESS_PREFIXES).
        new = {"title": f"WIP: {title}" if self.draft else title, "body": body, "head": head, "base": base}
        return _open(await self._rest.call("POST", self._path, json=new))

    async def _update(self, number: int, body: str) -> None:
        await self._rest.call("PATCH", f"{self._path}/{number}", json={"body": body})


def _open(row: dict[str, Any]) -> Open:
    return Open(row["number"], row["html_url"])
