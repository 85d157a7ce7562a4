"""Workers as processes of their own over the engine's gRPC, told to end one after the other as by an upgrade."""

from __future__ import annotations

import secrets
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from durabletask.client import OrchestrationQuery

from swarmrun.durable.engine import EmbeddedEngine

NAME = "url-shortener"
GRACE = 2

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]


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
    make("c").start("controller")
    worker = make("w0")
    worker.start("worker")
    kubectl.apply(*demo())
    for number, progress in enumerate(("0/4", "1/4", "2/4", "3/4"), 1):
        kubectl.until(lambda want=progress: kubectl.status(NAME).get("progress", "") >= want, within=120)
        following = make(f"w{number}")
        following.start("worker")
        began = time.monotonic()
        assert worker.end(signal.SIGTERM) == 0
        # The engine's own close, the grace, what is cut off: a kubelet would wait for 15 s more than the grace.
        assert time.monotonic() - began < GRACE + 15
        worker = following
    kubectl("wait", "--for=condition=Finished", "--timeout=150s", f"swr/{NAME}")
    assert kubectl.reason(NAME) == "Published"
    client = engine.client()
    instances = client.get_all_orchestration_states(OrchestrationQuery())
    assert len(instances) > 4
    for state in instances:
        for event in engine.history(state.instance_id):
            text = str(event)
            for sign in ("was cancelled", "was not started", "was ended by", "client has been closed"):
                assert sign not in text, text
