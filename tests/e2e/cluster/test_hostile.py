"""Whole runs on a hostile repository with a hostile agent among honest ones: what it tries gives it nothing, takes nothing
else down, and is told. Beside them a run of somebody else's goes on."""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import attacks
import hostile
import pytest
import scenes
from kubectl import ROOT, RUNS, Kubectl
from place import Place
from servers import of_kind, recording
from watching import Watch

sys.path.insert(0, str(ROOT / "tests/cluster/operator"))
from leaks import Search

PLACE = "hostile"
PATIENCE = 600
"""Seconds for a run. One takes about two minutes on an idle machine, most of it the attacks' own time."""
CREDENTIAL, KEY = "team-git", "MODEL_KEY"


@dataclass
class Scene:
    place: Place
    search: Search
    """Knows every secret, and `planted`, which is none: it counts only because it finds that one."""
    planted: str
    known: list[str]
    """Addresses that an attacker can come to know."""
    remote: str

    def class_of(self, models: str) -> dict[str, Any]:
        (cls,) = of_kind(self.place.resources, "SwarmClass")
        for tier in cls["spec"]["models"].values():
            tier |= {"endpoint": models, "auth": {"type": "key", "env": KEY}}
        cls["metadata"]["name"] = models.split("//")[1].split(".")[0] + "-" + self.place.kubectl.namespace
        return cls

    def swarm(self, *words: str) -> str:
        """`kubectl swarm …`, the operator's read interface behind it."""
        system = self.place.release.kubectl.namespace
        env = {**os.environ, "SWARMRUN_OPERATOR": f"{system}/{system.removesuffix('-system')}-read"}
        line = [sys.executable, "-m", "swarmrun.cli.kubectl.main", "-n", self.place.kubectl.namespace, *words]
        done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def scene(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    kubectl, release = place.kubectl, place.release
    search = Search(tmp_path_factory.mktemp("search"))
    values = {what: f"canary{secrets.token_hex(12)}" for what in ("git token", "model key", "planted")}
    host = f"git.{kubectl.namespace}.svc"
    meta = {
        "name": CREDENTIAL,
        "labels": {"swarmrun.dev/git-credential": "true"},
        "annotations": {"swarmrun.dev/allowed-hosts": host},
    }
    git = {"token": values["git token"], "hosts": host}
    secret = {"apiVersion": "v1", "kind": "Secret"}
    kubectl.apply(secret | {"metadata": meta, "stringData": git})
    release.kubectl.apply(secret | {"metadata": {"name": "models"}, "stringData": {KEY: values["model key"]}})
    release.upgrade(modelKeys__existingSecret="models")
    for name, value in values.items():
        search.know(name, value)
    operator = release.pod()
    state = "cat /var/lib/swarmrun/state/master.key | base64 -w0"
    search.know("master key", base64.b64decode(release.kubectl("exec", operator, "--", "sh", "-c", state)))
    token = "/run/secrets/kubernetes.io/serviceaccount/token"
    search.know("operator's token", release.kubectl("exec", operator, "--", "cat", token).strip())
    services = {s["metadata"]["name"]: s["spec"]["clusterIP"] for s in kubectl.items("services")}
    pods = [p["status"].get("podIP", "") for p in [*kubectl.items("pods"), *release.kubectl.items("pods")]]
    known = [*services.values(), *filter(None, pods)]
    for name in ("works", "fails"):
        hostile.repository(place.git, name, values["planted"])
    place.git.commit("beside", {"README": "Of somebody else.\n"})
    yield Scene(place, search, values["planted"], known, f"{services['git']}:8080")
    kubectl("delete", RUNS, "--all", "--timeout=30s")
    kubectl("delete", "swarmclass", *[f"{n}-{kubectl.namespace}" for n in ("works", "fails", "beside")], "--ignore-not-found")
    release.upgrade(modelKeys__existingSecret="")
