"""A controller whose engine is away: what resources are told, what probes say, and that it comes back."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from swarmrun.api.status import SwarmRunStatus
from swarmrun.controller import answering
from swarmrun.controller.answering import Answering
from swarmrun.controller.attend import Attendants
from swarmrun.controller.capacity import Capacity
from swarmrun.controller.probes import Probes
from swarmrun.controller.process import _ask
from swarmrun.controller.reconcile import Reconciler
from swarmrun.controller.settings import OperatorSettings
from swarmrun.controller.sweep import Sweep
from swarmrun.durable import engine as engines
from swarmrun.durable.channel import LocalError
from swarmrun.durable.deadline import Deadline
from swarmrun.errors import EngineUnreachable

Body = Callable[..., dict[str, Any]]
AWAY = LocalError(grpc.StatusCode.UNAVAILABLE, "gone")
SETTINGS = {
    "SWARMRUN_ENGINE": "dts",
    "SWARMRUN_DTS_ENDPOINT": "https://hub.example.com",
    "SWARMRUN_DTS_TASKHUB": "shop",
}


class Kube:
    """Of an API server that lists what it was given and takes every status."""

    def __init__(self, *bodies: dict[str, Any]) -> None:
        self.bodies = bodies
        self.written: dict[str, SwarmRunStatus] = {}

    async def write_status(self, meta: Any, status: SwarmRunStatus) -> None:
        self.written[meta["uid"]] = status

    async def report(self, *_: Any) -> None: ...

    async def runs(self, namespace: str = "") -> AsyncIterator[dict[str, Any]]:
        for body in self.bodies:
            yield body

    def reasons(self) -> list[str]:
        conditions = [status.condition("Reconciling") for status in self.written.values()]
        return [c.reason for c in conditions if c]

    def messages(self) -> set[str]:
        conditions = [status.condition("Reconciling") for status in self.written.values()]
        return {c.message for c in conditions if c}


class Counted:
    """An engine that counts what is asked of it."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        self.asked += 1
        return getattr(self._engine, name)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "AGAIN_SECONDS", 0.1)
    monkeypatch.setattr("swarmrun.controller.attend.WRITE_SECONDS", 0.0)


def bodies(run_body: Body, number: int) -> list[dict[str, Any]]:
    return [run_body(uid=f"{i:08x}-0000-0000-0000-000000000000") for i in range(number)]


@asynccontextmanager
async def controller(engine: Any, worlds: Any, kube: Kube, cls: dict[str, Any]) -> AsyncIterator[Reconciler]:
    """As the operator's process begins: asked first, then the watch shows what there is."""
    it = Answering.of(OperatorSettings.read(SETTINGS))
    capacity = Capacity()

    def ask() -> None:
        _ask(capacity, engine)

    await it.begin(ask)
    reconciler = Reconciler(engine, worlds, capacity, it)
    attendants = Attendants(reconciler, kube)  # type: ignore[arg-type]
    keeping = asyncio.create_task(it.keep(ask, attendants.wake))
    attendants.see_class(cls)
    for body in kube.bodies:
        attendants.see_run(body)
    try:
        yield reconciler
    finally:
        keeping.cancel()
        attendants.close()


async def until(what: Callable[[], Any], within: float = 10) -> None:
    ends = time.monotonic() + within
    while not what():
        assert time.monotonic() < ends
        await asyncio.sleep(0.01)


