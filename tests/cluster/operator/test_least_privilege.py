"""What the operator's token can do beyond its work: everything it could try, tried as its ServiceAccount.

The honest objects are those that the product makes; each attempt differs from one of them in one thing.
"""

from __future__ import annotations

import copy
import json
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from swarmrun.git.pod.manifest import GitOptions, git_pod, git_policy
from swarmrun.kube.options import NetworkOptions, Owner, PodOptions, RunPlace
from swarmrun.ports import EgressRule, SandboxSpec
from swarmrun.sandbox.kubernetes.manifest import sandbox_pod, sandbox_policies, server_files

ROOT = Path(__file__).parents[3]
HASH = "0" * 64
NETWORK = NetworkOptions("swarmrun-system", {"app.kubernetes.io/name": "swarmrun-operator"})
Json = dict[str, Any]

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not shutil.which("helm"), reason="helm is not installed"),
]


@dataclass
class Thief:
    """Somebody with the operator's token."""

    kubectl: Any
    name: str
    place: RunPlace

    def tries(self, body: Json, namespace: str = "") -> str:
        """What the API server says; empty when it would do it. Nothing is changed."""
        place = type(self.kubectl)(namespace or self.kubectl.namespace)
        return place.refusal(body, f"--as={self.name}")

    def may(self, verb: str, what: str, *more: str) -> bool:
        return self.kubectl.may(self.name, verb, what, *more)


@pytest.fixture(scope="module")
def chart() -> Iterator[tuple[str, str]]:
    """The chart's rights and policies for a ServiceAccount, without an operator: it could be any namespace's."""
    release = f"swarmrun-{secrets.token_hex(4)}"
    line = ["helm", "template", "--kube-version=1.35", "-n", release, release, str(ROOT / "charts/swarmrun")]
    shown = [f"-s=templates/{name}.yaml" for name in ("policies", "rbac", "serviceaccount")]
    options = ["--set=image.repository=localhost:5000/swarmrun-operator", "--set=image.tag=dev"]
    rendered = subprocess.run([*line, *shown, *options], capture_output=True, text=True, check=True).stdout
    apply = ["kubectl", "-n", release, "apply", "--server-side", "-f", "-"]
    subprocess.run(["kubectl", "create", "namespace", release], check=True, capture_output=True)
    try:
        subprocess.run(apply, input=rendered, text=True, check=True, capture_output=True)
        yield release, f"system:serviceaccount:{release}:{release}"
    finally:
        delete = ["kubectl", "-n", release, "delete", "--ignore-not-found", "-f", "-"]
        subprocess.run(delete, input=rendered, text=True, check=False, capture_output=True)
        subprocess.run(["kubectl", "delete", "namespace", release, "--wait=false"], check=False)


@pytest.fixture(scope="module")
def thief(shared_kubectl: Any, chart: tuple[str, str]) -> Thief:
    kubectl = shared_kubectl
    owner = Owner("swarmrun.dev/v1alpha1", "SwarmRun", "demo", "00000000-0000-0000-0000-000000000000")
    labelled: Json = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "git",
            "labels": {"swarmrun.dev/git-credential": "true"},
            "annotations": {"swarmrun.dev/allowed-hosts": "git.example.com"},
        },
        "stringData": {"token": "t"},
    }
    private: Json = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "private"}}
    kubectl.apply(labelled, private)
    it = Thief(kubectl, chart[1], RunPlace(kubectl.namespace, "run", "demo", owner))
    # A policy takes effect some moments after it was made.
    stranger: Json = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "x"},
        "spec": {"containers": [{"name": "x", "image": "x"}]},
    }
    kubectl.until(lambda: "makes sandbox and git Pods only" in it.tries(stranger))
    kubectl.until(lambda: "is not labelled" in it.tries(git(it, secret="private")))
    kubectl.until(lambda: "is not for host" in it.tries(git(it, url="https://evil.example.com/o/r")))
    kubectl.until(lambda: "never change" in it.tries(changed(server_files(it.place), "immutable", to=False)))
    return it


def sandbox(thief: Thief, **options: Any) -> Json:
    pods = PodOptions("localhost/swarmrun-sandbox:dev", **options)
    spec = SandboxSpec("run-task-a1-g1", run="run", image="python:3.12")
    return sandbox_pod(thief.place, spec, pods, NETWORK, token_sha256=HASH)


def git(thief: Thief, url: str = "https://git.example.com/o/r", secret: str = "git", **more: Any) -> Json:
    pods = PodOptions("localhost:5000/swarmrun-operator:dev")
    return git_pod(thief.place, GitOptions(url, pods, secret=secret, **more), token_sha256=HASH)


