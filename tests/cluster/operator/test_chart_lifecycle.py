"""The chart's life on a real cluster: what `helm test` finds, what stays over an uninstall, two releases side by
side, an operator that is deaf. No run gets far here, so neither forge nor models are needed."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts/swarmrun"
IMAGE = os.environ.get("SWARMRUN_TEST_OPERATOR_IMAGE", "localhost/swarmrun-operator:dev")
SANDBOX = os.environ.get("SWARMRUN_TEST_SANDBOX_IMAGE", "localhost/swarmrun-sandbox:dev")
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"
PROBED = {
    "model": "m",
    "entries": [
        {"role": "probe", "task": "probe", "turn": 1, "text": "ready", "usage": {"input": 9, "output": 1}}
    ],
}

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not shutil.which("helm"), reason="helm is not installed"),
]


class Release:
    """The chart in one namespace, which is restricted, watching it alone."""

    def __init__(self, kubectl: Any, name: str) -> None:
        self.kubectl, self.name, self.namespace = kubectl, name, kubectl.namespace
        kubectl("label", "namespace", self.namespace, RESTRICTED, "--overwrite")

    def __call__(
        self, verb: str, *more: str, chart: Path = CHART, ok: bool | None = True, **values: Any
    ) -> str:
        repository, _, tag = IMAGE.rpartition(":")
        given = {
            # The CRDs are the cluster's: other tests use them, too.
            "crds": {"install": False},
            "watchNamespaces": [self.namespace],
            "image": {"repository": repository, "tag": tag},
            "sandbox": {"image": SANDBOX},
            "persistence": {"size": "1Gi"},
            **values,
        }
        what = [str(chart), "-f", "-", "--wait"] if verb in ("install", "upgrade") else []
        wait = (
            ["--timeout=300s"] if verb != "uninstall" else ["--wait", "--timeout=180s", "--ignore-not-found"]
        )
        done = subprocess.run(
            ["helm", verb, self.name, *what, "-n", self.namespace, *wait, *more],
            input=yaml.safe_dump(given),
            capture_output=True,
            text=True,
        )
        assert ok is None or (done.returncode == 0) is ok, done.stdout + done.stderr
        return done.stdout + done.stderr

    def operator(self) -> dict[str, Any]:
        """Its one Pod."""
        labels = f"app.kubernetes.io/instance={self.name},app.kubernetes.io/component=all"
        (pod,) = json.loads(self.kubectl("get", "pods", "-l", labels, "-o", "json"))["items"]
        return pod

    def checked(self, *, ok: bool | None = True) -> str:
        """What the Pods of `helm test` said. The second is not begun when the first found a problem."""
        self("test", ok=ok)
        names = self.kubectl("get", "pods", "-o", "name").split()
        return "".join(self.kubectl("logs", n) for n in names if re.search(r"-check(-network)?$", n))


@pytest.fixture
def release(kubectl: Any) -> Iterator[Release]:
    it = Release(kubectl, f"swarmrun-{kubectl.namespace[-8:]}")
    yield it
    it("uninstall")


def a_run(name: str = "shop", **spec: Any) -> dict[str, Any]:
    """One that waits: nobody answers at its remote."""
    return {
        "apiVersion": "swarmrun.dev/v1alpha1",
        "kind": "SwarmRun",
        "metadata": {"name": name},
        "spec": {"goal": "Build a shop.", "repository": {"url": "https://nowhere.invalid/shop"}, **spec},
    }


@pytest.fixture
def make_class(kubectl: Any) -> Callable[..., str]:
    def make(endpoint: str = "http://nowhere.invalid/v1") -> str:
        tier = {"provider": "compatible", "model": "m", "endpoint": endpoint, "auth": {"type": "none"}}
        kubectl.apply(
            {
                "apiVersion": "swarmrun.dev/v1alpha1",
                "kind": "SwarmClass",
                "metadata": {"name": kubectl.namespace, "labels": {"test": kubectl.namespace}},
                "spec": {"models": {"standard": tier}, "allowedNamespaces": [kubectl.namespace]},
            }
        )
        return kubectl.namespace

    return make


# ---------------------------------------------------------------- helm test


def test_helm_test_tells_what_is_well_and_what_is_not(
    kubectl: Any, release: Release, make_class: Callable[..., str]
) -> None:
    release("install")
    name = make_class()
    said = release.checked(ok=False)
    assert re.search(rf"problem +class {name}: premium \(m\): reachable: .*\n +mend: ", said), said
    for fine in ("api server", "controller", "engine", "volume"):
        assert re.search(rf"^ok +{fine}: ", said, re.MULTILINE), said

    make_class(serve_models(kubectl))
    # Other tests' classes are asked as well, and whatever they name.
    said = release.checked(ok=None)
    assert f"ok       class {name}: premium (m): answers: as m" in said
    assert f"problem  class {name}" not in said

    release("upgrade", test={"models": False})
    said = release.checked()
    assert "ok       network policy: enforced" in said
    assert "class" not in said

    # Policies add up: one that opens everything is found.
    kubectl.apply(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "open"},
            "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]},
        }
    )
    said = release.checked(ok=False)
    assert re.search(r"problem +network policy: not enforced: \S+:443 can be reached .*\n +mend: ", said), (
        said
    )


def test_helm_test_finds_a_store_that_cannot_be_written_and_a_missing_right(
    kubectl: Any, release: Release
) -> None:
    store = {"AWS_ENDPOINT": "http://127.0.0.1:9", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "x"}
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    extra = [{"name": k, "value": v} for k, v in {**store, **keys}.items()]
    release("install", artifacts={"url": "s3://bucket/runs"}, extraEnv=extra, test={"models": False})
    said = release.checked(ok=False)
    assert re.search(r"problem +artifacts: cannot write .* in s3://bucket/runs: .*\n +mend: ", said), said
    kubectl("delete", "rolebinding", release.name)
    said = release.checked(ok=False)
    assert re.search(r"problem +api server: .*cannot list resource.*\n +mend: .*rbac\.create", said), said


def serve_models(kubectl: Any) -> str:
    """A recording of one word, served by a Pod; its address."""
    hardened = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    served = ["swarmrun", "cassette", "serve", "/tape/cassette.yaml", "--port=8765", "--host=0.0.0.0"]
    container = {
        "name": "models",
        "image": IMAGE,
        "command": served,
        "readinessProbe": {"tcpSocket": {"port": 8765}, "periodSeconds": 1},
        "securityContext": hardened,
        "volumeMounts": [{"name": "tape", "mountPath": "/tape"}],
    }
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "tape"},
            "data": {"cassette.yaml": yaml.safe_dump(PROBED)},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "models"},
            "spec": {"selector": {"app": "models"}, "ports": [{"port": 8765}]},
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "models", "labels": {"app": "models"}},
            "spec": {
                "automountServiceAccountToken": False,
                "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [container],
                "volumes": [{"name": "tape", "configMap": {"name": "tape"}}],
            },
        },
    )
    kubectl.wait("condition=Ready", "pod/models", within=180)
    return f"http://models.{kubectl.namespace}.svc:8765/v1"


# ---------------------------------------------------------------- upgrade, uninstall, reinstall


def test_a_run_goes_on_after_upgrade_uninstall_and_reinstall_and_nothing_holds_its_namespace(
    kubectl: Any, release: Release, make_class: Callable[..., str]
) -> None:
    release("install")
    kubectl.apply(a_run(className=make_class()))
    began = kubectl.until(lambda: kubectl.status("shop").get("startedAt"), within=180)
    instance = kubectl.status("shop")["run"]

    old = release.operator()["metadata"]["uid"]
    release("upgrade", podAnnotations={"again": "yes"})
    assert release.operator()["metadata"]["uid"] != old

    release("uninstall")
    its = (
        "deployments,services,networkpolicies,serviceaccounts,roles",
        "-l",
        f"app.kubernetes.io/instance={release.name}",
    )
    assert kubectl("get", *its, "-o", "name").strip() == ""
    # The run and the volume with its engine stay; nobody works on it.
    assert kubectl.status("shop")["run"] == instance
    assert kubectl("get", "pvc", "-o", "name").split() == [f"persistentvolumeclaim/{release.name}-state"]

    release("install", "--take-ownership")
    marked = {"swarmrun.dev/cancel": "seen enough"}
    kubectl("annotate", "swr", "shop", *(f"{k}={v}" for k, v in marked.items()))
    kubectl.finished("shop", within=300)
    ended = kubectl.status("shop")
    assert (ended["phase"], ended["run"], ended["startedAt"]) == ("Cancelled", instance, began)

    # A namespace that goes with an operator and a run at work in it.
    kubectl.apply(a_run("second", className=kubectl.namespace))
    kubectl.until(lambda: kubectl.status("second").get("startedAt"), within=180)
    kubectl("delete", "namespace", kubectl.namespace, "--timeout=300s")


def test_crds_stay_when_the_release_goes_and_come_back_under_its_name(
    kubectl: Any, release: Release, tmp_path: Path
) -> None:
    """A copy of the chart with CRDs of other names: the cluster's own are in use, and a kind twice would be told
    apart by nobody's kubectl."""
    chart, word = tmp_path / "swarmrun", f"t{secrets.token_hex(4)}"
    shutil.copytree(CHART, chart)
    for path in (chart / "files/crds").iterdir():
        text = re.sub(r"\bsw(r|c)\b", f"{word}\\1", path.read_text())
        path.write_text(text.replace("swarm", word).replace("Swarm", word.title()))
    names = [f"{word}runs.{word}run.dev", f"{word}classes.{word}run.dev"]

    def there() -> int:
        return len(kubectl("get", "crd", "-o", "name", "--ignore-not-found", *names).split())

    try:
        bare = {"policies": {"enabled": False}, "persistence": {"enabled": False}}
        release("install", chart=chart, crds={"install": True}, **bare)
        assert there() == 2
        release("uninstall")
        assert there() == 2
        release("install", chart=chart, crds={"install": True}, **bare)
        release("upgrade", chart=chart, crds={"install": True, "keep": False}, **bare)
        release("uninstall")
        kubectl.until(lambda: there() == 0)
    finally:
        kubectl("delete", "crd", "--ignore-not-found", *names)


