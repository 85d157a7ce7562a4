"""The operator's process: engine, worker and controller, as its role and settings want them."""

from __future__ import annotations

import asyncio
import logging
import signal
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from durabletask.client import OrchestrationQuery

from swarmrun.activities.registry import activities
from swarmrun.api import GROUP
from swarmrun.controller.answering import Answering
from swarmrun.controller.attend import Attendants
from swarmrun.controller.capacity import Capacity
from swarmrun.controller.gauges import shown, watched
from swarmrun.controller.hands import hands_for
from swarmrun.controller.kube import Kube
from swarmrun.controller.left_pods import LeftPods
from swarmrun.controller.observe import at_work
from swarmrun.controller.place import own_place
from swarmrun.controller.probes import Probes
from swarmrun.controller.reconcile import Reconciler
from swarmrun.controller.rollout import Rollout
from swarmrun.controller.settings import OperatorSettings
from swarmrun.controller.sweep import Sweep
from swarmrun.controller.worlds import Worlds
from swarmrun.durable.bridge import Bridge
from swarmrun.durable.engine import DtsEngine, EmbeddedEngine
from swarmrun.errors import InvalidResource, NotFound, SwarmRunError
from swarmrun.kube.api import KubeApi
from swarmrun.observability import exposition, tracing
from swarmrun.orchestration.agent import agent
from swarmrun.orchestration.run import run as run_orchestration
from swarmrun.orchestration.successor import Successor

if TYPE_CHECKING:
    from swarmrun.controller.reading.server import ReadServer

Role = Literal["all", "controller", "worker"]

RETRY_SECONDS = 5.0
TIDY_SECONDS = 60.0

log = logging.getLogger("swarmrun.operator")


def run(role: Role, settings: OperatorSettings) -> None:
    """Until SIGTERM or SIGINT. Raises InvalidResource for a role that the engine cannot have, and what opening
    the engine raises."""
    if settings.engine == "embedded" and role != "all":
        raise InvalidResource(
            f"role {role!r} with the embedded engine",
            mend="it has one process: use --role all, or engine dts",
        )
    tracing.set_up(instance=settings.identity)
    bridge = Bridge()
    rollout = Rollout(settings.artifacts)
    engine = _engine(settings)
    worlds: Worlds | None = None

    def cut_off() -> None:
        """Once no result is taken any more: before, it would be recorded as a failure of what is at work."""
        if worlds is not None:
            worlds.shut()
        bridge.close()

    end_metrics = exposition.serve(settings.metrics_port)
    try:
        # With the embedded engine this process sees every run end.
        alone = settings.engine == "embedded"
        repositories = settings.state / "repositories"
        caches = repositories if alone or role == "controller" else own_place(repositories)
        worlds = Worlds(settings.artifacts, caches, hands_for(settings, bridge), bridge, tidies=not alone)
        if isinstance(engine, EmbeddedEngine):
            watched(engine.open())
        if role != "controller":
            engine.start_worker(
                [run_orchestration, agent],
                activities(worlds),
                threads=settings.threads,
                # A process with the engine in it is alone.
                successor=Successor() if alone else Successor(wanted=rollout.wanted),
            )
            log.info("working, engine %s, sandboxes %s", settings.engine, settings.sandboxes)
        if role == "worker":
            asyncio.run(_until_told(settings.probe_port, worlds))
        else:
            asyncio.run(_control(settings, engine.client(), worlds, rollout))
    finally:
        if isinstance(engine, EmbeddedEngine):
            engine.close(cancel=cut_off)
        else:
            engine.close(cancel=cut_off, wait=settings.grace)
        end_metrics()
        tracing.shut_down()


def _engine(settings: OperatorSettings) -> EmbeddedEngine | DtsEngine:
    if settings.engine == "embedded":
        settings.state.mkdir(parents=True, exist_ok=True)
        return EmbeddedEngine(settings.state / "engine.db")
    return DtsEngine(settings.dts_endpoint, settings.dts_taskhub)


# ---------------------------------------------------------------- controller


