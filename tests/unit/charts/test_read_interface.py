"""The chart's part of the read interface: one Service port, and an account whose tokens its readers use."""

from __future__ import annotations

import pytest
from rendering import SETS, env, merged, of_kind, pods, rendered

READ = "-read"
WITH_RIGHTS = [name for name in SETS if name != "bare"]


@pytest.mark.parametrize("name", WITH_RIGHTS)
def test_the_read_interface_is_reached_by_the_proxy_of_one_service_port_alone(name: str) -> None:
    documents = rendered(SETS[name])
    (service,) = [s for s in of_kind(documents, "Service") if s["metadata"]["name"].endswith(READ)]
    deployments = {d["metadata"]["name"]: d["spec"]["template"] for d in of_kind(documents, "Deployment")}
    (pod,) = [
        template
        for template in deployments.values()
        if service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    ]
    (container,) = pod["spec"]["containers"]
    (port,) = [p for p in container["ports"] if p["name"] == service["spec"]["ports"][0]["targetPort"]]
    assert env(pod)["SWARMRUN_READ_PORT"] == str(port["containerPort"])
    (policy,) = [p for p in of_kind(documents, "NetworkPolicy") if p["metadata"]["name"] == "swarmrun"]
    assert {"ports": [{"port": port["containerPort"], "protocol": "TCP"}]} in policy["spec"]["ingress"]
    (role,) = [r for r in of_kind(documents, "Role") if "services/proxy" in r["rules"][0]["resources"]]
    (rule,) = role["rules"]
    assert (rule["verbs"], rule["resourceNames"]) == (["get"], ["http:swarmrun-read:read"])
    assert role["metadata"]["namespace"] == "swarmrun-system"


def test_a_reader_s_account_may_get_runs_and_nothing_else() -> None:
    documents = rendered(SETS["two namespaces"])
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


def test_without_the_read_interface_nothing_of_it_is_left() -> None:
    documents = rendered(merged(SETS["two namespaces"], {"readInterface": {"enabled": False}}))
    assert not [s for s in of_kind(documents, "Service") if s["metadata"]["name"].endswith(READ)]
    pod = pods(documents)["swarmrun"]
    assert env(pod)["SWARMRUN_READ_PORT"] == "0"
    assert "read" not in {p["name"] for p in pod["spec"]["containers"][0]["ports"]}
    rules = [r for d in of_kind(documents, "ClusterRole", "Role") for r in d["rules"]]
    reviews = {"tokenreviews", "subjectaccessreviews", "serviceaccounts/token", "services/proxy"}
    assert not [r for r in rules if reviews & set(r["resources"])]
    (policy,) = [p for p in of_kind(documents, "NetworkPolicy") if p["metadata"]["name"] == "swarmrun"]
    assert 8082 not in [port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]]
