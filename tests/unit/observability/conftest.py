"""A collector of traces, and an operator in several processes: engine and controller here, workers as the real
program beside. Nothing of it needs a cluster."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

# The scene and its repository are those of the whole runs.
sys.path.insert(0, str(Path(__file__).parents[2] / "e2e"))

import lab as helpers
import scenes

from swarmrun.api.status import SwarmRunStatus
from swarmrun.cassette.format import Cassette, Entry, Fault
from swarmrun.cassette.request import Asked
from swarmrun.cassette.server import CassetteServer
from swarmrun.controller.attend import Attendants
from swarmrun.controller.hands import hands_for
from swarmrun.controller.reconcile import Reconciler
from swarmrun.controller.settings import OperatorSettings
from swarmrun.controller.worlds import Worlds
from swarmrun.durable.bridge import Bridge
from swarmrun.durable.engine import EmbeddedEngine
from swarmrun.observability import tracing

UID = "6a6f1ef2-1a50-4f4b-b6ee-7191db4fc90f"
PATIENCE = 120.0


class Span:
    """One span as it came in."""

    def __init__(self, resource: dict[str, Any], raw: Any) -> None:
        self.service, self.process = resource["service.name"], resource["service.instance.id"]
        self.name = raw.name
        self.trace, self.id, self.parent = raw.trace_id.hex(), raw.span_id.hex(), raw.parent_span_id.hex()
        self.start, self.end = raw.start_time_unix_nano, raw.end_time_unix_nano
        self.failed = raw.status.code == 2
        self.kind = raw.kind
        self.attributes = {a.key: _value(a.value) for a in raw.attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_value(v) for v in value.array_value.values] if kind == "array_value" else getattr(value, kind)


class Collector:
    """Takes OTLP over HTTP, as a collector does."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                assert self.path == "/v1/traces"
                collector.bodies.append(body)
                collector.headers.append({k.lower(): v for k, v in self.headers.items()})
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    told = {a.key: _value(a.value) for a in resource.resource.attributes}
                    for scope in resource.scope_spans:
                        collector.spans += [Span(told, raw) for raw in scope.spans]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def named(self, name: str) -> list[Span]:
        return [s for s in self.spans if s.name == name]

    def parent(self, span: Span) -> Span:
        (found,) = {s.id: s for s in self.spans if s.id == span.parent}.values()
        return found

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    it = Collector()
    yield it
    it.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Worker:
    """`swarmrun-operator --role worker`."""

    def __init__(self, log: Path, **env: str) -> None:
        self.port, self.log = free_port(), log
        env = {**env, "SWARMRUN_METRICS_PORT": str(self.port), "SWARMRUN_PROBE_PORT": str(free_port())}
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "swarmrun.controller", "--role", "worker"],
                env={**os.environ, **env},
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def metrics(self) -> dict[tuple[str, ...], float]:
        """(name, `label=value` …) → value, as Prometheus would read it."""
        text = httpx.get(f"http://127.0.0.1:{self.port}/metrics", trust_env=False).raise_for_status().text
        return {
            (sample.name, *(f"{k}={v}" for k, v in sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(60)


class Statuses:
    """The API server, as far as a controller writes to it."""

    def __init__(self) -> None:
        self.last = SwarmRunStatus()

    async def write_status(self, meta: Any, status: SwarmRunStatus) -> None:
        self.last = status

    async def report(self, meta: Any, happening: Any) -> None:
        pass


class Swarm:
    """One run of the scene `journal` by a controller in this process and workers in others."""

    run = f"{UID}-1"
    name, namespace = "journal", "team"

    def __init__(self, root: Path, collector: Collector, **env: str) -> None:
        self.root, self.collector = root, collector
        self.engine = EmbeddedEngine(root / "engine.db", grace=0.3).open()
        (root / "master.key").write_bytes(secrets.token_bytes(32))
        self.env = {
            "SWARMRUN_STATE": str(root / "state"),
            "SWARMRUN_ARTIFACTS": (root / "artifacts").as_uri(),
            "SWARMRUN_MASTER_KEY_FILE": str(root / "master.key"),
            "SWARMRUN_SANDBOXES": "process",
            "SWARMRUN_UNSAFE_NO_SANDBOX": "true",
            "SWARMRUN_ENGINE": "dts",
            "SWARMRUN_DTS_ENDPOINT": f"unix:{self.engine.serve()}",
            "SWARMRUN_LOG_FORMAT": "json",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            **env,
        }
        self.workers: list[Worker] = []
        self.statuses = Statuses()

    def worker(self) -> Worker:
        name = f"worker-{len(self.workers)}"
        self.workers.append(Worker(self.root / f"{name}.log", SWARMRUN_IDENTITY=name, **self.env))
        return self.workers[-1]

    def controller(self, cls: dict[str, Any], body: dict[str, Any], fact: Callable[[], bool]) -> None:
        """A controller of its own, until the fact holds; nothing of it but the engine and the status survives."""
        asyncio.run(self._controller(cls, body, fact))

    async def _controller(self, cls: dict[str, Any], body: dict[str, Any], fact: Callable[[], bool]) -> None:
        bridge = Bridge()
        settings = OperatorSettings.read(self.env)
        worlds = Worlds(settings.artifacts, self.root / "controller", hands_for(settings, bridge), bridge)
        attendants = Attendants(Reconciler(self.engine.client(), worlds), self.statuses)  # type: ignore[arg-type]
        attendants.see_class(cls)
        attendants.see_run({**body, "status": self.statuses.last.dump()})
        ends = time.monotonic() + PATIENCE
        while not fact():
            assert time.monotonic() < ends, self.statuses.last.model_dump_json()
            await asyncio.sleep(0.05)
        attendants.close()
        bridge.close()

    def ended(self) -> bool:
        return self.statuses.last.phase.terminal

    def close(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.end(signal.SIGKILL)
        self.engine.close(wait=0.1)


class Models(CassetteServer):
    """Recorded models that think about the coders' third turn until they are let go."""

    def __init__(self, recording: dict[str, Any]) -> None:
        super().__init__(Cassette.model_validate(recording), quiet=True)
        self.go = threading.Event()
        self.held: set[str] = set()

    def decide(self, asked: Asked) -> tuple[Entry, Fault | None]:
        if asked.key["role"] == "coder" and asked.key["turn"] == "3":
            self.held.add(asked.key["task"])
            self.go.wait(PATIENCE)
        return super().decide(asked)


class Planted:
    """Secrets and contents that must be found nowhere."""

    MODEL_KEY = "planted-model-key-4f1c"
    ISSUED_KEY = "sk-planted0123456789abcdefgh"
    PROMPT = "planted-prompt-5a6b"
    OUTPUT = "planted-output-7c8d"

    ALL = (MODEL_KEY, ISSUED_KEY, PROMPT, OUTPUT)


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Swarm]:
    """A run that has ended, although worker and controller were killed half-way."""
    root = tmp_path_factory.mktemp("swarm")
    bare = helpers.Lab(root).repository(files={"README": "What was here before.\n"})
    recording = scenes.journal_recording(agents=2, turns=4, pause=0.3)
    for entry in recording["entries"]:
        for call in entry.get("calls", []):
            if command := call["arguments"].get("command"):
                call["arguments"]["command"] = f"echo {Planted.OUTPUT} {Planted.ISSUED_KEY}; {command}"
    with Models(recording) as model:
        it = Swarm(root, collector, OPENAI_API_KEY=Planted.MODEL_KEY)
        cls = scenes.swarm_class(model.url)
        standard = cls["spec"]["models"]["standard"]
        standard |= {"auth": {"type": "key"}, "prices": {"input": "1", "cachedInput": "0.1", "output": "2"}}
        body = scenes.journal(bare, name=it.name, agents=2, turns=4)
        body["metadata"] |= {"namespace": it.namespace, "uid": UID, "generation": 1, "resourceVersion": "7"}
        for task in body["spec"]["plan"]["tasks"]:
            task["instructions"] += f" {Planted.PROMPT}"
        patch = pytest.MonkeyPatch()
        for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_BSP_SCHEDULE_DELAY"):
            patch.setenv(name, it.env[name])
        tracing.set_up(instance="controller")
        try:
            first = it.worker()
            it.controller(cls, body, lambda: len(model.held) == 2)
            it.before = first.metrics()
            first.end(signal.SIGKILL)
            tracing.shut_down()  # as the end of a process does
            tracing.set_up(instance="controller-2")
            it.worker()
            model.go.set()
            it.controller(cls, body, it.ended)
            it.after = it.workers[1].metrics()
            assert it.workers[1].end(signal.SIGTERM) == 0
            tracing.shut_down()
            yield it
        finally:
            model.go.set()
            patch.undo()
            tracing.shut_down()
            it.close()


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.fixture(name="lines")
def _lines() -> Callable[[Path], list[dict[str, Any]]]:
    return lines


@pytest.fixture
def planted() -> type[Planted]:
    return Planted
