"""The charts, rendered: what they grant, and what they refuse."""

from __future__ import annotations

import json
from typing import Any

import helm_python
import kubernetes_validate
import pytest
from rendering import CHART, CLASSES, DTS, EVERYTHING, ROOT, SETS, env, files, merged, of_kind, pods, rendered

from swarmrun.controller.settings import OperatorSettings

KUBERNETES = "1.35"
"""Of the schemas that manifests are held against."""
OTHERS = {"PodMonitor"}
"""Kinds that are not Kubernetes' own."""

every_set = pytest.mark.parametrize("name", SETS)


def test_the_chart_s_crds_are_the_generated_ones() -> None:
    for path in (ROOT / "crds").glob("*.yaml"):
        assert (CHART / "files/crds" / path.name).read_text() == path.read_text(), "run: make crds"


@every_set
def test_every_manifest_fits_kubernetes_own_schema(name: str) -> None:
    documents = rendered(SETS[name])
    assert documents
    for document in documents:
        if document["kind"] not in OTHERS:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_the_schemas_refuse_what_is_misspelt() -> None:
    (deployment,) = of_kind(rendered(), "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="livenesProbe"):
        kubernetes_validate.validate(deployment, KUBERNETES, strict=True)


@every_set
def test_helm_s_lint_finds_nothing(name: str) -> None:
    report = helm_python.lint(CHART, SETS[name], strict=True, kube_version="v1.35.0")
    assert not report["errors"]
    # An icon is all that it misses.
    assert not [m for m in report["messages"] if m["severity"] > 1]


@every_set
def test_no_object_is_rendered_twice_and_each_is_told_apart_from_another_release(name: str) -> None:
    def identities(release: str) -> list[tuple[str, str, str]]:
        return [
            (d["kind"], d["metadata"].get("namespace", ""), d["metadata"]["name"])
            for d in rendered(SETS[name], release=release)
            # A namespace's runs belong to one release, and so does the account that reads them.
            if d["kind"] != "CustomResourceDefinition" and d["metadata"]["name"] != "swarmrun-reader"
        ]

    here = identities("swarmrun-a")
    assert len(here) == len(set(here))
    assert not set(here) & set(identities("swarmrun-b"))


@every_set
def test_nothing_is_random_or_looked_up(name: str) -> None:
    assert files(SETS[name]) == files(SETS[name])
    for template in CHART.glob("templates/**/*"):
        if template.is_file():
            words = template.read_text().replace("{{-", "{{").split("{{")[1:]
            code = " ".join(w.split("}}")[0] for w in words)
            assert not {"lookup", "randAlphaNum", "randAlpha", "uuidv4", "genCA", "now"} & set(code.split())


@every_set
def test_the_operator_may_neither_read_secrets_nor_run_commands_in_pods(name: str) -> None:
    roles = of_kind(rendered(SETS[name]), "ClusterRole", "Role")
    operators = [r for r in roles if not r["metadata"]["name"].endswith(("view", "edit", "approve"))]
    assert operators or name == "bare"
    for role in operators:
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert not {"secrets", "pods/exec", "pods/attach", "pods/ephemeralcontainers"} & set(
                rule["resources"]
            )
            assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])
            if "swarmruns" in rule["resources"]:
                assert set(rule["verbs"]) <= {"get", "list", "watch"}


@every_set
def test_the_operator_s_pods_pass_the_restricted_standard(name: str) -> None:
    for pod in pods(rendered(SETS[name])).values():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}


@every_set
def test_what_a_pod_is_told_by_environment_is_what_the_operator_reads(name: str) -> None:
    for owner, pod in pods(rendered(SETS[name])).items():
        given = env(pod)
        if not owner.endswith("check-network"):
            settings = OperatorSettings.read(given)
            assert settings.engine == ("dts" if "dts" in name else "embedded")


@every_set
def test_selectors_tell_deployments_and_tests_apart(name: str) -> None:
    documents = rendered(SETS[name])
    made = pods(documents)
    for deployment in of_kind(documents, "Deployment"):
        wanted = deployment["spec"]["selector"]["matchLabels"].items()
        fitting = [owner for owner, pod in made.items() if wanted <= pod["metadata"]["labels"].items()]
        assert fitting == [deployment["metadata"]["name"]]
    services = of_kind(documents, "Service")
    assert {s["metadata"]["name"].rpartition("-")[2] for s in services} == {"probes", "read"}
    for service in services:
        selects = service["spec"]["selector"].items()
        chosen = [owner for owner, pod in made.items() if selects <= pod["metadata"]["labels"].items()]
        assert len(chosen) == 1


