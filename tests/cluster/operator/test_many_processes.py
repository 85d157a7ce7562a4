"""Controllers and workers as processes of their own over the engine's gRPC, sandboxes and git as Pods.

This process must reach Pods, and Pods the forge (see ../conftest.py).
"""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from swarmrun.durable.engine import EmbeddedEngine

FORGE = os.environ.get("SWARMRUN_TEST_FORGE", "").rstrip("/")
TOKEN = os.environ.get("SWARMRUN_TEST_FORGE_TOKEN", "")
NAME = "url-shortener"

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(not FORGE or not TOKEN, reason="needs SWARMRUN_TEST_FORGE and its token"),
]


@pytest.fixture
def processes(kubectl: Any, make_operator: Callable[..., Any], tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Two controllers and two workers by name, none started."""
    key = tmp_path / "master.key"
    key.write_bytes(secrets.token_bytes(32))
    with EmbeddedEngine(tmp_path / "engine.db") as engine:
        env = {
            "SWARMRUN_ENGINE": "dts",
            "SWARMRUN_DTS_ENDPOINT": f"unix:{engine.serve()}",
            "SWARMRUN_ARTIFACTS": (tmp_path / "artifacts").as_uri(),
            "SWARMRUN_MASTER_KEY_FILE": str(key),
            "SWARMRUN_SANDBOXES": "pod",
            "SWARMRUN_SANDBOX_IMAGE": os.environ.get(
                "SWARMRUN_TEST_SANDBOX_IMAGE", "localhost/swarmrun-sandbox:dev"
            ),
            "SWARMRUN_OPERATOR_IMAGE": os.environ.get(
                "SWARMRUN_TEST_OPERATOR_IMAGE", "localhost/swarmrun-operator:dev"
            ),
            "SWARMRUN_LEASE": "controller",
            "SWARMRUN_NAMESPACE": kubectl.namespace,
        }
        yield {n: make_operator(n, SWARMRUN_IDENTITY=n, **env) for n in ("c1", "c2", "w1", "w2")}


def test_a_worker_and_the_leading_controller_die_and_the_run_goes_on(
    kubectl: Any, demo: Callable[..., list[dict[str, Any]]], remote: str, processes: dict[str, Any]
) -> None:
    cls, run = demo(repository={"url": remote, "credential": {"name": "forge"}})
    cls["spec"]["repositories"] = {"schemes": ["http", "https"]}
    cls["spec"]["sandbox"] = {"resources": {"memory": "512Mi", "disk": "1Gi"}}
    kubectl.apply(cls, run)
    for name, process in processes.items():
        process.start("controller" if name.startswith("c") else "worker")

    def holder() -> str:
        path = "jsonpath={.items[*].spec.holderIdentity}"
        return kubectl("get", "leases", "-o", path).strip()

    kubectl.until(lambda: kubectl.status(NAME).get("progress", "") >= "0/4")
    leader = kubectl.until(holder)
    processes[leader].end(signal.SIGKILL)
    processes["w1"].end(signal.SIGKILL)
    kubectl.finished(NAME)
    assert kubectl.reason(NAME) == "Published"
    assert holder() == ("c2" if leader == "c1" else "c1")
    # Pods go when the run ends, and an orderly end gives the lease back.
    kubectl.pods_of_runs_gone()
    assert processes[holder()].end(signal.SIGTERM) == 0
    assert holder() == ""
    assert processes["w2"].end(signal.SIGTERM) == 0
