"""`kubectl swarm` as a plugin of the real kubectl, by ServiceAccounts with few rights.

The first test installs the chart with an operator image of this tree: what it reads comes through the API server's
service proxy. Pods must reach this process by the address from which it reaches the forge (see ../conftest.py).
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from swarmrun.api.reading import AUDIENCE, SERVED, TOKEN, run_path
from swarmrun.cassette.server import CassetteServer

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "examples/url-shortener"
NAME = "url-shortener"
FORGE = os.environ.get("SWARMRUN_TEST_FORGE", "")
IMAGE = os.environ.get("SWARMRUN_TEST_OPERATOR_IMAGE", "localhost/swarmrun-operator:dev")
SANDBOX = os.environ.get("SWARMRUN_TEST_SANDBOX_IMAGE", "localhost/swarmrun-sandbox:dev")

# Many short processes: minutes on a busy machine.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]


@dataclass
class Done:
    code: int
    out: str
    err: str


class User:
    """A ServiceAccount with a kubeconfig of its own, who types `kubectl swarm …`."""

    def __init__(self, kubectl: Any, name: str, path: Path, env: dict[str, str], *roles: str) -> None:
        self.name, self._kubectl = name, kubectl
        kubectl("create", "serviceaccount", name)
        account = f"--serviceaccount={kubectl.namespace}:{name}"
        for role in roles:
            kubectl("create", "rolebinding", f"{name}-{role.lower()}", f"--clusterrole={role}", account)
        config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
        self.server = config["clusters"][0]["cluster"]
        config["users"] = [{"name": name, "user": {"token": kubectl("create", "token", name).strip()}}]
        context = {"cluster": config["clusters"][0]["name"], "user": name, "namespace": kubectl.namespace}
        config["contexts"] = [{"name": name, "context": context}]
        config["current-context"] = name
        self.config = path / f"{name}.yaml"
        self.config.write_text(yaml.safe_dump(config))
        self.env = {**os.environ, **env, "KUBECONFIG": str(self.config)}

    def __call__(self, *args: str, code: int = 0) -> Done:
        """`kubectl swarm ARGS`."""
        done = subprocess.run(
            ["kubectl", "swarm", *args], env=self.env, capture_output=True, text=True, timeout=360
        )
        assert done.returncode == code, (done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        return Done(done.returncode, done.stdout, done.stderr)

    def plain(self, *args: str) -> str:
        done = subprocess.run(["kubectl", *args], env=self.env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def token(self, audience: str) -> str:
        return self._kubectl("create", "token", self.name, f"--audience={audience}").strip()

    def asks(self, service: str, path: str, token: str) -> httpx.Response:
        """The read interface through the API server's proxy, with whatever token."""
        namespace, _, name = service.partition("/")
        trust = ssl.create_default_context(cadata=_authority(self.server))
        with httpx.Client(base_url=self.server["server"], verify=trust, trust_env=False) as http:
            bearer = yaml.safe_load(self.config.read_text())["users"][0]["user"]["token"]
            headers = {"Authorization": f"Bearer {bearer}"} | ({TOKEN: token} if token else {})
            proxy = f"/api/v1/namespaces/{namespace}/services/http:{name}:read/proxy"
            return http.get(proxy + path, headers=headers)


def _authority(server: dict[str, Any]) -> str:
    import base64

    if "certificate-authority" in server:
        return Path(server["certificate-authority"]).read_text()
    return base64.b64decode(server["certificate-authority-data"]).decode()


