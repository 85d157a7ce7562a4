"""The charts, rendered by helm's own code (helm-python-sdk): no helm, no cluster."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import helm_python
import yaml

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts/swarmrun"
CLASSES = ROOT / "charts/swarmrun-classes"

Values = dict[str, Any]

DTS: Values = {
    "engine": {"type": "dts", "dts": {"endpoint": "https://hub.northeurope.durabletask.io"}},
    "artifacts": {"url": "az://runs/prod"},
    "masterKey": {"existingSecret": "swarmrun"},
    "azure": {"workloadIdentity": {"enabled": True, "clientId": "0-0"}},
}
EVERYTHING: Values = {
    "imagePullSecrets": [{"name": "acr"}],
    "watchNamespaces": ["team-a", "team-b"],
    "modelKeys": {"existingSecret": "keys"},
    "sandbox": {"pullSecrets": ["acr"]},
    "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "caBundle": {"configMap": "house", "key": "house.pem"},
    "proxy": {
        "http": "http://proxy.example.com:3128",
        "https": "http://proxy.example.com:3128",
        "noProxy": [".example.com"],
    },
    "networkPolicy": {"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]},
    "serviceAccount": {"annotations": {"a": "b"}},
    "podLabels": {"team": "platform"},
    "podAnnotations": {"a": "b"},
    "nodeSelector": {"pool": "system"},
    "tolerations": [{"key": "CriticalAddonsOnly", "operator": "Exists"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]
            }
        }
    },
    "priorityClassName": "system-cluster-critical",
    "extraEnv": [{"name": "A", "value": "b"}],
    "extraVolumes": [{"name": "more", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
}


def merged(*several: Values) -> Values:
    result: Values = {}
    for values in several:
        for key, value in deepcopy(values).items():
            both = isinstance(value, dict) and isinstance(result.get(key), dict)
            result[key] = merged(result[key], value) if both else value
    return result


SETS: dict[str, Values] = {
    "default": {},
    "dts": DTS,
    "dts with autoscaling": merged(DTS, {"worker": {"autoscaling": {"enabled": True}}}),
    "dts with autoscaling by cpu": merged(
        DTS,
        {
            "worker": {
                "autoscaling": {
                    "enabled": True,
                    "activitiesPerWorker": 0,
                    "targetCPUUtilizationPercentage": 70,
                }
            }
        },
    ),
    "two namespaces": {"watchNamespaces": ["team-a", "team-b"]},
    "everything, embedded": merged(EVERYTHING, {"artifacts": {"url": "az://runs/prod"}}),
    "everything, dts": merged(EVERYTHING, DTS, {"worker": {"autoscaling": {"enabled": True}}}),
    "bare": {
        "persistence": {"enabled": False},
        "policies": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "crds": {"install": False},
        "rbac": {"create": False},
        "serviceAccount": {"create": False, "name": "ours"},
    },
}


def files(values: Values | None = None, *, chart: Path = CHART, release: str = "swarmrun") -> dict[str, str]:
    """Template → text, `templates/` left off. Raises HelmValuesError, HelmRenderError."""
    with helm_python.Chart.load(chart) as loaded:
        loaded.validate_schema(values or {})
        made = loaded.render(values or {}, name=release, namespace="swarmrun-system")
    return {path.split("/templates/", 1)[1]: text for path, text in made.items()}


def rendered(values: Values | None = None, **more: Any) -> list[dict[str, Any]]:
    texts = [text for path, text in files(values, **more).items() if path.endswith(".yaml")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def of_kind(documents: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    return [d for d in documents if d["kind"] in kinds]


def pods(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Every Pod and Pod template by the name of its owner: metadata and spec."""
    templates = {d["metadata"]["name"]: d["spec"]["template"] for d in of_kind(documents, "Deployment")}
    return templates | {d["metadata"]["name"]: d for d in of_kind(documents, "Pod")}


def env(pod: dict[str, Any]) -> dict[str, str]:
    return {e["name"]: e.get("value", "") for e in pod["spec"]["containers"][0].get("env", [])}
