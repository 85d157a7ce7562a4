"""The Pods of a run as its readers see them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from swarmrun.api.status import SwarmRunStatus
from swarmrun.kube.api import KubeApi
from swarmrun.kube.names import COMPONENT, INSTANCE, SANDBOX, label_value

INTEGRATION = "integration"
"""Task name of the sandbox in which planner, integrator and fixer work."""

_ID = re.compile(r"-(?P<task>.+)-a(?P<attempt>\d+)-g(?P<generation>\d+)")


@dataclass(frozen=True)
class RunPod:
    name: str
    task: str
    """Of a sandbox; empty for the git Pod."""
    phase: str
    """As kubectl shows it: `Running`, `Pending`, `ContainerCreating`, `Terminating` …"""
    speaks: bool
    """Its container has started: there is a log."""


async def run_pods(api: KubeApi, namespace: str, status: SwarmRunStatus) -> list[RunPod]:
    """In the order of their making. Raises PermissionDenied where Pods may not be listed."""
    if not status.run:
        return []
    chosen = f"{INSTANCE}={label_value(status.run)}"
    found = await api.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=chosen)
    items = sorted(found.get("items", []), key=lambda p: p["metadata"].get("creationTimestamp", ""))
    return [pod for item in items if (pod := _pod(item, status.run)) is not None]


def _pod(body: dict[str, Any], run: str) -> RunPod | None:
    meta, status = body["metadata"], body.get("status", {})
    task = ""
    if meta.get("labels", {}).get(COMPONENT) == "sandbox":
        match = _ID.fullmatch(meta.get("annotations", {}).get(SANDBOX, "").removeprefix(run))
        if match is None:
            return None
        task = match["task"]
    containers = status.get("containerStatuses") or [{}]
    state = containers[0].get("state", {})
    waiting = state.get("waiting", {}).get("reason", "")
    phase = "Terminating" if meta.get("deletionTimestamp") else waiting or status.get("phase", "")
    return RunPod(meta["name"], task, phase, "running" in state or "terminated" in state)


def of_task(pods: list[RunPod], task: str, status: SwarmRunStatus) -> list[RunPod]:
    """Sandboxes in which an agent on `task` works: its own, else the integration sandbox."""
    own = [p for p in pods if p.task == task]
    planned = {t.id for t in status.plan.tasks} if status.plan else set[str]()
    return own if own or task in planned else [p for p in pods if p.task == INTEGRATION]
