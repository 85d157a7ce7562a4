"""What people get wrong, on a real API server with everything in Pods: told by a reason of its own, with the field
and its mend, at once, for good, and for nothing.

This process must reach Pods, and Pods the forge (see ../conftest.py).
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from mistakes import FORGE, TOKEN, WRONG, Wrong, credential, quota, resources

from swarmrun.durable.engine import EmbeddedEngine

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not FORGE or not TOKEN, reason="needs SWARMRUN_TEST_FORGE and its token"),
]

SOON = timedelta(seconds=20)
"""Two seconds is what is wanted, and what bench/mistakes_bench.py measures; timestamps are whole seconds, and the
machine may be busy with other tests."""


@pytest.fixture(scope="module")
def models() -> Iterator[list[str]]:
    """Address of a model's server, and then who has asked it: nobody should."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.send_error(500)

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    asked.append(f"http://127.0.0.1:{server.server_port}/v1")
    yield asked
    server.shutdown()


@pytest.fixture(scope="module")
def remote() -> Iterator[str]:
    """A repository with a file in it."""
    headers = {"Authorization": f"token {TOKEN}"}
    with httpx.Client(base_url=f"{FORGE}/api/v1", headers=headers, trust_env=False, timeout=30) as forge:
        body = {"name": f"bad-{secrets.token_hex(4)}", "auto_init": True, "default_branch": "main"}
        made = forge.post("/user/repos", json=body).raise_for_status().json()
        yield f"{FORGE}/{made['full_name']}.git"
        forge.delete(f"/repos/{made['full_name']}")


