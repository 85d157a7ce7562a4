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
    # Each holds two while its plan awaits approval, whatever its parallelism.
    cls["spec"]["maxSandboxes"] = 4
    runs = []
    for name in ("first", "second", "third", "fourth"):
        runs.append(copy.deepcopy(run))
        runs[-1]["metadata"]["name"] = name
    # The resources' times of making count in whole seconds.
    kubectl.apply(cls, *runs[:2])
    operator.start()
    for name in ("first", "second"):
        kubectl.until(lambda name=name: kubectl.reason(name) == "AwaitingPlanApproval")
    kubectl.apply(runs[2])
    kubectl.until(lambda: kubectl.reason("third") == "WaitingForCapacity")
    kubectl.apply(runs[3])
    kubectl.until(lambda: kubectl.reason("fourth") == "WaitingForCapacity")
    # What is held already is known to the next process.
    operator.end(signal.SIGKILL)
    operator.start()
    kubectl("annotate", "swr", "fourth", "swarmrun.dev/suspend=2030-01-01T00:00:00Z")
    kubectl("annotate", "swr", "first", "swarmrun.dev/cancel=makes room")
    kubectl.until(lambda: kubectl.reason("third") == "AwaitingPlanApproval")
    assert kubectl.reason("first") == "Cancelled"
    events = json.loads(kubectl("get", "events", "--field-selector=reason=WaitingForCapacity", "-o", "json"))
    assert {e["involvedObject"]["name"] for e in events["items"]} == {"third", "fourth"}
    assert "spec.maxSandboxes" in events["items"][0]["message"]
    # With nobody else before it, deleted while it waits or let in: the last one leaves nothing behind.
    kubectl("delete", "swr", "third")
    kubectl.until(lambda: kubectl.reason("fourth") in ("Suspended", "AwaitingPlanApproval"))