def test_a_controller_that_begins_without_its_engine_tells_every_run_and_goes_on_by_itself(
    engine: Any, worlds: Any, run_body: Body, class_body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    kube = Kube(*bodies(run_body, 20))

    def away(*_: Any, **__: Any) -> None:
        raise AWAY

    monkeypatch.setattr(engine, "get_all_orchestration_states", away)

    async def story() -> None:
        async with controller(engine, worlds, kube, class_body()):
            await until(lambda: kube.reasons() == ["EngineUnreachable"] * 20)
            (message,) = kube.messages()
            assert "https://hub.example.com, task hub shop" in message
            assert "UNAVAILABLE" in message
            assert "engine.dts of the chart" in message
            # Nobody is let in before it is known what runs at work hold.
            assert not engine.states
            monkeypatch.undo()
            await until(lambda: kube.reasons() == ["Pending"] * 20)

    asyncio.run(story())


def test_a_run_is_told_though_the_engine_says_neither_yes_nor_no(
    engine: Any, worlds: Any, run_body: Body, class_body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "BEGINS_SECONDS", 0.05)
    kube, silent = Kube(run_body()), threading.Event()
    monkeypatch.setattr(engine, "get_all_orchestration_states", lambda *_: silent.wait(30) and [])

    async def story() -> None:
        async with controller(engine, worlds, kube, class_body()):
            await until(lambda: kube.reasons() == ["EngineUnreachable"])
            assert "no answer for" in kube.messages().pop()
            silent.set()
            await until(lambda: kube.reasons() == ["Pending"])

    asyncio.run(story())


def test_one_that_falls_silent_is_told_to_all_and_asked_by_one(
    engine: Any, worlds: Any, run_body: Body, class_body: Body
) -> None:
    kube, counted = Kube(*bodies(run_body, 20)), Counted(engine)

    async def story() -> None:
        async with controller(counted, worlds, kube, class_body()):
            await until(lambda: kube.reasons() == ["Pending"] * 20)
            engine.broken = AWAY
            await until(lambda: kube.reasons() == ["EngineUnreachable"] * 20)
            before = counted.asked
            await asyncio.sleep(0.5)
            assert 1 <= counted.asked - before <= 10
            engine.broken = None
            await until(lambda: kube.reasons() == ["Pending"] * 20)

    asyncio.run(story())


def test_what_one_call_alone_meets_is_no_silence() -> None:
    it = Answering()
    told = it.failed(LocalError(grpc.StatusCode.INTERNAL, "this one"))
    assert (told.reason, it.silence) == ("EngineUnreachable", None)
    it.failed(AWAY)
    with pytest.raises(EngineUnreachable, match="UNAVAILABLE"):
        it.check()


def test_a_credential_that_gives_no_token_is_told_and_ends_nothing(
    engine: Any, worlds: Any, run_body: Body, class_body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    kube = Kube(run_body())

    def refused(*_: Any) -> None:
        raise RuntimeError("DefaultAzureCredential failed to retrieve a token")

    monkeypatch.setattr(engine, "get_all_orchestration_states", refused)

    async def story() -> None:
        async with controller(engine, worlds, kube, class_body()):
            await until(lambda: kube.reasons() == ["EngineUnreachable"])
            assert "failed to retrieve a token" in kube.messages().pop()

    asyncio.run(story())


# ---------------------------------------------------------------- probes


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_without_an_engine_it_is_not_ready_and_is_not_started_anew(
    engine: Any, worlds: Any, run_body: Body, port: int, tmp_path: Path
) -> None:
    given = SETTINGS | {"SWARMRUN_PROBE_PORT": str(port), "SWARMRUN_STATE": str(tmp_path)}
    settings = OperatorSettings.read(given | {"SWARMRUN_STALE_SECONDS": "60"})
    it = Answering.of(settings)
    kube = Kube(run_body())

    async def asked(path: str) -> tuple[int, str]:
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"http://127.0.0.1:{port}{path}")
            return answer.status_code, answer.text

    async def story() -> None:
        reconciler = Reconciler(engine, worlds, answering=it)
        attendants = Attendants(reconciler, kube)  # type: ignore[arg-type]
        attendants.see_run(run_body())
        sweep = Sweep(attendants, reconciler, engine, kube, ())  # type: ignore[arg-type]
        probes = Probes(settings, it)
        await probes.start()
        try:
            assert await asked("/readyz") == (503, "it begins to watch\n")
            assert (await asked("/healthz"))[0] == 200
            probes.sweep = sweep
            probes.watches.set()
            assert await asked("/readyz") == (200, "ready\n")
            it.failed(AWAY)
            for age in (1, 1000):
                sweep.done_at = time.monotonic() - age
                sweep.heard_at = sweep.done_at
                with pytest.raises(EngineUnreachable):
                    await sweep.once()
                status, said = await asked("/readyz")
                assert (status, "hub.example.com" in said) == (503, True)
                assert (await asked("/healthz"))[0] == 200
                # No sweep is whole without the engine; what the API server lists is compared even so.
                said = json.loads((await asked("/healthz"))[1])
                assert said["sweep"] >= age
                assert said["compared"] < 1000
            # What a restart may mend fails it still.
            sweep.heard_at = time.monotonic() - 1000
            status, said = await asked("/healthz")
            assert status == 500
            assert json.loads(said)["compared"] >= 1000
        finally:
            attendants.close()
            await probes.close()

    asyncio.run(story())


def test_without_the_lease_it_is_not_ready(port: int) -> None:
    settings = OperatorSettings.read(SETTINGS | {"SWARMRUN_LEASE": "controller"})
    probes = Probes(settings, Answering.of(settings))
    assert "lease controller" in probes.waits_for()
    assert not probes.ails()


# ---------------------------------------------------------------- over the wire


@pytest.fixture
def swallows() -> Iterator[str]:
    """Address of something that takes connections and says nothing."""
    listening = socket.create_server(("127.0.0.1", 0))
    yield f"127.0.0.1:{listening.getsockname()[1]}"
    listening.close()


def test_a_call_to_an_engine_that_swallows_it_has_an_end(
    swallows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "Deadline", lambda: Deadline(0.5))
    engine = engines.DtsEngine(f"http://{swallows}")
    try:
        with pytest.raises(grpc.RpcError) as met:
            engine.client().get_orchestration_state("x")
    finally:
        engine.close(wait=0)
    assert isinstance(met.value, grpc.Call)
    assert met.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
