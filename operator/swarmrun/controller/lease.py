"""A Lease that one controller holds while it works; another takes it over when its holder has gone silent.

The rules are client-go's (`leaderelection`): the holder renews, others compare what they see with their own clock
only, and a holder that cannot renew in time stops before anybody else may begin.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Any

from swarmrun.errors import Conflict, NotFound, RemoteUnavailable, SwarmRunError
from swarmrun.kube.api import KubeApi

HELD_SECONDS = 15
RENEW_SECONDS = 2.0
GIVE_UP_SECONDS = 10.0
"""client-go's own numbers: lease 15 s, renewal every 2 s, the holder gives up after 10 s without one."""

log = logging.getLogger("swarmrun.controller")


class Lease:
    def __init__(self, api: KubeApi, namespace: str, name: str, identity: str) -> None:
        self._api = api
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._name = name
        self._identity = identity
        self._seen: tuple[Any, ...] = ()
        self._seen_at = 0.0

    async def acquire(self) -> None:
        """Waits until it is held."""
        told = False
        while not await self._tried():
            if not told:
                log.info("lease %s is held by another; waiting", self._name)
                told = True
            await asyncio.sleep(RENEW_SECONDS)
        log.info("lease %s is held by %s", self._name, self._identity)

    async def keep(self, lost: asyncio.Event) -> None:
        """Renews for ever; sets `lost` and returns when it is lost, or could not be renewed in time."""
        renewed = time.monotonic()
        while time.monotonic() - renewed < GIVE_UP_SECONDS:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                if not await asyncio.wait_for(self._try(), GIVE_UP_SECONDS / 2):
                    break
                renewed = time.monotonic()
            except (SwarmRunError, TimeoutError) as exc:
                log.warning("lease %s could not be renewed: %s", self._name, exc)
        log.error("lease %s is lost", self._name)
        lost.set()

    async def release(self) -> None:
        """Lets another begin at once."""
        try:
            lease = await self._api.get(f"{self._path}/{self._name}")
            if lease["spec"].get("holderIdentity") == self._identity:
                lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                await self._api.replace(f"{self._path}/{self._name}", lease)
        except SwarmRunError as exc:
            log.info("lease %s was not given back: %s", self._name, exc)

    async def _tried(self) -> bool:
        try:
            return await self._try()
        except SwarmRunError as exc:
            log.warning("lease %s: %s", self._name, exc)
            return False

    async def _try(self) -> bool:
        """Takes or renews it. False while another holds it, or was faster. Raises what the API server says."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        mine = {"holderIdentity": self._identity, "leaseDurationSeconds": HELD_SECONDS, "renewTime": now}
        try:
            try:
                lease = await self._api.get(f"{self._path}/{self._name}")
            except NotFound:
                spec: dict[str, Any] = {**mine, "acquireTime": now, "leaseTransitions": 0}
                await self._api.create(self._path, {"metadata": {"name": self._name}, "spec": spec})
                return True
            spec = lease.get("spec") or {}
            holder = spec.get("holderIdentity") or ""
            if holder != self._identity:
                if holder and not self._silent(spec):
                    return False
                spec |= {"acquireTime": now, "leaseTransitions": int(spec.get("leaseTransitions") or 0) + 1}
            await self._api.replace(f"{self._path}/{self._name}", lease | {"spec": {**spec, **mine}})
        except Conflict:
            return False
        except RemoteUnavailable as exc:
            if exc.reason != "Conflict":
                raise
            return False
        return True

    def _silent(self, spec: dict[str, Any]) -> bool:
        """Whether the holder has not renewed for its time, by our own clock since we saw it last."""
        seen = (spec.get("holderIdentity"), spec.get("renewTime"), spec.get("leaseTransitions"))
        if seen != self._seen:
            self._seen, self._seen_at = seen, time.monotonic()
        return time.monotonic() - self._seen_at > int(spec.get("leaseDurationSeconds") or HELD_SECONDS)
