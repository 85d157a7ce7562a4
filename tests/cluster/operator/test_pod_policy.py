"""What the operator's own token may change on its Pods: they lose the label of set-up, and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swarmrun.kube.names import EGRESS
from swarmrun.kube.options import NetworkOptions, Owner, PodOptions, RunPlace
from swarmrun.ports import EgressRule, SandboxSpec
from swarmrun.sandbox.kubernetes.manifest import sandbox_pod

ROOT = Path(__file__).parents[3]

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not shutil.which("helm"), reason="helm is not installed"),
]


@pytest.fixture
def operator_s(kubectl: Any) -> Iterator[tuple[str, ...]]:
    """Makes kubectl speak as the operator of a chart whose rights and policies alone are there."""
    release = f"swarmrun-{kubectl.namespace[-8:]}"
    shown = [f"--show-only=templates/{name}.yaml" for name in ("serviceaccount", "rbac", "policies")]
    command = ["helm", "template", release, str(ROOT / "charts/swarmrun"), "-n", kubectl.namespace, *shown]
    watched = f"--set=watchNamespaces={{{kubectl.namespace}}}"
    made = subprocess.run([*command, watched, "--kube-version=1.35"], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    kubectl("apply", "-f", "-", given=made.stdout)
    accounts = kubectl("get", "serviceaccounts", "-o", "jsonpath={.items[*].metadata.name}").split()
    name = next(a for a in accounts if a.startswith("swarmrun"))
    yield (f"--as=system:serviceaccount:{kubectl.namespace}:{name}",)
    kubectl("delete", "--ignore-not-found", "-f", "-", given=made.stdout)


def test_a_pod_only_loses_the_label_that_opened_it_for_set_up(
    kubectl: Any, operator_s: tuple[str, ...]
) -> None:
    meta = {"name": "x", "annotations": {"swarmrun.dev/suspend": "2030-01-01T00:00:00Z"}}
    spec = {"goal": "x", "repository": {"url": "https://git.example.com/x.git"}}
    kubectl.apply({"apiVersion": "swarmrun.dev/v1alpha1", "kind": "SwarmRun", "metadata": meta, "spec": spec})
    owner = Owner("swarmrun.dev/v1alpha1", "SwarmRun", "x", kubectl.run("x")["metadata"]["uid"])
    place = RunPlace(kubectl.namespace, "i", "x", owner)
    it = SandboxSpec(
        "i-a-a1-g1", "i", allow=(EgressRule("10.0.0.0/8"),), setup_only=True, setup="ahead", memory_mb=64
    )
    net = NetworkOptions("swarmrun-system", {"app": "brain"})
    # Nothing of it needs to run.
    options = PodOptions("localhost/none:1", image_pull_policy="Never", node_selector={"no": "node"})
    pod = sandbox_pod(place, it, options, net, token_sha256="0" * 64)
    name = pod["metadata"]["name"]

    def patched(body: dict[str, Any], *, ok: bool = False) -> str:
        words = ("patch", "pod", name, "--type=strategic", "-p", json.dumps(body), *operator_s)
        return kubectl(*words, ok=ok)

    def until_policies_hold() -> bool:
        """The API server takes new policies in within moments."""
        done = subprocess.run(
            ["kubectl", "-n", kubectl.namespace, "create", "--dry-run=server", "-f", "-", *operator_s],
            input=json.dumps({**pod, "metadata": {**pod["metadata"], "labels": {}}}),
            capture_output=True,
            text=True,
        )
        return "makes sandbox and git Pods only" in done.stderr

    kubectl.until(until_policies_hold)
    kubectl("create", "-f", "-", *operator_s, given=json.dumps(pod))
    refused = "nothing changes but that they lose the label"
    for labels in (
        {"swarmrun.dev/instance": None},
        {"swarmrun.dev/task": "b"},
        {EGRESS: "more"},
        {"new": "x"},
    ):
        assert refused in patched({"metadata": {"labels": labels}}), labels
    assert refused in patched({"metadata": {"annotations": {"a": "b"}}})
    assert refused in patched({"metadata": {"finalizers": ["a.example.com/b"]}})
    assert refused in patched({"spec": {"containers": [{"name": "sandbox", "image": "localhost/other:1"}]}})
    patched({"metadata": {"labels": {EGRESS: None}}}, ok=True)
    assert EGRESS not in json.loads(kubectl("get", "pod", name, "-o", "json"))["metadata"]["labels"]
    # And back never.
    assert refused in patched({"metadata": {"labels": {EGRESS: "setup"}}})
