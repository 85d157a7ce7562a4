"""An engine whose runs say what a test tells them to, and resources as the API server shows them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from durabletask.client import OrchestrationStatus

from swarmrun.api.resolve import Snapshot
from swarmrun.errors import NotFound
from swarmrun.report import RunReport

UID = "6a6f1ef2-1a50-4f4b-b6ee-7191db4fc90f"


@dataclass
class State:
    instance_id: str
    runtime_status: OrchestrationStatus = OrchestrationStatus.RUNNING
    serialized_custom_status: str | None = None
    serialized_output: str | None = None
    serialized_input: str | None = None
    failure_details: Any = None


@dataclass
class FakeEngine:
    states: dict[str, State] = field(default_factory=dict)
    mail: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    purged: list[str] = field(default_factory=list)
    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    broken: Exception | None = None

    def get_orchestration_state(self, instance_id: str, *, fetch_payloads: bool = True) -> State | None:
        if self.broken:
            raise self.broken
        return self.states.get(instance_id)

    def schedule_new_orchestration(self, orchestrator: str, *, input: Any, instance_id: str) -> str:
        if self.broken:
            raise self.broken
        assert orchestrator == "run"
        assert instance_id not in self.states
        self.states[instance_id] = State(instance_id, serialized_input=json.dumps(input))
        self.inputs[instance_id] = input
        return instance_id

    def given(self, instance_id: str) -> Any:
        """What an orchestration was started with."""
        return json.loads(self.states[instance_id].serialized_input or "null")

    def raise_orchestration_event(self, instance_id: str, event_name: str, *, data: Any) -> None:
        assert event_name == "mail"
        self.mail.append((instance_id, data))

    def purge_orchestration(self, instance_id: str, recursive: bool = True) -> None:
        self.purged.append(instance_id)
        self.states.pop(instance_id, None)

    def get_all_orchestration_states(self, orchestration_query: Any = None) -> list[State]:
        prefix = orchestration_query.instance_id_prefix or "" if orchestration_query else ""
        return [s for s in self.states.values() if s.instance_id.startswith(prefix)]

    def tell(self, report: RunReport) -> None:
        """The run says this of itself."""
        self.states[report.run].serialized_custom_status = report.model_dump_json()

    def end(self, report: RunReport) -> None:
        state = self.states[report.run]
        state.runtime_status = OrchestrationStatus.COMPLETED
        state.serialized_output = report.model_dump_json()


@dataclass
class FakeWorlds:
    begun: list[Snapshot] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)

    def begin(self, snapshot: Snapshot) -> Snapshot:
        self.begun.append(snapshot)
        return snapshot

    def close(self, run: str) -> None:
        self.closed.append(run)

    def remove(self, run: str) -> None:
        self.removed.append(run)

    def __call__(self, run: str) -> Any:
        raise NotFound(run)


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def worlds() -> FakeWorlds:
    return FakeWorlds()


@pytest.fixture
def run_body() -> Callable[..., dict[str, Any]]:
    def make(
        *, annotations: dict[str, str] | None = None, generation: int = 1, uid: str = UID, **spec: Any
    ) -> dict[str, Any]:
        repository = {"url": "https://git.example.com/team/shop.git"}
        return {
            "apiVersion": "swarmrun.dev/v1alpha1",
            "kind": "SwarmRun",
            "metadata": {
                "name": "shop",
                "namespace": "team",
                "uid": uid,
                "generation": generation,
                "resourceVersion": "7",
                "creationTimestamp": "2030-01-01T00:00:00Z",
                "annotations": annotations or {},
            },
            "spec": {"className": "standard", "goal": "Build a shop.", "repository": repository, **spec},
        }

    return make


@pytest.fixture
def class_body() -> Callable[..., dict[str, Any]]:
    def make(name: str = "standard", **spec: Any) -> dict[str, Any]:
        models = {"standard": {"endpoint": "https://models.example.com/v1", "model": "m"}}
        return {
            "apiVersion": "swarmrun.dev/v1alpha1",
            "kind": "SwarmClass",
            "metadata": {"name": name, "uid": "x", "generation": 1},
            "spec": {"models": models, **spec},
        }

    return make