def test_with_the_embedded_engine_one_pod_does_it_all() -> None:
    documents = rendered()
    (deployment,) = of_kind(documents, "Deployment")
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]) == (1, {"type": "Recreate"})
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert container["args"] == ["--role", "all"]
    assert {"startupProbe", "livenessProbe"} <= container.keys()
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    # Whoever waits for its engine can be asked why, and still gives out what is stored.
    assert all(s["spec"]["publishNotReadyAddresses"] for s in of_kind(documents, "Service"))
    (claim,) = of_kind(documents, "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    # One replica and a budget: a node that could never be drained.
    assert not of_kind(documents, "PodDisruptionBudget", "HorizontalPodAutoscaler")


def test_with_dts_workers_are_a_deployment_of_their_own_and_hold_the_models_keys_alone() -> None:
    documents = rendered(merged(DTS, {"modelKeys": {"existingSecret": "keys"}}))
    roles = {
        d["spec"]["template"]["spec"]["containers"][0]["args"][1]: d for d in of_kind(documents, "Deployment")
    }
    assert roles.keys() == {"controller", "worker"}
    containers = {role: d["spec"]["template"]["spec"]["containers"][0] for role, d in roles.items()}
    assert "envFrom" in containers["worker"]
    assert "envFrom" not in containers["controller"]
    for deployment in roles.values():
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert labels["azure.workload.identity/use"] == "true"
    assert not of_kind(documents, "PersistentVolumeClaim")


def test_a_worker_gives_its_work_back_before_the_kubelet_kills_it() -> None:
    worker = pods(rendered(DTS))["swarmrun-worker"]
    grace = worker["spec"]["terminationGracePeriodSeconds"]
    assert 0 < OperatorSettings.read(env(worker)).grace <= grace - 10
    with pytest.raises(helm_python.HelmValuesError, match="terminationGracePeriodSeconds"):
        files({"worker": {"terminationGracePeriodSeconds": 20}})


def test_workers_scale_on_what_they_have_at_work_and_lose_one_at_a_time() -> None:
    documents = rendered(SETS["dts with autoscaling"])
    (scaler,) = of_kind(documents, "HorizontalPodAutoscaler")
    (metric,) = scaler["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == "swarmrun_activities_running"
    assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": "20"}
    workers = next(d for d in of_kind(documents, "Deployment") if d["metadata"]["name"] == "swarmrun-worker")
    # Replicas would be set back at every upgrade.
    assert "replicas" not in workers["spec"]
    (budget,) = of_kind(documents, "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1
    assert "minAvailable" not in budget["spec"]
    labels = workers["spec"]["template"]["metadata"]["labels"]
    assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
    (by_cpu,) = of_kind(rendered(SETS["dts with autoscaling by cpu"]), "HorizontalPodAutoscaler")
    assert [m["type"] for m in by_cpu["spec"]["metrics"]] == ["Resource"]


def test_a_watch_of_two_namespaces_has_no_rights_elsewhere() -> None:
    documents = rendered(SETS["two namespaces"])
    (everywhere,) = [r for r in of_kind(documents, "ClusterRole") if r["metadata"]["name"] == "swarmrun"]
    # Whose a token is and what that one may: asked of the cluster, changes nothing.
    reviews = [["tokenreviews"], ["subjectaccessreviews"]]
    assert [r["resources"] for r in everywhere["rules"] if "create" in r["verbs"]] == reviews
    assert not [r for r in everywhere["rules"] if "pods" in r["resources"]]
    bound = [b for b in of_kind(documents, "RoleBinding") if b["subjects"][0]["name"] == "swarmrun"]
    assert {b["metadata"]["namespace"] for b in bound} == {"team-a", "team-b"}


# ---------------------------------------------------------------- helm test


@every_set
def test_helm_test_looks_as_a_worker_and_from_a_closed_pod(name: str) -> None:
    documents = rendered(SETS[name])
    made = pods(documents)
    worker = next((p for o, p in made.items() if o.endswith("-worker")), next(iter(made.values())))
    check, closed = (
        next(p for o, p in made.items() if o.endswith(end)) for end in ("-check", "-check-network")
    )
    for pod in (check, closed):
        assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
        assert pod["spec"]["restartPolicy"] == "Never"
    assert check["spec"]["containers"][0]["args"] == ["--check", "operator,engine,storage,models"]
    assert check["spec"]["serviceAccountName"] == worker["spec"]["serviceAccountName"]
    ignored = {"SWARMRUN_GRACE_SECONDS", "SWARMRUN_PROBES"}
    assert {k: v for k, v in env(check).items() if k not in ignored} == {
        k: v for k, v in env(worker).items() if k not in ignored
    }
    assert check["spec"]["containers"][0].get("envFrom") == worker["spec"]["containers"][0].get("envFrom")
    # A volume that one node has at a time is the operator's.
    assert not [v for v in check["spec"]["volumes"] if "persistentVolumeClaim" in v]

    policies = of_kind(documents, "NetworkPolicy")
    (around,) = [
        p
        for p in policies
        if p["spec"]["podSelector"]["matchLabels"].items() <= closed["metadata"]["labels"].items()
    ]
    assert (around["spec"]["ingress"], around["spec"]["egress"]) == ([], [])
    assert closed["spec"]["automountServiceAccountToken"] is False
    assert "env" not in closed["spec"]["containers"][0]


def test_a_test_that_pays_nothing_is_to_be_had() -> None:
    check = pods(rendered({"test": {"models": False}}))["swarmrun-check"]
    assert check["spec"]["containers"][0]["args"] == ["--check", "operator,engine,storage"]


# ---------------------------------------------------------------- certificates and proxies


def test_without_proxies_and_authorities_nothing_is_said_of_them() -> None:
    for pod in pods(rendered()).values():
        assert not {n for n in env(pod) if "proxy" in n.lower() or "CA_BUNDLE" in n}
        assert "ca-bundle" not in [v["name"] for v in pod["spec"].get("volumes", [])]


@pytest.mark.parametrize("name", ["everything, embedded", "everything, dts"])
def test_the_house_s_authorities_and_proxies_reach_every_pod_that_goes_out(name: str) -> None:
    for owner, pod in pods(rendered(SETS[name])).items():
        if owner.endswith("check-network"):
            continue
        given = env(pod)
        (mount,) = [m for m in pod["spec"]["containers"][0]["volumeMounts"] if m["name"] == "ca-bundle"]
        assert given["SWARMRUN_CA_BUNDLE"] == f"{mount['mountPath']}/house.pem"
        for variable in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
            assert given[variable] == given[variable.lower()]
        spared = given["NO_PROXY"].split(",")
        assert {"$(KUBERNETES_SERVICE_HOST)", ".svc", ".cluster.local", "10.0.0.0/8", ".example.com"} <= {
            *spared
        }


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"engine": {"typ": "dts"}}, "typ"),
        ({"engine": {"type": "redis"}}, "engine.type"),
        ({"engine": {"type": "dts"}}, "endpoint"),
        ({k: v for k, v in DTS.items() if k != "artifacts"}, "artifacts.url"),
        ({k: v for k, v in DTS.items() if k != "masterKey"}, "masterKey"),
        ({"serviceAccount": {"create": False}}, "serviceAccount.name"),
        ({"azure": {"workloadIdentity": {"enabled": True}}}, "clientId"),
        ({"persistence": {"enabled": "no"}}, "persistence.enabled"),
        ({"worker": {"replicas": "two"}}, "worker.replicas"),
        ({"threads": 8}, "threads"),
        ({"proxy": {"https": "proxy.example.com"}}, "proxy.https"),
        ({"podMonitor": {"interval": "often"}}, "podMonitor.interval"),
        ({"caBundle": {"secret": "house"}}, "secret"),
        ({"artifacts": {"url": "https://x.blob.core.windows.net/runs"}}, "artifacts.url"),
        (
            merged(DTS, {"worker": {"autoscaling": {"enabled": True, "activitiesPerWorker": 0}}}),
            "activitiesPerWorker or targetCPU",
        ),
    ],
)
def test_values_that_cannot_work_are_refused_by_name(values: dict[str, Any], words: str) -> None:
    with pytest.raises(helm_python.HelmError) as refused:
        files(values)
    assert words in str(refused.value).replace("/", ".")


