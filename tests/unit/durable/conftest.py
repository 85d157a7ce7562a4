from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from durabletask.client import OrchestrationState, OrchestrationStatus

from swarmrun.durable.engine import EmbeddedEngine


class Lab:
    """One engine file, opened and reopened; `run` waits for an orchestration's end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine = EmbeddedEngine(path)

    def open(self, orchestrators: list[Any], activities: dict[str, Any] | None = None) -> Lab:
        self.engine = EmbeddedEngine(self.path, grace=0.3).open()
        self.client = self.engine.client()
        if orchestrators:
            self.worker = self.engine.start_worker(orchestrators, activities or {})
        return self

    def start(self, name: str, payload: Any = None, instance_id: str | None = None, **kw: Any) -> str:
        return self.client.schedule_new_orchestration(name, input=payload, instance_id=instance_id, **kw)

    def wait(self, instance_id: str, timeout: float = 20) -> OrchestrationState:
        state = self.client.wait_for_orchestration_completion(instance_id, timeout=timeout)
        assert state is not None
        return state

    def run(self, name: str, payload: Any = None, **kw: Any) -> Any:
        state = self.wait(self.start(name, payload, **kw))
        assert state.runtime_status == OrchestrationStatus.COMPLETED, state.failure_details
        return state.get_output()

    def close(self) -> None:
        self.engine.close(wait=0.1)  # the SDK's idle worker takes a second to notice


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    laboratory = Lab(tmp_path / "engine.db")
    yield laboratory
    laboratory.close()


@pytest.fixture
def until() -> Callable[..., Any]:
    """Waits until a condition holds and returns what it said; fails after `timeout` seconds."""

    def wait(condition: Callable[[], Any], timeout: float = 10) -> Any:
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            assert time.monotonic() < deadline, "never came true"
            time.sleep(0.01)
        return value

    return wait
