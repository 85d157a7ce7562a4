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
    # Whose a token is and what that one may: asked of the cluster, changes nothing.
    reviews = [["tokenreviews"], ["subjectaccessreviews"]]
    assert [r["resources"] for r in everywhere["rules"] if "create" in r["verbs"]] == reviews
    assert not [r for r in everywhere["rules"] if "pods" in r["resources"]]
    bound = [b for b in of_kind(documents, "RoleBinding") if b["subjects"][0]["name"] == "swarmrun"]
    assert {b["metadata"]["namespace"] for b in bound} == {"team-a", "team-b"}


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
    ],
)
def test_values_that_cannot_work_are_refused_by_name(values: tuple[str, ...], words: str) -> None:
    assert words in helm(*values, ok=False).replace("/", ".")


@needs_helm
def test_what_is_kept_is_kept_from_helm_and_from_argo_cd() -> None:
    kept = {"helm.sh/resource-policy": "keep", "argocd.argoproj.io/sync-options": "Prune=false"}
    kinds = ("CustomResourceDefinition", "PersistentVolumeClaim")
    documents = of_kind(rendered({}), *kinds)
    assert len(documents) == 3
    assert all(d["metadata"]["annotations"] == kept for d in documents)
    for document in of_kind(rendered({"crds.keep": "false", "persistence.keep": "false"}), *kinds):
        assert "annotations" not in document["metadata"]


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


@needs_helm
@pytest.mark.parametrize("name", VALUES)
def test_the_read_interface_is_reached_by_the_proxy_of_one_service_port_alone(name: str) -> None:
    documents = rendered(VALUES[name])
    (service,) = of_kind(documents, "Service")
    (pod,) = [
        d["spec"]["template"]
        for d in of_kind(documents, "Deployment")
        if service["spec"]["selector"].items() <= d["spec"]["template"]["metadata"]["labels"].items()
    ]
    (container,) = pod["spec"]["containers"]
    (port,) = [p for p in container["ports"] if p["name"] == service["spec"]["ports"][0]["targetPort"]]
    assert {"name": "SWARMRUN_READ_PORT", "value": str(port["containerPort"])} in container["env"]
    policies = of_kind(documents, "NetworkPolicy")
    assert [p["spec"]["ingress"] for p in policies] == [
        [{"ports": [{"port": port["containerPort"], "protocol": "TCP"}]}]
    ]
    (role,) = [r for r in of_kind(documents, "Role") if "services/proxy" in r["rules"][0]["resources"]]
    (rule,) = role["rules"]
    assert (rule["verbs"], rule["resourceNames"]) == (["get"], ["http:swarmrun-read:read"])
    assert role["metadata"]["namespace"] == "swarmrun-system"


@needs_helm
def test_a_reader_s_account_may_get_runs_and_nothing_else() -> None:
    documents = rendered(VALUES["two namespaces"])
    accounts = [a for a in of_kind(documents, "ServiceAccount") if a["metadata"]["name"] == "swarmrun-reader"]
    assert {a["metadata"]["namespace"] for a in accounts} == {"team-a", "team-b"}
    bound = {
        b["roleRef"]["name"]
        for b in of_kind(documents, "RoleBinding", "ClusterRoleBinding")
        if any(s["name"] == "swarmrun-reader" for s in b["subjects"])
    }
    (role,) = [r for r in of_kind(documents, "ClusterRole") if {r["metadata"]["name"]} == bound]
    assert role["rules"] == [{"apiGroups": ["swarmrun.dev"], "resources": ["swarmruns"], "verbs": ["get"]}]
    # Its tokens are the only ones that a viewer gets at.
    for rule in (r for d in of_kind(documents, "ClusterRole", "Role") for r in d["rules"]):
        if "serviceaccounts/token" in rule["resources"]:
            assert (rule["resourceNames"], rule["verbs"]) == (["swarmrun-reader"], ["create"])


@needs_helm
def test_without_the_read_interface_nothing_of_it_is_left() -> None:
    documents = rendered({"readInterface.enabled": "false", "watchNamespaces": "{team-a}"})
    assert not of_kind(documents, "Service")
    (deployment,) = of_kind(documents, "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert {"name": "SWARMRUN_READ_PORT", "value": "0"} in container["env"]
    assert "read" not in {p["name"] for p in container["ports"]}
    rules = [r for d in of_kind(documents, "ClusterRole", "Role") for r in d["rules"]]
    reviews = {"tokenreviews", "subjectaccessreviews", "serviceaccounts/token", "services/proxy"}
    assert not [r for r in rules if reviews & set(r["resources"])]
    assert [p["spec"]["ingress"] for p in of_kind(documents, "NetworkPolicy")] == [[]]
