"""Statuses as a real kubelet wrote them (Kubernetes 1.35), shortened."""

from __future__ import annotations

from typing import Any

import pytest

from swarmrun.kube.loss import read_events, read_pod


def pod(status: dict[str, Any], **meta: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", **meta}, "status": status}


def ended(code: int, reason: str = "Error", *, seconds: int = 600, message: str = "", **more: Any) -> Any:
    state = {
        "exitCode": code,
        "reason": reason,
        "message": message,
        "startedAt": "2026-01-01T10:00:00Z",
        "finishedAt": f"2026-01-01T10:{seconds // 60:02}:{seconds % 60:02}Z",
    }
    return {"phase": "Failed", "containerStatuses": [{"state": {"terminated": state}}], **more}


def waiting(reason: str, message: str = "") -> Any:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"phase": "Pending", "containerStatuses": [{"state": state}]}


def disrupted(reason: str) -> Any:
    return [{"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "why"}]


EVICTED = {
    "reason": "Evicted",
    "message": 'Usage of EmptyDir volume "work" exceeds the limit "64Mi".',
}
LOW = {"reason": "Evicted", "message": "The node was low on resource: memory."}


@pytest.mark.parametrize(
    ("it", "phase", "reason"),
    [
        (pod(ended(137, "OOMKilled")), "Lost", "OOMKilled"),
        (pod(ended(137)), "Lost", "Killed"),
        (pod(ended(137) | EVICTED), "Lost", "DiskFull"),
        (pod(ended(137) | LOW), "Lost", "Evicted"),
        (pod({"phase": "Failed"} | EVICTED), "Lost", "DiskFull"),
        (
            pod(ended(137, conditions=disrupted("EvictionByEvictionAPI")), deletionTimestamp="t"),
            "Lost",
            "EvictionByEvictionAPI",
        ),
        (
            pod({"phase": "Failed", "conditions": disrupted("DeletionByPodGC")}),
            "Lost",
            "DeletionByPodGC",
        ),
        (
            pod(
                {
                    "phase": "Running",
                    "conditions": disrupted("DeletionByTaintManager"),
                    "containerStatuses": [{"state": {"running": {}}}],
                },
                deletionTimestamp="t",
            ),
            "Lost",
            "DeletionByTaintManager",
        ),
        (pod({"phase": "Running", "podIP": "10.0.0.1"}, deletionTimestamp="t"), "Lost", "Deleted"),
        (pod(ended(137), deletionTimestamp="t"), "Lost", "Deleted"),
        (pod(ended(0)), "Lost", "ServerEnded"),
        (pod(ended(1, seconds=300)), "Lost", "ServerEnded"),
        (pod(ended(1, seconds=1, message="SyntaxError")), "Refused", "ServerDidNotStart"),
        (
            pod(ended(128, "StartError", seconds=0, message='exec: "python3": not found')),
            "Refused",
            "CommandRefused",
        ),
        (pod({"phase": "Failed", "reason": "OutOfcpu", "message": "Node didn't have"}), "Lost", "OutOfcpu"),
        (pod(waiting("InvalidImageName", "couldn't parse")), "Refused", "InvalidImageName"),
        (pod(waiting("ErrImageNeverPull", "not present")), "Refused", "ImageNotPresent"),
        (
            pod(waiting("CreateContainerConfigError", 'secret "s" not found')),
            "Refused",
            "ContainerConfigRefused",
        ),
        (pod(waiting("ErrImagePull", "docker.io/x/y:z: not found")), "Refused", "ImagePullFailed"),
        (
            pod(
                waiting(
                    "ImagePullBackOff", 'Back-off pulling image "ghcr.io/o/i:1": ErrImagePull: 403 Forbidden'
                )
            ),
            "Refused",
            "ImagePullFailed",
        ),
        (pod(waiting("ErrImagePull", "dial tcp: i/o timeout")), "Starting", "ImagePullBackOff"),
        (pod(waiting("ImagePullBackOff", 'Back-off pulling image "x"')), "Starting", "ImagePullBackOff"),
        (pod(waiting("ContainerCreating")), "Starting", "ContainerCreating"),
        (pod({"phase": "Pending"}), "Starting", "Pending"),
        (
            pod({"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": [{"state": {"running": {}}}]}),
            "Running",
            "",
        ),
    ],
)
def test_a_status_is_read_for_what_it_means(it, phase, reason):
    state = read_pod(it)
    assert (state.phase, state.reason) == (phase, reason)
    assert state.ip == ("10.0.0.1" if phase == "Running" else "")
    if phase in ("Lost", "Refused"):
        assert state.message.startswith("Pod p")


def test_a_pod_that_finds_no_node_says_why():
    conditions = [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 Insufficient cpu.",
        }
    ]
    state = read_pod(pod({"phase": "Pending", "conditions": conditions}))
    assert (state.phase, state.reason, state.tells) == ("Starting", "Unschedulable", True)
    assert "Insufficient cpu" in state.message


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (
            ("FailedMount", 'MountVolume.SetUp failed for volume "s" : secret "none" not found'),
            "VolumeSourceMissing",
        ),
        (
            ("FailedMount", 'configmap references non-existent config key: "ca.crt"'),
            "VolumeSourceMissing",
        ),
        (
            ("ProvisioningFailed", 'storageclass.storage.k8s.io "fast" not found'),
            "StorageClassNotFound",
        ),
        (("FailedMount", 'object "ns"/"kube-root-ca.crt" not registered'), None),
        (("Evicted", 'Usage of EmptyDir volume "work" exceeds the limit "64Mi". '), "DiskFull"),
        (("Evicted", "The node was low on resource: memory."), "Evicted"),
        (("Scheduled", "Successfully assigned"), None),
    ],
)
def test_events_tell_what_the_status_does_not(event, reason):
    found = read_events([{"reason": event[0], "message": event[1]}], pod({}))
    assert (found.reason if found else None) == reason


def test_what_an_earlier_pod_of_the_same_name_met_is_not_this_ones():
    told = EVICTED | {"involvedObject": {"kind": "Pod", "name": "p", "uid": "old"}}
    assert read_events([told], pod({}, uid="new")) is None
    assert read_events([told], pod({}, uid="old"))
    claim = {"kind": "PersistentVolumeClaim", "name": "p-work", "uid": "its own"}
    missing = {"reason": "ProvisioningFailed", "message": 'storageclass.storage.k8s.io "fast" not found'}
    assert read_events([missing | {"involvedObject": claim}], pod({}, uid="new"))


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        (
            "CreateContainerConfigError",
            "services have not yet been read at least once, cannot construct envvars",
        ),
        ("CreateContainerError", "context deadline exceeded"),
        ("CreateContainerError", 'failed to reserve container name "x": name "x" is reserved for "y"'),
    ],
)
def test_what_a_busy_node_gets_over_is_no_refusal(reason, message):
    assert read_pod(pod(waiting(reason, message))).phase == "Starting"
    assert read_pod(pod(waiting(reason, 'secret "s" not found'))).phase == "Refused"
