"""A planted secret of every kind is found nowhere but where it belongs, while a whole run is done in Pods.

The run goes from the chart to the pushed branch. Besides the secrets there is one value, `planted`, that is leaked on
purpose into every place that is searched: the search counts only because it finds that one in each of them.

`SWARMRUN_TEST_ETCD`: a command that prints all of etcd as JSON, `{"kvs": [{"key": base64, "value": base64}, …]}`, which
is what `etcdctl get "" --prefix -w json` prints. Without it etcd is not searched.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from leaks import Search

from swarmrun.kube import names
from swarmrun.sandbox.tokens import token

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "examples/url-shortener"
NAME = "url-shortener"
IMAGE = os.environ.get("SWARMRUN_TEST_OPERATOR_IMAGE", "localhost/swarmrun-operator:dev")
SANDBOX = os.environ.get("SWARMRUN_TEST_SANDBOX_IMAGE", "localhost/swarmrun-sandbox:dev")
FORGE = os.environ.get("SWARMRUN_TEST_FORGE", "").rstrip("/")
ETCD = os.environ.get("SWARMRUN_TEST_ETCD", "")
STATE = "/var/lib/swarmrun"
Json = dict[str, Any]

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(not FORGE, reason="needs SWARMRUN_TEST_FORGE and its token"),
    pytest.mark.skipif(not shutil.which("helm"), reason="helm is not installed"),
]

PLACES = {
    "sandbox: files",
    "sandbox: environment",
    "sandbox: log",
    "git Pod: files",
    "git Pod: log",
    "operator: volume",
    "operator: engine",
    "operator: artifacts",
    "operator: log",
    "resources: swarmruns.swarmrun.dev",
    "resources: events",
    "remote: history",
} | ({"etcd"} if ETCD else set())
"""Where `planted` must be found."""

# The example's recording behind a server that asks for the key.
SERVER = """
import os
from swarmrun.cassette import server
class Guarded(server._Handler):
    def do_POST(self):
        if self.headers.get("Authorization") != "Bearer " + os.environ["MODEL_KEY"]:
            self._body()
            return self._error(401, "invalid_api_key", "wrong key")
        super().do_POST()