def test_every_value_has_a_type_and_no_object_takes_unknown_keys() -> None:
    """Of the chart's own objects; what is passed on to Kubernetes is Kubernetes' to check."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    passed_on = {
        "global",
        "resources",
        "podLabels",
        "podAnnotations",
        "nodeSelector",
        "affinity",
        "annotations",
        "labels",
    }

    def check(values: dict[str, Any], known: dict[str, Any], at: str) -> None:
        assert known["additionalProperties"] is False, at
        assert values.keys() <= known["properties"].keys(), at
        for key, value in values.items():
            told = known["properties"][key]
            told = schema["definitions"][told["$ref"].rsplit("/", 1)[1]] if "$ref" in told else told
            assert "type" in told or "enum" in told, f"{at}.{key}"
            if isinstance(value, dict) and key not in passed_on:
                check(value, told, f"{at}.{key}")

    with helm_python.Chart.load(CHART) as chart:
        check(chart.values, schema, "values")


# ---------------------------------------------------------------- notes


@pytest.mark.parametrize(
    ("values", "words", "not_these"),
    [
        (
            {},
            ["helm test swarmrun -n swarmrun-system --logs", "kubectl get swarmruns -n default -w"],
            ["WARNING", "crds/"],
        ),
        (SETS["two namespaces"], ["kubectl get swarmruns -n team-a -w", "of team-a, team-b"], []),
        (
            SETS["bare"],
            ["kubectl apply --server-side -f crds/", "persistence is off", "networkPolicy is off"],
            [],
        ),
        (DTS, ["auth.type=entra", "engine dts"], ["persistence is off"]),
        (EVERYTHING, ["auth.env=…    # a key of Secret keys"], ["entra"]),
        (SETS["dts with autoscaling"], ["pods/*/swarmrun_activities_running"], []),
    ],
)
def test_the_notes_say_the_next_command(
    values: dict[str, Any], words: list[str], not_these: list[str]
) -> None:
    notes = files(values)["NOTES.txt"]
    for word in words:
        assert word in notes
    for word in not_these:
        assert word not in notes


def test_the_notes_say_where_the_plugin_finds_an_operator_of_another_name() -> None:
    line = "export SWARMRUN_OPERATOR=swarmrun-system/ops-swarmrun-read"
    documents = rendered(release="ops")
    assert "ops-swarmrun-read" in [s["metadata"]["name"] for s in of_kind(documents, "Service")]
    assert line in files(release="ops")["NOTES.txt"]
    assert "SWARMRUN_OPERATOR" not in files()["NOTES.txt"]
    assert "SWARMRUN_OPERATOR" not in files({"readInterface": {"enabled": False}}, release="ops")["NOTES.txt"]


# ---------------------------------------------------------------- the chart of classes


def test_classes_are_rendered_as_they_are_given() -> None:
    values = {"classes": {"standard": {"models": {"standard": {"model": "m"}}}}}
    (cls,) = rendered(values, chart=CLASSES)
    assert (cls["kind"], cls["metadata"]["name"]) == ("SwarmClass", "standard")
    assert cls["spec"] == values["classes"]["standard"]
    assert "kubectl get swarmclasses" in files(values, chart=CLASSES)["NOTES.txt"]
    assert rendered({}, chart=CLASSES) == []
    with pytest.raises(helm_python.HelmError, match="models"):
        files({"classes": {"a": {"default": True}}}, chart=CLASSES)
    report = helm_python.lint(CLASSES, values, strict=True)
    assert not report["errors"]


def test_what_is_kept_is_kept_from_helm_and_from_argo_cd() -> None:
    kept = {"helm.sh/resource-policy": "keep", "argocd.argoproj.io/sync-options": "Prune=false"}
    kinds = ("CustomResourceDefinition", "PersistentVolumeClaim")
    documents = of_kind(rendered(), *kinds)
    assert len(documents) == 3
    assert all(d["metadata"]["annotations"] == kept for d in documents)
    for document in of_kind(rendered({"crds": {"keep": False}, "persistence": {"keep": False}}), *kinds):
        assert "annotations" not in document["metadata"]
