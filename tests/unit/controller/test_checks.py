"""`swarmrun-operator --check`, as the chart's test runs it: over real HTTP, a real engine, real sockets."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from swarmrun.cassette.format import Cassette
from swarmrun.cassette.server import CassetteServer
from swarmrun.controller import checks, closed, volume
from swarmrun.controller.settings import OperatorSettings
from swarmrun.durable.engine import EmbeddedEngine
from swarmrun.findings import Finding, line
from swarmrun.kube.api import KubeApi

READY = {"role": "probe", "task": "probe", "turn": 1, "text": "ready"}


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """An API server and a controller's probe in one: path → (status, body)."""
    known: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = known.get(
                self.path.split("?")[0], (404, {"reason": "NotFound", "message": "not there"})
            )
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: Any) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    known["url"] = f"http://127.0.0.1:{http.server_address[1]}"
    config = {
        "clusters": [{"name": "c", "cluster": {"server": known["url"]}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    # The library reads the variable once a process.
    monkeypatch.setattr(checks, "KubeApi", lambda: KubeApi(kubeconfig=str(tmp_path / "kubeconfig")))
    monkeypatch.setattr(checks, "CONTROLLER_WITHIN", 0.5)
    yield known
    http.shutdown()
    http.server_close()


def settings(**env: str) -> OperatorSettings:
    return OperatorSettings.read({f"SWARMRUN_{k.upper()}": v for k, v in env.items()})


def looked(name: str, it: OperatorSettings) -> list[Finding]:
    return checks.run([name], it)


HEALTH = {"sweep": 7, "watch": "hears", "volume": {"path": "/v", "free": 9e9, "size": 2e10, "problem": ""}}
RUNS = "/apis/swarmrun.dev/v1alpha1/swarmruns"
CLASSES = "/apis/swarmrun.dev/v1alpha1/swarmclasses"


def test_an_installation_that_works_is_said_to(answers: dict[str, Any]) -> None:
    answers |= {RUNS: (200, {"items": []}), "/healthz": (200, HEALTH)}
    found = checks.run(["operator", "engine", "storage"], settings(probes=answers["url"]))
    assert [(f.name, f.level) for f in found] == [
        ("api server", "ok"),
        ("controller", "ok"),
        ("engine", "ok"),
        ("volume", "ok"),
    ]
    assert "9 of 20 GB free" in found[-1].message


@pytest.mark.parametrize(
    ("changed", "check", "name", "words", "mend"),
    [
        ({RUNS: (404, {})}, "operator", "crds", "not installed", "crds.install"),
        (
            {RUNS: (403, {"reason": "Forbidden", "message": 'User "x" cannot list resource "swarmruns"'})},
            "operator",
            "api server",
            "cannot list resource",
            "rbac.create",
        ),
        ({"/healthz": (500, {})}, "operator", "controller", "its probe fails", "logs"),
        ({"/healthz": (200, HEALTH | {"sweep": 400})}, "engine", "engine", "400 s", "logs"),
        (
            {
                "/healthz": (
                    200,
                    HEALTH | {"volume": {"path": "/v", "free": 0, "size": 1e9, "problem": "full"}},
                )
            },
            "storage",
            "volume",
            "/v cannot be written: full",
            "enlarge",
        ),
    ],
)
def test_what_is_missing_is_named_with_its_mend(
    answers: dict[str, Any], changed: dict[str, Any], check: str, name: str, words: str, mend: str
) -> None:
    answers |= {RUNS: (200, {"items": []}), "/healthz": (200, HEALTH)} | changed
    (bad,) = [f for f in looked(check, settings(probes=answers["url"])) if f.level == "problem"]
    assert bad.name == name
    assert words in bad.message
    assert mend in bad.mend


def test_little_room_is_a_warning(answers: dict[str, Any]) -> None:
    answers["/healthz"] = (200, HEALTH | {"volume": {"path": "/v", "free": 5e8, "size": 1e9, "problem": ""}})
    (found,) = looked("storage", settings(probes=answers["url"]))
    assert found.level == "warning"


def test_a_controller_that_is_not_there_is_told_by_its_address(answers: dict[str, Any]) -> None:
    (found,) = looked("engine", settings(probes="http://127.0.0.1:9"))
    assert found.level == "problem"
    assert "http://127.0.0.1:9/healthz does not answer" in found.message


def test_the_scheduler_answers_or_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "ENGINE_WITHIN", 20.0)
    with EmbeddedEngine(tmp_path / "engine.db") as engine:
        socket_at = engine.serve()
        (well,) = looked("engine", settings(engine="dts", dts_endpoint=f"unix:{socket_at}"))
    assert (well.level, well.message) == ("ok", f"unix:{socket_at}, task hub default: answers")
    (gone,) = looked("engine", settings(engine="dts", dts_endpoint=f"unix:{socket_at}"))
    assert gone.level == "problem"
    assert "role" in gone.mend


def test_a_volume_that_workers_share_is_written_and_read_like_any_store(tmp_path: Path) -> None:
    shared = settings(engine="dts", dts_endpoint="http://127.0.0.1:9", artifacts=(tmp_path / "a").as_uri())
    (well,) = looked("storage", shared)
    assert (well.name, well.level) == ("artifacts", "ok")


def test_an_object_store_is_written_and_read(
    monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any]
) -> None:
    answers["/healthz"] = (200, HEALTH)
    (_, well) = looked("storage", settings(probes=answers["url"], artifacts="memory://"))
    assert (well.name, well.level) == ("artifacts", "ok")
    for name, value in {
        "AWS_ENDPOINT": "http://127.0.0.1:9",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "x",
    }.items():
        monkeypatch.setenv(name, value)
    (_, bad) = looked("storage", settings(probes=answers["url"], artifacts="s3://bucket/runs"))
    assert (bad.name, bad.level) == ("artifacts", "problem")
    assert bad.mend


def test_each_tier_of_each_class_that_these_runs_may_use_is_asked_one_word(answers: dict[str, Any]) -> None:
    def cls(name: str, endpoint: str, **spec: Any) -> dict[str, Any]:
        tier = {"provider": "compatible", "model": "m", "endpoint": endpoint, "auth": {"type": "none"}}
        meta = {"name": name, "managedFields": [{"manager": "kubectl"}]}
        body = {"apiVersion": "swarmrun.dev/v1alpha1", "kind": "SwarmClass", "metadata": meta}
        return body | {"spec": {"models": {"standard": tier}, **spec}}

    with CassetteServer(Cassette.model_validate({"model": "m", "entries": [READY]}), quiet=True) as served:
        answers[CLASSES] = (
            200,
            {
                "items": [
                    cls("good", served.url),
                    cls("silent", "http://127.0.0.1:9/v1"),
                    cls("foreign", "http://127.0.0.1:9/v1", allowedNamespaces=["team-z"]),
                    cls("broken", served.url) | {"spec": {"models": {}}},
                ]
            },
        )
        found = looked("models", settings(namespaces="team-a"))
    told = {f.name: (f.level, f.message) for f in found}
    assert told["class good: premium (m)"] == ("ok", "answers: as m")
    assert told["class silent: premium (m)"][0] == "problem"
    assert told["class broken"][0] == "problem"
    assert len(told) == 3
    answers[CLASSES] = (200, {"items": []})
    assert [f.level for f in looked("models", settings())] == ["warning"]


def test_a_pod_that_is_not_closed_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closed, "ENFORCED_WITHIN", 0.5)
    monkeypatch.setattr(closed, "FORBIDDEN", ("127.0.0.1:9",))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as api_server:
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(api_server.getsockname()[1]))
        (found,) = looked("network", settings())
        assert found.level == "problem"
        assert f"127.0.0.1:{api_server.getsockname()[1]} can be reached" in found.message
    (found,) = looked("network", settings())
    assert found.level == "ok"


