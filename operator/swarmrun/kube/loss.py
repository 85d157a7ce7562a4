"""What a Pod's status and Events say: on its way, running, lost, or refused for good. Pure.

*Lost* is what another Pod can mend; *Refused* is what would happen to every Pod of this kind, told with the
kubelet's own words. Causes and texts were seen on Kubernetes 1.35 with containerd.

| cause | what stands there |
| --- | --- |
| memory | `OOMKilled`, 137; on cgroup v1 137 alone when a child was killed |
| `emptyDir` or ephemeral storage over its limit | `status.reason: Evicted`, the message names it |
| the same, and the server ended with 0 | `Succeeded`; Event `Evicted` has the message |
| eviction API, preemption, taint, garbage collection | condition `DisruptionTarget`, its reason |
| deleted by hand | `deletionTimestamp` alone |
| image | waiting `ErrImagePull` and `ImagePullBackOff` in turn, `InvalidImageName`, `ErrImageNeverPull` |
| root image, Secret missing (env) | waiting `CreateContainerConfigError` |
| no such command | terminated `StartError`, 128 |
| Secret or ConfigMap missing (volume) | waiting `ContainerCreating`; the cause is in Event `FailedMount` |
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Json = dict[str, Any]


@dataclass(frozen=True)
class PodState:
    phase: Literal["Starting", "Running", "Lost", "Refused"]
    reason: str = ""
    message: str = ""
    ip: str = ""
    """While it runs."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    """While it runs."""
    tells: bool = False
    """Of one that starts: the reason is worth telling, people may have to do something about it."""
    look_at_events: bool = False
    """Nothing on the status says why it has not started, or why it ended."""


ENDING = "Ending"
"""Reason of a Pod whose container has ended, but whose last status is still to come: asked again, it is Lost."""

_REFUSED = {
    "InvalidImageName": "InvalidImageName",
    "ErrImageNeverPull": "ImageNotPresent",
    "CreateContainerConfigError": "ContainerConfigRefused",
    "CreateContainerError": "ContainerRefused",
    "RunContainerError": "CommandRefused",
}
"""Waiting reason → ours. None of them heals by waiting."""

_PULLING = ("ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable")

_NO_SUCH_IMAGE = re.compile(
    r"not found|manifest unknown|does not exist|unauthorized|denied|forbidden|authentication required"
    r"|no match for platform|invalid reference|40[134]\b",
    re.IGNORECASE,
)
"""Answers of a registry that the next try will get as well. An outage of the registry is waited out."""

_NOT_YET = re.compile(
    r"have not yet been read|context deadline exceeded|DeadlineExceeded|is reserved for|transport: |i/o timeout"
    r"|connection refused|failed to sync",
    re.IGNORECASE,
)
"""What a kubelet says of a container that it makes at its next try: it has just started, or its node is busy."""

NEVER_SERVED_SECONDS = 20
"""A server that ends by itself with an error so soon after its start has refused to start (arbitrary)."""


def read_pod(pod: Json) -> PodState:
    """Of a Pod with one container."""
    meta, status = pod.get("metadata") or {}, pod.get("status") or {}
    name = meta.get("name", "")
    container = (status.get("containerStatuses") or [{}])[0]
    state = container.get("state") or {}
    phase = status.get("phase", "Pending")
    if ended := state.get("terminated"):
        return _ended(name, meta, status, ended)
    if phase in ("Failed", "Succeeded") or status.get("reason") in ("Evicted", "NodeLost", "NodeShutdown"):
        return _pod_failed(name, meta, status)
    if meta.get("deletionTimestamp"):
        return _disrupted(name, status) or PodState("Lost", "Deleted", f"Pod {name} is being deleted")
    if waiting := state.get("waiting"):
        return _waiting(name, waiting)
    if "running" in state and status.get("podIP"):
        return PodState("Running", ip=status["podIP"], labels=meta.get("labels") or {})
    return _pending(name, status)


def read_events(events: Iterable[Json], pod: Json) -> PodState | None:
    """What Events of this Pod (or of its volume claim) say about a start that will never happen, or about an end
    whose cause is not on the status: of an evicted Pod whose server ends properly, exit code 0 is all that is.
    Those of an earlier Pod of the same name are not its own."""
    uid = (pod.get("metadata") or {}).get("uid", "")
    for event in events:
        about = event.get("involvedObject") or {}
        if about.get("kind") == "Pod" and about.get("uid", uid) != uid:
            continue
        reason, message = event.get("reason", ""), str(event.get("message", ""))
        if reason == "Evicted":
            return _evicted(about.get("name", ""), message.strip())
        if reason == "FailedMount" and re.search(r"not found|references non-existent|doesn't exist", message):
            return PodState("Refused", "VolumeSourceMissing", message)
        if reason == "ProvisioningFailed" and re.search(r"storageclass\S* .*not found", message):
            return PodState("Refused", "StorageClassNotFound", message)
        if reason == "FailedCreatePodSandBox" and "RuntimeHandler" in message:
            return PodState("Refused", "RuntimeClassNotFound", message)
    return None


# ------------------------------------------------------------


def _ended(name: str, meta: Json, status: Json, ended: Json) -> PodState:
    reason, code = ended.get("reason", ""), ended.get("exitCode", 0)
    said = str(ended.get("message") or "").strip()[-500:]
    if status.get("phase") not in ("Failed", "Succeeded"):
        # An evicted Pod's container is told first, the eviction when all of it has ended.
        return PodState("Starting", ENDING, f"Pod {name} ended with {code}; its cause is not told yet")
    if reason == "StartError" or code == 128:
        return PodState("Refused", "CommandRefused", f"Pod {name} cannot start its server: {said}")
    if reason == "OOMKilled":
        return PodState("Lost", "OOMKilled", f"Pod {name} used more memory than it may")
    if status.get("reason"):
        return _pod_failed(name, meta, status)
    if disrupted := _disrupted(name, status):
        return disrupted
    if meta.get("deletionTimestamp"):
        return PodState("Lost", "Deleted", f"Pod {name} was deleted")
    if code == 137:
        return PodState("Lost", "Killed", f"Pod {name}: its server was killed (137); mostly that is memory")
    if 0 < code < 128 and (seconds := _lasted(ended)) is not None and seconds < NEVER_SERVED_SECONDS:
        return PodState("Refused", "ServerDidNotStart", f"Pod {name} ended with {code}: {said}")
    told = f"Pod {name} ended with {code}: {said}".rstrip(": ")
    return PodState("Lost", "ServerEnded", told, look_at_events=True)


def _pod_failed(name: str, meta: Json, status: Json) -> PodState:
    reason, said = status.get("reason", ""), str(status.get("message", "")).strip()[:500]
    if reason == "Evicted":
        return _evicted(name, said)
    if disrupted := _disrupted(name, status):
        return disrupted
    if meta.get("deletionTimestamp") and not reason:
        return PodState("Lost", "Deleted", f"Pod {name} was deleted")
    return PodState("Lost", reason or "PodEnded", f"Pod {name} ended: {said or status.get('phase', '')}")


def _evicted(name: str, said: str) -> PodState:
    full = re.search(r"ephemeral|EmptyDir|exceeds the limit", said)
    return PodState("Lost", "DiskFull" if full else "Evicted", f"Pod {name} was evicted: {said}")


def _disrupted(name: str, status: Json) -> PodState | None:
    for condition in status.get("conditions") or []:
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            return PodState(
                "Lost",
                condition.get("reason") or "Disrupted",
                f"Pod {name} was taken away: {condition.get('message', '')}".rstrip(": "),
            )
    return None


def _waiting(name: str, waiting: Json) -> PodState:
    reason, said = waiting.get("reason", ""), str(waiting.get("message", "")).strip()[:500]
    if reason in _REFUSED and not _NOT_YET.search(said):
        return PodState("Refused", _REFUSED[reason], f"Pod {name}: {said or reason}")
    if reason in _PULLING:
        # Without the image's own name, which may hold any of the words.
        if _NO_SUCH_IMAGE.search(re.sub(r'"[^"]*"', "", said)):
            return PodState("Refused", "ImagePullFailed", f"Pod {name}: {said}")
        # Under one name: kubelet's goes to and fro.
        return PodState("Starting", "ImagePullBackOff", said, tells=True)
    return PodState("Starting", reason or "Waiting", said, look_at_events=True)


def _pending(name: str, status: Json) -> PodState:
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            said = str(condition.get("message", ""))
            volume = "persistentvolumeclaim" in said.lower() or "volume" in said.lower()
            return PodState(
                "Starting",
                condition.get("reason") or "Unschedulable",
                said,
                tells=True,
                look_at_events=volume,
            )
    return PodState("Starting", "Pending", f"Pod {name} waits for a node")


def _lasted(ended: Json) -> float | None:
    """Seconds between start and end; None where the status does not tell."""
    try:
        start, end = (datetime.fromisoformat(ended[key]) for key in ("startedAt", "finishedAt"))
    except (KeyError, TypeError, ValueError):
        return None
    return (end - start).total_seconds()
