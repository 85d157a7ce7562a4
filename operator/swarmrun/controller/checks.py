"""`swarmrun-operator --check`: does this installation work? Run by the chart's test, as `helm test` wants it.

| check | where it runs | what it looks at |
| --- | --- | --- |
| `operator` | as the workers run | API server, rights and CRDs; the controller hears and sweeps |
| `engine` | as the workers run | the embedded engine answers its controller; the scheduler answers this identity |
| `storage` | as the workers run | the operator's volume; the artifact store, written and read with this identity |
| `models` | as the workers run | every tier of every SwarmClass answers one small, paid question |
| `network` | in a Pod with everything denied | nothing forbidden answers, as in a sandbox |
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from swarmrun.api import GROUP, VERSION
from swarmrun.api.resolve import check_namespace
from swarmrun.api.swarmclass import SwarmClass
from swarmrun.artifacts.store import open_store
from swarmrun.controller import classes, closed
from swarmrun.controller.settings import OperatorSettings
from swarmrun.controller.sweep import SWEEP_SECONDS
from swarmrun.durable.engine import DtsEngine
from swarmrun.errors import InvalidResource, NotFound, SwarmRunError
from swarmrun.findings import Finding
from swarmrun.kube.api import KubeApi
from swarmrun.models import probe, tiers

MIN_FREE = 2_000_000_000
"""Bytes; the same choice as the doctor's on one machine."""
CONTROLLER_WITHIN = 60.0
"""Seconds until a controller must answer that is just being started (arbitrary)."""
ENGINE_WITHIN = 30.0
"""Seconds for the scheduler's first answer, with its token (arbitrary)."""


def run(names: list[str], settings: OperatorSettings) -> list[Finding]:
    """The findings of these checks, in this order. Raises nothing that an installation can cause."""
    return asyncio.run(_run(names, settings))


async def _run(names: list[str], settings: OperatorSettings) -> list[Finding]:
    found: list[Finding] = []
    for name in names:
        try:
            found += await CHECKS[name](settings)
        except SwarmRunError as exc:
            found.append(Finding(name, "problem", exc.message, exc.mend))
    return found


# ---------------------------------------------------------------- operator


async def _operator(settings: OperatorSettings) -> list[Finding]:
    api = KubeApi()
    try:
        for namespace in settings.namespaces or ("",):
            within = f"/namespaces/{namespace}" if namespace else ""
            await api.get(f"/apis/{GROUP}/{VERSION}{within}/swarmruns", limit="1")
    except NotFound:
        return [Finding("crds", "problem", f"{GROUP} is not installed", "set crds.install, or apply crds/")]
    except SwarmRunError as exc:
        mend = "rbac.create, and the chart's values of service account and watchNamespaces"
        return [Finding("api server", "problem", exc.message, exc.mend or mend)]
    finally:
        await api.close()
    where = ", ".join(settings.namespaces) or "all namespaces"
    return [
        Finding("api server", "ok", f"lists the SwarmRuns of {where}"),
        _hears(await _health(settings)),
    ]


def _hears(health: dict[str, Any] | str) -> Finding:
    if isinstance(health, str):
        return Finding("controller", "problem", health, "kubectl logs and describe its Pod")
    return Finding("controller", "ok", f"hears the API server; last sweep {health['sweep']} s ago")


async def _health(settings: OperatorSettings) -> dict[str, Any] | str:
    """What `/healthz` of the controller says, or why there is nothing."""
    url = f"{settings.probes}/healthz"
    ends = time.monotonic() + CONTROLLER_WITHIN
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        while True:
            try:
                answer = await client.get(url)
                said = (
                    f"its probe fails ({answer.status_code}): the API server does not answer it, or it hangs"
                )
                if answer.status_code == 200:
                    health = answer.json()
                    if not health.get("waits"):
                        return health
                    said = f"it does not work yet: {health['waits']}"
            except (httpx.HTTPError, ValueError) as exc:
                said = f"{url} does not answer: {str(exc) or type(exc).__name__}"
            if time.monotonic() > ends:
                return said
            await asyncio.sleep(1)


# ---------------------------------------------------------------- engine


async def _engine(settings: OperatorSettings) -> list[Finding]:
    if settings.engine == "dts":
        return [await _scheduler(settings)]
    health = await _health(settings)
    if isinstance(health, str):
        return [Finding("engine", "problem", f"embedded: {health}", "kubectl logs its Pod")]
    age = health["sweep"]
    if age > 3 * SWEEP_SECONDS:
        said = f"embedded: has not told its controller all its runs for {age} s"
        return [Finding("engine", "problem", said, "kubectl logs its Pod")]
    return [Finding("engine", "ok", f"embedded: told all its runs {age} s ago")]


