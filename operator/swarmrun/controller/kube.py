"""The few requests to the API server that are not Kopf's: status, Events, lists, Leases. Bodies are plain JSON."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

from swarmrun.api import API_VERSION, GROUP, VERSION
from swarmrun.api.status import SwarmRunStatus
from swarmrun.controller.happenings import Happening

COMPONENT = "swarmrun"
PAGE = 200
"""Resources asked for at once."""


class Gone(Exception):
    """The resource (of this UID) is there no more."""


class Refused(Exception):
    """The API server said no, or did not answer. `code` is the HTTP status, 0 without one."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Kube:
    """On one event loop. `identity` is who reports Events."""

    def __init__(self, api: Any, identity: str) -> None:
        self._api = api
        self._identity = identity

    @classmethod
    async def connect(cls, identity: str) -> Kube:
        """By the Pod's service account, else by KUBECONFIG."""
        from kubernetes.aio import client, config

        try:
            config.load_incluster_config()
        except config.ConfigException:
            await config.load_kube_config()
        return cls(client.ApiClient(), identity)

    async def close(self) -> None:
        await self._api.close()

    # ------------------------------------------------------------ resources

    async def write_status(self, meta: Mapping[str, Any], status: SwarmRunStatus) -> None:
        """Replaces the whole status, of exactly this resource and not of a namesake. Raises Gone, Refused."""
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": meta["uid"]},
            {"op": "add", "path": "/status", "value": status.dump()},
        ]
        path = f"{_runs(meta['namespace'])}/{meta['name']}/status"
        try:
            await self.request("PATCH", path, patch, "application/json-patch+json")
        except Refused as exc:
            # 422: the test failed.
            if exc.code == 404 or (exc.code == 422 and "test" in str(exc)):
                raise Gone(f"{meta['namespace']}/{meta['name']}") from exc
            raise

    async def runs(self, namespace: str = "") -> AsyncIterator[dict[str, Any]]:
        """All SwarmRuns (of a namespace). Raises Refused."""
        token = ""
        while True:
            query = f"?limit={PAGE}" + (f"&continue={token}" if token else "")
            page = await self.request("GET", _runs(namespace) + query)
            for item in page.get("items", []):
                yield item
            token = page.get("metadata", {}).get("continue", "")
            if not token:
                return

    async def report(self, meta: Mapping[str, Any], happening: Happening) -> None:
        """An Event of the resource. Raises Refused (a terminating namespace takes none)."""
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
        await self.request("POST", f"/api/v1/namespaces/{meta['namespace']}/events", body)

    # ------------------------------------------------------------ one request

    async def request(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> Any:
        """The parsed answer. Raises Refused."""
        from aiohttp import ClientError
        from kubernetes.aio.client.exceptions import ApiException

        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = content_type
        resource, _, query = path.partition("?")
        try:
            params = await self._api.param_serialize(
                method,
                resource,
                query_params=[tuple(pair.split("=", 1)) for pair in query.split("&") if pair],
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = await self._api.call_api(*params, _request_timeout=30)
            raw = await answer.read()
        except ApiException as exc:
            raise Refused(_message(exc), int(exc.status or 0)) from exc
        except (OSError, TimeoutError, ClientError) as exc:
            raise Refused(f"the API server does not answer: {exc or type(exc).__name__}", 0) from exc
        status = int(answer.status)
        if status >= 300:
            raise Refused(_text(raw), status)
        return json.loads(raw) if raw else {}


def _runs(namespace: str) -> str:
    within = f"/namespaces/{namespace}" if namespace else ""
    return f"/apis/{GROUP}/{VERSION}{within}/swarmruns"


def _message(exc: Any) -> str:
    return _text(exc.body) if exc.body else str(exc.reason or exc)


def _text(raw: Any) -> str:
    text = raw.decode(errors="replace") if isinstance(raw, bytes) else str(raw)
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text[:500]
