"""The watch, by Kopf: shows resources and classes to the attendants.

Only `on.event` handlers: nothing of Kopf's is ever written to a resource, no finalizer, no annotation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import kopf
from kopf._core.engines.peering import Identity

from swarmrun.api import GROUP
from swarmrun.controller.attend import Attendants


def registry(attendants: Attendants) -> kopf.OperatorRegistry:
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
    begun: asyncio.Event,
    stop: asyncio.Event,
) -> None:
    """Until `stop`, SIGTERM or SIGINT. Sets `begun` when it watches."""
    await kopf.operator(
        registry=made,
        # Kopf's own guess asks for the user's name, which a Pod's uid need not have.
        identity=Identity(identity),
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
        ready_flag=begun,
        stop_flag=stop,
    )
