"""GitLab, gitlab.com and self-managed. https://docs.gitlab.com/api/merge_requests (version 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from swarmrun.git.pull_requests.base import Host, Open
from swarmrun.git.pull_requests.rest import Rest

# Access levels: 20 reporter, 30 developer, 40 maintainer.
_DEVELOPER = 30


class GitLab(Host):
    """`name` is the project's full path, groups included."""

    max_body = 1_000_000

    def __init__(self, origin: str, name: str, token: str) -> None:
        # Personal, group and project tokens and OAuth tokens are all taken as a bearer.
        self._rest = Rest(f"{origin}/api/v4", headers={"Authorization": f"Bearer {token}"}, secret=token)
        self._project = f"/projects/{quote(name, safe='')}"
        self._path = f"{self._project}/merge_requests"

    def may_push(self) -> bool:
        rights = (self._rest.look(self._project) or {}).get("permissions", {})
        levels = [access["access_level"] for access in rights.values() if access]
        return not levels or max(levels) >= _DEVELOPER

    async def _list(self, head: str, base: str) -> Sequence[Open]:
        query = {"state": "opened", "source_branch": head, "target_branch": base}
        rows = await self._rest.call("GET", self._path, params=query)
        # A fork may have a branch of the same name.
        return [_open(row) for row in rows if row["source_project_id"] == row["target_project_id"]]

    async def _create(self, head: str, base: str, title: str, body: str) -> Open:
        # There is no field for it: the title says so.
        title = f"Draft: {title}" if self.draft else title
        new = {"source_branch": head, "target_branch": base, "title": title, "description": body}
        return _open(await self._rest.call("POST", self._path, json=new))

    async def _update(self, number: int, body: str) -> None:
        await self._rest.call("PUT", f"{self._path}/{number}", json={"description": body})


def _open(row: dict[str, Any]) -> Open:
    return Open(row["iid"], row["web_url"])