server._Handler = Guarded
server.CassetteServer("/cassette/cassette.yaml", host="0.0.0.0", port=8765).serve_forever()
"""

PRINTED = r"""\1'echo "$PLANTED"; \2'}"""


def made(kind: str = "") -> str:
    return f"canary{kind}{secrets.token_hex(12)}"


class Owner:
    """A user of the forge whose token nothing else uses, and their empty repository."""

    def __init__(self) -> None:
        self.name, self.password = f"u{secrets.token_hex(5)}", made()
        self._admin = {"Authorization": f"token {os.environ['SWARMRUN_TEST_FORGE_TOKEN']}"}
        self._api = f"{FORGE}/api/v1"
        user = {"username": self.name, "password": self.password, "email": f"{self.name}@example.invalid"}
        user |= {"must_change_password": False}
        self._post("/admin/users", user, headers=self._admin)
        scopes = {"name": "t", "scopes": ["write:repository", "write:user"]}
        mine = (self.name, self.password)
        self.token = self._post(f"/users/{self.name}/tokens", scopes, auth=mine)["sha1"]
        self._post("/user/repos", {"name": "demo", "private": True}, auth=mine)
        self.url = f"{FORGE}/{self.name}/demo.git"

    def _post(self, path: str, body: Json, **how: Any) -> Json:
        answer = httpx.post(f"{self._api}{path}", json=body, timeout=60, trust_env=False, **how)
        assert answer.is_success, answer.text
        return answer.json()

    def told(self) -> bytes:
        """What the forge shows of pull requests."""
        where = f"{self._api}/repos/{self.name}/demo/pulls?state=all"
        return httpx.get(where, auth=(self.name, self.password), timeout=60, trust_env=False).content

    def mirror(self, target: Path) -> None:
        url = self.url.replace("://", f"://{self.name}:{self.password}@")
        subprocess.run(["git", "clone", "-q", "--mirror", url, str(target)], check=True)

    def close(self) -> None:
        where = f"{self._api}/admin/users/{self.name}?purge=true"
        httpx.delete(where, headers=self._admin, timeout=60, trust_env=False)


@pytest.fixture
def owner() -> Iterator[Owner]:
    it = Owner()
    yield it
    it.close()


@pytest.fixture
def search(tmp_path: Path) -> Search:
    return Search(tmp_path)


@pytest.fixture
def secret(search: Search, owner: Owner) -> dict[str, str]:
    """Values by what they are."""
    values = {
        "git token": owner.token,
        "ssh key": made("ssh"),
        "model key": made("model"),
        "master key": made("master"),
        "registry password": made("registry"),
        "TLS key": made("tls"),
        "another Secret": made("other"),
        "planted": made("planted"),
    }
    for name, value in values.items():
        search.know(name, value)
    return values


def secrets_of(values: dict[str, str]) -> list[Json]:
    host = httpx.URL(FORGE).host
    git: Json = {
        "name": "team-git",
        "labels": {"swarmrun.dev/git-credential": "true"},
        "annotations": {"swarmrun.dev/allowed-hosts": host},
    }
    login = {
        "auths": {"registry.example.invalid": {"username": "u", "password": values["registry password"]}}
    }
    by_name: dict[str, tuple[Json, Json]] = {
        "team-git": (git, {"token": values["git token"], "ssh-privatekey": values["ssh key"], "hosts": host}),
        "models": ({"name": "models"}, {"MODEL_KEY": values["model key"]}),
        "master": ({"name": "master"}, {"master-key": values["master key"]}),
        "pull": ({"name": "pull"}, {".dockerconfigjson": json.dumps(login)}),
        "ca": ({"name": "ca"}, {"tls.key": values["TLS key"]}),
        "bank": ({"name": "bank"}, {"password": values["another Secret"]}),
    }
    kinds = {"pull": "kubernetes.io/dockerconfigjson"}
    return [
        {"apiVersion": "v1", "kind": "Secret", "metadata": m, "stringData": d, "type": kinds.get(n, "Opaque")}
        for n, (m, d) in by_name.items()
    ]


def model_server() -> list[Json]:
    files = {path.name: path.read_text() for path in (DEMO / "files").iterdir()}
    tape = [
        {"key": "cassette.yaml", "path": "cassette.yaml"},
        *({"key": k, "path": f"files/{k}"} for k in files),
    ]
    container: Json = {
        "name": "cassette",
        "image": IMAGE,
        "command": ["python", "-c", SERVER],
        "env": [{"name": "MODEL_KEY", "valueFrom": {"secretKeyRef": {"name": "models", "key": "MODEL_KEY"}}}],
        "readinessProbe": {"tcpSocket": {"port": 8765}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "tape", "mountPath": "/cassette"}],
    }
    spec: Json = {
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "tape", "configMap": {"name": "cassette", "items": tape}}],
    }
    # Agents print what is planted: nobody else in a sandbox can write to its log.
    text, count = re.subn(
        r"(exec, arguments: {command: )(python3 [^}]*)}", PRINTED, (DEMO / "cassette.yaml").read_text()
    )
    assert count
    data = {"cassette.yaml": text, **files}
    named = {"metadata": {"name": "cassette", "labels": {"app": "cassette"}}, "apiVersion": "v1"}
    service = {"selector": {"app": "cassette"}, "ports": [{"port": 8765}]}
    return [
        named | {"kind": "ConfigMap", "data": data},
        named | {"kind": "Service", "spec": service},
        named | {"kind": "Pod", "spec": spec},
    ]


@pytest.fixture
def installed(kubectl: Any, secret: dict[str, str]) -> Iterator[None]:
    kubectl("label", "namespace", kubectl.namespace, "pod-security.kubernetes.io/enforce=restricted")
    kubectl.apply(*secrets_of(secret), *model_server())
    release = f"swarmrun-{kubectl.namespace[-8:]}"
    repository, _, tag = IMAGE.rpartition(":")
    values = {
        "crds.install": "false",
        "watchNamespaces": f"{{{kubectl.namespace}}}",
        "image.repository": repository,
        "image.tag": tag,
        "sandbox.image": SANDBOX,
        "sandbox.pullSecrets": "{pull}",
        "imagePullSecrets[0].name": "pull",
        "modelKeys.existingSecret": "models",
        "masterKey.existingSecret": "master",
        "logLevel": "DEBUG",
        "persistence.size": "1Gi",
        "persistence.keep": "false",
    }
    line = ["helm", "install", release, str(ROOT / "charts/swarmrun"), "-n", kubectl.namespace]
    line += ["--wait", "--timeout=300s", *(f"--set={k}={v}" for k, v in values.items())]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    yield
    subprocess.run(["helm", "uninstall", release, "-n", kubectl.namespace], check=False, capture_output=True)


class Watch(threading.Thread):
    """Looks into the Pods while they are there, again and again; plants, once in each."""

    def __init__(self, namespace: str, search: Search, values: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self.stopped = threading.Event()
        self.failure: BaseException | None = None
        self._namespace = namespace
        self._search = search
        self._values = values
        self._planted: set[str] = set()

    def kubectl(self, *args: str, given: bytes | None = None) -> bytes:
        """What it printed; a Pod may be gone."""
        line = ["kubectl", "-n", self._namespace, *args]
        return subprocess.run(line, input=given, capture_output=True, timeout=60).stdout

    def run(self) -> None:
        try:
            while not self.stopped.is_set():
                for pod in self.pods():
                    self.look(pod)
                self.stopped.wait(0.5)
        except BaseException as exc:  # noqa: BLE001  (told by the test)
            self.failure = exc

    def pods(self) -> list[Json]:
        found = json.loads(self.kubectl("get", "pods", "-o", "json") or b'{"items": []}')["items"]
        return [p for p in found if p["status"].get("phase") == "Running"]

    def look(self, pod: Json) -> None:
        name, labels = pod["metadata"]["name"], pod["metadata"].get("labels", {})
        kind = {"sandbox": "sandbox", "git": "git Pod", "all": "operator"}.get(
            labels.get(names.COMPONENT, "")
        )
        if kind is None:
            return
        its_id = pod["metadata"].get("annotations", {}).get(names.SANDBOX) or name
        if kind != "operator":
            self._search.know(f"token of {name}", token(self._values["master key"].encode(), its_id))
        self._search.look(f"{kind}: log", self.kubectl("logs", name))
        # What the Pod holds by right: the Secret's volume is left out, the operator's keys are not looked for in it.
        own = {"operator": ("model key",)}.get(kind, ())
        proc = (
            "cat /proc/1/environ /proc/[0-9]*/cmdline"
            if kind == "git Pod"
            else "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline"
        )
        self._search.look(f"{kind}: environment", self.exec(name, f"{proc} 2>/dev/null"), but=own)
        places = {"sandbox": "/sandbox /tmp /etc /run /var /opt", "git Pod": "/work /tmp /etc"}.get(kind, "")
        if places:
            tar = self.exec(name, f"tar cf - {places} 2>/dev/null")
            if len(tar) > 1024:
                self._search.archive(f"{kind}: files", tar)
        if name not in self._planted:
            self._planted.add(name)
            word = self._values["planted"]
            if kind != "sandbox":  # there the run's own set-up and agents do it
                file = "/work/planted" if kind == "git Pod" else f"{STATE}/planted"
                self.exec(name, f"echo {word} > /proc/1/fd/1; echo {word} > {file}")
            if kind == "operator":
                self._search.know(
                    "operator's token", self.exec(name, "cat /run/secrets/kubernetes.io/serviceaccount/token")
                )

    def exec(self, pod: str, line: str) -> bytes:
        return self.kubectl("exec", pod, "--", "sh", "-c", line)


def test_secrets_stay_where_they_belong(
    kubectl: Any, installed: None, search: Search, secret: dict[str, str], owner: Owner, tmp_path: Path
) -> None:
    cls, run = yaml.safe_load_all((DEMO / "run.yaml").read_text())
    cls["metadata"] = {"name": kubectl.namespace, "labels": {"test": kubectl.namespace}}
    for tier in cls["spec"]["models"].values():
        tier |= {"endpoint": f"http://cassette.{kubectl.namespace}.svc:8765/v1"}
        tier["auth"] = {"type": "key", "env": "MODEL_KEY"}
    cls["spec"] |= {"repositories": {"schemes": ["http"]}, "allowedNamespaces": [kubectl.namespace]}
    cls["spec"]["sandbox"] = {"resources": {"memory": "512Mi", "disk": "1Gi"}}
    run["spec"] |= {
        "className": kubectl.namespace,
        "repository": {"url": owner.url, "credential": {"name": "team-git"}},
        "publish": {"pullRequest": {"enabled": True, "provider": "gitea"}},
        "sandbox": {
            "env": [{"name": "PLANTED", "value": secret["planted"]}],
            "setup": ['printf "%s\\n" "$PLANTED" > planted.txt'],
        },
    }
    kubectl.wait("condition=Ready", "pod/cassette", within=180)
    watch = Watch(kubectl.namespace, search, secret)
    watch.start()
    try:
        kubectl.apply(cls, run)
        event: Json = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "planted"}, "type": "Normal"}
        about = {"kind": "SwarmRun", "namespace": kubectl.namespace, "name": NAME}
        kubectl.apply(event | {"involvedObject": about, "message": secret["planted"], "reason": "Planted"})
        kubectl.finished(NAME)
        (operator,) = [p for p in watch.pods() if p["metadata"]["labels"].get(names.COMPONENT) == "all"]
        kubectl.until(lambda: len(watch._planted) > 2, within=120)
    finally:
        watch.stopped.set()
        watch.join(60)
    assert watch.failure is None, watch.failure
    status = kubectl.status(NAME)
    assert status["phase"] == "Succeeded", yaml.safe_dump(status)

    into_volume(watch, operator["metadata"]["name"], search, secret["planted"])
    resources(kubectl, search)
    owner.mirror(tmp_path / "mirror.git")
    search.repository("remote: history", tmp_path / "mirror.git")
    search.look("remote: pull requests", owner.told())
    if ETCD:
        etcd(search)

    assert search.places("planted") >= PLACES, PLACES - search.places("planted")
    assert not search.unread
    assert {place for name, place in search.found if name != "planted"} == set(), search.found
    # The instrument knew what it looked for: tokens of sandboxes and of the git Pod, and the operator's own.
    known = [name for name in search._needles if name.startswith("token of ")]
    assert len(known) > 4
    assert "operator's token" in search._needles


def into_volume(watch: Watch, operator: str, search: Search, planted: str) -> None:
    """All of the operator's state. The leak in the engine's file is a table more."""
    line = f"""python3 -c 'import glob, sqlite3