def changed(body: Json, *path: str | int, to: Any) -> Json:
    body = copy.deepcopy(body)
    at: Any = body
    for step in path[:-1]:
        at = at.setdefault(step, {}) if isinstance(at, dict) else at[step]
    if path[-1] == "+":
        at.append(to)
    else:
        at[path[-1]] = to
    return body


BOX = ("spec", "containers", 0)


def test_what_the_operator_makes_is_let_through(thief: Thief) -> None:
    spec = SandboxSpec("run-task-a1-g1", run="run", allow=(EgressRule("10.0.0.0/8", (443,)),), dns=True)
    options = GitOptions("https://git.example.com/o/r", PodOptions("x"))
    for body in (
        sandbox(thief),
        sandbox(thief, storage_class="default", service_account="default", image_pull_secrets=("pull",)),
        sandbox(thief, node_selector={"a": "b"}, tolerations=({"key": "a", "operator": "Exists"},)),
        git(thief),
        git(thief, ca_config_map="ca", env={"HTTPS_PROXY": "http://proxy:3128"}),
        git(thief, url="ssh://git@git.example.com:2222/o/r"),
        changed(git(thief), *BOX, "image", to="localhost:5000/swarmrun-operator@sha256:" + HASH),
        server_files(thief.place),
        *sandbox_policies(thief.place, spec, NETWORK),
        git_policy(thief.place, options, NETWORK),
    ):
        kinds = {"NetworkPolicy": "networking.k8s.io/v1", "ConfigMap": "v1", "Pod": "v1"}
        assert thief.tries({"apiVersion": kinds[body["kind"]]} | body) == ""


# Which Pod, where in it, what instead, and what is said.
PODS: list[tuple[str, Callable[..., Json], tuple[str | int, ...], Any, str]] = [
    (f"volume {next(iter(it))}", git, ("spec", "volumes", "+"), {"name": "v"} | it, "mount no other volumes")
    for it in (
        {"hostPath": {"path": "/"}},
        {"persistentVolumeClaim": {"claimName": "state"}},
        {"projected": {"sources": [{"secret": {"name": "private"}}]}},
        {"csi": {"driver": "secrets-store.csi.k8s.io", "nodePublishSecretRef": {"name": "private"}}},
        {"azureFile": {"secretName": "private", "shareName": "s"}},
        {"cephfs": {"monitors": ["m"], "secretRef": {"name": "private"}}},
        {"nfs": {"server": "10.0.0.1", "path": "/"}},
        {"downwardAPI": {"items": []}},
        {"gitRepo": {"repository": "https://evil.example.com/x"}},
    )
]
CONTEXT = (*BOX, "securityContext")
REF = {"secretKeyRef": {"name": "git", "key": "token"}}
PROBE = {"tcpSocket": {"host": "10.0.0.1", "port": 1}}
HOOK = {"postStart": {"httpGet": {"host": "169.254.169.254", "port": 80}}}
EVIL = "localhost:5000/swarmrun-operator-evil:dev"
PLAIN = {"name": "y", "image": "x", "securityContext": {"allowPrivilegeEscalation": False}}
LABELS = ("metadata", "labels")
NAME = "app.kubernetes.io"
SECRET = {"name": "v", "secret": {"secretName": "later"}}
SERVER, NODE, ROOT_USER = "git server of the operator", "nothing with the node", "do not run as root"
PODS += [
    ("Secret in a sandbox", sandbox, ("spec", "volumes", "+"), SECRET, "only git Pods mount a Secret"),
    ("envFrom", git, (*BOX, "envFrom"), [{"secretRef": {"name": "git"}}], "no Secret becomes"),
    ("env valueFrom", sandbox, (*BOX, "env", "+"), {"name": "S", "valueFrom": REF}, "no Secret becomes"),
    ("Secret without an address", git, (*BOX, "env"), [], "is not for host"),
    ("git Pod of another image", git, (*BOX, "image"), EVIL, SERVER),
    ("git Pod of another command", git, (*BOX, "command"), ["cat", "/run/git-secret/token"], SERVER),
    ("git Pod with arguments", git, (*BOX, "args"), ["-c", "import os"], SERVER),
    ("git Pod with a companion", git, ("spec", "containers", "+"), PLAIN, SERVER),
    ("git Pod with an init container", git, ("spec", "initContainers"), [PLAIN], SERVER),
    ("token", sandbox, ("spec", "automountServiceAccountToken"), True, "no service-account token"),
    ("host network", sandbox, ("spec", "hostNetwork"), True, NODE),
    ("host PIDs", sandbox, ("spec", "hostPID"), True, NODE),
    ("host port", sandbox, (*BOX, "ports"), [{"containerPort": 80, "hostPort": 80}], NODE),
    ("node of its choice", sandbox, ("spec", "nodeName"), "node-1", "placed by the scheduler"),
    ("root", sandbox, ("spec", "securityContext", "runAsUser"), 0, ROOT_USER),
    ("root in the container", sandbox, (*CONTEXT, "runAsUser"), 0, ROOT_USER),
    ("root allowed in the container", sandbox, (*CONTEXT, "runAsNonRoot"), False, ROOT_USER),
    ("privileged", sandbox, CONTEXT, {"privileged": True}, "no privilege"),
    ("capability", sandbox, (*CONTEXT, "capabilities", "add"), ["NET_RAW"], "no privilege"),
    ("no seccomp", sandbox, (*CONTEXT, "seccompProfile"), {"type": "Unconfined"}, "seccomp"),
    ("a hook that asks others", sandbox, (*BOX, "lifecycle"), HOOK, "no hooks"),
    ("a probe that asks others", sandbox, (*BOX, "readinessProbe"), PROBE, "no hooks"),
    ("nobody's Pod", sandbox, ("metadata", "ownerReferences"), [], "belong to a SwarmRun"),
    ("another owner's", sandbox, ("metadata", "ownerReferences", 0, "kind"), "X", "belong to a SwarmRun"),
    ("without our label", sandbox, (*LABELS, f"{NAME}/managed-by"), "Helm", "sandbox and git Pods only"),
    ("another component", sandbox, (*LABELS, f"{NAME}/component"), "all", "sandbox and git Pods only"),
]


