"""The few requests to the API server that are not Kopf's: status, Events, lists, Leases. Bodies are plain JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

from swarmrun.api import API_VERSION, GROUP, VERSION
from swarmrun.api.status import SwarmRunStatus
from swarmrun.controller.happenings import Happening
from swarmrun.errors import InvalidResource, NotFound
from swarmrun.kube.api import KubeApi

COMPONENT = "swarmrun"
PAGE = 200
"""Resources asked for at once."""


class Gone(Exception):
    """The resource (of this UID) is there no more."""


class Kube:
    """On one event loop, that of `api`. `identity` is who reports Events. Calls raise what `KubeApi`'s do."""

    def __init__(self, api: KubeApi, identity: str) -> None:
        self.api = api
        self._identity = identity

    # ------------------------------------------------------------ resources

    async def write_status(self, meta: Mapping[str, Any], status: SwarmRunStatus) -> None:
        """Replaces the whole status, of exactly this resource and not of a namesake. Raises Gone besides."""
        patch: list[dict[str, Any]] = [
            {"op": "test", "path": "/metadata/uid", "value": meta["uid"]},
            {"op": "add", "path": "/status", "value": status.dump()},
        ]
        path = f"{_runs(meta['namespace'])}/{meta['name']}/status"
        try:
            await self.api.patch(path, patch)
        except NotFound as exc:
            raise Gone(f"{meta['namespace']}/{meta['name']}") from exc
        except InvalidResource as exc:
            if "test" not in exc.message:
                raise
            raise Gone(f"{meta['namespace']}/{meta['name']}") from exc

    async def runs(self, namespace: str = "") -> AsyncIterator[dict[str, Any]]:
        """All SwarmRuns (of a namespace)."""
        more = {"limit": str(PAGE)}
        while True:
            page = await self.api.get(_runs(namespace), **more)
            for item in page.get("items", []):
                yield item
            token = page.get("metadata", {}).get("continue", "")
            if not token:
                return
            more["continue"] = token

    async def classes(self) -> list[dict[str, Any]]:
        """All SwarmClasses. Raises NotFound where the CRD is not installed."""
        return (await self.api.get(f"/apis/{GROUP}/{VERSION}/swarmclasses")).get("items", [])

    async def report(self, meta: Mapping[str, Any], happening: Happening) -> None:
        """An Event of the resource. A terminating namespace takes none."""
        now = datetime.now(UTC)
        stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        body = {
            "metadata": {"generateName": f"{meta['name']}.", "namespace": meta["namespace"]},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": "SwarmRun",
                "name": meta["name"],
                "namespace": meta["namespace"],
                "uid": meta["uid"],
            },
            "type": happening.type,
            "reason": happening.reason,
            "message": happening.message,
            "source": {"component": COMPONENT},
            "reportingComponent": f"{GROUP}/{COMPONENT}",
            "reportingInstance": self._identity,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
        }
        await self.api.create(f"/api/v1/namespaces/{meta['namespace']}/events", body)


def _runs(namespace: str) -> str:
    within = f"/namespaces/{namespace}" if namespace else ""
    return f"/apis/{GROUP}/{VERSION}{within}/swarmruns"
