"""The chart with `engine.type: dts`: controller and workers as Deployments, a scheduler that all of them reach by TCP.

The embedded engine stands in for the Durable Task Scheduler: the same protocol, served by a Pod without a check of
who asks. Artifacts are on a volume that the Pods share; with `SWARMRUN_TEST_AZURITE` they are in Azurite, whose
address Pods must reach, too (a loopback one is not taken). With `SWARMRUN_TEST_OTHER_OPERATOR_IMAGE`, an image of
another program, a run changes hands in an upgrade.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

# What whole runs need is there: models, git, kubectl and helm.
sys.path.insert(0, str(Path(__file__).parents[2] / "engine"))
sys.path.insert(0, str(Path(__file__).parents[2] / "e2e"))
sys.path.insert(0, str(Path(__file__).parents[2] / "e2e/cluster"))

import scenes
from expected import tree_of_the_example
from kubectl import IMAGE, RESTRICTED, ROOT, RUNS, Kubectl, Release, command
from place import BRANCH, NAME, Place
from servers import Git, example, of_kind, recording, serve

SCHEDULER = """
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import durabletask.internal.orchestrator_service_pb2_grpc as stubs
import grpc
from swarmrun.durable.backend import DurableBackend

any_size = [(f"grpc.max_{way}_message_length", -1) for way in ("receive", "send")]
server = grpc.server(ThreadPoolExecutor(256), options=any_size)
stubs.add_TaskHubSidecarServiceServicer_to_server(DurableBackend(Path("/state/engine.db")), server)
server.add_insecure_port("0.0.0.0:8080")
server.start()
server.wait_for_termination()
"""
HARDENED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
PROBED = {
    "model": "m",
    "entries": [
        {"role": "probe", "task": "probe", "turn": 1, "text": "ready", "usage": {"input": 9, "output": 1}}
    ],
}
OTHER = os.environ.get("SWARMRUN_TEST_OTHER_OPERATOR_IMAGE", "")
GRACE = 60
"""Seconds that a worker has for its end here."""

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not shutil.which("helm"), reason="helm is not installed"),
]


class DtsRelease(Release):
    """The chart with two workers, and what an administrator brings: a scheduler, a store, a master key."""

    def __init__(self, name: str, watched: list[str]) -> None:
        super().__init__(name, watched)
        self.name, self.worker = name, f"deploy/{name}-worker"
        self._values |= {
            "engine.type": "dts",
            "engine.dts.endpoint": f"http://scheduler.{self.kubectl.namespace}.svc:8080",
            "masterKey.existingSecret": "master",
            "worker.terminationGracePeriodSeconds": str(GRACE),
        }

    def bring(self) -> None:
        key = base64.b64encode(secrets.token_bytes(32)).decode()
        made = {"metadata": {"name": "master"}, "stringData": {"master-key": key}}
        self.kubectl.apply({"apiVersion": "v1", "kind": "Secret", **made}, *scheduler())
        self._values |= self._azurite() or self._shared_volume()
        self.kubectl.rolled_out("scheduler")

    def _shared_volume(self) -> dict[str, str]:
        """On a cluster of one node a disk can be shared; on others its class must allow ReadWriteMany."""
        claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        self.kubectl.apply(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": "artifacts"},
                "spec": claim,
            }
        )
        return {
            "artifacts.url": "file:///artifacts/runs",
            "extraVolumes[0].name": "artifacts",
            "extraVolumes[0].persistentVolumeClaim.claimName": "artifacts",
            "extraVolumeMounts[0].name": "artifacts",
            "extraVolumeMounts[0].mountPath": "/artifacts",
        }

    def _azurite(self) -> dict[str, str]:
        address = os.environ.get("SWARMRUN_TEST_AZURITE", "").rstrip("/")
        if not address or urlsplit(address).hostname in ("127.0.0.1", "localhost"):
            return {}
        import test_azurite as azurite

        azurite.make_container(address, container := f"runs-{secrets.token_hex(4)}")
        env = {
            "AZURE_STORAGE_ACCOUNT_NAME": azurite.ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": azurite.KEY,
            "AZURE_STORAGE_ENDPOINT": f"{address}/{azurite.ACCOUNT}",
        }
        values = {"artifacts.url": f"az://{container}/prod"}
        for number, (name, value) in enumerate(env.items()):
            values |= {f"extraEnv[{number}].name": name, f"extraEnv[{number}].value": value}
        # `true` would be no text to helm.
        return values | {"extraEnv[3].name": "AZURE_ALLOW_HTTP", "extraEnv[3].value": "yes"}

    def install(self) -> None:
        Kubectl("default")("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
        self.kubectl.create_namespace(RESTRICTED)
        self.bring()
        self._helm("install")

    # ------------------------------------------------------------ looking

    @property
    def values(self) -> dict[str, str]:
        return self._values

    def pods(self, component: str) -> list[str]:
        """Those that are not on their way out."""
        pods = self.kubectl.items("pods", "-l", f"app.kubernetes.io/component={component}")
        return [p["metadata"]["name"] for p in pods if "deletionTimestamp" not in p["metadata"]]

    def leader(self) -> str:
        lease = json.loads(self.kubectl("get", "lease", f"{self.name}-controller", "-o", "json"))
        return lease["spec"].get("holderIdentity") or ""

    def kill(self, pod: str) -> None:
        self.kubectl("delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")

    def helm(self, *words: str) -> tuple[int, str]:
        done = command("helm", *words, "-n", self.kubectl.namespace)
        return done.returncode, done.stdout + done.stderr

    def checked(self) -> tuple[bool, str]:
        """Whether `helm test` is content, and what its first Pod said."""
        code, _ = self.helm("test", self.name, "--timeout=240s")
        return code == 0, self.kubectl("logs", f"{self.name}-check")


def scheduler() -> list[dict[str, Any]]:
    labels = {"app": "scheduler"}
    container = {
        "name": "scheduler",
        "image": IMAGE,
        "command": ["python", "-c", SCHEDULER],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        "securityContext": HARDENED,
        "volumeMounts": [{"name": "state", "mountPath": "/state"}],
    }
    pod = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "state", "emptyDir": {}}],
    }
    meta = {"name": "scheduler"}
    template = {"metadata": {"labels": labels}, "spec": pod}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {"selector": labels, "ports": [{"port": 8080}]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": meta,
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        },
    ]


@pytest.fixture(scope="module")
def release() -> Iterator[DtsRelease]:
    name = f"swarmrun-dts-{secrets.token_hex(3)}"
    runs = Kubectl(f"{name}-runs")
    it = DtsRelease(name, [runs.namespace])
    try:
        runs.create_namespace(RESTRICTED)
        it.install()
        yield it
    finally:
        it.uninstall()
        for each in (it.kubectl, runs):
            each.delete_namespace()


@pytest.fixture(scope="module")
def served(release: DtsRelease) -> Iterator[Kubectl]:
    """Where runs are, with the example's models and git."""
    kubectl = Kubectl(release.kubectl.namespace.removesuffix("system") + "runs")
    serve(kubectl, example(kubectl.namespace))
    yield kubectl
    kubectl("delete", "swarmclass", kubectl.namespace, "--ignore-not-found")