async def _scheduler(settings: OperatorSettings) -> Finding:
    about = f"{settings.dts_endpoint}, task hub {settings.dts_taskhub}"
    mend = (
        "engine.dts, the identity's role on the task hub (Durable Task Data Contributor), the IP allow list"
    )

    def ask() -> None:
        engine = DtsEngine(settings.dts_endpoint, settings.dts_taskhub)
        try:
            engine.client().get_orchestration_state("swarmrun-check")
        finally:
            engine.close(wait=0)

    try:
        await asyncio.wait_for(asyncio.to_thread(ask), ENGINE_WITHIN)
    except TimeoutError:
        return Finding("engine", "problem", f"{about}: no answer for {ENGINE_WITHIN:.0f} s", mend)
    except SwarmRunError:
        raise
    except Exception as exc:  # gRPC's, and whatever a credential raises  # noqa: BLE001
        details = getattr(exc, "details", None)
        said = details() if callable(details) else str(exc)
        return Finding("engine", "problem", f"{about}: {str(said)[:300]}", mend)
    return Finding("engine", "ok", f"{about}: answers")


# ---------------------------------------------------------------- storage


async def _storage(settings: OperatorSettings) -> list[Finding]:
    found: list[Finding] = []
    if settings.engine == "embedded":
        health = await _health(settings)
        found.append(
            Finding("volume", "problem", health, "kubectl logs its Pod")
            if isinstance(health, str)
            else _volume(health["volume"])
        )
    # A directory of the embedded engine's is on the volume; one that workers share is a volume of its own.
    if settings.engine == "dts" or not settings.artifacts.startswith("file:"):
        found.append(await asyncio.to_thread(_store, settings.artifacts))
    return found


def _volume(volume: dict[str, Any]) -> Finding:
    free, size = volume["free"] / 1e9, volume["size"] / 1e9
    if volume["problem"]:
        said = f"{volume['path']} cannot be written: {volume['problem']}"
        return Finding("volume", "problem", said, "enlarge the claim, or check its access mode and owner")
    if volume["free"] < MIN_FREE:
        said = f"{volume['path']}: {free:.1f} of {size:.0f} GB free"
        return Finding(
            "volume", "warning", said, "enlarge the claim, or let ttlSecondsAfterFinished remove runs"
        )
    return Finding("volume", "ok", f"{volume['path']}: writable, {free:.0f} of {size:.0f} GB free")


def _store(url: str) -> Finding:
    key = f"checks/{secrets.token_hex(8)}"
    try:
        store = open_store(url)
        store.put_new(key, b"swarmrun")
        read = store.get(key) == b"swarmrun" and store.list("checks")
        store.delete(key)
    except SwarmRunError as exc:
        return Finding("artifacts", "problem", exc.message, exc.mend)
    if not read:
        return Finding("artifacts", "problem", f"{url} does not give back what was put", "another store")
    return Finding("artifacts", "ok", f"{store.place}: written, read, listed, deleted")


# ---------------------------------------------------------------- models


async def _models(settings: OperatorSettings) -> list[Finding]:
    api = KubeApi()
    try:
        bodies = (await api.get(f"/apis/{GROUP}/{VERSION}/swarmclasses")).get("items", [])
    finally:
        await api.close()
    found: list[Finding] = []
    for body in bodies:
        name = f"class {body['metadata']['name']}"
        try:
            cls = classes.parse(body)
        except InvalidResource as exc:
            found.append(Finding(name, "problem", exc.message, "kubectl explain swarmclass.spec"))
            continue
        if settings.namespaces and not any(_usable(cls, namespace) for namespace in settings.namespaces):
            continue
        answers = await tiers.look(cls.spec.models, probe.greet, name=f"{name}:")
        # Of what is well the last word is enough.
        found += [f for f in answers if f.level != "ok" or f.message.startswith("answers")]
    return found or [
        Finding(
            "models", "warning", "there is no SwarmClass for these runs", "charts/swarmrun-classes makes one"
        )
    ]


def _usable(cls: SwarmClass, namespace: str) -> bool:
    try:
        check_namespace(namespace, cls)
    except InvalidResource:
        return False
    return True


async def _network(_: OperatorSettings) -> list[Finding]:
    return await closed.look()


CHECKS: dict[str, Callable[[OperatorSettings], Awaitable[list[Finding]]]] = {
    "operator": _operator,
    "engine": _engine,
    "storage": _storage,
    "models": _models,
    "network": _network,
}
