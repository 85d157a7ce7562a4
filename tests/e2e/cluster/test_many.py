"""Many runs applied at once: all finish, and what that costs the API server and the operator is told."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
import scenes
from figures import Operator
from kubectl import RUNS
from place import Place
from servers import of_kind, recording

PLACE = "many"
COUNT = int(os.environ.get("SWARMRUN_E2E_RUNS") or 50)
AGENTS, TURNS = 2, 3
PATIENCE = 40 * COUNT + 120
"""Seconds for all runs together. Arbitrary; ample on a busy machine."""


def manifests(place: Place, models: str) -> list[dict[str, Any]]:
    """A class and `COUNT` runs of two agents each on one remote, every one with a branch of its own."""
    (cls,) = of_kind(place.resources, "SwarmClass")
    for tier in cls["spec"]["models"].values():
        tier["endpoint"] = models
    # So many as a small node holds; the others wait for capacity.
    cls["spec"] |= {
        "maxSandboxes": 12,
        "sandbox": {"resources": {"cpu": "50m", "memory": "128Mi", "disk": "256Mi"}},
    }
    runs = [
        scenes.journal(
            place.git.url("many"),
            name=f"many-{n:02d}",
            agents=AGENTS,
            turns=TURNS,
            className=cls["metadata"]["name"],
        )
        for n in range(COUNT)
    ]
    return [cls, *runs]


@pytest.mark.timeout(PATIENCE + 2400)
def test_all_of_many_runs_applied_at_once_finish(place: Place) -> None:
    kubectl = place.kubectl
    models = recording(
        kubectl, "journal", scenes.journal_recording(agents=AGENTS, turns=TURNS), place.resources
    )
    place.git.commit("many", {"README": "What was here before.\n"})
    operator = Operator(place.release)
    with operator.counted():
        began = time.monotonic()
        kubectl.apply(*manifests(place, models))
        kubectl.wait("condition=Finished", RUNS, "--all", within=PATIENCE)
        took = time.monotonic() - began
        requests, memory = operator.requests(), operator.memory()
    ended = {r["metadata"]["name"]: r["status"] for r in kubectl.items(RUNS)}
    assert len(ended) == COUNT
    wrong = {name: status for name, status in ended.items() if status["phase"] != "Succeeded"}
    assert not wrong
    heads = place.git.heads("many")
    trees = {heads.pop(f"swarm/{name}") for name in ended}
    assert len(trees) == 1
    assert set(heads) == {"main"}
    place.clean()
    turns = sum(agent["turns"] for status in ended.values() for agent in status["agents"])
    print(
        f"{COUNT} runs x {AGENTS} agents in {took:.0f} s: {requests} API requests, {requests / took:.1f} a second, "
        f"{requests / turns:.1f} a turn; operator {memory:.0f} MB at most",
        flush=True,
    )
