"""A real Argo CD, on which the operator, a class and runs come from a git repository.

| variable | meaning |
| --- | --- |
| `SWARMRUN_TEST_ARGOCD=1` | there is an Argo CD for tests in the cluster: its health checks are replaced by ours |
| `SWARMRUN_TEST_ARGOCD_NAMESPACE` | where; default `argocd` |
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

# In importlib mode a test's own directory is not on the path.
sys.path.insert(0, str(Path(__file__).parent))

import argo as helpers

ARGOCD = os.environ.get("SWARMRUN_TEST_ARGOCD_NAMESPACE", "argocd")
FORGE = os.environ.get("SWARMRUN_TEST_FORGE", "").rstrip("/")
TOKEN = os.environ.get("SWARMRUN_TEST_FORGE_TOKEN", "")
IMAGE = os.environ.get("SWARMRUN_TEST_OPERATOR_IMAGE", "localhost/swarmrun-operator:dev")
SANDBOX = os.environ.get("SWARMRUN_TEST_SANDBOX_IMAGE", "localhost/swarmrun-sandbox:dev")

INSTANCES = """
import sqlite3, sys
db = sqlite3.connect("file:/var/lib/swarmrun/state/engine.db?mode=ro", uri=True)
rows = db.execute("SELECT id, life FROM instance WHERE id LIKE ? AND id NOT LIKE '%:%'", (sys.argv[1] + "-%",))
print(*("/".join(row) for row in rows))
"""


class Shop:
    """One team: a namespace with its operator, a class, models from a recording, two git repositories."""

    def __init__(self, kubectl_in: Any, forge: httpx.Client, path: Path, *, server_side: bool) -> None:
        self.server_side, self._path, self._forge = server_side, path, forge
        self.name = f"gitops-{secrets.token_hex(4)}"
        self.kubectl, self.argocd = kubectl_in(self.name), kubectl_in(ARGOCD)
        self.system = kubectl_in(f"{self.name}-system")
        self.applications: dict[str, helpers.Application] = {}
        self.manifests_url, push = self._repository("manifests", private=False)
        self.remote, _ = self._repository("code", private=True)
        self.repository = helpers.Repository(path / "manifests", push)
        for chart in helpers.CHARTS:
            self.repository.add(helpers.ROOT / chart)
        self.repository.push({})
        self.kubectl.create_namespace()
        self._secret()
        self._models()
        self._projects()

    # ------------------------------------------------------------ what Argo CD brings

    def application(self, example: str, name: str, path: str, **values: Any) -> helpers.Application:
        """The example of that file, with this test's names and `values`."""
        body = yaml.safe_load((helpers.EXAMPLES / example).read_text())
        body["metadata"] |= {"name": f"{self.name}-{name}", "namespace": ARGOCD}
        spec = body["spec"]
        spec["project"] = f"{self.name}-{spec['project']}"
        spec["source"] |= {"repoURL": self.manifests_url, "targetRevision": "main", "path": path}
        if "helm" in spec["source"]:
            # Cluster-wide objects are called after the release.
            release = f"swarmrun-{self.name[-8:]}-{name}"
            spec["source"]["helm"] = {"releaseName": release, "valuesObject": values}
            spec["destination"]["namespace"] = self.system.namespace
        else:
            spec["destination"]["namespace"] = self.name
        if not self.server_side:
            spec["syncPolicy"]["syncOptions"].remove("ServerSideApply=true")
        made = helpers.Application(self.argocd, body, self._path / f"{name}.log")
        self.applications[name] = made
        return made

    def operator(self) -> helpers.Application:
        repository, _, tag = IMAGE.rpartition(":")
        return self.application(
            "operator.yaml",
            "operator",
            "charts/swarmrun",
            image={"repository": repository, "tag": tag},
            sandbox={"image": SANDBOX},
            # The CRDs are the cluster's: other tests use them, too.
            crds={"install": False},
            watchNamespaces=[self.name],
            persistence={"size": "1Gi"},
        )

    def classes(self) -> helpers.Application:
        spec = {
            "models": {"standard": {"endpoint": self.models, "model": "recorded", "auth": {"type": "none"}}},
            "allowedNamespaces": [self.name],
            "repositories": {"schemes": ["http"]},
            "sandbox": {"resources": {"cpu": "100m", "memory": "256Mi", "disk": "256Mi"}},
            "gates": [{"name": "there", "command": "ls note.txt"}],
        }
        return self.application(
            "classes.yaml", "classes", "charts/swarmrun-classes", classes={self.name: spec}
        )

    def run(self, name: str, task: str = "note", *, approval: bool = False, **spec: Any) -> dict[str, Any]:
        """A SwarmRun with lists whose items have defaults. Task `outage`: its model never answers."""
        planned = {
            "id": task,
            "title": "A note",
            "instructions": "Write note.txt.",
            "ownedPaths": ["note.txt"],
            "acceptance": [
                {"description": "It is there.", "command": "test -s note.txt"},
                # For the judge: a list without keys, so a default in it would never be in sync.
                {"description": "It says what it is a note of."},
            ],
        }
        asked = {
            "className": self.name,
            "goal": f"Leave the note of {name}.",
            "repository": {"url": self.remote, "credential": {"name": "forge"}},
            "mode": "Swarm",
            "plan": {"tasks": [planned]} | ({"approval": True} if approval else {}),
            "gates": [{"name": "there", "command": "ls note.txt"}],
            "sandbox": {"env": [{"name": "TZ"}]},
            "judge": {"samples": 1, "rubric": [{"id": "works", "question": "Is it there?", "weight": 10}]},
        }
        return {
            "apiVersion": "swarmrun.dev/v1alpha1",
            "kind": "SwarmRun",
            "metadata": {"name": name},
            "spec": asked | spec,
        }

    def runs(self, folder: str, *runs: dict[str, Any]) -> helpers.Application:
        self.repository.push({f"{folder}/{r['metadata']['name']}.yaml": r for r in runs})
        return self.application("runs.yaml", folder, folder)

    # ------------------------------------------------------------ looking

    def found(self, name: str) -> dict[str, Any]:
        """The run; empty while there is none."""
        return json.loads(self.kubectl("get", "swarmrun", name, "--ignore-not-found", "-o=json") or "{}")

    def outage(self, name: str) -> None:
        """Waits until the run's agent works, and waits for its model."""

        def waits() -> bool:
            agents = self.found(name).get("status", {}).get("agents", [])
            return any("next try" in agent.get("message", "") for agent in agents)

        self.kubectl.until(waits, within=300)

    def started(self, name: str) -> tuple[str, ...]:
        """Everything that a second start of this run would change."""
        body = self.kubectl.run(name)
        uid, status = body["metadata"]["uid"], body["status"]
        script = ["python3", "-c", INSTANCES, uid]
        deployment = (
            f"deployment/{self.applications['operator'].body['spec']['source']['helm']['releaseName']}"
        )
        instances = self.system("exec", deployment, "--", *script).split()
        return uid, status["run"], status.get("startedAt", ""), *sorted(instances)

    def asked(self, instance: str) -> int:
        """Requests to models so far, of the run of that `status.run`."""
        pod = json.loads(self.kubectl("get", "pod", "cassette", "-o", "json"))["status"]["podIP"]
        counts = httpx.get(f"http://{pod}:8765/cassette/requests", trust_env=False).json()
        return sum(sum(c.values()) for key, c in counts.items() if key.startswith(f"{instance}/"))

    # ------------------------------------------------------------ what is made outside of git

    def _repository(self, name: str, *, private: bool) -> tuple[str, str]:
        """(URL, URL to push to)"""
        body = {"name": f"{self.name}-{name}", "default_branch": "main", "private": private}
        made = self._forge.post("/user/repos", json=body).raise_for_status().json()
        url = f"{FORGE}/{made['full_name']}.git"
        return url, url.replace("://", f"://{made['owner']['login']}:{TOKEN}@")

    def _secret(self) -> None:
        meta = {
            "name": "forge",
            "labels": {"swarmrun.dev/git-credential": "true"},
            "annotations": {"swarmrun.dev/allowed-hosts": httpx.URL(FORGE).host},
        }
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"token": TOKEN}}
        self.kubectl.apply(secret)

    def _models(self) -> None:
        tape = (Path(__file__).parent / "cassette.yaml").read_text()
        container = {
            "name": "cassette",
            "image": IMAGE,
            "command": ["swarmrun", "cassette", "serve", "/tape/cassette.yaml"],
            "args": ["--port=8765", "--host=0.0.0.0"],
            "readinessProbe": {"tcpSocket": {"port": 8765}, "periodSeconds": 1},
            "volumeMounts": [{"name": "tape", "mountPath": "/tape"}],
        }
        volume = {"name": "tape", "configMap": {"name": "cassette"}}
        label = {"app": "cassette"}
        self.kubectl.apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "cassette"},
                "data": {"cassette.yaml": tape},
            },
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "cassette"},
                "spec": {"selector": label, "ports": [{"port": 8765}]},
            },
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "cassette", "labels": label},
                "spec": {"containers": [container], "volumes": [volume]},
            },
        )
        self.models = f"http://cassette.{self.name}.svc:8765/v1"

    def _projects(self) -> None:
        for body in yaml.safe_load_all((helpers.EXAMPLES / "projects.yaml").read_text()):
            body["metadata"] |= {"name": f"{self.name}-{body['metadata']['name']}", "namespace": ARGOCD}
            body["spec"]["sourceRepos"] = [self.manifests_url]
            for destination in body["spec"]["destinations"]:
                destination["namespace"] = f"{self.name}*"
            self.argocd.apply(body)

    def close(self) -> None:
        for name in reversed(list(self.applications)):
            it = self.applications[name]
            if it.kubectl("get", "application", it.name, "--ignore-not-found"):
                with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
                    # What is not in the namespaces goes by Argo CD.
                    it.delete(cascade=name in ("operator", "classes"))
            it.close()
        for project in ("swarmrun", "swarm-runs"):
            self.argocd("delete", "appproject", f"{self.name}-{project}", "--ignore-not-found")
        for namespace in (self.name, self.system.namespace):
            self.kubectl("delete", "namespace", namespace, "--ignore-not-found", "--wait=false")
        for repository in ("manifests", "code"):
            owner = httpx.URL(self.remote).path.split("/")[1]
            self._forge.delete(f"/repos/{owner}/{self.name}-{repository}")


@pytest.fixture(scope="module", params=["client-side", "server-side"])
def shop(request: Any, kubectl_in: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """With the operator and the class in sync. Tests of one module share it, each with runs of its own."""
    headers = {"Authorization": f"token {TOKEN}"}
    kubectl_in(ARGOCD)(
        "patch",
        "configmap",
        "argocd-cm",
        "--type=merge",
        "--patch-file",
        str(helpers.EXAMPLES / "argocd-cm.yaml"),
    )
    with httpx.Client(base_url=f"{FORGE}/api/v1", headers=headers, trust_env=False, timeout=30) as forge:
        it = Shop(
            kubectl_in, forge, tmp_path_factory.mktemp("argocd"), server_side=request.param == "server-side"
        )
        try:
            made = it.classes(), it.operator()
            for application in made:
                application.until("Healthy", within=600)
            yield it
        finally:
            it.close()