# ---------------------------------------------------------------- side by side


def test_two_releases_each_work_on_their_own_namespace(kubectl: Any, release: Release) -> None:
    other = type(kubectl)(f"{kubectl.namespace}-b")
    other("create", "namespace", other.namespace)
    second = Release(other, f"{release.name}-b")
    try:
        release("install")
        second("install")
        for cluster in (kubectl, other):
            cluster.apply(a_run(className="there-is-none"))
        for cluster in (kubectl, other):
            cluster.until(lambda c=cluster: c.reason("shop") == "SwarmClassNotFound")
        second("uninstall")
        for cluster in (kubectl, other):
            cluster.apply(a_run("later", className="there-is-none"))
        kubectl.until(lambda: kubectl.reason("later") == "SwarmClassNotFound")
        assert other.reason("later") == ""
        # The identity of the one has no rights where the other works.
        user = f"system:serviceaccount:{kubectl.namespace}:{release.name}"
        other("auth", "can-i", "create", "pods", f"--as={user}", ok=False)
    finally:
        second("uninstall")
        other("delete", "namespace", other.namespace, "--wait=false")


# ---------------------------------------------------------------- deaf


def test_an_operator_that_cannot_hear_is_started_anew_and_works_when_it_may_again(
    kubectl: Any, release: Release
) -> None:
    # Sweeps begin 60 s apart; ten minutes without one are what an outage of the API server may last.
    release("install", extraEnv=[{"name": "SWARMRUN_STALE_SECONDS", "value": "70"}])
    binding = json.loads(kubectl("get", "rolebinding", release.name, "-o", "json"))
    kubectl("delete", "rolebinding", release.name)

    def restarts() -> int:
        return release.operator()["status"]["containerStatuses"][0]["restartCount"]

    kubectl.until(lambda: restarts() >= 1, within=600)
    binding["metadata"] = {"name": release.name, "labels": binding["metadata"]["labels"]}
    kubectl("create", "-f", "-", given=json.dumps(binding))
    kubectl.apply(a_run(className="there-is-none"))
    kubectl.until(lambda: kubectl.reason("shop") == "SwarmClassNotFound", within=300)
