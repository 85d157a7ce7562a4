"""The demo applied with kubectl, its agents and its git in Pods, its remote a real Gitea that Pods reach.

The operator itself is a process here, so this one must run where Pod addresses can be reached.
"""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from swarmrun.cassette.server import CassetteServer

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]

DEMO = Path(__file__).parents[3] / "examples/url-shortener"
NAME = "url-shortener"


@pytest.fixture
def remote() -> Iterator[dict[str, Any]]:
    """An empty private repository."""
    url, token = os.environ.get("SWARMRUN_TEST_FORGE", ""), os.environ.get("SWARMRUN_TEST_FORGE_TOKEN", "")
    if not url or not token:
        pytest.skip("no Gitea that Pods reach: set SWARMRUN_TEST_FORGE and SWARMRUN_TEST_FORGE_TOKEN")
    with httpx.Client(
        base_url=f"{url.rstrip('/')}/api/v1", headers={"Authorization": f"token {token}"}, timeout=30
    ) as api:
        body = {"name": f"t-{secrets.token_hex(6)}", "default_branch": "main", "private": True}
        made = api.post("/user/repos", json=body).raise_for_status().json()
        yield {"api": api, "path": f"/repos/{made['full_name']}", "url": made["clone_url"], "token": token}
        api.delete(f"/repos/{made['full_name']}")


@pytest.fixture
def in_pods(kubectl: Any, operator: Any, tmp_path: Path) -> Iterator[Any]:
    """The operator of the other tests, with the hands of a cluster."""
    kubectl("label", "namespace", kubectl.namespace, "pod-security.kubernetes.io/enforce=restricted")
    it = type(operator)(
        tmp_path / "state",
        kubectl.namespace,
        SWARMRUN_SANDBOXES="pod",
        SWARMRUN_SANDBOX_IMAGE=os.environ.get(
            "SWARMRUN_TEST_SANDBOX_IMAGE", "localhost/swarmrun-sandbox:dev"
        ),
        SWARMRUN_OPERATOR_IMAGE=os.environ.get(
            "SWARMRUN_TEST_OPERATOR_IMAGE", "localhost/swarmrun-operator:dev"
        ),
        SWARMRUN_NAMESPACE="swarmrun-system",
    )
    yield it
    it.close()
    print(it.log.read_text()[-6000:] if it.log.exists() else "")


def apply(kubectl: Any, remote: dict[str, Any], models: str, **more: Any) -> None:
    cls, run = yaml.safe_load_all((DEMO / "run.yaml").read_text())
    cls["metadata"] = {"name": kubectl.namespace, "labels": {"test": kubectl.namespace}}
    cls["spec"]["repositories"]["schemes"] = ["https", "http"]
    sandbox = {"resources": {"cpu": "500m", "memory": "256Mi", "disk": "1Gi"}}
    cls["spec"]["sandbox"] = sandbox | more.get("sandbox", {})
    for tier in cls["spec"]["models"].values():
        tier["endpoint"] = models
    run["spec"] |= {
        "className": kubectl.namespace,
        "repository": {"url": remote["url"], "credential": {"name": "team-git"}},
        "publish": {"pullRequest": {"enabled": True, "provider": "gitea"}},
    }
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "team-git",
            "labels": {"swarmrun.dev/git-credential": "true"},
            "annotations": {"swarmrun.dev/allowed-hosts": httpx.URL(remote["url"]).host},
        },
        "stringData": {"token": remote["token"], "hosts": httpx.URL(remote["url"]).host},
    }
    kubectl.apply(secret, cls, run)


def test_the_demo_runs_in_pods_although_all_its_sandboxes_and_its_operator_are_killed(
    kubectl: Any, in_pods: Any, remote: dict[str, Any]
) -> None:
    with CassetteServer(DEMO / "cassette.yaml", quiet=True) as models:
        in_pods.start()
        apply(kubectl, remote, models.url)
        kubectl.until(lambda: kubectl.status(NAME).get("progress", "") >= "1/4", within=300)
        sandboxes = kubectl("get", "pods", "-l", "app.kubernetes.io/component=sandbox", "-o", "name").split()
        assert sandboxes
        kubectl("delete", "--grace-period=0", "--force", "--ignore-not-found", *sandboxes)
        in_pods.end(signal.SIGKILL)
        in_pods.start()
        kubectl.finished(NAME)
    status = kubectl.status(NAME)
    assert (status["phase"], status["isolation"]) == ("Succeeded", "pod"), status
    branches = {b["name"]: b["commit"]["id"] for b in remote["api"].get(f"{remote['path']}/branches").json()}
    assert branches[f"swarm/{NAME}"] == status["result"]["commit"]
    assert status["result"].get("pullRequest"), kubectl("get", "swarmrun", NAME, "-o", "yaml")[-3000:]
    (pull,) = remote["api"].get(f"{remote['path']}/pulls").json()
    assert pull["html_url"] == status["result"]["pullRequest"]
    kubectl.until(lambda: not kubectl("get", "pods", "-o", "name").strip(), within=180)
    # Whoever may read all of the namespace but Secrets finds no token.
    for kind in ("swarmruns", "pods", "events", "configmaps", "networkpolicies"):
        assert remote["token"] not in kubectl("get", kind, "-o", "yaml")


def test_a_run_whose_network_is_for_set_up_alone_ends_well_and_so_does_its_rerun(
    kubectl: Any, in_pods: Any, remote: dict[str, Any]
) -> None:
    with CassetteServer(DEMO / "cassette.yaml", quiet=True) as models:
        in_pods.start()
        reaches = "getent hosts kubernetes.default.svc.cluster.local || sleep 3; "
        setup = {"setup": [f"{reaches * 4} getent hosts kubernetes.default.svc.cluster.local"]}
        grant = {"dns": True, "setupOnly": True}
        apply(kubectl, remote, models.url, sandbox=setup | {"egress": grant})
        kubectl.finished(NAME)
        first = kubectl.status(NAME)
        assert first["phase"] == "Succeeded", first
        again = ("swarmrun.dev/attempt=2", "swarmrun.dev/rerun-from=judge")
        kubectl("annotate", f"swr/{NAME}", *again)
        kubectl.until(lambda: kubectl.status(NAME)["run"] != first["run"])
        kubectl.finished(NAME)
    second = kubectl.status(NAME)
    assert (second["phase"], second["plan"]) == ("Succeeded", first["plan"]), second
    policies = yaml.safe_load(kubectl("get", "networkpolicies", "-o", "yaml"))["items"]
    opened = [p for p in policies if "swarmrun.dev/egress" in p["spec"]["podSelector"]["matchLabels"]]
    # One of each attempt.
    instances = [p["spec"]["podSelector"]["matchLabels"]["swarmrun.dev/instance"] for p in opened]
    assert sorted(instances) == [first["run"], second["run"]]
