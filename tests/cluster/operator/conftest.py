"""The operator as a process of this machine against a real API server; nothing needs to run in the cluster.

No other operator may watch these namespaces meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from swarmrun.cassette.server import CassetteServer

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "examples/url-shortener"
FORGE = os.environ.get("SWARMRUN_TEST_FORGE", "").rstrip("/")
TOKEN = os.environ.get("SWARMRUN_TEST_FORGE_TOKEN", "")
MARGIN = 60
"""Seconds that a command may take beyond the bound that it keeps itself. Arbitrary; ample on a busy machine."""


def free_port() -> int:
    """Nobody's now, and below 30000: neither a node's services nor connections out of this machine take it until it
    is listened on."""
    while True:
        port = 20000 + secrets.randbelow(10000)
        with socket.socket() as it, contextlib.suppress(OSError):
            it.bind(("0.0.0.0", port))
            return port


class Kubectl:
    """kubectl in one namespace; a failure's text is the assertion."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def __call__(self, *args: str, given: str | None = None, ok: bool = True, patience: float = 360) -> str:
        line = ["kubectl", "-n", self.namespace, *args]
        done = subprocess.run(line, input=given, capture_output=True, text=True, timeout=patience)
        if ok:
            assert done.returncode == 0, done.stderr
            return done.stdout
        assert done.returncode != 0, done.stdout
        return done.stderr

    def wait(self, what: str, *which: str, within: float) -> None:
        """`kubectl wait --for=WHAT`, for so many seconds."""
        self("wait", f"--for={what}", f"--timeout={within:g}s", *which, patience=within + MARGIN)

    def finished(self, run: str, *, within: float = 600) -> None:
        """A run takes about a minute on an idle machine."""
        self.wait("condition=Finished", f"swarmrun/{run}", within=within)

    def pods_of_runs_gone(self, *, within: float = 180) -> None:
        self.wait("delete", "pod", "-l", "app.kubernetes.io/name=swarmrun", within=within)

    def may(self, user: str, verb: str, what: str, *more: str) -> bool:
        """Whether that user has the right; it comes some moments after the binding that gives it."""
        words = ["auth", "can-i", verb, what, f"--as={user}", *more]
        line = ["kubectl", "-n", self.namespace, *words]
        return subprocess.run(line, capture_output=True, text=True, timeout=60).stdout.strip() == "yes"

    def create_namespace(self) -> None:
        """With the account that bare Pods run under: Kubernetes makes it a moment later, and refuses them before."""
        self("create", "namespace", self.namespace)
        self.until(lambda: self("get", "serviceaccount", "default", "--ignore-not-found", "-o", "name"))

    def apply(self, *resources: dict[str, Any], ok: bool = True) -> str:
        return self("apply", "--server-side", "-f", "-", given=yaml.safe_dump_all(resources), ok=ok)

    def refusal(self, body: dict[str, Any], *more: str) -> str:
        """What the API server says to a resource; empty when it would make it. Nothing is changed."""
        return self.said("create", "--dry-run=server", "-f", "-", *more, given=json.dumps(body))

    def said(self, *words: str, given: str | None = None) -> str:
        """What kubectl says to something that it does not do; empty where it was done."""
        line = ["kubectl", "-n", self.namespace, *words]
        done = subprocess.run(line, input=given, capture_output=True, text=True, timeout=60)
        return "" if done.returncode == 0 else done.stderr

    def run(self, name: str) -> dict[str, Any]:
        return json.loads(self("get", "swarmrun", name, "-o", "json"))

    def status(self, name: str) -> dict[str, Any]:
        return self.run(name).get("status", {})

    def reason(self, name: str) -> str:
        return next(
            (c["reason"] for c in self.status(name).get("conditions", []) if c["type"] == "Ready"), ""
        )

    def until(self, what: Callable[[], Any], *, within: float = 120) -> Any:
        ends = time.monotonic() + within
        while not (found := what()):
            assert time.monotonic() < ends, self("get", "swarmruns", "-o", "yaml")[-4000:]
            time.sleep(0.3)
        return found


class Operator:
    """A process that can be killed and started again on the same state."""

    def __init__(self, state: Path, namespace: str, **env: str) -> None:
        self.log = state.parent / "operator.log"
        self.probe_port, self.metrics_port = free_port(), free_port()
        self._env = {
            **os.environ,
            "SWARMRUN_STATE": str(state),
            "SWARMRUN_SANDBOXES": "process",
            "SWARMRUN_UNSAFE_NO_SANDBOX": "true",
            "SWARMRUN_NAMESPACES": namespace,
            "SWARMRUN_PROBE_PORT": str(self.probe_port),
            "SWARMRUN_READ_PORT": "0",
            "SWARMRUN_METRICS_PORT": str(self.metrics_port),
            **env,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, role: str = "all") -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "swarmrun.controller", "--role", role],
                env=self._env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def end(self, how: signal.Signals = signal.SIGKILL) -> int:
        assert self._process is not None
        self._process.send_signal(how)
        return self._process.wait(60)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.end()


