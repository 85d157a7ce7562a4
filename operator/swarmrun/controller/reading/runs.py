"""The run that a resource's name stands for, with its store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from swarmrun.api import GROUP, VERSION
from swarmrun.api.status import SwarmRunStatus
from swarmrun.artifacts.store import Artifacts, open_store
from swarmrun.controller.wanted import instance_of, uid_of
from swarmrun.errors import InvalidResource, NotFound, PermissionDenied
from swarmrun.kube.api import KubeApi


@dataclass(frozen=True)
class ReadRun:
    namespace: str
    name: str
    instance: str
    status: SwarmRunStatus
    """Of the resource; of an earlier attempt nothing stands there but the plan's and agents' present names."""
    store: Artifacts
    """Of this run alone."""


class ReadRuns:
    """`artifacts` is the URL of the store of all runs (see `controller.worlds`)."""

    def __init__(self, api: KubeApi, artifacts: str) -> None:
        self._api = api
        self._artifacts = artifacts.rstrip("/")

    async def find(self, namespace: str, name: str, attempt: int | None = None) -> ReadRun:
        """`attempt`: of the run, default the one that the status speaks of. Raises NotFound; blocking calls of the
        store are left to the caller."""
        try:
            body = await self._api.get(f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/swarmruns/{name}")
        except PermissionDenied as exc:
            raise NotFound(
                f"this operator does not work on namespace {namespace}", mend="ask the one that does"
            ) from exc
        status = _status(body)
        uid = body["metadata"]["uid"]
        # The status can be written by whoever has that right: it must not name another resource's run.
        begun = status.run if uid_of(status.run) == uid else ""
        if not begun:
            raise NotFound(f"run {name} has not begun")
        instance = begun if attempt is None else instance_of(uid, attempt)
        return ReadRun(namespace, name, instance, status, self._store(name, instance))

    def earlier(self, run: ReadRun) -> Iterator[ReadRun]:
        """The attempts before this one of which anything is stored, the last first. Blocking."""
        for attempt in range(int(run.instance.rpartition("-")[2]) - 1, 0, -1):
            instance = instance_of(uid_of(run.instance), attempt)
            with suppress(NotFound):
                yield replace(run, instance=instance, store=self._store(run.name, instance))

    def _store(self, name: str, instance: str) -> Artifacts:
        url = f"{self._artifacts}/runs/{instance}"
        parts = urlsplit(url)
        # Opening a directory would make it.
        if parts.scheme == "file" and not Path(unquote(parts.path)).is_dir():
            raise NotFound(
                f"nothing is stored of run {name}: it has not begun, or was removed after its time",
                mend="spec.ttlSecondsAfterFinished says how long it is kept",
            )
        return open_store(url)


def _status(body: dict[str, Any]) -> SwarmRunStatus:
    try:
        return SwarmRunStatus.model_validate(body.get("status") or {}, by_alias=True)
    except ValidationError as exc:
        raise InvalidResource(f"the status of {body['metadata']['name']} cannot be read") from exc
