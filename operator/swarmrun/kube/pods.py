"""The Pods of runs, as a watch tells them: a look at one that is starting costs the API server nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection
from typing import Any

from swarmrun.errors import NotFound, RemoteUnavailable, SwarmRunError
from swarmrun.kube.api import TIMEOUT, WATCH_SECONDS, KubeApi

Json = dict[str, Any]

SELECTOR = "app.kubernetes.io/managed-by=swarmrun"
FRESH = 5.0
"""Seconds since the watch last told anything for which it is believed. A Pod that starts is told of every few hundred
milliseconds; of a watch that was dropped on the way nobody is told. A choice."""
AGAIN = 2.0
"""Seconds after a watch that could not be had."""

log = logging.getLogger("swarmrun.kube")


class Pods:
    """`namespaces`: those that runs live in; empty: all of the cluster. On the event loop of `api`.

    What it says may be some milliseconds old, but never older than what this process has made itself (`made`). Where
    nothing was told for a while, or no watch is there, the API server is asked.
    """

    def __init__(self, api: KubeApi, namespaces: Collection[str] = ()) -> None:
        self._api = api
        self._scopes = tuple(namespaces) or ("",)
        self._known: dict[tuple[str, str], Json] = {}
        self._told_at: dict[str, float] = {}
        """By scope; absent while its watch is not there."""
        self._following: list[asyncio.Task[None]] = []

    async def get(self, namespace: str, name: str) -> Json:
        """Raises NotFound, and what `KubeApi.get` raises."""
        if not self._following:
            self._following = [asyncio.create_task(self._follow(scope)) for scope in self._scopes]
        if not self._fresh(namespace):
            return await self._api.get(f"/api/v1/namespaces/{namespace}/pods/{name}")
        return self._last(namespace, name)

    def heard(self, namespace: str, name: str) -> Json:
        """What the watch told last, however long ago; nothing is asked. Raises NotFound where it told of none, and
        RemoteUnavailable where no watch is there."""
        if self._scope(namespace) not in self._told_at:
            raise RemoteUnavailable("the watch of Pods is not there")
        return self._last(namespace, name)

    def made(self, pod: Json) -> None:
        """The API server's answer to its making."""
        key = _key(pod)
        if key not in self._known or _version(self._known[key]) < _version(pod):
            self._known[key] = pod

    async def close(self) -> None:
        for task in self._following:
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)
        self._following = []

    # ------------------------------------------------------------

    def _last(self, namespace: str, name: str) -> Json:
        try:
            return self._known[namespace, name]
        except KeyError:
            raise NotFound(f"Pod {name} is not there") from None

    def _scope(self, namespace: str) -> str:
        return "" if self._scopes == ("",) else namespace

    def _fresh(self, namespace: str) -> bool:
        told_at = self._told_at.get(self._scope(namespace))
        return told_at is not None and time.monotonic() - told_at < FRESH

    async def _follow(self, scope: str) -> None:
        path = f"/api/v1/namespaces/{scope}/pods" if scope else "/api/v1/pods"
        while True:
            try:
                await self._follow_once(scope, path)
            except SwarmRunError as exc:
                log.info("the watch of Pods in %s: %s", scope or "all namespaces", exc)
                await asyncio.sleep(AGAIN)
            except Exception:
                log.exception("the watch of Pods in %s", scope or "all namespaces")
                await asyncio.sleep(AGAIN)

    async def _follow_once(self, scope: str, path: str) -> None:
        try:
            listed = await self._api.get(path, labelSelector=SELECTOR)
            self._fill(scope, listed)
            since = listed["metadata"]["resourceVersion"]
            async with asyncio.timeout(WATCH_SECONDS + TIMEOUT):  # one that was dropped never ends
                async for event in self._api.watch(path, labelSelector=SELECTOR, resourceVersion=since):
                    self._take(event)
                    self._told_at[scope] = time.monotonic()
        except TimeoutError:
            return
        finally:
            self._told_at.pop(scope, None)

    def _fill(self, scope: str, listed: Json) -> None:
        """Replaces what is known of a scope, but for what was made after the list."""
        then = _version(listed)
        for key in [k for k, pod in self._known.items() if scope in ("", k[0]) and _version(pod) <= then]:
            del self._known[key]
        for pod in listed.get("items") or []:
            self.made(pod)
        self._told_at[scope] = time.monotonic()

    def _take(self, event: Json) -> None:
        pod = event["object"]
        if event["type"] == "DELETED":
            last = self._known.get(_key(pod)) or pod
            if last["metadata"].get("uid") == pod["metadata"].get("uid"):  # not the next one of its name
                self._known.pop(_key(pod), None)
        elif event["type"] in ("ADDED", "MODIFIED"):
            self._known[_key(pod)] = pod


def _key(pod: Json) -> tuple[str, str]:
    return pod["metadata"]["namespace"], pod["metadata"]["name"]


def _version(it: Json) -> int:
    """Resource versions of one kind are ordered numbers (promised since Kubernetes 1.35, so before it in practice)."""
    text = str(it["metadata"].get("resourceVersion", ""))
    return int(text) if text.isdigit() else 0