@pytest.fixture(scope="session")
def kubectl_in(crds: None) -> type[Kubectl]:
    """kubectl in a namespace that the test makes."""
    return Kubectl


@pytest.fixture
def kubectl(crds: None) -> Iterator[Kubectl]:
    yield from _namespace()


@pytest.fixture(scope="module")
def shared_kubectl(crds: None) -> Iterator[Kubectl]:
    """One namespace for tests that leave nothing behind."""
    yield from _namespace()


def _namespace() -> Iterator[Kubectl]:
    name = f"operator-{secrets.token_hex(4)}"
    it = Kubectl(name)
    it.create_namespace()
    yield it
    it("delete", "swarmclass", "-l", f"test={name}", "--ignore-not-found")
    it("delete", "namespace", name, "--wait=false", "--ignore-not-found")


@pytest.fixture(scope="session")
def crds() -> None:
    # Whoever brought them before (a chart, an older checkout): these are what is tested.
    Kubectl("default")("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))


@pytest.fixture
def make_operator(kubectl: Kubectl, tmp_path: Path) -> Iterator[Callable[..., Operator]]:
    made: list[Operator] = []

    def make(name: str = "operator", **env: str) -> Operator:
        made.append(Operator(tmp_path / name / "state", kubectl.namespace, **env))
        made[-1].log.parent.mkdir()
        return made[-1]

    yield make
    for it in made:
        it.close()
        print(it.log, it.log.read_text()[-4000:] if it.log.exists() else "")


@pytest.fixture
def operator(make_operator: Callable[..., Operator]) -> Operator:
    return make_operator()


@pytest.fixture
def demo(kubectl: Kubectl, tmp_path: Path) -> Iterator[Callable[..., list[dict[str, Any]]]]:
    """The resources of the example, on a fresh local remote, its models served here: class, run."""
    remote = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", "--initial-branch=main", str(remote)], check=True)
    with CassetteServer(DEMO / "cassette.yaml", quiet=True) as server:

        def make(**spec: Any) -> list[dict[str, Any]]:
            cls, run = yaml.safe_load_all((DEMO / "run.yaml").read_text())
            cls["metadata"] = {"name": kubectl.namespace, "labels": {"test": kubectl.namespace}}
            for tier in cls["spec"]["models"].values():
                tier["endpoint"] = server.url
            run["spec"] |= {"className": kubectl.namespace, "repository": {"url": str(remote)}, **spec}
            return [cls, run]

        yield make


@pytest.fixture
def remote(kubectl: Any) -> Iterator[str]:
    """An empty repository, and the Secret `forge` for it."""
    name = f"demo-{secrets.token_hex(4)}"
    headers = {"Authorization": f"token {TOKEN}"}
    with httpx.Client(base_url=f"{FORGE}/api/v1", headers=headers, trust_env=False) as forge:
        owner = forge.post("/user/repos", json={"name": name}).raise_for_status().json()["owner"]["login"]
        meta = {
            "name": "forge",
            "labels": {"swarmrun.dev/git-credential": "true"},
            "annotations": {"swarmrun.dev/allowed-hosts": httpx.URL(FORGE).host},
        }
        kubectl.apply(
            {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"token": TOKEN}}
        )
        yield f"{FORGE}/{owner}/{name}.git"
        forge.delete(f"/repos/{owner}/{name}")


class Rooms:
    """Namespaces that one operator serves: each test of a module takes one."""

    NUMBER = 48

    def __init__(self) -> None:
        self.prefix = f"operator-{secrets.token_hex(4)}"
        self.names = [f"{self.prefix}-{n}" for n in range(self.NUMBER)]
        self._free = iter(self.names)
        labels = {"test": self.prefix, "pod-security.kubernetes.io/enforce": "restricted"}
        Kubectl("default").apply(
            *(
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": n, "labels": labels}}
                for n in self.names
            )
        )

    def take(self) -> Kubectl:
        return Kubectl(next(self._free))

    def operator(self, state: Path, **env: str) -> Operator:
        """Started, and serving."""
        it = Operator(state, ",".join(self.names), **env)
        it.start()
        ends = time.monotonic() + 180
        while not _serves(f"http://127.0.0.1:{it.probe_port}/readyz"):
            assert time.monotonic() < ends, it.log.read_text()[-3000:]
            time.sleep(0.3)
        return it

    def close(self) -> None:
        kubectl = Kubectl("default")
        kubectl("delete", "swarmclass", "-l", f"test={self.prefix}", "--ignore-not-found")
        kubectl("delete", "namespace", "-l", f"test={self.prefix}", "--wait=false")


def _serves(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=5).is_success
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def rooms(crds: None) -> Iterator[Rooms]:
    it = Rooms()
    yield it
    it.close()
