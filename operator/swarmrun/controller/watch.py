"""The watch, by Kopf: shows resources and classes to the attendants, and answers the probe.

Only `on.event` handlers: nothing of Kopf's is ever written to a resource, no finalizer, no annotation.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import kopf
from kopf._core.engines.peering import Identity

from swarmrun.api import GROUP
from swarmrun.controller import volume
from swarmrun.controller.attend import Attendants
from swarmrun.controller.settings import OperatorSettings
from swarmrun.controller.sweep import Sweep


def registry(attendants: Attendants, sweep: Sweep, settings: OperatorSettings) -> kopf.OperatorRegistry:
    made = kopf.OperatorRegistry()

    @kopf.on.startup(registry=made)
    async def begin(settings: kopf.OperatorSettings, **_: Any) -> None:
        # Through a load balancer an idle watch may be dropped without a word.
        settings.watching.server_timeout = 300
        settings.watching.client_timeout = 330
        settings.watching.connect_timeout = 10
        settings.posting.enabled = False

    @kopf.on.login(registry=made)
    async def log_in(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.event(GROUP, "swarmclasses", registry=made)
    async def shown_class(type: str | None, body: kopf.Body, **_: Any) -> None:
        attendants.see_class(plain(body), deleted=type == "DELETED")

    @kopf.on.event(GROUP, "swarmruns", registry=made)
    async def shown_run(type: str | None, body: kopf.Body, **_: Any) -> None:
        attendants.see_run(plain(body), deleted=type == "DELETED")

    @kopf.on.probe(id="watch", registry=made)
    async def hears(**_: Any) -> str:
        if sweep.deaf:
            raise RuntimeError(sweep.deaf)
        return "hears"

    @kopf.on.probe(id="sweep", registry=made)
    async def works(**_: Any) -> int:
        age = round(time.monotonic() - sweep.done_at)
        if age > settings.stale:
            # Of no use: API server or engine do not answer it.
            raise RuntimeError(f"no sweep has ended well for {age} s")
        return age

    @kopf.on.probe(id="volume", registry=made)
    async def has_room(**_: Any) -> Mapping[str, Any]:
        return await attendants.on_thread(volume.look, settings.state)

    return made


def plain(body: Mapping[str, Any]) -> dict[str, Any]:
    """A copy that later events do not change, without what nobody here looks at."""
    meta = {k: v for k, v in body["metadata"].items() if k != "managedFields"}
    return {**body, "metadata": meta}


async def watch(
    made: kopf.OperatorRegistry,
    *,
    identity: str,
    namespaces: tuple[str, ...],
    port: int,
    stop: asyncio.Event,
) -> None:
    """Until `stop`, SIGTERM or SIGINT."""
    await kopf.operator(
        registry=made,
        # Kopf's own guess asks for the user's name, which a Pod's uid need not have.
        identity=Identity(identity),
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
        liveness_endpoint=f"http://0.0.0.0:{port}/healthz",
        stop_flag=stop,
    )
