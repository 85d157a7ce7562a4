"""Workers as processes of their own over the engine's gRPC, told to end one after the other as by an upgrade."""

from __future__ import annotations

import contextlib
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from durabletask.client import OrchestrationQuery

from swarmrun.durable.engine import EmbeddedEngine

NAME = "url-shortener"
GRACE = 2


class Gate:
    """In front of the models: while closed, calls come in and hear nothing."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.closed = True
        self.waiting: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                call, _ = self._server.accept()
            except OSError:
                return
            if self.closed:
                self.waiting.append(call)
                continue
            through = socket.create_connection(("127.0.0.1", self._port))
            for one, other in ((call, through), (through, call)):
                threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._server.close()


pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EmbeddedEngine]:
    with EmbeddedEngine(tmp_path / "engine.db") as it:
        yield it


@pytest.fixture
def make(make_operator: Callable[..., Any], engine: EmbeddedEngine, tmp_path: Path) -> Callable[[str], Any]:
    key = tmp_path / "master.key"
    key.write_bytes(secrets.token_bytes(32))
    env = {
        "SWARMRUN_ENGINE": "dts",
        "SWARMRUN_DTS_ENDPOINT": f"unix:{engine.serve()}",
        "SWARMRUN_ARTIFACTS": (tmp_path / "artifacts").as_uri(),
        "SWARMRUN_MASTER_KEY_FILE": str(key),
        "SWARMRUN_GRACE_SECONDS": str(GRACE),
    }
    return lambda name: make_operator(name, SWARMRUN_IDENTITY=name, **env)


def test_workers_that_are_told_to_end_lose_nothing_and_no_step_is_counted_as_failed(
    kubectl: Any,
    demo: Callable[..., list[dict[str, Any]]],
    make: Callable[[str], Any],
    engine: EmbeddedEngine,
) -> None:
    cls, run = demo()
    tiers = cls["spec"]["models"].values()
    gate = Gate(urlsplit(next(iter(tiers))["endpoint"]).port or 0)
    for tier in tiers:
        tier["endpoint"] = f"http://127.0.0.1:{gate.port}/v1"
    make("c").start("controller")
    worker = make("w0")
    worker.start("worker")
    kubectl.apply(cls, run)
    # The first has the planner's call under way, and will not hear an answer.
    kubectl.until(lambda: gate.waiting)
    gate.closed = False
    for number, progress in enumerate(("", "0/4", "1/4", "2/4", "3/4"), 1):
        kubectl.until(lambda want=progress: kubectl.status(NAME).get("progress", "") >= want, within=240)
        following = make(f"w{number}")
        following.start("worker")
        # It may have begun a moment ago: until it works it can be ended like any process.
        kubectl.until(lambda it=worker: "working, engine" in it.log.read_text())
        began = time.monotonic()
        assert worker.end(signal.SIGTERM) == 0
        # A kubelet waits for 15 s more than the grace.
        assert time.monotonic() - began < GRACE + 15
        worker = following
    kubectl.finished(NAME)
    gate.close()
    assert kubectl.reason(NAME) == "Published"
    client = engine.client()
    instances = client.get_all_orchestration_states(OrchestrationQuery())
    assert len(instances) > 4
    for state in instances:
        for event in engine.history(state.instance_id):
            text = str(event)
            # What an activity that is cut off would say, if its result were taken.
            for sign in ("was cancelled", "was not started", "was ended by", "client has been closed"):
                assert sign not in text, text