@pytest.fixture
def place(release: DtsRelease, served: Kubectl) -> Place:
    return Place(release, served, Git(served), example(served.namespace))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tree_of_the_example(tmp_path_factory.mktemp("local"))


# ---------------------------------------------------------------- whole runs


def test_a_worker_and_the_leading_controller_are_killed_and_the_run_ends_the_same(
    place: Place, release: DtsRelease, expected: str
) -> None:
    kubectl = place.kubectl
    before = release.leader()
    assert release.pods("controller") == [before]
    workers = release.pods("worker")
    assert len(workers) == 2
    kubectl.apply(*of_kind(place.resources, "SwarmClass", "SwarmRun"))
    kubectl.until(lambda: kubectl.status(NAME).get("progress", "") >= "0/4", "there is a plan")
    release.kill(workers[0])
    kubectl.until(lambda: kubectl.status(NAME).get("progress", "") >= "1/4", "one task is merged")
    release.kill(before)
    release.kill(workers[1])
    kubectl.wait("condition=Finished", f"{RUNS}/{NAME}", within=600)
    status = kubectl.status(NAME)
    assert (status["phase"], status["progress"]) == ("Succeeded", "4/4"), status
    heads = place.git.heads(NAME)
    assert (set(heads), heads[BRANCH]) == ({"main", BRANCH}, expected)
    assert place.git.pushes(NAME, BRANCH) == 1
    # Another leads, and the workers are as many as before.
    assert [release.leader()] == release.pods("controller")
    assert release.leader() != before
    assert not {*release.pods("worker")} & {*workers}
    assert len(release.pods("worker")) == 2
    place.clean()


