"""The chart on a real cluster: installed, a whole run in Pods, its policies, upgraded, uninstalled.

This process must reach the forge, and Pods as well (see ../conftest.py).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "examples/url-shortener"
NAME = "url-shortener"
IMAGE = os.environ.get("SWARMRUN_TEST_OPERATOR_IMAGE", "localhost/swarmrun-operator:dev")
SANDBOX = os.environ.get("SWARMRUN_TEST_SANDBOX_IMAGE", "localhost/swarmrun-sandbox:dev")
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        not os.environ.get("SWARMRUN_TEST_FORGE"), reason="needs SWARMRUN_TEST_FORGE and its token"
    ),
    pytest.mark.skipif(not shutil.which("helm"), reason="helm is not installed"),
]


@pytest.fixture
def helm(kubectl: Any) -> Iterator[Callable[..., str]]:
    """The chart in the test's namespace, watching it alone."""
    release = f"swarmrun-{kubectl.namespace[-8:]}"
    repository, _, tag = IMAGE.rpartition(":")
    values = {
        # The CRDs are the cluster's: other tests use them, too.
        "crds.install": "false",
        "watchNamespaces": f"{{{kubectl.namespace}}}",
        "image.repository": repository,
        "image.tag": tag,
        "sandbox.image": SANDBOX,
        "persistence.size": "1Gi",
        "persistence.keep": "false",
    }
    chart = [str(ROOT / "charts/swarmrun"), *(f"--set={k}={v}" for k, v in values.items())]

    def run(verb: str, *more: str) -> str:
        what = [] if verb == "uninstall" else chart
        done = subprocess.run(
            ["helm", verb, release, *what, "-n", kubectl.namespace, "--wait", "--timeout=300s", *more],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield run
    subprocess.run(["helm", "uninstall", release, "-n", kubectl.namespace, "--ignore-not-found"], check=False)


@pytest.fixture
def models(kubectl: Any) -> str:
    """The example's recording, served by a Pod; its address."""
    files = {path.name: path.read_text() for path in (DEMO / "files").iterdir()}
    paths = [
        {"key": "cassette.yaml", "path": "cassette.yaml"},
        *({"key": k, "path": f"files/{k}"} for k in files),
    ]
    container = {
        "name": "cassette",
        "image": IMAGE,
        "command": [
            "swarmrun",
            "cassette",
            "serve",
            "/cassette/cassette.yaml",
            "--port=8765",
            "--host=0.0.0.0",
        ],
        "readinessProbe": {"tcpSocket": {"port": 8765}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "tape", "mountPath": "/cassette"}],
    }
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "cassette"},
            "data": {"cassette.yaml": (DEMO / "cassette.yaml").read_text(), **files},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "cassette"},
            "spec": {"selector": {"app": "cassette"}, "ports": [{"port": 8765}]},
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "cassette", "labels": {"app": "cassette"}},
            "spec": {
                "automountServiceAccountToken": False,
                "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [container],
                "volumes": [{"name": "tape", "configMap": {"name": "cassette", "items": paths}}],
            },
        },
    )
    kubectl.wait("condition=Ready", "pod/cassette", within=180)
    return f"http://cassette.{kubectl.namespace}.svc:8765/v1"


