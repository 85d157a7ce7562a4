"""A cap on sandboxes, seen on resources of a real API server."""

from __future__ import annotations

import copy
import json
import signal
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

Demo = Callable[..., list[dict[str, Any]]]


def test_runs_over_the_cap_wait_in_the_order_of_their_making_and_start_by_themselves(
    kubectl: Any, operator: Any, demo: Demo
) -> None:
    cls, run = demo(plan={"approval": True})
    cls["spec"]["maxSandboxes"] = 4
    runs = []
    for name in ("first", "second", "third"):
        runs.append(copy.deepcopy(run))
        runs[-1]["metadata"]["name"] = name
    # The resources' times of making count in whole seconds.
    kubectl.apply(cls, runs[0])
    operator.start()
    kubectl.until(lambda: kubectl.reason("first") == "AwaitingPlanApproval")
    kubectl.apply(runs[1])
    kubectl.until(lambda: kubectl.reason("second") == "WaitingForCapacity")
    kubectl.apply(runs[2])
    kubectl.until(lambda: kubectl.reason("third") == "WaitingForCapacity")
    # What is held already is known to the next process.
    operator.end(signal.SIGKILL)
    operator.start()
    kubectl("annotate", "swr", "third", "swarmrun.dev/suspend=2030-01-01T00:00:00Z")
    kubectl("annotate", "swr", "first", "swarmrun.dev/cancel=makes room")
    kubectl.until(lambda: kubectl.reason("second") == "AwaitingPlanApproval")
    assert kubectl.reason("first") == "Cancelled"
    events = json.loads(kubectl("get", "events", "--field-selector=reason=WaitingForCapacity", "-o", "json"))
    assert {e["involvedObject"]["name"] for e in events["items"]} == {"second", "third"}
    assert "spec.maxSandboxes" in events["items"][0]["message"]
    # With nobody else before it, deleted while it waits or let in: the last one leaves nothing behind.
    kubectl("delete", "swr", "second")
    kubectl.until(lambda: kubectl.reason("third") in ("Suspended", "AwaitingPlanApproval"))