@pytest.mark.parametrize(("made", "path", "to", "said"), [p[1:] for p in PODS], ids=[p[0] for p in PODS])
def test_no_pod_but_its_own_kind_can_be_made_with_its_token(
    thief: Thief, made: Any, path: Any, to: Any, said: str
) -> None:
    assert said in thief.tries(changed(made(thief), *path, to=to))


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://evil.example.com/o/r", "evil.example.com"),
        ("ssh://git@evil.example.com/o/r", "evil.example.com"),
        ("git@evil.example.com:git.example.com/r", "evil.example.com"),
        ("https://git.example.com@evil.example.com/o/r", "evil.example.com"),
        ("https://git.example.com.evil.example.com/o/r", "git.example.com.evil.example.com"),
    ],
)
def test_no_git_pod_sends_a_secret_to_a_stranger(thief: Thief, url: str, host: str) -> None:
    assert f"Secret git is not for host {host} " in thief.tries(git(thief, url=url))
    assert "Secret private is not labelled" in thief.tries(git(thief, url=url, secret="private"))
    assert thief.tries(git(thief, url=url, secret="")) == ""


def test_a_run_whose_secret_was_taken_back_can_still_be_cancelled_but_not_sent_elsewhere(
    thief: Thief,
) -> None:
    kubectl = thief.kubectl
    late = {
        "labels": {"swarmrun.dev/git-credential": "true"},
        "annotations": {"swarmrun.dev/allowed-hosts": "git.example.com"},
    }
    kubectl.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "late", **late}})
    url = {"url": "https://git.example.com/o/r", "credential": {"name": "late"}}
    run: Json = {
        "apiVersion": "swarmrun.dev/v1alpha1",
        "kind": "SwarmRun",
        "metadata": {"name": "late"},
        "spec": {"goal": "g", "repository": url},
    }
    kubectl.apply(run)
    kubectl("label", "secret", "late", "swarmrun.dev/git-credential-")
    elsewhere = json.dumps({"spec": {"repository": {"url": "https://git.example.com/o/other"}}})
    patch = ("patch", "swarmruns.swarmrun.dev", "late", "--type=merge", "-p", elsewhere)
    # A label that was taken away is heard of some moments later.
    kubectl.until(lambda: "is not labelled" in kubectl.said(*patch, "--dry-run=server"))
    kubectl("annotate", "swarmruns.swarmrun.dev", "late", "swarmrun.dev/cancel=enough")
    kubectl("label", "secret", "late", "swarmrun.dev/git-credential=true")
    kubectl("annotate", "--overwrite", "secret", "late", "swarmrun.dev/allowed-hosts=other.example.com")
    kubectl.until(lambda: "is not for host" in kubectl.said(*patch, "--dry-run=server"))
    kubectl("annotate", "--overwrite", "swarmruns.swarmrun.dev", "late", "swarmrun.dev/cancel=really")


