"""The Kubernetes API with plain dictionaries in and out, its refusals translated.

`kubernetes.aio` finds the cluster (inside one: the service account, re-read as it is rotated; outside: the
kubeconfig with its plug-ins) and speaks TLS. Its models are not used: they cost more than they give here.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

from swarmrun.errors import (
    Conflict,
    InvalidResource,
    NotFound,
    PermissionDenied,
    RemoteUnavailable,
    SwarmRunError,
)

Json = dict[str, Any]

TIMEOUT = 15.0
"""Seconds for one request (arbitrary; an API server that needs longer is in trouble)."""

WATCH_SECONDS = 300
"""After which a watch is begun anew: through a load balancer one may be dropped without a word."""

_MERGE = "application/merge-patch+json"
_PATCH = "application/json-patch+json"


class KubeApi:
    """One cluster. Bound to the event loop of its first request; `close` ends its connections.

    Every call raises RemoteUnavailable (`ApiServerUnavailable`), PermissionDenied, NotFound, Conflict (reason
    `AlreadyExists` when the name is taken) or InvalidResource. Messages are the API server's own.
    """

    def __init__(self, *, kubeconfig: str | None = None, context: str | None = None) -> None:
        self._kubeconfig, self._context = kubeconfig, context
        self._client: Any = None
        self._opening = asyncio.Lock()

    async def get(self, path: str, **query: str) -> Json:
        return await self._request("GET", path, query=query)

    async def watch(self, path: str, **query: str) -> AsyncIterator[Json]:
        """What changes in a collection, as `{"type", "object"}`, until the API server ends it (after minutes).

        Raises what the others raise; InvalidResource (reason `Expired`) where `resourceVersion` is too old.
        """
        import aiohttp

        asked = {**query, "watch": "true", "timeoutSeconds": str(WATCH_SECONDS)}
        # In whole it may take long; silence between two events says nothing.
        patience = aiohttp.ClientTimeout(total=WATCH_SECONDS + TIMEOUT, sock_connect=TIMEOUT)
        answer = await self._send("GET", path, query=asked, timeout=patience)
        try:
            async for line in answer.response.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise refusal(int(status.get("code") or 500), json.dumps(status), f"watch {path}")
                yield event
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise _unavailable("watch", path, exc) from exc
        finally:
            answer.response.close()

    async def create(self, path: str, body: Json) -> Json:
        """POST of an object to its collection."""
        return await self._request("POST", path, body=body)

    async def merge(self, path: str, body: Json) -> Json:
        """JSON merge patch (RFC 7386)."""
        return await self._request("PATCH", path, body=body)

    async def patch(self, path: str, operations: list[Json]) -> Json:
        """JSON patch (RFC 6902); a `test` that fails raises InvalidResource."""
        return await self._request("PATCH", path, body=operations)

    async def replace(self, path: str, body: Json) -> Json:
        """PUT. Raises RemoteUnavailable, reason `Conflict`, where somebody changed it meanwhile."""
        return await self._request("PUT", path, body=body)

    async def delete(self, path: str, *, grace_seconds: int | None = None, **query: str) -> None:
        """Also of a whole collection with a `labelSelector`. What is not there is fine."""
        body: Json = {"propagationPolicy": "Background"}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        try:
            await self._request("DELETE", path, body=body, query=query)
        except NotFound:
            return

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    # ------------------------------------------------------------

    async def _open(self) -> Any:
        async with self._opening:
            if self._client is None:
                from kubernetes.aio import client, config
                from kubernetes.aio.config import ConfigException

                configuration = client.Configuration()
                try:
                    if self._kubeconfig is None and self._context is None:
                        config.load_incluster_config(client_configuration=configuration)
                    else:
                        raise ConfigException("asked for a kubeconfig")
                except ConfigException:
                    try:
                        await config.load_kube_config(
                            config_file=self._kubeconfig,
                            context=self._context,
                            client_configuration=configuration,
                        )
                    except (ConfigException, OSError) as exc:
                        raise InvalidResource(
                            f"no Kubernetes cluster is configured: {exc}",
                            mend="set KUBECONFIG, or run inside of a cluster with a service account",
                        ) from exc
                self._client = client.ApiClient(configuration)
            return self._client

    async def _request(
        self,
        method: str,
        path: str,
        *,
        body: Json | list[Json] | None = None,
        query: dict[str, str] | None = None,
    ) -> Json:
        import aiohttp

        answer = await self._send(method, path, body=body, query=query)
        try:
            text = (await answer.read()).decode("utf-8", "replace")
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise _unavailable(method, path, exc) from exc
        return json.loads(text) if text else {}

    async def _send(
        self,
        method: str,
        path: str,
        *,
        body: Json | list[Json] | None = None,
        query: dict[str, str] | None = None,
        timeout: Any = TIMEOUT,
    ) -> Any:
        """The answer, its body not read yet. Raises what the API server refuses."""
        import aiohttp

        api = self._client or await self._open()
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
            if method == "PATCH":
                headers["Content-Type"] = _PATCH if isinstance(body, list) else _MERGE
        url = api.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        try:
            for setting in (await api.configuration.auth_settings()).values():
                headers[setting["key"]] = setting["value"]
            answer = await api.call_api(method, url, headers, body, _request_timeout=timeout)
            if answer.status < 300:
                return answer
            text = (await answer.read()).decode("utf-8", "replace")
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise _unavailable(method, path, exc) from exc
        raise refusal(answer.status, text, f"{method} {path}", answer.headers.get("Retry-After", ""))


def _unavailable(method: str, path: str, exc: Exception) -> RemoteUnavailable:
    return RemoteUnavailable(
        f"the API server does not answer {method} {path}: {exc or type(exc).__name__}",
        reason="ApiServerUnavailable",
    )


def refusal(status: int, text: str, what: str, retry_after: str = "") -> SwarmRunError:
    """The error for an answer of the API server that is no success. Pure."""
    try:
        said = json.loads(text)
        message, reason = str(said.get("message") or text), str(said.get("reason") or "")
    except (ValueError, AttributeError):
        message, reason = text.strip()[:500] or f"status {status}", ""
    wait = float(retry_after) if re.fullmatch(r"\d{1,4}", retry_after) else None
    if status == 404:
        return NotFound(message)
    if status == 409 and reason == "AlreadyExists":
        return Conflict(message, reason=reason)
    if status in (409, 429) or status >= 500:
        # 409 Conflict: somebody changed it meanwhile; a quota's bookkeeping gives it when many Pods are made.
        return RemoteUnavailable(
            f"{what}: {message}", retry_after=wait, reason="ApiServerUnavailable" if status != 409 else reason
        )
    if status in (401, 403):
        return PermissionDenied(
            message, reason=forbidden_reason(message) if status == 403 else "Unauthorized"
        )
    return InvalidResource(message, reason=reason)


_FORBIDDEN = (
    (r"exceeded quota|insufficient quota|failed quota", "QuotaExceeded"),
    (r"violates PodSecurity", "PodSecurityDenied"),
    (r"(maximum|minimum) \S+ usage per |limit to request ratio per ", "LimitRangeViolated"),
    (r"RuntimeClass.* not found", "RuntimeClassNotFound"),
    (r"service ?account .*not found", "ServiceAccountNotFound"),
    (r"no PriorityClass with name", "PriorityClassNotFound"),
    (r"is being terminated", "NamespaceTerminating"),
    (r"ValidatingAdmissionPolicy", "PolicyDenied"),
    (r"admission webhook", "WebhookDenied"),
    (r" cannot \S+ resource ", "OperatorNotAllowed"),
)


def forbidden_reason(message: str) -> str:
    """What kind of Forbidden it is: the API server tells them apart by message only (seen on 1.35)."""
    for pattern, reason in _FORBIDDEN:
        if re.search(pattern, message, re.IGNORECASE):
            return reason
    return "Forbidden"
