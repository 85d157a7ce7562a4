"""Azure DevOps, Services and Server. https://learn.microsoft.com/rest/api/azure/devops/git/pull-requests (7.1)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from swarmrun.errors import InvalidResource
from swarmrun.git.pull_requests.base import Host, Open
from swarmrun.git.pull_requests.rest import Rest

_VERSION = "7.1"


class AzureDevOps(Host):
    """`name` is the address's path: `org/project/_git/repository`, `project/_git/repository` (visualstudio.com),
    `org/_git/repository` (a project named like its repository), `v3/org/project/repository` (ssh)."""

    max_body = 4_000

    def __init__(self, origin: str, name: str, token: str) -> None:
        before, project, repository = _place(name, organisation_in_host=origin.endswith(".visualstudio.com"))
        # Entra access tokens are JWTs and go as a bearer, personal tokens as a password without a user.
        basic = base64.b64encode(f":{token}".encode()).decode()
        self._rest = Rest(
            "/".join([origin, *map(quote, before), quote(project)]),
            headers={"Authorization": f"Bearer {token}" if token.startswith("eyJ") else f"Basic {basic}"},
            secret=token,
        )
        self._path = f"/_apis/git/repositories/{quote(repository)}/pullrequests"
        self._page = f"{self._rest.api}/_git/{quote(repository)}/pullrequest"

    async def _list(self, head: str, base: str) -> Sequence[Open]:
        query = {
            "searchCriteria.status": "active",
            "searchCriteria.sourceRefName": f"refs/heads/{head}",
            "searchCriteria.targetRefName": f"refs/heads/{base}",
            "api-version": _VERSION,
        }
        found = await self._rest.call("GET", self._path, params=query)
        return [self._open(row) for row in found["value"] if not row.get("forkSource")]

    async def _create(self, head: str, base: str, title: str, body: str) -> Open:
        new = {
            "sourceRefName": f"refs/heads/{head}",
            "targetRefName": f"refs/heads/{base}",
            "title": title,
            "description": body,
            "isDraft": self.draft,
        }
        return self._open(
            await self._rest.call("POST", self._path, params={"api-version": _VERSION}, json=new)
        )

    async def _update(self, number: int, body: str) -> None:
        await self._rest.call(
            "PATCH",
            f"{self._path}/{number}",
            params={"api-version": _VERSION},
            json={"description": body},
        )

    def _open(self, row: dict[str, Any]) -> Open:
        # `url` in the answer is the REST address; people need the page.
        number = row["pullRequestId"]
        return Open(number, f"{self._page}/{number}")


def _place(name: str, *, organisation_in_host: bool) -> tuple[list[str], str, str]:
    """What stands before the project, the project, the repository."""
    parts = name.split("/")
    if parts[0] == "v3" and len(parts) == 4:
        return [parts[1]], parts[2], parts[3]
    if "_git" in parts and parts.index("_git") == len(parts) - 2:
        before, repository = parts[:-2], parts[-1]
        if len(before) + organisation_in_host >= 2:
            return before[:-1], before[-1], repository
        return before, repository, repository
    raise InvalidResource(
        f"{name!r} is not the path of an Azure DevOps repository",
        mend="write https://dev.azure.com/org/project/_git/name",
    )
