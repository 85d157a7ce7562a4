"""The operator's read interface as its client sees it: a token of our own, the API server's service proxy.

The token goes to the Service that was named, else to the default one, and to no other: labels of a Service are its
namespace's editors' to choose, and a stranger could read the runs of our namespace with it for as long as it lives.
"""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import quote

from swarmrun.api.reading import ACCOUNT, AUDIENCE, PORT, SERVED, SERVICE, TOKEN, run_path
from swarmrun.errors import (
    InvalidResource,
    NotFound,
    PermissionDenied,
    RemoteUnavailable,
    SwarmRunError,
)
from swarmrun.kube.api import Answer, KubeApi, refusal

TOKEN_SECONDS = 600
"""The shortest that Kubernetes gives out."""
PATIENCE = 120.0
"""Seconds for one answer: a first diff fills a repository. A choice."""
WAIT = 20
"""Seconds that one request asks to wait for more."""
_SELECTOR = "app.kubernetes.io/name=swarmrun-operator,app.kubernetes.io/component=read"
_SHOWN = "5"
"""Services that are named at most. A choice."""

Json = dict[str, Any]


class Reader:
    """Of runs in one namespace. Calls raise PermissionDenied, NotFound, RemoteUnavailable, InvalidResource, each
    saying what is missing and whom to ask for it."""

    def __init__(self, api: KubeApi, namespace: str, service: str = "") -> None:
        self._api = api
        self._namespace = namespace
        self._service = service or SERVICE
        self._token = ("", 0.0)

    async def transcript(self, run: str, *, task: str = "", after: str = "", wait: int = 0) -> Json:
        """`{entries, more, ended, kept}`; see `controller.reading.server`."""
        query = {"task": task, "after": after, "wait": str(wait) if wait else ""}
        return json.loads((await self._get(run, "/transcript", query)).body)

    async def diff(self, run: str, task: str, *, stat: bool) -> str:
        query = {"task": task, "stat": "true" if stat else ""}
        return (await self._get(run, "/diff", query)).body.decode("utf-8", "replace")

    async def artifact(self, run: str, key: str) -> bytes:
        return (await self._get(run, f"/artifacts/{quote(key)}", {})).body

    # ------------------------------------------------------------

    async def _get(self, run: str, what: str, query: dict[str, str]) -> Answer:
        token = await self._fresh_token()
        path = run_path(self._namespace, run) + what
        given = {k: v for k, v in query.items() if v}
        answer = await self._ask(path, token, given)
        if not _is_ours(answer):
            raise await self._not_reached(answer)
        if answer.status >= 300:
            raise _said(answer)
        return answer

    async def _ask(self, path: str, token: str, query: dict[str, str]) -> Answer:
        namespace, _, name = self._service.partition("/")
        if not namespace or not name or "/" in name:
            raise InvalidResource(
                f"--operator {self._service!r} is not NAMESPACE/SERVICE", field="--operator"
            )
        proxy = f"/api/v1/namespaces/{namespace}/services/http:{name}:{PORT}/proxy"
        return await self._api.read(proxy + path, headers={TOKEN: token}, timeout=PATIENCE, **query)

    async def _looks_like_it(self) -> str:
        """Services with the chart's labels, for who may list them: to be named, never to be asked."""
        try:
            found = await self._api.get("/api/v1/services", labelSelector=_SELECTOR, limit=_SHOWN)
        except SwarmRunError:
            return ""
        seen = [f"{s['metadata']['namespace']}/{s['metadata']['name']}" for s in found.get("items", [])]
        others = [service for service in seen if service != self._service]
        if not others:
            return ""
        return (
            f". Labelled as one, which everybody can do who may make Services: {', '.join(others)}. "
            f"If you know it as your operator's: export SWARMRUN_OPERATOR={others[0]}"
        )

    async def _not_reached(self, answer: Answer) -> SwarmRunError:
        service = self._service
        namespace = service.partition("/")[0]
        said = refusal(answer.status, answer.body.decode("utf-8", "replace"), f"service {service}")
        name_it = "name the operator's: --operator NAMESPACE/SERVICE or SWARMRUN_OPERATOR"
        if isinstance(said, PermissionDenied | NotFound):
            name_it += await self._looks_like_it()
        if isinstance(said, PermissionDenied):
            return PermissionDenied(
                f"the operator's read interface cannot be reached: {said.message}",
                mend=f"ask for the verb `get` on services/proxy in namespace {namespace} (the chart's "
                f"readInterface.groups gives it), or {name_it}",
                reason="Forbidden",
            )
        if isinstance(said, NotFound):
            return NotFound(
                f"no read interface of an operator at {service}: {said.message}",
                mend=f"the chart's readInterface.enabled makes it; or {name_it}",
                reason="NoReadInterface",
            )
        return RemoteUnavailable(
            f"the operator's read interface does not answer: {said.message}",
            mend=f"is its Pod running? kubectl -n {namespace} get pods",
            reason="ReadInterfaceUnavailable",
        )

    # ------------------------------------------------------------ the token

    async def _fresh_token(self) -> str:
        token, until = self._token
        if time.monotonic() > until:
            token = await self._request()
            self._token = (token, time.monotonic() + 0.8 * TOKEN_SECONDS)
        return token

    async def _request(self) -> str:
        """For oneself where one is a ServiceAccount and may, else for the namespace's reader."""
        asked = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [AUDIENCE], "expirationSeconds": TOKEN_SECONDS},
        }
        refused: list[str] = []
        for namespace, name in [*await self._myself(), (self._namespace, ACCOUNT)]:
            try:
                path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
                return (await self._api.create(path, asked))["status"]["token"]
            except (PermissionDenied, NotFound) as exc:
                refused.append(f"{namespace}/{name}: {exc.message}")
        where = self._namespace
        raise PermissionDenied(
            "what the operator stored cannot be read without a token for it, and none can be had: "
            + "; ".join(refused),
            mend=f"ask an administrator of namespace {where} for\n"
            f"    kubectl -n {where} create serviceaccount {ACCOUNT}\n"
            f"    kubectl -n {where} create rolebinding {ACCOUNT} --clusterrole={ACCOUNT} "
            f"--serviceaccount={where}:{ACCOUNT}\n"
            f"  and for the verb `create` on serviceaccounts/token of it (in the roles view and edit, by the chart)",
            reason="NoToken",
        )

    async def _myself(self) -> list[tuple[str, str]]:
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        try:
            said = await self._api.create("/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
        except SwarmRunError:
            return []
        parts = said.get("status", {}).get("userInfo", {}).get("username", "").split(":")
        return [(parts[2], parts[3])] if parts[:2] == ["system", "serviceaccount"] and len(parts) == 4 else []


def _is_ours(answer: Answer) -> bool:
    return any(name.lower() == SERVED.lower() for name in answer.headers)


def _said(answer: Answer) -> SwarmRunError:
    """The error that the read interface told."""
    try:
        error = json.loads(answer.body)["error"]
        reason, message, mend = (str(error.get(k) or "") for k in ("reason", "message", "mend"))
    except (ValueError, KeyError, AttributeError, TypeError):
        reason, message, mend = "", f"status {answer.status}", ""
    kinds: dict[int, type[SwarmRunError]] = {
        400: InvalidResource,
        401: PermissionDenied,
        403: PermissionDenied,
        404: NotFound,
    }
    return kinds.get(answer.status, RemoteUnavailable)(
        f"the operator says: {message}", mend=mend, reason=reason
    )
