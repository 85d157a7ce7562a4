"""SwarmRuns of one namespace over the API server, and its refusals in words that help."""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from swarmrun.api import GROUP, VERSION
from swarmrun.api.run import SwarmRun
from swarmrun.api.served import first_problem, served
from swarmrun.cli.kubectl.reader import Reader
from swarmrun.errors import InvalidResource, NotFound, PermissionDenied, SwarmRunError
from swarmrun.kube.api import KubeApi

PAGE = 200
MANAGER = "kubectl-swarm"
"""Stands in `managedFields` for what verbs wrote."""

Json = dict[str, Any]


class Cluster:
    """On one event loop. Every call raises what `KubeApi`'s do."""

    def __init__(self, api: KubeApi, namespace: str, operator: str = "") -> None:
        self.api = api
        self.namespace = namespace
        self._operator = operator

    @cached_property
    def reader(self) -> Reader:
        return Reader(self.api, self.namespace, self._operator)

    async def bodies(self, *, everywhere: bool = False) -> list[Json]:
        path, found = _runs("" if everywhere else self.namespace), list[Json]()
        more = {"limit": str(PAGE)}
        while True:
            try:
                page = await self.api.get(path, **more)
            except NotFound as exc:
                raise NotFound(
                    "this cluster knows no SwarmRuns",
                    mend="install the operator: helm install swarmrun charts/swarmrun -n swarmrun-system",
                ) from exc
            found += [_tidy(item) for item in page.get("items", [])]
            if not (token := page.get("metadata", {}).get("continue", "")):
                return found
            more["continue"] = token

    async def body(self, name: str) -> Json:
        """Raises NotFound that names the nearest."""
        try:
            return _tidy(await self.api.get(f"{_runs(self.namespace)}/{name}"))
        except NotFound as exc:
            names = await self._names()
            near = get_close_matches(name, names, 1)
            known = (
                f"known: {', '.join(names[:10])}"
                if names
                else "there is none in this namespace; -n names another"
            )
            mend = f"did you mean {near[0]}?" if near else known
            raise NotFound(f"no run {name!r} in namespace {self.namespace}", mend=mend) from exc

    async def _names(self) -> list[str]:
        try:
            return [body["metadata"]["name"] for body in await self.bodies()]
        except PermissionDenied:
            return []

    async def run(self, name: str) -> SwarmRun:
        return parsed(await self.body(name))

    async def annotate(self, run: SwarmRun, annotations: dict[str, str | None]) -> SwarmRun:
        """In one patch, of exactly this resource and not of a namesake; None removes."""
        meta = {"uid": run.metadata.uid, "annotations": annotations}
        path = f"{_runs(run.metadata.namespace)}/{run.metadata.name}"
        return parsed(await self.api.merge(path, {"metadata": meta}, fieldManager=MANAGER))


def _runs(namespace: str) -> str:
    within = f"/namespaces/{namespace}" if namespace else ""
    return f"/apis/{GROUP}/{VERSION}{within}/swarmruns"


def _tidy(body: Json) -> Json:
    body.get("metadata", {}).pop("managedFields", None)
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": "SwarmRun", **body}


def parsed(body: Json) -> SwarmRun:
    """Raises InvalidResource."""
    try:
        return served(SwarmRun, body)
    except ValidationError as exc:
        raise InvalidResource(
            f"{body['metadata']['name']}: {first_problem(exc)}",
            mend="this program may be older than the cluster's CRDs; `kubectl get -o yaml` shows it",
        ) from exc


_CANNOT = re.compile(
    r'cannot (?P<verb>\S+) resource "(?P<what>\S+)" in API group "(?P<group>\S*)"'
    r'(?: in the namespace "(?P<namespace>\S+)"| at the cluster scope)?'
)


def explained(exc: PermissionDenied) -> SwarmRunError:
    """Which right is missing, where the API server's words tell."""
    if exc.mend:
        return exc
    if exc.reason == "Unauthorized":
        return PermissionDenied(
            f"the API server does not know you: {exc.message}", mend="log in again", reason=exc.reason
        )
    if exc.reason == "PolicyDenied" and "verb approve" in exc.message:
        return PermissionDenied(
            "approving, rejecting and taking back a rejection need a right of their own",
            mend=f"ask for the verb `approve` on swarmruns.{GROUP} in this namespace (ClusterRole swarmrun-approve)",
            reason="Forbidden",
        )
    found = _CANNOT.search(exc.message)
    if found is None:
        return exc
    what = found["what"] + (f".{found['group']}" if found["group"] else "")
    where = f"in namespace {found['namespace']}" if found["namespace"] else "in all namespaces"
    return PermissionDenied(
        exc.message, mend=f"ask for the verb `{found['verb']}` on {what} {where}", reason="Forbidden"
    )