def test_a_volume_that_is_not_there_is_told_and_nothing_is_left_on_one_that_is(tmp_path: Path) -> None:
    assert volume.look(tmp_path)["problem"] == ""
    assert volume.look(tmp_path)["free"] > 0
    assert not list(tmp_path.iterdir())
    assert volume.look(tmp_path / "none")["problem"]


def test_the_command_prints_as_the_doctor_does_and_ends_with_one_on_a_problem(
    answers: dict[str, Any],
) -> None:
    def operator(*arguments: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "SWARMRUN_PROBES": answers["url"]}
        return subprocess.run(
            [sys.executable, "-m", "swarmrun.controller", *arguments], env=env, capture_output=True, text=True
        )

    answers |= {RUNS: (200, {"items": []}), "/healthz": (200, HEALTH)}
    good = operator("--check", "operator,engine,storage")
    assert good.returncode == 0, good.stderr
    assert [text.split()[0] for text in good.stdout.splitlines()] == ["ok"] * 4
    answers[RUNS] = (404, {})
    bad = operator("--check", "operator")
    assert bad.returncode == 1
    assert bad.stdout.splitlines() == [
        "problem  crds: swarmrun.dev is not installed",
        "      mend: set crds.install, or apply crds/",
    ]
    unknown = operator("--check", "weather")
    assert unknown.returncode == 1
    assert "no check weather" in unknown.stderr


def test_a_hint_is_no_mend() -> None:
    assert line(Finding("a", "ok", "b", "c")) == "ok       a: b\n      hint: c"
