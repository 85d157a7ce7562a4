"""The charts, rendered: what they grant, and what they refuse."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts/swarmrun"
DTS = {
    "engine.type": "dts",
    "engine.dts.endpoint": "https://hub.northeurope.durabletask.io",
    "artifacts.url": "az://runs/prod",
    "masterKey.existingSecret": "swarmrun",
    "azure.workloadIdentity.enabled": "true",
    "azure.workloadIdentity.clientId": "0-0",
}
VALUES: dict[str, dict[str, str]] = {
    "default": {},
    "dts": DTS,
    "dts with autoscaling": {**DTS, "worker.autoscaling.enabled": "true"},
    "two namespaces": {"watchNamespaces": "{team-a,team-b}"},
    "bare": {"persistence.enabled": "false", "policies.enabled": "false", "crds.install": "false"},
}

needs_helm = pytest.mark.skipif(not shutil.which("helm"), reason="helm is not installed")


def helm(*values: str, chart: Path = CHART, ok: bool = True) -> str:
    done = subprocess.run(
        [
            "helm",
            "template",
            "--kube-version",
            "1.35",
            "-n",
            "swarmrun-system",
            "swarmrun",
            str(chart),
            *values,
        ],
        capture_output=True,
        text=True,
    )
    assert (done.returncode == 0) is ok, done.stderr or done.stdout
    return done.stdout if ok else done.stderr


def rendered(values: dict[str, str]) -> list[dict[str, Any]]:
    text = helm(*(f"--set={k}={v}" for k, v in values.items()))
    return [d for d in yaml.safe_load_all(text) if d]


def of_kind(documents: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    return [d for d in documents if d["kind"] in kinds]


def test_the_chart_s_crds_are_the_generated_ones() -> None:
    for path in (ROOT / "crds").glob("*.yaml"):
        assert (CHART / "files/crds" / path.name).read_text() == path.read_text(), "run: make crds"


@needs_helm
@pytest.mark.parametrize("name", VALUES)
def test_the_operator_may_neither_read_secrets_nor_run_commands_in_pods(name: str) -> None:
    documents = rendered(VALUES[name])
    roles = of_kind(documents, "ClusterRole", "Role")
    operators = [r for r in roles if not r["metadata"]["name"].endswith(("view", "edit", "approve"))]
    assert operators
    for role in operators:
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert not {"secrets", "pods/exec", "pods/attach", "pods/ephemeralcontainers"} & set(
                rule["resources"]
            )
            assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])
            if "swarmruns" in rule["resources"]:
                assert set(rule["verbs"]) <= {"get", "list", "watch"}


@needs_helm
@pytest.mark.parametrize("name", VALUES)
def test_the_operator_s_pods_pass_the_restricted_standard(name: str) -> None:
    for deployment in of_kind(rendered(VALUES[name]), "Deployment"):
        spec = deployment["spec"]["template"]["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert {"startupProbe", "livenessProbe"} <= container.keys()


@needs_helm
def test_with_the_embedded_engine_one_pod_does_it_all() -> None:
    documents = rendered({})
    (deployment,) = of_kind(documents, "Deployment")
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]) == (1, {"type": "Recreate"})
    assert deployment["spec"]["template"]["spec"]["containers"][0]["args"] == ["--role", "all"]
    (claim,) = of_kind(documents, "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


@needs_helm
def test_with_dts_workers_are_a_deployment_of_their_own_and_hold_the_models_keys_alone() -> None:
    documents = rendered({**DTS, "modelKeys.existingSecret": "keys"})
    roles = {
        d["spec"]["template"]["spec"]["containers"][0]["args"][1]: d for d in of_kind(documents, "Deployment")
    }
    assert roles.keys() == {"controller", "worker"}
    containers = {role: d["spec"]["template"]["spec"]["containers"][0] for role, d in roles.items()}
    assert "envFrom" in containers["worker"]
    assert "envFrom" not in containers["controller"]
    for deployment in roles.values():
        pod = deployment["spec"]["template"]
        assert pod["metadata"]["labels"]["azure.workload.identity/use"] == "true"
        # Never one of the other: a selector that takes both would count both.
        assert deployment["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert not of_kind(documents, "PersistentVolumeClaim")


@needs_helm
def test_a_watch_of_two_namespaces_has_no_rights_elsewhere() -> None:
    documents = rendered(VALUES["two namespaces"])
    (everywhere,) = [r for r in of_kind(documents, "ClusterRole") if r["metadata"]["name"] == "swarmrun"]
    assert not [r for r in everywhere["rules"] if "create" in r["verbs"] or "pods" in r["resources"]]
    assert {r["metadata"]["namespace"] for r in of_kind(documents, "Role")} == {"team-a", "team-b"}


@needs_helm
@pytest.mark.parametrize("name", VALUES)
def test_every_pod_shows_its_metrics_and_nobody_may_ask_unless_named(name: str) -> None:
    documents = rendered(VALUES[name])
    for deployment in of_kind(documents, "Deployment"):
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert {"name": "metrics", "containerPort": 8081} in container["ports"]
        env = {e["name"]: e.get("value") for e in container["env"]}
        assert (env["SWARMRUN_METRICS_PORT"], env["SWARMRUN_LOG_FORMAT"]) == ("8081", "json")
        assert not [n for n in env if n.startswith("OTEL_")]
    (policy,) = of_kind(documents, "NetworkPolicy")
    assert policy["spec"]["ingress"] == []


@needs_helm
def test_who_may_ask_for_metrics_reaches_that_port_alone() -> None:
    peer = "metrics.from[0].namespaceSelector.matchLabels.team"
    (policy,) = of_kind(rendered({peer: "monitoring"}), "NetworkPolicy")
    assert policy["spec"]["ingress"] == [
        {
            "from": [{"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}],
            "ports": [{"port": 8081, "protocol": "TCP"}],
        }
    ]
    documents = rendered({peer: "monitoring", "metrics.enabled": "false"})
    (deployment,) = of_kind(documents, "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert [p["name"] for p in container["ports"]] == ["probes"]
    assert {"name": "SWARMRUN_METRICS_PORT", "value": "0"} in container["env"]
    assert of_kind(documents, "NetworkPolicy")[0]["spec"]["ingress"] == []


@needs_helm
def test_traces_go_where_the_values_say_with_headers_from_a_secret() -> None:
    values = {"tracing.endpoint": "http://collector.monitoring:4318", "tracing.headersSecret": "otlp"}
    for deployment in of_kind(rendered({**DTS, **values}), "Deployment"):
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        env = {e["name"]: e for e in container["env"]}
        assert env["OTEL_EXPORTER_OTLP_ENDPOINT"]["value"] == "http://collector.monitoring:4318"
        secret = env["OTEL_EXPORTER_OTLP_HEADERS"]["valueFrom"]["secretKeyRef"]
        assert secret == {"name": "otlp", "key": "headers"}


@needs_helm
@pytest.mark.parametrize(
    ("values", "words"),
    [
        (("--set=engine.typ=dts",), "engine"),
        (("--set=engine.type=redis",), "engine.type"),
        (("--set=engine.type=dts",), "endpoint"),
        (tuple(f"--set={k}={v}" for k, v in DTS.items() if k != "artifacts.url"), "artifacts.url"),
        (tuple(f"--set={k}={v}" for k, v in DTS.items() if k != "masterKey.existingSecret"), "masterKey"),
        (("--set=serviceAccount.create=false",), "serviceAccount.name"),
        (("--set=logFormat=xml",), "logFormat"),
        (("--set=tracing.endpoint=collector:4318",), "tracing.endpoint"),
    ],
)
def test_values_that_cannot_work_are_refused_by_name(values: tuple[str, ...], words: str) -> None:
    assert words in helm(*values, ok=False).replace("/", ".")


@needs_helm
def test_nothing_is_random_or_looked_up() -> None:
    assert helm() == helm()
    assert not [t for t in CHART.glob("templates/*") if "lookup " in t.read_text()]


@needs_helm
def test_classes_are_rendered_as_they_are_given() -> None:
    text = helm("--set=classes.standard.models.standard.model=m", chart=ROOT / "charts/swarmrun-classes")
    (cls,) = [d for d in yaml.safe_load_all(text) if d]
    assert (cls["kind"], cls["metadata"]["name"]) == ("SwarmClass", "standard")
    assert "models" in helm("--set=classes.a.default=true", chart=ROOT / "charts/swarmrun-classes", ok=False)