def test_from_install_to_uninstall(kubectl: Any, helm: Callable[..., str], models: str, remote: str) -> None:
    kubectl("label", "namespace", kubectl.namespace, RESTRICTED)
    notes = helm("install")
    assert f"kubectl get swarmruns -n {kubectl.namespace} -w" in notes

    cls, run = yaml.safe_load_all((DEMO / "run.yaml").read_text())
    cls["metadata"] = {"name": kubectl.namespace, "labels": {"test": kubectl.namespace}}
    for tier in cls["spec"]["models"].values():
        tier["endpoint"] = models
    cls["spec"] |= {"repositories": {"schemes": ["http"]}, "allowedNamespaces": [kubectl.namespace]}
    cls["spec"]["sandbox"] = {"resources": {"memory": "512Mi", "disk": "1Gi"}}
    asked = {"className": kubectl.namespace, "repository": {"url": remote, "credential": {"name": "forge"}}}
    run["spec"] |= asked | {"publish": {"approval": True}}
    kubectl.apply(cls, run)

    # An upgrade in the middle of the run: its Pod is replaced, the run goes on.
    kubectl.until(lambda: kubectl.status(NAME).get("progress", "") >= "1/4", within=300)
    helm("upgrade", "--set=podAnnotations.again=yes")
    kubectl.until(lambda: kubectl.reason(NAME) == "AwaitingPublishApproval", within=600)

    # Approving is a right of its own.
    kubectl("create", "rolebinding", "ann", "--clusterrole=edit", "--user=ann")
    kubectl("create", "rolebinding", "bob", "--clusterrole=admin", "--user=bob")
    kubectl.until(lambda: kubectl.may("ann", "patch", "swarmruns.swarmrun.dev"))
    kubectl.until(lambda: kubectl.may("bob", "approve", "swarmruns.swarmrun.dev"))
    commit = kubectl.status(NAME)["result"]["commit"]
    approve = ("annotate", "swr", NAME, f"swarmrun.dev/approve-publish={commit}")
    assert "need the verb approve" in kubectl(*approve, "--as=ann", ok=False)
    kubectl("annotate", "swr", NAME, "swarmrun.dev/suspend=2030-01-01T00:00:00Z", "--as=ann")
    kubectl("annotate", "swr", NAME, "swarmrun.dev/suspend-", "--as=ann")
    waived = json.dumps({"spec": {"publish": {"approval": False}}})
    patch = ("patch", "swr", NAME, "--type=merge", "-p", waived, "--as=ann")
    assert "need the verb approve" in kubectl(*patch, ok=False)
    kubectl(*approve, "--as=bob")
    kubectl.finished(NAME, within=300)
    assert (kubectl.reason(NAME), kubectl.status(NAME)["isolation"]) == ("Published", "pod")
    kubectl.pods_of_runs_gone()

    helm("uninstall")
    kubectl("delete", "swr", NAME, "--timeout=30s")


def test_policies_hold_the_operator_s_own_token_and_secrets(
    kubectl: Any, helm: Callable[..., str], remote: str
) -> None:
    helm("install")
    account = kubectl("get", "serviceaccounts", "-o", "jsonpath={.items[*].metadata.name}").split()
    operator = (
        f"system:serviceaccount:{kubectl.namespace}:{next(a for a in account if a.startswith('swarmrun'))}"
    )
    pod: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "thief"},
        "spec": {"containers": [{"name": "x", "image": SANDBOX}]},
    }
    # Each policy, and the Secrets that it asks for, take effect some moments after they were made.
    only = "the operator makes sandbox and git Pods only"
    kubectl.until(lambda: only in kubectl.refusal(pod, f"--as={operator}"))
    body = json.dumps(pod)
    assert only in kubectl("create", "-f", "-", f"--as={operator}", given=body, ok=False)
    for verb in ("get", "list", "watch"):
        kubectl("auth", "can-i", verb, "secrets", f"--as={operator}", ok=False)
    kubectl("auth", "can-i", "create", "pods", "--subresource=exec", f"--as={operator}", ok=False)

    def asks(url: str, secret: str) -> dict[str, Any]:
        spec = {"goal": "x", "repository": {"url": url, "credential": {"name": secret}}}
        return {
            "apiVersion": "swarmrun.dev/v1alpha1",
            "kind": "SwarmRun",
            "metadata": {"name": "x"},
            "spec": spec,
        }

    kubectl("create", "secret", "generic", "private", "--from-literal=a=b")
    kubectl.until(lambda: "is not labelled" in kubectl.refusal(asks(remote, "private")))
    kubectl.until(lambda: "is not for host" in kubectl.refusal(asks("https://evil.example.com/x", "forge")))
    assert "is not labelled" in kubectl.apply(asks(remote, "private"), ok=False)
    host = remote.split("/")[2].split(":")[0]
    for url in (
        "https://evil.example.com/x",
        f"https://{host}@evil.example.com/x",
        f"git@evil.example.com:{host}/x",
    ):
        assert "is not for host evil.example.com" in kubectl.apply(asks(url, "forge"), ok=False)
    for trick in ("?", "#", "\\"):
        said = kubectl.apply(asks(f"https://evil.example.com{trick}@{host}/x", "forge"), ok=False)
        # Most of it the CRD refuses before the policy is asked.
        assert "is no address of a repository" in said or "can be read as another" in said
    kubectl.apply(asks(f"https://u:p@{host}:8443/x", "forge"))
