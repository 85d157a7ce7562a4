"""The manifest of a sandbox Pod, and the provider against an API server that is a dictionary."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import socket
import time
from typing import Any

import pytest

from swarmrun.errors import (
    Conflict,
    GitError,
    NotFound,
    PermissionDenied,
    RemoteUnavailable,
    SandboxLost,
    ToolRejected,
)
from swarmrun.kube.names import pod_name
from swarmrun.kube.options import NetworkOptions, Owner, PodOptions, RunPlace
from swarmrun.ports import EgressRule, ExecResult, SandboxSpec
from swarmrun.sandbox.kubernetes import enforcement, manifest
from swarmrun.sandbox.kubernetes.provider import KubernetesProvider, _Seen
from swarmrun.sandbox.tokens import token

KEY = b"k" * 32
PLACE = RunPlace("team", "uid-1", "demo", Owner("swarmrun.dev/v1alpha1", "SwarmRun", "demo", "uid"))
NETWORK = NetworkOptions("swarmrun-system", {"app": "brain"})
OPTIONS = PodOptions("registry/sandbox:1")


def spec(**more: Any) -> SandboxSpec:
    return SandboxSpec("uid-1-task-a1-g1", run="uid-1", **more)


def pod(it: SandboxSpec | None = None, options: PodOptions = OPTIONS) -> dict[str, Any]:
    return manifest.sandbox_pod(PLACE, it or spec(), options, NETWORK, token_sha256="h" * 64)


# ------------------------------------------------------------ the manifest


def test_a_pod_meets_the_restricted_standard_and_more():
    it = pod()["spec"]
    (container,) = it["containers"]
    assert it["securityContext"]["runAsNonRoot"]
    assert it["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert it["securityContext"]["runAsUser"] == it["securityContext"]["fsGroup"] > 65536
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert it["restartPolicy"] == "Never"
    assert (it["automountServiceAccountToken"], it["enableServiceLinks"]) == (False, False)
    assert {t["tolerationSeconds"] for t in it["tolerations"]} == {30}
    assert set(container["resources"]["limits"]) == {"cpu", "memory", "ephemeral-storage"}
    assert set(container["resources"]["requests"]) == {"cpu", "memory", "ephemeral-storage"}
    assert not any(kind in str(it["volumes"]) for kind in ("secret", "hostPath", "projected"))


def test_a_pod_belongs_to_its_run_and_no_mesh_gets_in():
    meta = pod()["metadata"]
    assert meta["ownerReferences"][0]["uid"] == "uid"
    assert meta["labels"]["swarmrun.dev/run"] == "demo"
    assert meta["labels"]["swarmrun.dev/task"] == "task-a1-g1"
    assert meta["labels"]["sidecar.istio.io/inject"] == "false"
    assert meta["annotations"]["linkerd.io/inject"] == "disabled"


def test_a_pod_carries_the_hash_of_its_token_and_an_environment_cannot_change_it():
    env = {e["name"]: e["value"] for e in pod(spec(env={"SWARMRUN_TOKEN_SHA256": "x", "HOME": "/", "A": "b"}))[
        "spec"
    ]["containers"][0]["env"]}  # fmt: skip
    assert env["SWARMRUN_TOKEN_SHA256"] == "h" * 64
    assert (env["HOME"], env["TMPDIR"], env["A"]) == ("/sandbox/home", "/sandbox/tmp", "b")


def test_what_a_class_says_is_passed_through_but_cannot_take_our_labels():
    given = PodOptions(
        "i",
        image_pull_secrets=("pull",),
        service_account="sa",
        runtime_class="kata",
        priority_class="low",
        node_selector={"pool": "agents"},
        tolerations=({"key": "agents", "operator": "Exists"},),
        affinity={"nodeAffinity": {}},
        labels={"team": "a", "swarmrun.dev/instance": "another"},
        annotations={"note": "x"},
    )
    it = pod(options=given)
    body = it["spec"]
    assert body["imagePullSecrets"] == [{"name": "pull"}]
    assert (body["runtimeClassName"], body["priorityClassName"]) == ("kata", "low")
    assert body["nodeSelector"] == {"pool": "agents"}
    assert body["tolerations"][-1] == {"key": "agents", "operator": "Exists"}
    assert it["metadata"]["labels"]["team"] == "a"
    assert it["metadata"]["labels"]["swarmrun.dev/instance"] == "uid-1"
    assert it["metadata"]["annotations"]["note"] == "x"


def test_a_storage_class_gives_an_ephemeral_volume_and_none_gives_a_limited_directory():
    assert pod(spec(disk_mb=100))["spec"]["volumes"][0]["emptyDir"] == {"sizeLimit": "100Mi"}
    claim = pod(options=PodOptions("i", storage_class="fast"))["spec"]["volumes"][0]["ephemeral"]
    assert claim["volumeClaimTemplate"]["spec"]["storageClassName"] == "fast"


def test_the_server_is_mounted_only_for_images_that_have_none():
    assert "configMap" not in str(pod()["spec"]["volumes"])
    assert "configMap" not in str(pod(spec(image=OPTIONS.image))["spec"]["volumes"])
    other = pod(spec(image="python:3.9"))
    assert other["spec"]["containers"][0]["image"] == "python:3.9"
    assert other["spec"]["volumes"][-1]["configMap"]["name"] == manifest.server_name(PLACE)
    files = manifest.server_files(PLACE)
    assert {"__main__.py", "main.py", "wire.py"} <= set(files["data"])
    assert len(json.dumps(files)) < 1_000_000  # a ConfigMap's limit is 1 MiB


def test_the_policy_lets_in_the_brain_and_out_what_was_granted():
    (closed,) = (policy["spec"] for policy in manifest.sandbox_policies(PLACE, spec(), NETWORK))
    assert closed["egress"] == []
    assert closed["policyTypes"] == ["Ingress", "Egress"]
    (ingress,) = closed["ingress"]
    assert ingress["from"][0]["podSelector"]["matchLabels"] == {"app": "brain"}
    assert closed["podSelector"]["matchLabels"].items() <= pod()["metadata"]["labels"].items()
    granted = spec(allow=(EgressRule("10.9.0.0/16", (443,)),), dns=True)
    first, dns = manifest.sandbox_policies(PLACE, granted, NETWORK)[0]["spec"]["egress"]
    assert first == {
        "to": [{"ipBlock": {"cidr": "10.9.0.0/16"}}],
        "ports": [{"protocol": "TCP", "port": 443}],
    }
    assert {p["port"] for p in dns["ports"]} == {53}


def test_names_fail_at_once_where_they_may_not_be_resolved():
    assert pod()["spec"]["dnsConfig"]["nameservers"] == ["127.0.0.1"]
    assert "dnsConfig" not in pod(spec(dns=True))["spec"]


# ------------------------------------------------------------ the provider


class Api:
    """`KubeApi` over a dictionary; `refuse` is raised by the next creation of a Pod."""

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}
        self.refuse: Exception | None = None
        self.requests: list[str] = []
        self.events: list[Any] = []

    async def get(self, path: str, **_: str) -> Any:
        self.requests.append(f"GET {path}")
        if path.endswith("/events"):
            return {"items": self.events}
        if path not in self.objects:
            raise NotFound(path)
        return self.objects[path]

    async def create(self, path: str, body: Any) -> Any:
        self.requests.append(f"POST {path}")
        if path.endswith("/pods") and self.refuse is not None:
            exc, self.refuse = self.refuse, None
            raise exc
        key = f"{path}/{body['metadata']['name']}"
        if key in self.objects:
            raise Conflict(key, reason="AlreadyExists")
        self.objects[key] = body
        return body

    async def delete(self, path: str, **query: Any) -> None:
        self.requests.append(f"DELETE {path}")
        selector = query.get("labelSelector")
        if selector:
            name, value = selector.split("=")
            for key in [k for k, v in self.objects.items() if k.startswith(path + "/")]:
                if self.objects[key]["metadata"]["labels"].get(name) == value:
                    del self.objects[key]
        self.objects.pop(path, None)

    def kinds(self) -> list[str]:
        return [body["kind"] for body in self.objects.values()]

    def run(self, ip: str = "127.0.0.1") -> None:
        for body in self.objects.values():
            if body["kind"] == "Pod":
                body["status"] = {
                    "phase": "Running",
                    "podIP": ip,
                    "containerStatuses": [{"state": {"running": {}}}],
                }


def provider(api: Api, network: NetworkOptions = NETWORK) -> KubernetesProvider:
    return KubernetesProvider(api, PLACE, KEY, OPTIONS, network)  # type: ignore[arg-type]


def test_the_fence_is_made_before_the_pod_and_once_a_run():
    async def go() -> None:
        api = Api()
        it = provider(api)
        assert (await it.ensure(spec())).phase == "Starting"
        assert api.kinds() == ["NetworkPolicy", "Pod"]
        assert (await it.ensure(spec())).phase == "Starting"
        other = SandboxSpec("uid-1-other-a1-g1", run="uid-1")
        await it.ensure(other)
        assert api.kinds() == ["NetworkPolicy", "Pod", "Pod"]
        assert sum("networkpolicies" in line for line in api.requests) == 1
        await provider(api).ensure(SandboxSpec("uid-1-x-a1-g1", run="uid-1"))  # another worker, the same run
        assert api.kinds().count("NetworkPolicy") == 1
        await it.release_run("uid-1")
        assert api.kinds() == ["NetworkPolicy"]

    asyncio.run(go())


def test_a_refusal_is_told_and_an_outage_is_raised():
    async def go() -> None:
        api = Api()
        it = provider(api)
        api.refuse = PermissionDenied("exceeded quota: q", reason="QuotaExceeded")
        state = await it.ensure(spec())
        assert (state.phase, state.reason) == ("Refused", "QuotaExceeded")
        assert state.message.startswith("exceeded quota: q (lower spec.sandbox.resources")
        api.refuse = RemoteUnavailable("down", reason="ApiServerUnavailable")
        with pytest.raises(RemoteUnavailable):
            await it.ensure(spec())
        assert (await it.ensure(spec())).phase == "Starting"

    asyncio.run(go())


NOBODY = (
    'pods "x" is forbidden: error looking up service account team/default: serviceaccount "default" not found'
)


def test_the_account_of_a_namespace_that_was_just_made_is_waited_for():
    async def go() -> None:
        api = Api()
        it = provider(api)
        api.refuse = PermissionDenied(NOBODY, reason="ServiceAccountNotFound")
        state = await it.ensure(spec())
        assert (state.phase, state.reason, state.tells) == ("Starting", "ServiceAccountPending", True)
        assert (await it.ensure(spec())).reason == "Created"
        named = KubernetesProvider(api, PLACE, KEY, PodOptions("i", service_account="sa"), NETWORK)  # type: ignore[arg-type]
        api.refuse = PermissionDenied(NOBODY, reason="ServiceAccountNotFound")
        other = SandboxSpec("uid-1-other-a1-g1", run="uid-1")
        assert (await named.ensure(other)).phase == "Refused", "which somebody has to make"

    asyncio.run(go())


def test_a_pod_that_was_made_by_a_call_whose_answer_got_lost_is_taken():
    async def go() -> None:
        api = Api()
        api.refuse = Conflict("there", reason="AlreadyExists")
        assert (await provider(api).ensure(spec())).phase == "Starting"

    asyncio.run(go())


def test_a_pod_that_disappeared_is_lost_for_who_made_it():
    async def go() -> None:
        api = Api()
        it = provider(api)
        await it.ensure(spec())
        del api.objects[f"/api/v1/namespaces/team/pods/{pod_name(PLACE, spec().id)}"]
        state = await it.ensure(spec())
        assert (state.phase, state.reason) == ("Lost", "Deleted")
        with pytest.raises(SandboxLost) as lost:
            await it.connect(spec().id)
        assert lost.value.reason == "Deleted"
        await it.release(spec().id)
        assert (await it.ensure(spec())).phase == "Starting"

    asyncio.run(go())


UNBOUND = "pod has unbound immediate PersistentVolumeClaims"


def test_what_is_wrong_with_a_claim_is_told_at_once_and_not_asked_for_at_every_look():
    async def go() -> None:
        api = Api()
        it = KubernetesProvider(api, PLACE, KEY, PodOptions("i", storage_class="none-such"), NETWORK)  # type: ignore[arg-type]
        await it.ensure(spec())
        (made,) = [body for body in api.objects.values() if body["kind"] == "Pod"]
        scheduled = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": UNBOUND,
        }
        made["status"] = {"phase": "Pending", "conditions": [scheduled]}
        assert (await it.ensure(spec())).reason == "Unschedulable"
        before = len(api.requests)
        for _ in range(5):
            assert (await it.ensure(spec())).reason == "Unschedulable"
        assert not [line for line in api.requests[before:] if "/events" in line]
        said = 'storageclass.storage.k8s.io "none-such" not found'
        api.events = [{"reason": "ProvisioningFailed", "message": said}]
        it._events_at.clear()
        state = await it.ensure(spec())
        assert (state.phase, state.reason) == ("Refused", "StorageClassNotFound")
        # Of one that has ended the Events tell the cause: that is never put off.
        api.events = [{"reason": "Evicted", "message": "Usage of EmptyDir exceeds the limit"}]
        ended = {"exitCode": 0, "startedAt": "2030-01-01T00:00:00Z", "finishedAt": "2030-01-01T01:00:00Z"}
        made["status"] = {"phase": "Succeeded", "containerStatuses": [{"state": {"terminated": ended}}]}
        assert (await it.ensure(spec())).reason == "DiskFull"

    asyncio.run(go())


def test_a_server_that_does_not_answer_yet_is_starting_and_one_that_never_does_is_refused(monkeypatch):
    from swarmrun.sandbox.kubernetes import provider as providers

    # Nobody listens there.
    monkeypatch.setattr(providers.manifest, "PORT", 9)

    async def go() -> None:
        api = Api()
        it = provider(api)
        await it.ensure(spec())
        api.run()
        state = await it.ensure(spec())
        assert (state.phase, state.reason) == ("Starting", "NotAnswering")
        monkeypatch.setattr(providers, "ANSWERS_WITHIN", -1.0)
        state = await it.ensure(spec())
        assert (state.phase, state.reason) == ("Refused", "SandboxNotReachable")
        with pytest.raises(SandboxLost) as lost:
            await (await it.connect(spec().id)).exec("true")
        assert lost.value.reason == "NotAnswering"

    asyncio.run(go())


def test_the_network_trial_tells_what_answers(in_sandbox):
    async def scenario(box):
        server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        given = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "9"}
        line = enforcement.command([f"127.0.0.1:{port}", "127.0.0.1:9", "[::1]:9"])
        assert enforcement.answered(await box.client.exec(line, env=given)) == [f"127.0.0.1:{port}"]
        server.close()
        broken = await box.client.exec("echo answered; exit 3")
        assert enforcement.answered(broken) is None
        assert enforcement.answered(await box.client.exec(enforcement.command([]), env=given)) == []

    in_sandbox(scenario)


@pytest.mark.parametrize(
    ("egress", "answered", "waited", "said"),
    [
        (False, [], 0.1, ""),
        (False, ["10.0.0.1:443"], 1, "NetworkPolicyPending"),
        (False, ["10.0.0.1:443"], 21, "NetworkPolicyNotEnforced"),
        (True, [], 0.1, ""),
        (True, ["10.0.0.1:443"], 1, "NetworkPolicyPending"),
        # By now the policy holds; the API server's own address is a public one.
        (True, ["10.0.0.1:443"], 6, ""),
        (True, ["169.254.169.254:80"], 6, "NetworkPolicyPending"),
        (True, ["169.254.169.254:80", "10.0.0.1:443"], 21, "NetworkPolicyNotEnforced"),
    ],
)
def test_an_api_server_that_answers_means_no_fence_yet_also_with_open_egress(egress, answered, waited, said):
    class Box:
        async def exec(self, line: str, **_: Any) -> ExecResult:
            assert "KUBERNETES_SERVICE_HOST" in line
            return ExecResult(0, "".join(f"answered {a}\n" for a in answered) + "tried\n", 0, "", 0.1)

    async def tried() -> Any:
        seen = _Seen(since=time.monotonic() - waited)
        return await provider(Api())._fenced(spec(egress=egress), Box(), seen, is_open=False)  # type: ignore[arg-type]

    verdict = asyncio.run(tried())
    assert (verdict.reason if verdict else "") == said


@pytest.mark.parametrize(
    ("result", "waited", "said"),
    [
        (ExecResult(None, "", 0, "", 10, process="7", timed_out=True), 1, ("Starting", "NetworkTrialSlow")),
        (ExecResult(None, "", 0, "", 10, process="7", timed_out=True), 61, ("Refused", "NetworkTrialFailed")),
        (ExecResult(127, "python3: not found", 0, "", 0.1), 1, ("Refused", "NetworkTrialFailed")),
    ],
)
def test_a_network_trial_that_a_busy_node_holds_up_is_tried_again(result, waited, said):
    class Box:
        killed = ""

        async def exec(self, line: str, **_: Any) -> ExecResult:
            return result

        async def kill(self, process: str) -> ExecResult:
            self.killed = process
            return result

    box = Box()

    async def tried() -> Any:
        seen = _Seen(since=time.monotonic() - waited)
        return await provider(Api())._fenced(spec(), box, seen, is_open=False)  # type: ignore[arg-type]

    verdict = asyncio.run(tried())
    assert (verdict.phase, verdict.reason) == said
    assert box.killed == result.process


@pytest.mark.parametrize("how", ["gone", "going", "there"])
def test_a_server_whose_pod_goes_away_under_it_is_not_believed(make_box, tmp_path, monkeypatch, how):
    """The volume of a Pod that was deleted by force may go before its server ends."""
    box = make_box()
    box.stop()
    hashed = hashlib.sha256(token(KEY, spec().id).encode()).hexdigest()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(manifest, "PORT", free.getsockname()[1])
    box.start(f"--token-sha256={hashed}", port=manifest.PORT)
    api = Api()
    path = f"/api/v1/namespaces/team/pods/{pod_name(PLACE, spec().id)}"

    class Heard:
        """The watch of Pods."""

        async def get(self, namespace: str, name: str) -> Any:
            return await api.get(path)

        def heard(self, namespace: str, name: str) -> Any:
            if path not in api.objects:
                raise NotFound(name)
            return api.objects[path]

        def made(self, it: Any) -> None:
            pass

    async def go() -> None:
        it = KubernetesProvider(api, PLACE, KEY, OPTIONS, NETWORK, Heard())  # type: ignore[arg-type]
        await it.ensure(spec())
        api.run()
        base = box.commit({"a.py": b"one = 1\n"})
        client = await it.connect(spec().id)
        await client.load(box.bundle(), commit=base, branch="work")
        assert (await client.exec("cat b.py")).exit_code == 1, "as the agent's own mistake"

        shutil.rmtree(box.home / "volume")
        if how == "gone":
            del api.objects[path]
        elif how == "going":
            api.objects[path]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        calls = [
            lambda: client.load(box.bundle(), commit=base, branch="work"),
            lambda: client.checkpoint(since=base, message=""),
            lambda: client.read("a.py"),
        ]
        for call in calls:
            with pytest.raises((ToolRejected, GitError) if how == "there" else SandboxLost) as told:
                await call()
            assert how == "there" or told.value.reason == "Deleted"
        await client.close()

    asyncio.run(go())


def test_what_a_watch_has_not_shown_is_gone_only_when_the_api_server_says_so():
    class Deaf:
        """A watch that was dropped on the way before the Pod was made."""

        def heard(self, namespace: str, name: str) -> Any:
            raise NotFound(name)

    async def go() -> None:
        api = Api()
        await provider(api).ensure(spec())
        it = KubernetesProvider(api, PLACE, KEY, OPTIONS, NETWORK, Deaf())  # type: ignore[arg-type]
        await it.believed(spec().id, refused=False)
        del api.objects[f"/api/v1/namespaces/team/pods/{pod_name(PLACE, spec().id)}"]
        with pytest.raises(SandboxLost):
            await it.believed(spec().id, refused=False)

    asyncio.run(go())


def test_each_sandbox_has_a_uid_and_a_token_of_its_own():
    ids = [f"run-t{n}-a1-g1" for n in range(500)]
    assert len({manifest.uid_of(i) for i in ids}) == 500
    assert len({hashlib.sha256(token(KEY, i).encode()).hexdigest() for i in ids}) == 500