def test_a_worker_that_is_scaled_away_ends_its_turn_first(place: Place, release: DtsRelease) -> None:
    """No model is asked twice, and a new worker goes on after it."""
    kubectl = place.kubectl
    tape = scenes.journal_recording(agents=1, turns=3)
    slow = next(e for e in tape["entries"] if e["turn"] == 2)
    slow["delay"] = 20
    models = recording(kubectl, "journal", tape, place.resources)
    place.git.commit("journal", {"README": "What was here before.\n"})
    run = scenes.journal(place.git.url("journal"), agents=1, turns=3, className=kubectl.namespace)
    (cls,) = of_kind(place.resources, "SwarmClass")
    for tier in cls["spec"]["models"].values():
        tier["endpoint"] = models
    kubectl.apply(cls, run)
    key = "/coder/a01/1/2"
    kubectl.until(lambda: [k for k in asked(kubectl) if k.endswith(key)], "the slow turn is asked for")
    release.kubectl("scale", release.worker, "--replicas=0")
    began = time.monotonic()
    release.kubectl.wait("delete", "pod", "-l", "app.kubernetes.io/component=worker", within=90)
    assert time.monotonic() - began < GRACE
    # What it was asked is answered, and that is known to the run.
    status = kubectl.status("journal")
    (agent,) = [a for a in status["agents"] if a["task"] == "a01"]
    assert (status["phase"], agent["turns"]) == ("Running", 2), status
    release.kubectl("scale", release.worker, "--replicas=2")
    kubectl.wait("condition=Finished", f"{RUNS}/journal", within=600)
    assert kubectl.status("journal")["phase"] == "Succeeded"
    # 1 for each turn, whoever asked.
    assert {k.split("/", 1)[1]: n for k, n in asked(kubectl).items()} == {
        "coder/a01/1/1": 1,
        "coder/a01/1/2": 1,
        "coder/a01/1/3": 1,
        "judge/round-0/1/1": 1,
    }
    place.clean()


def asked(kubectl: Kubectl) -> dict[str, int]:
    """How often each turn was asked for, whatever came of it."""
    read = "import urllib.request as r; print(r.urlopen('http://localhost:8765/cassette/requests').read().decode())"
    told = json.loads(kubectl("exec", "deploy/journal", "--", "python3", "-c", read))
    return {key: sum(outcomes.values()) for key, outcomes in told.items()}


# ---------------------------------------------------------------- the release


def test_the_release_says_of_itself_what_it_is(place: Place, release: DtsRelease) -> None:
    kubectl = place.kubectl
    _, notes = release.helm("get", "notes", release.name)
    assert f"works on the SwarmRuns of {kubectl.namespace}, engine dts" in notes
    assert "persistence is off" not in notes
    (cls,) = of_kind(place.resources, "SwarmClass")
    for tier in cls["spec"]["models"].values():
        tier["endpoint"] = recording(kubectl, "probed", PROBED, place.resources)
    kubectl.apply(cls)
    _, said = release.checked()
    values = release.values
    for fine in (
        r"api server: ",
        r"controller: hears the API server",
        re.escape(f"engine: {values['engine.dts.endpoint']}, task hub default: answers"),
        re.escape(f"artifacts: {values['artifacts.url']}: written, read, listed, deleted"),
        rf"class {cls['metadata']['name']}: premium \(\S+\): answers",
    ):
        assert re.search(rf"^ok +{fine}", said, re.MULTILINE), said
    # Other tests' classes are asked as well, and whatever they name.
    release.upgrade(test__models="false")
    content, said = release.checked()
    assert content, said
    assert "ok       network policy: enforced" in release.kubectl("logs", f"{release.name}-check-network")
    # A scheduler that is not there is named.
    release.kubectl("scale", "deploy/scheduler", "--replicas=0")
    release.kubectl.wait("delete", "pod", "-l", "app=scheduler", within=180)
    try:
        content, said = release.checked()
        assert not content, said
        assert re.search(
            r"^problem +engine: http://scheduler\.\S+, task hub default: .*\n +mend: ", said, re.MULTILINE
        )
    finally:
        release.kubectl("scale", "deploy/scheduler", "--replicas=1")
        release.kubectl.rolled_out("scheduler")