async def _control(settings: OperatorSettings, client: Any, worlds: Worlds, rollout: Rollout) -> None:
    from swarmrun.controller.lease import Lease
    from swarmrun.controller.watch import registry, watch

    api = KubeApi()
    kube = Kube(api, settings.identity)
    stop = asyncio.Event()
    lease = Lease(api, settings.namespace, settings.lease, settings.identity) if settings.lease else None
    background: list[asyncio.Task[None]] = []
    answering = Answering.of(settings)
    probes = Probes(settings, answering)
    await probes.start()
    reader = await _reader(settings, api)
    try:
        if lease:
            await lease.acquire()
            background.append(asyncio.create_task(lease.keep(stop)))
            probes.leads = True
        if settings.engine != "embedded":  # there is no other worker then
            background.append(asyncio.create_task(_lead(rollout)))
            background.append(asyncio.create_task(_tidy(worlds)))
        capacity = Capacity(settings.max_sandboxes)
        ask = partial(_ask, capacity, client)
        await answering.begin(ask)
        reconciler = Reconciler(client, worlds, capacity, answering)
        attendants = Attendants(reconciler, kube)
        background.append(asyncio.create_task(answering.keep(ask, attendants.wake)))
        await _show_classes(kube, attendants)
        left_pods = LeftPods(api) if settings.sandboxes == "kubernetes" else None
        sweep = probes.sweep = Sweep(attendants, reconciler, client, kube, settings.namespaces, left_pods)
        shown(attendants, sweep)
        background.append(asyncio.create_task(sweep.run()))
        await watch(
            registry(attendants),
            identity=settings.identity,
            namespaces=settings.namespaces,
            begun=probes.watches,
            stop=stop,
        )
        attendants.close()
    finally:
        for task in background:
            task.cancel()
        if lease and not stop.is_set():
            await lease.release()
        if reader is not None:
            await reader.close()
        await probes.close()
        await api.close()


async def _lead(rollout: Rollout) -> None:
    """Runs are looked after meanwhile: where the store is away, they say so."""
    while True:
        try:
            return await asyncio.to_thread(rollout.lead)
        except SwarmRunError as exc:
            log.warning("which program is wanted cannot be written: %s", exc)
            await asyncio.sleep(RETRY_SECONDS)


def _ask(capacity: Capacity, client: Any) -> None:
    """Before anybody is let in: what runs at work hold already. Later only whether the engine answers."""
    if capacity.restored:
        client.get_orchestration_state("swarmrun", fetch_payloads=False)
        return
    query = OrchestrationQuery(fetch_inputs_and_outputs=True)
    capacity.restore(at_work(client.get_all_orchestration_states(query)))


async def _reader(settings: OperatorSettings, api: KubeApi) -> ReadServer | None:
    """Also while the lease is another's: reading needs no leader."""
    if not settings.read_port:
        return None
    from swarmrun.controller.reading.server import ReadServer

    reader = ReadServer(api, settings.artifacts, settings.state / "reading")
    await reader.start(settings.read_port)
    return reader


async def _show_classes(kube: Kube, attendants: Attendants) -> None:
    """Before any run is looked at, so that none is told that its class is missing because it was shown first."""
    while True:
        try:
            for body in await kube.classes():
                attendants.see_class(body)
        except NotFound:
            log.warning("the CRDs of %s are not installed yet", GROUP)
        except SwarmRunError as exc:
            log.warning("the SwarmClasses cannot be listed: %s", exc)
            await asyncio.sleep(RETRY_SECONDS)
            continue
        return


# ---------------------------------------------------------------- worker


async def _tidy(worlds: Worlds) -> None:
    while True:
        await asyncio.sleep(TIDY_SECONDS)
        await asyncio.to_thread(worlds.tidy)


async def _until_told(port: int, worlds: Worlds) -> None:
    """Answers `/healthz` until SIGTERM or SIGINT."""
    from aiohttp import web

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    async def healthy(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    app = web.Application()
    app.router.add_get("/healthz", healthy)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", port).start()
    tidying = asyncio.create_task(_tidy(worlds))
    await stop.wait()
    tidying.cancel()
    await runner.cleanup()
