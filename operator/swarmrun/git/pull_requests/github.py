"""GitHub, github.com and Enterprise Server. https://docs.github.com/rest/pulls/pulls (version 2022-11-28)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from swarmrun.git.pull_requests.base import Host, Open
from swarmrun.git.pull_requests.rest import Rest


class GitHub(Host):
    """`name` is `owner/repository`."""

    max_body = 65_536

    def __init__(self, origin: str, name: str, token: str) -> None:
        api = "https://api.github.com" if origin == "https://github.com" else f"{origin}/api/v3"
        headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        self._rest = Rest(api, headers=headers, secret=token)
        self._repository = f"/repos/{name}"
        self._path = f"{self._repository}/pulls"
        self._owner = name.split("/")[0]

    def may_push(self) -> bool:
        found = self._rest.look(self._repository) or {}
        return found.get("permissions", {}).get("push", True)

    async def _list(self, head: str, base: str) -> Sequence[Open]:
        query = {"state": "open", "head": f"{self._owner}:{head}", "base": base}
        rows = await self._rest.call("GET", self._path, params=query)
        # An owner that GitHub does not recognise makes it ignore the filter: look again.
        return [_open(row) for row in rows if row["head"]["ref"] == head and row["base"]["ref"] == base]

    async def _create(self, head: str, base: str, title: str, body: str) -> Open:
        new = {"title": title, "body": body, "head": head, "base": base, "draft": self.draft}
        return _open(await self._rest.call("POST", self._path, json=new))

    async def _update(self, number: int, body: str) -> None:
        await self._rest.call("PATCH", f"{self._path}/{number}", json={"body": body})


def _open(row: dict[str, Any]) -> Open:
    return Open(row["number"], row["html_url"])