def test_workers_without_the_metric_that_they_are_scaled_by_stay_as_many_and_say_why(
    place: Place, release: DtsRelease
) -> None:
    kubectl, worker = release.kubectl, release.worker.partition("/")[2]
    (budget,) = kubectl.items("pdb")
    assert budget["spec"]["maxUnavailable"] == 1
    kubectl.until(
        lambda: kubectl.items("pdb")[0]["status"].get("disruptionsAllowed") == 1, "one may be drained"
    )
    release.upgrade(worker__autoscaling__enabled="true")

    def says() -> str:
        (scaler,) = kubectl.items("hpa")
        conditions = {c["type"]: c for c in scaler["status"].get("conditions", [])}
        active = conditions.get("ScalingActive", {})
        return active.get("reason", "") if active.get("status") == "False" else ""

    assert kubectl.until(says, "the scaler says why it does not scale") == "FailedGetPodsMetric"
    kubectl.until(lambda: len(release.pods("worker")) == 2, "as many as before")
    (deployment,) = [d for d in kubectl.items("deployments") if d["metadata"]["name"] == worker]
    assert deployment["spec"]["replicas"] == 2


def test_another_engine_is_refused_and_what_is_at_work_stays(release: DtsRelease) -> None:
    """The runs are known to the old one alone."""

    def at_work() -> set[str]:
        return {*release.pods("controller"), *release.pods("worker")}

    before = at_work()
    with pytest.raises(AssertionError, match=r"spec\.selector.*field is immutable"):
        release.upgrade(engine__type="embedded")
    assert at_work() == before
    release.upgrade(engine__type="dts")
    assert at_work() == before


# ---------------------------------------------------------------- another program


@pytest.mark.skipif(
    not OTHER, reason="needs SWARMRUN_TEST_OTHER_OPERATOR_IMAGE (see tests/e2e/cluster/other)"
)
def test_a_run_changes_hands_while_workers_of_two_programs_are_there(
    place: Place, release: DtsRelease, expected: str
) -> None:
    """An upgrade: the controller is replaced, workers one after the other, old and new beside each other."""
    kubectl = place.kubectl
    kubectl("delete", RUNS, NAME, "--ignore-not-found", "--timeout=60s")
    remote = f"{NAME}-2"
    (cls,), (run,) = of_kind(place.resources, "SwarmClass"), of_kind(place.resources, "SwarmRun")
    run["spec"]["repository"] = {"url": place.git.url(remote)}
    kubectl.apply(cls, run)
    kubectl.until(lambda: kubectl.status(NAME).get("progress", "") >= "0/4", "there is a plan")
    repository, _, tag = OTHER.rpartition(":")
    release.upgrade(image__repository=repository, image__tag=tag)
    try:
        assert "finishedAt" not in kubectl.status(NAME)
        kubectl.wait("condition=Finished", f"{RUNS}/{NAME}", within=600)
        status = kubectl.status(NAME)
        assert (status["phase"], status["progress"]) == ("Succeeded", "4/4"), status
        heads = place.git.heads(remote)
        assert (set(heads), heads[BRANCH]) == ({"main", BRANCH}, expected)
        assert place.git.pushes(remote, BRANCH) == 1
        place.clean()
    finally:
        repository, _, tag = IMAGE.rpartition(":")
        release.upgrade(image__repository=repository, image__tag=tag)