@pytest.fixture
def plugin(tmp_path: Path) -> dict[str, str]:
    """An environment in which kubectl finds the plugin."""
    found = tmp_path / "bin/kubectl-swarm"
    found.parent.mkdir()
    found.write_text(f'#!/bin/sh\nexec {sys.executable} -m swarmrun.cli.kubectl.main "$@"\n')
    found.chmod(0o755)
    return {"PATH": f"{found.parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture
def user(kubectl: Any, tmp_path: Path, plugin: dict[str, str]) -> Callable[..., User]:
    return lambda name, *roles, **env: User(kubectl, name, tmp_path, {**plugin, **env}, *roles)


@pytest.fixture
def service(kubectl: Any) -> Iterator[str]:
    """The chart in the test's namespace, and the read interface that it makes."""
    if not FORGE or not shutil.which("helm"):
        pytest.skip("needs SWARMRUN_TEST_FORGE, its token and helm")
    release = f"swarmrun-{kubectl.namespace[-8:]}"
    repository, _, tag = IMAGE.rpartition(":")
    values = {
        "crds.install": "false",
        "watchNamespaces": f"{{{kubectl.namespace}}}",
        "image.repository": repository,
        "image.tag": tag,
        "sandbox.image": SANDBOX,
        "persistence.size": "1Gi",
        "persistence.keep": "false",
    }
    line = ["helm", "install", release, str(ROOT / "charts/swarmrun"), "-n", kubectl.namespace, "--wait"]
    done = subprocess.run(
        [*line, "--timeout=300s", *(f"--set={k}={v}" for k, v in values.items())],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    yield f"{kubectl.namespace}/{release}-read"
    # The test may have ended its Pod.
    selector = f"app.kubernetes.io/instance={release}"
    print(kubectl("logs", "-l", selector, "--tail=100", "--ignore-errors"))
    subprocess.run(["helm", "uninstall", release, "-n", kubectl.namespace], check=False)


def _own_address() -> str:
    """Where Pods reach this process: as they reach the forge."""
    url = httpx.URL(FORGE)
    with socket.create_connection((url.host, url.port or 80)) as connection:
        return connection.getsockname()[0]


@pytest.fixture
def asked(kubectl: Any, remote: str) -> Iterator[Callable[..., list[dict[str, Any]]]]:
    """Class and run of the example, their sandboxes Pods, its models served here."""
    host = _own_address()
    with CassetteServer(DEMO / "cassette.yaml", host=host, quiet=True) as server:

        def make(**spec: Any) -> list[dict[str, Any]]:
            cls, run = yaml.safe_load_all((DEMO / "run.yaml").read_text())
            cls["metadata"] = {"name": kubectl.namespace, "labels": {"test": kubectl.namespace}}
            for tier in cls["spec"]["models"].values():
                tier["endpoint"] = server.url
            cls["spec"]["repositories"] = {"schemes": ["http"]}
            cls["spec"]["sandbox"] = {"resources": {"memory": "512Mi", "disk": "1Gi"}}
            repository = {"url": remote, "credential": {"name": "forge"}}
            run["spec"] |= {"className": kubectl.namespace, "repository": repository, **spec}
            return [cls, run]

        yield make


def test_a_run_is_watched_approved_and_read_when_its_pods_are_gone(
    kubectl: Any, service: str, user: Callable[..., User], asked: Callable[..., Any], tmp_path: Path
) -> None:
    found = {"SWARMRUN_OPERATOR": service}
    viewer, editor = user("viewer", "view", **found), user("editor", "edit", **found)
    boss = user("boss", "admin", **found)
    stranger = user("stranger", **found)
    kubectl.apply(*asked(plan={"approval": True}, publish={"approval": True}))
    kubectl.until(lambda: kubectl.reason(NAME) == "AwaitingPlanApproval", within=300)

    # Approving is a right of its own, whatever else one may.
    refused = editor("approve", NAME, "plan", code=1)
    assert "need a right of their own" in refused.err
    assert "ask for the verb `approve`" in refused.err
    assert "ask for the verb `patch` on swarmruns.swarmrun.dev" in viewer("cancel", NAME, code=1).err
    assert kubectl.reason(NAME) == "AwaitingPlanApproval"
    assert "nothing waits for an answer about the publish" in boss("approve", NAME, "publish", code=1).err
    approved = boss("approve", NAME, "plan")
    assert approved.out.startswith(f"{NAME}: plan {kubectl.status(NAME)['plan']['hash'][:12]} approved")
    assert "Three slices" in approved.err

    # While it runs: Pods' logs, with the viewer's own rights.
    following = tmp_path / "followed"
    with following.open("w") as out:
        follower = subprocess.Popen(["kubectl", "swarm", "logs", "-f", NAME], env=viewer.env, stdout=out)
    try:
        kubectl.until(lambda: "[1] ── coder 1, attempt 1, turn 1" in following.read_text(), within=300)
        tree = viewer("tree", NAME).out
        assert "pod url-shortener-" in tree
        assert "[coder " in tree
        kubectl.until(lambda: kubectl.reason(NAME) == "AwaitingPublishApproval", within=600)
        task = viewer("diff", NAME, "1").out
        assert task.startswith("diff --git ")
        whole = viewer("diff", NAME, "--stat").out
        assert "shortener/storage.py" in whole
        commit = kubectl.status(NAME)["result"]["commit"]
        assert f"publish {commit[:12]} approved" in boss("approve", NAME, "publish").out
        ended = viewer("wait", NAME, "--timeout", "300s")
        assert ended.out.splitlines()[-1].startswith(f"{NAME}: Succeeded (Published)")
        assert follower.wait(180) == 0
    finally:
        follower.kill()
    followed = following.read_text()
    for words in ("[plan] ── planner plan", "[4] ── test-writer 4", "[fix-1] ── fixer fix-1", "→ finish"):
        assert words in followed, followed[-3000:]

    # When the Pods are gone: what the brain stored.
    kubectl.pods_of_runs_gone()
    told = viewer("logs", NAME, "1").out
    assert told.startswith("── coder 1, attempt 1, turn 1\n")
    assert "→ finish" in told
    assert viewer("logs", NAME, "1", "-f").out == told
    assert editor("logs", NAME, "1", "--stored").out == told
    assert viewer("diff", NAME, "1").out == task
    plan = json.loads(viewer("artifact", NAME, kubectl.status(NAME)["plan"]["artifact"]).out)
    assert len(plan["tasks"]) == 4
    assert "known: " in viewer("logs", NAME, "nobody", code=1).err

    # Who may not, and with what.
    run = run_path(kubectl.namespace, NAME)

    def says(path: str, token: str, by: User = viewer) -> tuple[int, str]:
        answer = by.asks(service, path, token)
        assert answer.headers.get(SERVED) == "1", answer.text
        return answer.status_code, answer.json()["error"]["reason"] if answer.status_code != 200 else ""

    good = viewer.token(AUDIENCE)
    assert says(f"{run}/transcript", good) == (200, "")
    assert says(f"{run}/transcript", "") == (401, "Unauthenticated")
    assert says(f"{run}/transcript", viewer.token("other")) == (403, "TokenRefused")
    own = yaml.safe_load(viewer.config.read_text())["users"][0]["user"]["token"]
    assert says(f"{run}/transcript", own) == (403, "TokenRefused")
    assert says(f"{run}/transcript", stranger.token(AUDIENCE)) == (403, "Forbidden")
    assert says(f"{run_path('default', NAME)}/transcript", good) == (403, "Forbidden")
    # The API server tidies a path before it passes it on; what is left is judged as what it names.
    elsewhere = "gates%2f..%2f..%2f..%2f..%2f..%2fnamespaces%2fdefault%2fswarmruns%2fx%2ftranscript"
    assert says(f"{run}/artifacts/{elsewhere}", good) in ((403, "Forbidden"), (404, "NotFound"))
    selector = "app.kubernetes.io/component=all"
    address = kubectl("get", "pods", "-l", selector, "-o", "jsonpath={.items[0].status.podIP}").strip()
    straight = httpx.get(
        f"http://{address}:8082{run}/artifacts/{elsewhere}", headers={TOKEN: good}, trust_env=False
    )
    assert straight.status_code == 400
    assert says(f"{run}/artifacts/snapshot.json", good) == (404, "NotFound")
    # The way there is open to all who can log in; a right to see the run it does not give.
    assert "cannot get resource" in stranger("logs", NAME, code=1).err

    # Without the reader's account a viewer is told what to ask for; an editor has a token of his own.
    kubectl("delete", "serviceaccount", "swarmrun-reader")
    refused = viewer("diff", NAME, code=1)
    assert "create serviceaccount swarmrun-reader" in refused.err
    assert "git fetch " in refused.err
    assert editor("diff", NAME, "1").out == task
    # And without the operator.
    kubectl("scale", "deploy", service.partition("/")[2].removesuffix("-read"), "--replicas=0")
    kubectl.wait("delete", "pod", "-l", "app.kubernetes.io/name=swarmrun-operator", within=240)
    gone = editor("logs", NAME, "1", code=1)
    assert "read interface does not answer" in gone.err
    assert "ask for" not in gone.err


def test_verbs_are_heard_or_refused(
    kubectl: Any, operator: Any, demo: Callable[..., Any], user: Callable[..., User]
) -> None:
    # `approve`: another test's chart may be installed, and its policies are the whole cluster's.
    verbs = ["get", "list", "patch", "approve"]
    kubectl.apply(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "runs"},
            "rules": [{"apiGroups": ["swarmrun.dev"], "resources": ["swarmruns"], "verbs": verbs}],
        }
    )
    account = f"--serviceaccount={kubectl.namespace}:ann"
    kubectl("create", "rolebinding", "ann-runs", "--role=runs", account)
    ann = user("ann")
    kubectl.apply(*demo(plan={"approval": True}))
    assert "url-shortener" in ann("list").out
    # Nobody works on it: the word stands there, and that it was not heard is told.
    assert "does the operator run?" in ann("suspend", NAME, "--timeout=1s", code=1).err
    assert "is suspended already" in ann("suspend", NAME, code=1).err
    operator.start()
    kubectl.until(lambda: kubectl.reason(NAME) == "Suspended")
    assert "is suspended" in ann("approve", NAME, "plan", code=1).err
    assert "Planning" in ann("resume", NAME).out or "AwaitingApproval" in ann("describe", NAME).out
    assert "is not suspended" in ann("resume", NAME, code=1).err
    kubectl.until(lambda: kubectl.reason(NAME) == "AwaitingPlanApproval")
    assert "has not ended" in ann("rerun", NAME, code=1).err
    rejected = ann("reject", NAME, "plan", "--reason", "too\nlarge")
    assert "Failed (PlanRejected)" in rejected.out
    assert "too large" in ann("describe", NAME).out
    assert ann("wait", NAME, code=1).out.splitlines()[-1].startswith(f"{NAME}: Failed (PlanRejected)")
    for verb in ("cancel", "suspend", "resume"):
        assert "has ended" in ann(verb, NAME, code=1).err
    assert "did you mean" in ann("rerun", NAME, "--from", "task/11", code=1).err
    assert "one of plan" in ann("rerun", NAME, "--from", "merge", code=2).err

    uid = kubectl.run(NAME)["metadata"]["uid"]
    assert "attempt 2, from plan" in ann("rerun", NAME).out
    assert kubectl.status(NAME)["run"] == f"{uid}-2"
    notes = kubectl.run(NAME)["metadata"]["annotations"]
    assert (notes["swarmrun.dev/attempt"], notes["swarmrun.dev/rerun-from"]) == ("2", "plan")
    # What was said to the first attempt is not said to the second.
    assert "swarmrun.dev/reject-plan" not in notes
    kubectl.until(lambda: kubectl.reason(NAME) == "AwaitingPlanApproval")
    assert ann("approve", NAME, "plan").code == 0
    kubectl.until(lambda: kubectl.status(NAME)["phase"] == "Running")
    assert "Cancelled" in ann("cancel", NAME, "--reason", "seen enough").out
    assert ann("wait", NAME, code=3).out.strip().endswith("seen enough")

    assert "did you mean url-shortener?" in ann("describe", "url-shortner", code=1).err
    assert json.loads(ann("list", "-o", "json").out)["items"][0]["metadata"]["name"] == NAME
    said = ann("list", "-n", "default", code=1).err
    assert "ask for the verb `list` on swarmruns.swarmrun.dev in namespace default" in said
    # No read interface was installed here under the known name, and Services may not be listed.
    assert (
        "--operator NAMESPACE/SERVICE" in ann("logs", NAME, code=1).err
        or "NoToken" in ann("logs", NAME, "-o", "json", code=1).err
    )