def test_nothing_is_made_in_the_namespaces_of_kubernetes(thief: Thief) -> None:
    system = RunPlace("kube-system", "run", "demo", thief.place.owner)
    there = Thief(thief.kubectl, thief.name, system)
    assert "namespaces of Kubernetes" in there.tries(sandbox(there), "kube-system")
    assert "belongs to a SwarmRun" in there.tries(server_files(system), "kube-system")
    dns: Json = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "coredns-custom"},
        "data": {"x.override": "forward . 1.2.3.4"},
    }
    assert "belongs to a SwarmRun" in thief.tries(dns, "kube-system")


def test_no_policy_of_the_network_but_a_run_s_own_can_be_made_with_its_token(thief: Thief) -> None:
    (fence,) = sandbox_policies(thief.place, SandboxSpec("x", run="run"), NETWORK)
    open_all = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}
    for body, said in (
        (changed(fence, "spec", to=open_all), "for the Pods of one run"),
        (
            changed(fence, "spec", "podSelector", to={"matchLabels": {"app": "bank"}}),
            "for the Pods of one run",
        ),
        (changed(fence, "metadata", "ownerReferences", to=[]), "belongs to a SwarmRun"),
        (changed(server_files(thief.place), "immutable", to=False), "never change"),
    ):
        assert said in thief.tries(body)


def test_only_pods_of_runs_can_be_deleted_with_its_token(thief: Thief) -> None:
    theirs: Json = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "bank"},
        "spec": {"containers": [{"name": "x", "image": "localhost/none:1", "imagePullPolicy": "Never"}]},
    }
    ours = changed(
        theirs, "metadata", to={"name": "ours", "labels": {"app.kubernetes.io/managed-by": "swarmrun"}}
    )
    thief.kubectl.apply(theirs, ours)
    trial = ["delete", "pod", "bank", "--wait=false", "--dry-run=server", f"--as={thief.name}"]
    # A policy takes effect some moments after it was made.
    thief.kubectl.until(lambda: "deletes its own Pods only" in thief.kubectl.said(*trial))
    for what in (("pod", "bank"), ("pod", "--all")):
        said = thief.kubectl("delete", *what, "--wait=false", f"--as={thief.name}", ok=False)
        assert "deletes its own Pods only" in said
    collection = f"/api/v1/namespaces/{thief.kubectl.namespace}/pods"
    said = thief.kubectl("delete", "--raw", collection, f"--as={thief.name}", ok=False)
    assert "deletes its own Pods only" in said
    assert "bank" in thief.kubectl("get", "pods", "-o", "name")
    thief.kubectl(
        "delete", "pods", "-l", "app.kubernetes.io/managed-by=swarmrun", "--wait=false", f"--as={thief.name}"
    )


@pytest.mark.parametrize(
    ("verbs", "what"),
    [
        ("get list watch create update patch delete", "secrets"),
        ("create get", "pods/exec"),
        ("create get", "pods/attach"),
        ("create get", "pods/portforward"),
        ("get create", "pods/proxy"),
        ("get", "pods/log"),
        ("update patch", "pods/ephemeralcontainers"),
        # `patch` takes one label off, and a policy holds it to that: test_pod_policy.py.
        ("update", "pods"),
        ("create", "pods/eviction"),
        ("create", "pods/binding"),
        ("create", "serviceaccounts/token"),
        ("create update patch delete approve", "swarmruns.swarmrun.dev"),
        ("create update patch delete", "swarmclasses.swarmrun.dev"),
        ("create update patch escalate bind", "clusterroles.rbac.authorization.k8s.io"),
        ("create update patch", "rolebindings.rbac.authorization.k8s.io"),
        ("update patch delete", "networkpolicies.networking.k8s.io"),
        ("get list update patch delete", "configmaps"),
        ("create update patch delete", "validatingadmissionpolicies.admissionregistration.k8s.io"),
        ("create update patch delete", "validatingadmissionpolicybindings.admissionregistration.k8s.io"),
        ("create update patch", "customresourcedefinitions.apiextensions.k8s.io"),
        ("create", "deployments.apps"),
        ("get list", "nodes"),
        ("get", "nodes/proxy"),
        ("impersonate", "users"),
    ],
)  # fmt: skip
def test_its_token_has_no_verb_that_leads_further(thief: Thief, verbs: str, what: str) -> None:
    resource, _, sub = what.partition("/")
    more = [f"--subresource={sub}"] if sub else []
    for verb in verbs.split():
        assert not thief.may(verb, resource, *more), (verb, what)
    # The instrument sees what there is.
    assert thief.may("create", "pods")
