"""Whole runs by an operator outside of the cluster, seen on their resources."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]

Demo = Callable[..., list[dict[str, Any]]]
NAME = "url-shortener"


def test_a_run_applied_with_kubectl_is_published_although_the_operator_is_killed_twice(
    kubectl: Any, operator: Any, demo: Demo, tmp_path: Path
) -> None:
    kubectl.apply(*demo())
    operator.start()
    for progress in ("0/4", "1/4"):
        kubectl.until(lambda want=progress: kubectl.status(NAME).get("progress", "") >= want)
        operator.end(signal.SIGKILL)
        operator.start()
    kubectl.finished(NAME)
    status = kubectl.status(NAME)
    assert (status["phase"], status["result"]["branch"]) == ("Succeeded", f"swarm/{NAME}")
    assert kubectl.reason(NAME) == "Published"
    heads = subprocess.run(
        ["git", "-C", str(tmp_path / "remote.git"), "rev-parse", f"swarm/{NAME}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert heads.stdout.strip() == status["result"]["commit"]
    story = kubectl("describe", "swr", NAME)
    for word in ("Planned", "Merged", "Judged", "Published"):
        assert word in story
    # Nothing of ours or of Kopf's stands on the resource but its status.
    meta = kubectl.run(NAME)["metadata"]
    assert "finalizers" not in meta
    assert not [a for a in meta.get("annotations", {}) if "kopf" in a or "swarmrun" in a]
    # Restarted on an ended run it changes nothing.
    version = kubectl.run(NAME)["metadata"]["resourceVersion"]
    assert operator.end(signal.SIGTERM) == 0
    operator.start()
    time.sleep(5)
    assert kubectl.run(NAME)["metadata"]["resourceVersion"] == version


def test_words_on_the_resource_reach_the_run(kubectl: Any, operator: Any, demo: Demo) -> None:
    def annotate(what: str, value: str) -> None:
        kubectl("annotate", "--overwrite", "swr", NAME, f"swarmrun.dev/{what}={value}")

    kubectl.apply(*demo(plan={"approval": True}))
    operator.start()
    kubectl.until(lambda: kubectl.reason(NAME) == "AwaitingPlanApproval")
    annotate("suspend", "2030-01-01T00:00:00Z")
    kubectl.until(lambda: kubectl.reason(NAME) == "Suspended")
    operator.end(signal.SIGKILL)
    annotate("resume", "2030-01-01T00:01:00Z")
    operator.start()
    kubectl.until(lambda: kubectl.reason(NAME) == "AwaitingPlanApproval")
    annotate("approve-plan", "0" * 64)
    time.sleep(4)
    assert kubectl.reason(NAME) == "AwaitingPlanApproval"
    annotate("approve-plan", kubectl.status(NAME)["plan"]["hash"])
    kubectl.until(lambda: kubectl.status(NAME)["phase"] == "Running")
    annotate("cancel", "seen enough")
    kubectl.until(lambda: kubectl.status(NAME)["phase"] == "Cancelled")
    generation = kubectl.run(NAME)["metadata"]["generation"]
    assert kubectl.status(NAME)["observedGeneration"] == generation
    truth = {c["type"]: c["status"] for c in kubectl.status(NAME)["conditions"]}
    assert truth == {
        "Ready": "False",
        "Reconciling": "False",
        "Stalled": "True",
        "Succeeded": "False",
        "Finished": "True",
    }


def test_a_missing_class_is_waited_for_and_a_refusal_is_mended_by_an_edit(
    kubectl: Any, operator: Any, demo: Demo
) -> None:
    cls, run = demo(parallelism=50, plan={"approval": True})
    kubectl.apply(run)
    operator.start()
    kubectl.until(lambda: kubectl.reason(NAME) == "SwarmClassNotFound")
    began = time.monotonic()
    kubectl.apply(cls)
    kubectl.until(lambda: kubectl.status(NAME)["phase"] == "Failed")
    # Two seconds on an idle machine; a sweep, which would find it as well, comes once a minute.
    assert time.monotonic() - began < 30
    message = next(c["message"] for c in kubectl.status(NAME)["conditions"] if c["type"] == "Stalled")
    assert "spec.parallelism is 50" in message
    run["spec"]["parallelism"] = 2
    kubectl.apply(run)
    kubectl.until(lambda: kubectl.reason(NAME) == "AwaitingPlanApproval")


def test_what_a_deleted_resource_left_is_removed(
    kubectl: Any, operator: Any, demo: Demo, tmp_path: Path
) -> None:
    kubectl.apply(*demo(plan={"approval": True}))
    operator.start()
    kubectl.until(lambda: kubectl.reason(NAME) == "AwaitingPlanApproval")
    runs = tmp_path / "operator/state/artifacts/runs"
    assert list(runs.iterdir())
    operator.end(signal.SIGKILL)
    # Nobody is there: it goes all the same.
    kubectl("delete", "swr", NAME, "--timeout=30s")
    operator.start()
    kubectl.until(lambda: not list(runs.iterdir()))