@pytest.fixture(scope="module")
def operator(rooms: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Started before anything that is timed."""
    it = rooms.operator(
        tmp_path_factory.mktemp("operator") / "state",
        SWARMRUN_SANDBOXES="pod",
        SWARMRUN_SANDBOX_IMAGE=os.environ.get(
            "SWARMRUN_TEST_SANDBOX_IMAGE", "localhost/swarmrun-sandbox:dev"
        ),
        SWARMRUN_OPERATOR_IMAGE=os.environ.get(
            "SWARMRUN_TEST_OPERATOR_IMAGE", "localhost/swarmrun-operator:dev"
        ),
        SWARMRUN_NAMESPACE="swarmrun-system",
    )
    yield it
    it.close()
    print(it.log.read_text()[-6000:])


@pytest.fixture
def room(rooms: Any, operator: Any) -> Any:
    """A namespace of the test's own, with the right credential in it."""
    kubectl = rooms.take()
    kubectl.apply(credential("forge", {"token": TOKEN}))
    return kubectl


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_mistake_is_told_at_once_for_good_and_for_nothing(
    room: Any, remote: str, models: list[str], wrong: Wrong
) -> None:
    kubectl, asked = room, models
    if wrong.secret:
        kubectl.apply(credential("wrong", wrong.secret))
    cls, run = resources(kubectl.namespace, remote, asked[0], wrong)
    if wrong.before:
        kubectl.apply(*wrong.before)
        if wrong.before[0]["kind"] == "ResourceQuota":
            kubectl.until(
                lambda: "hard" in json.loads(kubectl("get", "quota", "q", "-o", "json")).get("status", {})
            )
    kubectl.apply(cls, run)
    kind = "Reconciling" if wrong.waits else "Stalled"

    def told() -> dict[str, Any]:
        found = {c["type"]: c for c in kubectl.status("bad").get("conditions", [])}
        it = found.get(kind, {})
        return it if it.get("status") == "True" and it["reason"] in (wrong.reason, end(found)) else {}

    condition = kubectl.until(told, within=180)
    seen = datetime.fromisoformat(happened(kubectl, condition["reason"]))
    causes = told_by_the_cluster(kubectl)
    assert condition["reason"] == wrong.reason, condition
    for words in wrong.words:
        assert words in condition["message"], condition
    assert len(condition["message"]) <= 512
    if causes:
        assert seen - max(causes) < SOON, (seen, causes)
    assert asked[1:] == []
    assert kubectl.status("bad").get("usage", {}).get("tokens", 0) == 0
    if not wrong.waits:
        kubectl.until(lambda: not kubectl("get", "pods,pvc", "-o", "name").strip(), within=180)
        quiet(kubectl)
    # A person who mends nothing can always get rid of it.
    kubectl("delete", "swr", "bad", "--timeout=60s")
    kubectl.until(lambda: not kubectl("get", "pods,pvc", "-o", "name").strip(), within=180)


def end(conditions: dict[str, Any]) -> str:
    """The reason of a run that is over, whatever it is: no use in waiting for another."""
    finished = conditions.get("Finished", {})
    return finished.get("reason", "") if finished.get("status") == "True" else ""


def happened(kubectl: Any, reason: str) -> str:
    """When the run's Event of this reason was made."""

    def times() -> list[str]:
        found = json.loads(kubectl("get", "events", "-o", "json"))["items"]
        return [
            e["metadata"]["creationTimestamp"]
            for e in found
            if e["involvedObject"]["kind"] == "SwarmRun" and e["reason"] == reason
        ]

    return min(kubectl.until(times))


def told_by_the_cluster(kubectl: Any) -> list[datetime]:
    """When the resource was made, and when a Pod first ran or first had a problem."""
    found = json.loads(kubectl("get", "events", "-o", "json"))["items"]
    times = [kubectl.run("bad")["metadata"]["creationTimestamp"]]
    for event in found:
        of_pod = event["involvedObject"]["kind"] in ("Pod", "PersistentVolumeClaim")
        if of_pod and (event["type"] == "Warning" or event["reason"] == "Started"):
            times.append(event.get("firstTimestamp") or event["eventTime"])
    seen = datetime.fromisoformat(happened(kubectl, kubectl.reason("bad")))
    # What the cluster repeats or does afterwards (it removes the Pods) is no cause.
    return [t for t in map(datetime.fromisoformat, times) if t <= seen + timedelta(seconds=1)]


def quiet(kubectl: Any) -> None:
    """Nothing is tried again: no Pod is made, no status is written."""

    def state() -> tuple[str, int]:
        made = json.loads(kubectl("get", "events", "-o", "json"))["items"]
        of_pods = sum(e["involvedObject"]["kind"] == "Pod" and e["reason"] != "Killing" for e in made)
        return kubectl.run("bad")["metadata"]["resourceVersion"], of_pods

    before = state()
    time.sleep(5)
    assert state() == before


def test_a_run_goes_on_when_its_class_appears(room: Any, remote: str, models: list[str]) -> None:
    kubectl = room
    cls, run = resources(kubectl.namespace, remote, models[0], Wrong("", "", ()))
    kubectl.apply(quota(pods="0"), run)
    kubectl.until(lambda: kubectl.reason("bad") == "SwarmClassNotFound")
    kubectl.apply(cls)
    kubectl.until(lambda: kubectl.reason("bad") == "QuotaExceeded", within=45)


def test_a_mended_spec_is_a_new_chance(room: Any, remote: str, models: list[str]) -> None:
    kubectl = room
    cls, run = resources(kubectl.namespace, remote, models[0], Wrong("", "", (), {"parallelism": 9}))
    kubectl.apply(quota(pods="0"), cls, run)
    kubectl.until(lambda: kubectl.reason("bad") == "AboveCeiling")
    run["spec"]["parallelism"] = 1
    kubectl.apply(run)
    kubectl.until(lambda: kubectl.reason("bad") == "QuotaExceeded", within=45)


def test_a_set_up_that_fills_its_disk_is_told_and_not_repeated_for_ever(
    room: Any, remote: str, models: list[str]
) -> None:
    fills = {"setup": ["head -c 300M /dev/zero > ~/big; sleep 300"], "resources": {"disk": "64Mi"}}
    kubectl = room
    cls, run = resources(kubectl.namespace, remote, models[0], Wrong("", "", (), {"sandbox": fills}))
    kubectl.apply(cls, run)
    kubectl.until(lambda: kubectl.status("bad").get("phase") == "Failed", within=600)
    condition = next(c for c in kubectl.status("bad")["conditions"] if c["type"] == "Stalled")
    assert condition["reason"] == "DiskFull", condition
    assert "spec.sandbox.resources.disk" in condition["message"]
    assert models[1:] == []


def test_an_engine_that_is_away_is_told_and_waited_for(
    kubectl: Any, make_operator: Callable[..., Any], tmp_path: Path
) -> None:
    run = {
        "apiVersion": "swarmrun.dev/v1alpha1",
        "kind": "SwarmRun",
        "metadata": {"name": "bad"},
        "spec": {"goal": "x", "repository": {"url": "https://git.example.com/a/b"}, "className": "none"},
    }
    with EmbeddedEngine(tmp_path / "engine.db") as engine:
        controller = make_operator(
            "controller",
            SWARMRUN_ENGINE="dts",
            SWARMRUN_DTS_ENDPOINT=f"unix:{engine.serve()}",
            SWARMRUN_ARTIFACTS=(tmp_path / "artifacts").as_uri(),
            SWARMRUN_LEASE="controller",
            SWARMRUN_NAMESPACE=kubectl.namespace,
        )
        controller.start("controller")
        kubectl.apply(run)
        kubectl.until(lambda: kubectl.reason("bad") == "SwarmClassNotFound")
    kubectl("annotate", "swr", "bad", "swarmrun.dev/suspend=2030-01-01T00:00:00Z")

    def told() -> Any:
        found = {c["type"]: c for c in kubectl.status("bad").get("conditions", [])}
        it = found["Reconciling"]
        return (it["status"], it["reason"]) == ("True", "EngineUnreachable") and it["message"]

    assert "does not answer" in kubectl.until(told, within=180)


def test_a_controller_that_begins_without_its_engine_says_so_and_goes_on_by_itself(
    kubectl: Any, make_operator: Callable[..., Any], tmp_path: Path
) -> None:
    run = {
        "apiVersion": "swarmrun.dev/v1alpha1",
        "kind": "SwarmRun",
        "metadata": {"name": "bad"},
        "spec": {"goal": "x", "repository": {"url": "https://git.example.com/a/b"}, "className": "none"},
    }
    kubectl.apply(run)
    engine = EmbeddedEngine(tmp_path / "engine.db").open()
    address = engine.serve()
    engine.close()
    controller = make_operator(
        "controller",
        SWARMRUN_ENGINE="dts",
        SWARMRUN_DTS_ENDPOINT=f"unix:{address}",
        SWARMRUN_ARTIFACTS=(tmp_path / "artifacts").as_uri(),
        SWARMRUN_LEASE="controller",
        SWARMRUN_NAMESPACE=kubectl.namespace,
    )
    controller.start("controller")
    kubectl.until(lambda: kubectl.reason("bad") == "EngineUnreachable", within=180)
    found = {c["type"]: c for c in kubectl.status("bad")["conditions"]}
    assert found["Reconciling"]["status"] == "True"
    assert str(address) in found["Reconciling"]["message"]

    def answered(path: str) -> int:
        return httpx.get(f"http://127.0.0.1:{controller.probe_port}{path}", trust_env=False).status_code

    assert (answered("/healthz"), answered("/readyz")) == (200, 503)
    with EmbeddedEngine(tmp_path / "engine.db") as engine:
        engine.serve()
        kubectl.until(lambda: kubectl.reason("bad") == "SwarmClassNotFound")
        assert answered("/readyz") == 200