for path in glob.glob("{STATE}/**/engine.db", recursive=True):
    it = sqlite3.connect(path, timeout=20)
    it.execute("create table planted (value text)")
    it.execute("insert into planted values (?)", ("{planted}",))
    it.commit()
    it.execute("pragma wal_checkpoint")
    print(path)'"""
    assert b"engine.db" in watch.exec(operator, line)
    for what in ("artifacts", "engine", "volume"):
        where = {
            "artifacts": f"-C {STATE}/state artifacts",
            "engine": f"-C {STATE}/state --exclude=artifacts .",
        }
        tar = watch.exec(operator, f"tar cf - {where.get(what, f'-C {STATE} .')} 2>/dev/null")
        files = search.archive(f"operator: {what}", tar)
        wanted = {"artifacts": "bundles/", "engine": "engine.db"}.get(what, "planted")
        assert any(wanted in name for name in files), files


def resources(kubectl: Any, search: Search) -> None:
    """Everything of the namespace but Secrets, and the class, as whoever may read it all sees it."""
    kinds = kubectl("api-resources", "--namespaced", "--verbs=list", "-o", "name").split()
    assert {"pods", "events", "configmaps", "swarmruns.swarmrun.dev"} <= set(kinds)
    for kind in kinds:
        if kind != "secrets":
            with contextlib.suppress(AssertionError):  # a kind that its server does not list just now
                text = kubectl("get", kind, "-o", "yaml", "--show-managed-fields")
                search.look(f"resources: {kind}", text.encode())
    text = kubectl("get", "swarmclasses", kubectl.namespace, "-o", "yaml", "--show-managed-fields")
    search.look("resources: swarmclasses", text.encode())
    search.look("resources: described", kubectl("describe", "swr", NAME).encode())


def etcd(search: Search) -> None:
    """All keys but those of Secrets."""
    time.sleep(1)  # what was written last
    dump = subprocess.run(ETCD, shell=True, capture_output=True, check=True).stdout
    rows = json.loads(dump)["kvs"]
    assert rows
    for row in rows:
        key = base64.b64decode(row["key"])
        if not key.startswith(b"/registry/secrets/"):
            search.look("etcd", key + b"\n" + base64.b64decode(row.get("value", "")))
