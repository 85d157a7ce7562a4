"""The Kubernetes API with plain dictionaries in and out, its refusals translated.

`kubernetes.aio` finds the cluster (inside one: the service account, re-read as it is rotated; outside: the
kubeconfig with its plug-ins) and speaks TLS. Its models are not used: they cost more than they give here.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
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
from swarmrun.kube.mends import mend_of
from swarmrun.observability.metrics import KUBERNETES_REQUESTS

Json = dict[str, Any]

TIMEOUT = 15.0
"""Seconds for one request (arbitrary; an API server that needs longer is in trouble)."""

WATCH_SECONDS = 240
"""After which the API server ends a watch: through a load balancer one may be dropped without a word. A choice."""

_MERGE = "application/merge-patch+json"
_PATCH = "application/json-patch+json"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class KubeApi:
    """One cluster. Bound to the event loop of its first request; `close` ends its connections.

    `own_rights`: what is asked is what the operator's chart grants, so that an answer which denies it is an outage.
    An API server that was just started denies everything until it has read the roles (seen on 1.35: two seconds); a
    right that is truly missing is said meanwhile, and work goes on when it is there.

    Every call raises RemoteUnavailable (`ApiServerUnavailable`), PermissionDenied, NotFound, Conflict (reason
    `AlreadyExists` when the name is taken) or InvalidResource. Messages are the API server's own.
    """

    def __init__(
        self, *, kubeconfig: str | None = None, context: str | None = None, own_rights: bool = False
    ) -> None:
        self._kubeconfig, self._context, self._own_rights = kubeconfig, context, own_rights
        self._client: Any = None
        self._opening = asyncio.Lock()

    async def get(self, path: str, **query: str) -> Json:
        return await self._request("GET", path, query=query)

    async def read(
        self, path: str, *, headers: dict[str, str] | None = None, timeout: float = TIMEOUT, **query: str
    ) -> Answer:
        """GET of something that is no resource, e.g. through a proxy: whatever status came. `timeout` in seconds.
        Raises RemoteUnavailable only."""
        answer = await self._send("GET", path, query=query, headers=headers, timeout=timeout)
        try:
            return Answer(answer.status, dict(answer.headers), await answer.read())
        except _network() as exc:
            raise _silent("GET", path, exc) from exc

    async def lines(self, path: str, **query: str) -> AsyncIterator[str]:
        """GET of a text as it grows, line by line, until the other side ends it."""
        answer = await self._send("GET", path, query=query, headers={"Accept": "*/*"}, timeout=None)
        try:
            if answer.status >= 300:
                text = (await answer.read()).decode("utf-8", "replace")
                raise self._refusal(answer.status, text, f"GET {path}")
            rest = b""
            async for chunk in answer.response.content.iter_any():
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    yield line.decode("utf-8", "replace")
            if rest:
                yield rest.decode("utf-8", "replace")
        except _network() as exc:
            raise _silent("GET", path, exc) from exc
        finally:
            answer.response.close()

    async def watch(self, path: str, **query: str) -> AsyncIterator[Json]:
        """What changes in a collection, as `{"type", "object"}`, until the API server ends it (after minutes).

        InvalidResource (reason `Expired`) where `resourceVersion` is too old.
        """
        asked = {**query, "watch": "true", "timeoutSeconds": str(WATCH_SECONDS)}
        async for line in self.lines(path, **asked):
            event = json.loads(line)
            if event["type"] == "ERROR":
                status = event["object"]
                raise self._refusal(int(status.get("code") or 500), json.dumps(status), f"watch {path}")
            yield event

    async def create(self, path: str, body: Json) -> Json:
        """POST of an object to its collection."""
        return await self._request("POST", path, body=body)

    async def merge(self, path: str, body: Json, **query: str) -> Json:
        """JSON merge patch (RFC 7386)."""
        return await self._request("PATCH", path, body=body, query=query)

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
        answer = await self._send(method, path, body=body, query=query)
        try:
            text = (await answer.read()).decode("utf-8", "replace")
        except _network() as exc:
            raise _silent(method, path, exc) from exc
        if answer.status >= 300:
            raise self._refusal(
                answer.status, text, f"{method} {path}", answer.headers.get("Retry-After", "")
            )
        return json.loads(text) if text else {}

    def _refusal(self, status: int, text: str, what: str, retry_after: str = "") -> SwarmRunError:
        exc = refusal(status, text, what, retry_after)
        if self._own_rights and isinstance(exc, PermissionDenied) and exc.reason in NO_RIGHT:
            return RemoteUnavailable(exc.message, reason=exc.reason, mend=mend_of(exc.reason))
        return exc

    async def _send(
        self,
        method: str,
        path: str,
        *,
        body: Json | list[Json] | None = None,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        timeout: float | None = TIMEOUT,
    ) -> Any:
        """The client's answer, its body not read yet. `timeout` None: as long as the other side says something."""
        import aiohttp

        api = self._client or await self._open()
        headers = {"Accept": "application/json", **(headers or {})}
        if body is not None:
            headers["Content-Type"] = "application/json"
            if method == "PATCH":
                headers["Content-Type"] = _PATCH if isinstance(body, list) else _MERGE
        url = api.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        verb, resource = asked(method, path, query or {})
        code = 0
        try:
            for setting in (await api.configuration.auth_settings()).values():
                headers[setting["key"]] = setting["value"]
            patience = aiohttp.ClientTimeout(total=timeout, connect=TIMEOUT)
            answer = await api.call_api(method, url, headers, body, _request_timeout=patience)
            code = answer.status
            return answer
        except _network() as exc:
            raise _silent(method, path, exc) from exc
        finally:
            KUBERNETES_REQUESTS.labels(verb, resource, str(code)).inc()


