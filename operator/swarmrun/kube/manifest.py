"""What every Pod of a run has: the `restricted` Pod Security Standard and more. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swarmrun.kube.names import labels, owner_references
from swarmrun.kube.options import PodOptions, RunPlace

Json = dict[str, Any]

GONE_SECONDS = 30
"""A Pod on a node that stopped answering is given up after this; Kubernetes' default is five minutes."""
GRACE_SECONDS = 5
"""Both servers end at SIGTERM at once."""

NO_MESH_LABELS = {"sidecar.istio.io/inject": "false", "istio.io/dataplane-mode": "none"}
NO_MESH_ANNOTATIONS = {
    "sidecar.istio.io/inject": "false",
    "linkerd.io/inject": "disabled",
    "kuma.io/sidecar-injection": "disabled",
    "consul.hashicorp.com/connect-inject": "false",
}
"""A mesh's proxy needs capabilities or an init container, and would speak to the network for the agent."""


def metadata(
    place: RunPlace, name: str, component: str, *, options: PodOptions | None = None, **annotations: str
) -> Json:
    """`component`: `sandbox` or `git`. A class's labels never replace ours."""
    return {
        "name": name,
        "namespace": place.namespace,
        "labels": {**(options.labels if options else {}), **labels(place, component)},
        "annotations": {**(options.annotations if options else {}), **annotations},
        "ownerReferences": owner_references(place.owner),
    }


def pod(
    meta: Json,
    container: Json,
    options: PodOptions,
    *,
    uid: int,
    volumes: list[Json],
    restart: str,
) -> Json:
    """A Pod of one container that runs as `uid`, with nothing that it could use against anybody."""
    meta = {
        **meta,
        "labels": {**meta["labels"], **NO_MESH_LABELS},
        "annotations": {**meta["annotations"], **NO_MESH_ANNOTATIONS},
    }
    spec: Json = {
        "restartPolicy": restart,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": uid,
            "runAsGroup": uid,
            "fsGroup": uid,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                **container,
                "imagePullPolicy": options.image_pull_policy,
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "privileged": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                # The last lines of a server that did not start are then on the status.
                "terminationMessagePolicy": "FallbackToLogsOnError",
            }
        ],
        "volumes": volumes,
        "tolerations": [*_gone(), *(dict(t) for t in options.tolerations)],
    }
    optional: Mapping[str, Any] = {
        "serviceAccountName": options.service_account,
        "runtimeClassName": options.runtime_class,
        "priorityClassName": options.priority_class,
        "nodeSelector": dict(options.node_selector),
        "affinity": dict(options.affinity),
        "imagePullSecrets": [{"name": name} for name in options.image_pull_secrets],
    }
    spec |= {name: value for name, value in optional.items() if value}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def _gone() -> list[Json]:
    return [
        {
            "key": f"node.kubernetes.io/{key}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": GONE_SECONDS,
        }
        for key in ("not-ready", "unreachable")
    ]


def readiness(port: int) -> Json:
    return {"tcpSocket": {"port": port}, "periodSeconds": 1, "failureThreshold": 3}


def policy(meta: Json, selects: Mapping[str, str], *, ingress: list[Json], egress: list[Json]) -> Json:
    """A NetworkPolicy that denies both ways what is not listed."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": meta,
        "spec": {
            "podSelector": {"matchLabels": dict(selects)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": ingress,
            "egress": egress,
        },
    }


def peer(namespace: str, pod_labels: Mapping[str, str]) -> Json:
    """Pods with these labels in that namespace (its name is a label since Kubernetes 1.22)."""
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "podSelector": {"matchLabels": dict(pod_labels)},
    }


def tcp(*ports: int) -> list[Json]:
    return [{"protocol": "TCP", "port": port} for port in ports]
