"""kubectl and helm as a person uses them, against whatever KUBECONFIG names. Nothing here needs to reach a Pod."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
IMAGE = os.environ.get("SWARMRUN_TEST_OPERATOR_IMAGE", "localhost/swarmrun-operator:dev")
SANDBOX = os.environ.get("SWARMRUN_TEST_SANDBOX_IMAGE", "localhost/swarmrun-sandbox:dev")
RUNS = "swarmruns.swarmrun.dev"
"""In full: another CRD of a cluster may have the same short name."""
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"
OUTAGE = (
    "connection refused",
    "EOF",
    "reset by peer",
    "was refused",
    "TLS handshake",
    "i/o timeout",
    "ServiceUnavailable",
    # Its first answers after a start: resource definitions are read a moment later.
    "doesn't have a resource type",
    "could not find the requested resource",
    "no matches for kind",
    "not yet ready to handle request",
    "storage is (re)initializing",
    # And its last ones before an end, or those of one whose own database is away.
    "unable to return a response in the time allotted",
    "etcdserver",
    "http2: client connection",
)
"""How kubectl says that the API server is not there."""
MARGIN = 60
"""Seconds that a command may take beyond the bound that it keeps itself. Arbitrary; ample on a busy machine."""


def command(*words: str, given: str | None = None, patience: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, input=given, capture_output=True, text=True, timeout=patience, check=False)


class Kubectl:
    """In one namespace. A failure's text is the assertion; an API server that was killed is waited for.

    `patience`: seconds for the command itself; `outage`: how long the API server may be away, from the first answer
    that says so.
    """

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def __call__(
        self, *words: str, given: str | None = None, outage: float = 180, patience: float = 300
    ) -> str:
        ends = 0.0
        while True:
            done = command("kubectl", "-n", self.namespace, *words, given=given, patience=patience)
            if done.returncode == 0:
                return done.stdout
            # Not from the call's beginning: a `wait` may have lasted for longer than any outage.
            ends = ends or time.monotonic() + outage
            waits = any(sign in done.stderr for sign in OUTAGE) and time.monotonic() < ends
            assert waits, f"kubectl {' '.join(words)}: {done.stderr}"
            time.sleep(0.5)

    def wait(self, what: str, *which: str, within: float) -> None:
        """`kubectl wait --for=WHAT`, for so many seconds."""
        self("wait", f"--for={what}", f"--timeout={within:g}s", *which, patience=within + MARGIN)

    def rolled_out(self, deployment: str, *, within: float = 300) -> None:
        self("rollout", "status", f"deploy/{deployment}", f"--timeout={within:g}s", patience=within + MARGIN)

    def apply(self, *resources: dict[str, Any]) -> None:
        self("apply", "--server-side", "--force-conflicts", "-f", "-", given=yaml.safe_dump_all(resources))

    def items(self, kind: str, *more: str) -> list[dict[str, Any]]:
        return json.loads(self("get", kind, *more, "-o", "json"))["items"]

    def names(self, kind: str, *more: str) -> list[str]:
        return [item["metadata"]["name"] for item in self.items(kind, *more)]

    def status(self, run: str) -> dict[str, Any]:
        return json.loads(self("get", RUNS, run, "-o", "json")).get("status", {})

    def until(self, holds: Callable[[], Any], what: str, *, patience: float = 120) -> Any:
        """The first true value of `holds`."""
        ends = time.monotonic() + patience
        while not (found := holds()):
            assert time.monotonic() < ends, f"waited {patience:g} s in vain: {what}\n{self.state()}"
            time.sleep(0.3)
        return found

    def state(self) -> str:
        """What a person would look at first."""
        told = [
            self("get", f"{RUNS},pods", "-o", "wide"),
            self("get", "events", "--sort-by=.lastTimestamp"),
        ]
        return "\n".join(text[-6000:] for text in told)

    # ------------------------------------------------------------ namespaces

    def create_namespace(self, *labels: str) -> None:
        self("create", "namespace", self.namespace)
        for label in labels:
            self("label", "namespace", self.namespace, label)

    def delete_namespace(self, *, wait: float = 0) -> None:
        how = [f"--timeout={wait:g}s"] if wait else ["--wait=false"]
        self("delete", "namespace", self.namespace, "--ignore-not-found", *how, patience=300 + wait)


class Release:
    """The chart, installed in a namespace of its own and watching `watched`. The CRDs are the cluster's."""

    def __init__(self, name: str, watched: list[str], **values: str) -> None:
        self.kubectl = Kubectl(f"{name}-system")
        self._name = name
        repository, _, tag = IMAGE.rpartition(":")
        self._values = {
            "crds.install": "false",
            "watchNamespaces": "{" + ",".join(watched) + "}",
            "image.repository": repository,
            "image.tag": tag,
            "sandbox.image": SANDBOX,
            "persistence.size": "2Gi",
            "persistence.keep": "false",
        } | values

    def install(self) -> None:
        Kubectl("default")("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
        self.kubectl.create_namespace(RESTRICTED)
        self._helm("install")

    def install_again(self) -> None:
        """After `uninstall`, where the namespaces are."""
        self._helm("install")

    def upgrade(self, **values: str) -> None:
        """`values`: with `__` where the value's path has a dot."""
        self._values |= {name.replace("__", "."): value for name, value in values.items()}
        self._helm("upgrade")

    def uninstall(self) -> None:
        done = command(
            "helm",
            "uninstall",
            self._name,
            "-n",
            self.kubectl.namespace,
            "--ignore-not-found",
            "--wait",
            "--timeout=300s",
            patience=300 + MARGIN,
        )
        assert done.returncode == 0, done.stderr

    def pod(self) -> str:
        """Name of the operator's newest Pod."""
        pods = self.kubectl.items("pods", "-l", "app.kubernetes.io/name=swarmrun-operator")
        pods = [p for p in pods if "deletionTimestamp" not in p["metadata"]]
        return max(pods, key=lambda p: p["metadata"]["creationTimestamp"])["metadata"]["name"] if pods else ""

    def log(self, lines: int = 100) -> str:
        pod = self.pod()
        if not pod:
            return "the operator has no Pod"
        texts = [
            command("kubectl", "-n", self.kubectl.namespace, "logs", pod, f"--tail={lines}", *which).stdout
            for which in ((), ("--previous",))
        ]
        return "\n--- before its last restart:\n".join(text for text in texts if text)

    def _helm(self, verb: str) -> None:
        settings = [f"--set={name}={value}" for name, value in self._values.items()]
        where = ["-n", self.kubectl.namespace, "--wait", "--timeout=300s"]
        done = command(
            "helm", verb, self._name, str(ROOT / "charts/swarmrun"), *settings, *where, patience=300 + MARGIN
        )
        assert done.returncode == 0, (
            f"{done.stderr}\n{self.kubectl('get', 'pods', '-o', 'wide')}\n{self.log()}"
        )
