"""Pods of runs that have ended. A run gives its Pods back at its end; the API server may have been away just then, or
one was being made at that very moment. Nobody else would look for them as long as the resource is there."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from swarmrun.errors import SwarmRunError
from swarmrun.kube import names
from swarmrun.kube.api import KubeApi
from swarmrun.kube.pods import SELECTOR

log = logging.getLogger("swarmrun.controller")


class LeftPods:
    """On the event loop of `api`."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api
        self._seen: set[str] = set()
        """Ended, and looked for before."""
        self._clear: set[str] = set()
        """Of these none is left, and none comes any more."""

    async def remove(self, ended: Mapping[str, str]) -> None:
        """`ended`: instances of runs, each with its namespace. What cannot be removed now is looked for again."""
        self._clear &= ended.keys()
        asked = {instance: place for instance, place in ended.items() if instance not in self._clear}
        for namespace in sorted({*asked.values()}):
            mine = {names.label_value(i): i for i, place in asked.items() if place == namespace}
            try:
                left = await self._remove(namespace, mine)
            except SwarmRunError as exc:
                log.info("Pods of ended runs in %s: %s", namespace, exc)
                continue
            # Twice: one that was being made when its run ended comes a moment later.
            self._clear |= {i for i in mine.values() if i in self._seen and i not in left}
            self._seen |= {*mine.values()}
        self._seen &= ended.keys() - self._clear

    async def _remove(self, namespace: str, mine: Mapping[str, str]) -> set[str]:
        path = f"/api/v1/namespaces/{namespace}/pods"
        left: set[str] = set()
        for pod in (await self._api.get(path, labelSelector=SELECTOR)).get("items") or []:
            meta = pod["metadata"]
            instance = mine.get((meta.get("labels") or {}).get(names.INSTANCE, ""))
            if instance is None:
                continue
            left.add(instance)
            if "deletionTimestamp" not in meta:
                log.info("run %s has ended: removing its Pod %s", instance, meta["name"])
                await self._api.delete(f"{path}/{meta['name']}")
        return left