NO_RIGHT = ("OperatorNotAllowed", "Unauthorized")
"""Reasons of an answer that denies who asks, not what is asked."""
_NOT_YET = re.compile(r"not yet ready to handle request|status unknown for quota")
"""What admission says, as Forbidden, in an API server that was just started, and of a quota that was just made."""
NO_ACCOUNT = "ServiceAccountNotFound"
"""Reason: the namespace has no such service account."""


def _network() -> tuple[type[BaseException], ...]:
    """What a connection that does not work raises."""
    import aiohttp

    return aiohttp.ClientError, TimeoutError, OSError


def _silent(method: str, path: str, exc: BaseException) -> RemoteUnavailable:
    return RemoteUnavailable(
        f"the API server does not answer {method} {path}: {exc or type(exc).__name__}",
        reason="ApiServerUnavailable",
    )


_RESOURCE = re.compile(
    r"/(?:api|apis/[^/]+)/[^/]+(?:/namespaces/[^/]+(?=/))?/([a-z]+)(/[^/]+)?((?:/[a-z]+)?)"
)


def asked(method: str, path: str, query: Mapping[str, str]) -> tuple[str, str]:
    """A request as RBAC names it: (verb, resource with its subresource). Pure."""
    found = _RESOURCE.fullmatch(path)
    resource, name, sub = found.groups() if found else ("other", None, "")
    verbs = {"POST": "create", "PATCH": "patch", "PUT": "update"}
    if method == "GET":
        verb = "get" if name else "watch" if query.get("watch") else "list"
    elif method == "DELETE":
        verb = "delete" if name else "deletecollection"
    else:
        verb = verbs.get(method, method.lower())
    return verb, f"{resource}{sub}"


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
    if status in (409, 429) or status >= 500 or (status == 403 and _NOT_YET.search(message)):
        # 409 Conflict: somebody changed it meanwhile; a quota's bookkeeping gives it when many Pods are made.
        return RemoteUnavailable(
            f"{what}: {message}", retry_after=wait, reason=reason if status == 409 else "ApiServerUnavailable"
        )
    admission = _ADMISSION.search(message) is not None
    if status in (401, 403) or admission:
        known = status == 403 or admission
        return PermissionDenied(message, reason=forbidden_reason(message) if known else "Unauthorized")
    return InvalidResource(message, reason=reason)


_ADMISSION = re.compile(r"ValidatingAdmissionPolicy '|admission webhook \"")
"""Whoever writes a policy or webhook chooses the status: 422 (Invalid) where a policy names none."""

_FORBIDDEN = (
    # What the chart's own policies say (charts/swarmrun/templates/policies.yaml), then by whom they are.
    (r"is not labelled swarmrun\.dev/git-credential=true", "SecretNotLabelled"),
    (r"is not for host .* annotation swarmrun\.dev/allowed-hosts", "SecretHostNotAllowed"),
    (r"spec\.repository\.url names its host in a way that", "RepositoryNotAllowed"),
    (r"ValidatingAdmissionPolicy '\S*swarmrun\S*-(pods|objects|deletions)'", "OwnPolicyDenied"),
    (r"exceeded quota|insufficient quota|failed quota", "QuotaExceeded"),
    (r"violates PodSecurity", "PodSecurityDenied"),
    (r"(maximum|minimum) \S+ usage per |limit to request ratio per ", "LimitRangeViolated"),
    (r"RuntimeClass.* not found", "RuntimeClassNotFound"),
    (r"service ?account .*not found", NO_ACCOUNT),
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
