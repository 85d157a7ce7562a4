"""Sandboxes as real Pods."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess

import pytest

from swarmrun.errors import SandboxLost
from swarmrun.ports import EgressRule
from swarmrun.sandbox.kubernetes import provider as providers

pytestmark = pytest.mark.cluster

CONNECT = (
    "python3 -c 'import socket,sys; s=socket.create_connection((sys.argv[1],int(sys.argv[2])),2);"
    'print("connected")\' {} {} 2>&1 | tail -1'
)


def test_a_sandbox_is_a_pod_that_holds_nothing_and_can_do_little(in_cluster):
    async def scenario(cluster):
        provider = cluster.provider()
        box = await cluster.ready(provider, cluster.spec(env={"ANSWER": "42"}))
        (pod,) = await cluster.pods()
        assert pod["metadata"]["name"].startswith("demo-task-")
        assert pod["metadata"]["name"].endswith("-a1-g1")
        seen = await box.exec(
            "echo $ANSWER; id -u; touch /x; ls /var/run/secrets; env | grep -i -E 'token|secret';"
            "touch ~/a $TMPDIR/b /tmp/c && git init -q inner && git -C inner status --short && echo works;"
            "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status"
        )
        lines = seen.stdout.splitlines()
        assert lines[0] == "42"
        assert int(lines[1]) >= 100_000
        assert "Read-only file system" in seen.stdout
        assert "cannot access '/var/run/secrets'" in seen.stdout
        assert "works" in lines
        assert "CapEff:\t0000000000000000" in lines
        assert "NoNewPrivs:\t1" in lines
        assert "Seccomp:\t2" in lines
        again = await provider.ensure(cluster.spec())
        assert again.phase == "Ready"
        await provider.release("run-task-a1-g1")
        with pytest.raises(SandboxLost):
            await box.exec("true")
        await cluster.gone("pods")
        await provider.release("run-task-a1-g1")

    in_cluster(scenario)


def test_a_clone_goes_in_and_a_checkpoint_comes_out(in_cluster, tmp_path):
    def git(*words: str) -> str:
        line = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@t", *words]
        return subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q", "-b", "main")
    (tmp_path / "test_a.py").write_text("def test_a():\n    assert True\n")
    git("add", "-A")
    git("commit", "-q", "-m", "base")
    base = git("rev-parse", "HEAD")
    git("bundle", "create", "-q", str(tmp_path / "b"), "main")

    async def scenario(cluster):
        box = await cluster.ready(cluster.provider())
        await box.load((tmp_path / "b").read_bytes(), commit=base, branch="work")
        ran = await box.exec("python3 -m pytest -q && git status --short --branch")
        assert ran.exit_code == 0, ran
        assert "1 passed" in ran.stdout
        assert "## work" in ran.stdout
        await box.write("b.py", b"two = 2\n")
        point = await box.checkpoint(since=base)
        assert point.changed
        (tmp_path / "out").write_bytes(point.bundle)
        git("fetch", "-q", str(tmp_path / "out"), "+refs/swarmrun/checkpoint:refs/in")
        assert git("show", "refs/in:b.py") == "two = 2"

    in_cluster(scenario)


def test_an_image_without_the_server_gets_it_mounted(in_cluster):
    async def scenario(cluster):
        box = await cluster.ready(cluster.provider(), cluster.spec(image=cluster.other_image))
        listed = await box.exec("ls /opt/swarmrun/sandboxd; touch /opt/swarmrun/sandboxd/x")
        assert "main.py" in listed.stdout
        assert "Read-only" in listed.stdout or "denied" in listed.stdout

    in_cluster(scenario)


def test_a_volume_of_a_storage_class_comes_and_goes_with_the_pod(in_cluster):
    async def scenario(cluster):
        provider = cluster.provider(storage_class="default")
        box = await cluster.ready(provider)
        assert (await box.exec("git init -q x && touch ~/y && echo fine")).stdout == "fine\n"
        claims = (await cluster.api.get(f"{cluster.core}/persistentvolumeclaims"))["items"]
        assert [claim["status"]["phase"] for claim in claims] == ["Bound"]
        await provider.release_run("run")
        await cluster.gone("pods")
        await cluster.gone("persistentvolumeclaims")

    in_cluster(scenario)


# ------------------------------------------------------------ the network


def test_a_sandbox_reaches_nobody_and_is_reached_by_the_brain_alone(in_cluster):
    async def scenario(cluster):
        provider = cluster.provider()
        await asyncio.gather(*(cluster.ready(provider, cluster.spec(f"run-t{n}-a1-g1")) for n in range(2)))
        first, second = [await provider.connect(f"run-t{n}-a1-g1") for n in range(2)]
        node = (await cluster.pods())[0]["status"]["hostIP"]
        host, port = second.address.rsplit(":", 1)
        for where in (
            (host, port),
            ("$KUBERNETES_SERVICE_HOST", "443"),
            (node, "6443"),
            (node, "10250"),
            ("169.254.169.254", "80"),
        ):
            tried = await first.exec(CONNECT.format(*where), timeout_s=20)
            assert "connected" not in tried.stdout, (where, tried)
        named = await first.exec("getent hosts kubernetes.default.svc.cluster.local; echo $?", timeout_s=20)
        assert named.stdout.strip().endswith("2")
        assert named.seconds < 3
        uids = {pod["spec"]["securityContext"]["runAsUser"] for pod in await cluster.pods()}
        assert len(uids) == 2

    in_cluster(scenario)


def test_a_granted_range_and_port_is_reached_and_no_other(in_cluster):
    async def scenario(cluster):
        target = {
            "metadata": {"name": "target"},
            "spec": {
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": 5000,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [
                    {
                        "name": "c",
                        "image": cluster.image,
                        "imagePullPolicy": "IfNotPresent",
                        "command": [
                            "sh",
                            "-c",
                            "cd /; python3 -m http.server 9001 & python3 -m http.server 9002",
                        ],
                        "securityContext": {
                            "allowPrivilegeEscalation": False,
                            "capabilities": {"drop": ["ALL"]},
                        },
                    }
                ],
            },
        }
        await cluster.api.create(f"{cluster.core}/pods", target)
        while not (ip := (await cluster.api.get(f"{cluster.core}/pods/target"))["status"].get("podIP")):
            await asyncio.sleep(0.2)
        rule = EgressRule(f"{ip}/32", (9001,))
        box = await cluster.ready(cluster.provider(), cluster.spec(allow=(rule,), dns=True))
        for _ in range(10):
            granted = await box.exec(CONNECT.format(ip, 9001), timeout_s=20)
            if granted.stdout == "connected\n":
                break
            await asyncio.sleep(0.5)
        assert granted.stdout == "connected\n"
        assert "connected" not in (await box.exec(CONNECT.format(ip, 9002), timeout_s=20)).stdout
        named = await box.exec("getent hosts kubernetes.default.svc.cluster.local", timeout_s=20)
        assert named.exit_code == 0, named

    in_cluster(scenario)


def test_a_network_that_is_not_closed_stops_the_run_unless_that_is_waived(in_cluster, monkeypatch):
    monkeypatch.setattr(providers, "ENFORCED_WITHIN", 3.0)

    async def scenario(cluster):
        # Policies add up: a tenant's own opens every Pod of the namespace.
        opened = {
            "metadata": {"name": "open"},
            "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]},
        }
        await cluster.api.create(cluster.policies, opened)
        state = await cluster.settled(cluster.provider(), cluster.spec())
        assert (state.phase, state.reason) == ("Refused", "NetworkPolicyNotEnforced"), state
        assert ":443 can be reached" in state.message
        waived = dataclasses.replace(cluster.network, waive_enforcement=True)
        assert (await cluster.settled(cluster.provider(waived), cluster.spec())).phase == "Ready"

    in_cluster(scenario)


# ------------------------------------------------------------ loss


def test_a_pod_that_somebody_deleted_is_lost_and_not_made_again(in_cluster):
    async def scenario(cluster):
        provider = cluster.provider()
        box = await cluster.ready(provider)
        (pod,) = await cluster.pods()
        await cluster.api.delete(f"{cluster.core}/pods/{pod['metadata']['name']}")
        state = await cluster.until_lost(provider, cluster.spec())
        assert state.reason == "Deleted"
        await cluster.gone("pods")
        assert (await provider.ensure(cluster.spec())).phase == "Lost"
        with pytest.raises(SandboxLost) as lost:
            await box.exec("true")
        assert lost.value.reason == "Deleted"
        assert (await cluster.ready(provider, cluster.spec("run-task-a1-g2"))).id == "run-task-a1-g2"

    in_cluster(scenario)


def test_an_eviction_is_told_by_its_name(in_cluster):
    async def scenario(cluster):
        provider = cluster.provider()
        await cluster.ready(provider)
        name = (await cluster.pods())[0]["metadata"]["name"]
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": cluster.namespace},
        }
        await cluster.api.create(f"{cluster.core}/pods/{name}/eviction", eviction)
        state = await cluster.until_lost(provider, cluster.spec())
        assert state.reason in ("EvictionByEvictionAPI", "Deleted")

    in_cluster(scenario)


def test_a_server_that_ends_is_lost_with_its_exit_code(in_cluster):
    async def scenario(cluster):
        provider = cluster.provider()
        box = await cluster.ready(provider)
        with pytest.raises(SandboxLost) as cut_off:
            await box.exec("kill -TERM 1; sleep 20", timeout_s=20)
        assert cut_off.value.reason == "ServerEnded"
        state = await cluster.until_lost(provider, cluster.spec())
        assert state.reason == "ServerEnded"
        with pytest.raises(SandboxLost) as lost:
            await cluster.provider().connect(cluster.spec().id)
        assert lost.value.reason == "ServerEnded"

    in_cluster(scenario)


def test_a_fork_bomb_and_a_memory_hog_end_themselves_and_not_the_sandbox(in_cluster):
    async def scenario(cluster):
        provider = cluster.provider()
        box = await cluster.ready(provider, cluster.spec(pids=64))
        bomb = await box.exec("f() { f | f & }; f; sleep 1; echo over", timeout_s=30)
        assert bomb.exit_code is not None or bomb.timed_out
        hog = await box.exec("python3 -c 'x = bytearray(1 << 30)'", timeout_s=60)
        assert hog.exit_code != 0
        if (await provider.ensure(cluster.spec(pids=64))).phase == "Ready":  # cgroup v2 may take all of it
            assert (await box.exec("echo alive", timeout_s=30)).stdout == "alive\n"

    in_cluster(scenario)


def test_a_full_volume_is_told_as_such(in_cluster):
    async def scenario(cluster):
        provider = cluster.provider()
        it = cluster.spec(disk_mb=64)
        box = await cluster.ready(provider, it)
        await box.exec("dd if=/dev/zero of=$HOME/big bs=1M count=150 2>&1 | tail -1")
        state = await cluster.until_lost(provider, it)
        assert state.reason == "DiskFull", state

    in_cluster(scenario)


# ------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("options", "spec", "reason"),
    [
        ({"image_pull_policy": "Never", "image": "localhost/none:1"}, {}, "ImageNotPresent"),
        ({"image": "NOT/an image"}, {}, "InvalidImageName"),
        ({"runtime_class": "gvisor-none"}, {}, "RuntimeClassNotFound"),
        ({"service_account": "nobody"}, {}, "ServiceAccountNotFound"),
        ({"priority_class": "none-such"}, {}, "PriorityClassNotFound"),
        ({"storage_class": "none-such"}, {}, "StorageClassNotFound"),
        ({}, {"image": "localhost/testcluster-pause:1"}, None),
    ],
)
def test_what_cannot_start_is_refused_with_its_reason(in_cluster, options, spec, reason):
    if reason is None:
        pytest.skip("no image without Python is known here")

    async def scenario(cluster):
        state = await cluster.settled(cluster.provider(**options), cluster.spec(**spec), within=180)
        assert (state.phase, state.reason) == ("Refused", reason), state
        assert state.message

    in_cluster(scenario)


def test_quota_and_limits_of_the_namespace_are_told_apart(in_cluster):
    async def scenario(cluster):
        quota = {"metadata": {"name": "q"}, "spec": {"hard": {"requests.memory": "300Mi"}}}
        await cluster.api.create(f"{cluster.core}/resourcequotas", quota)
        for _ in range(600):
            found = await cluster.api.get(f"{cluster.core}/resourcequotas/q")
            if found.get("status", {}).get("hard"):
                break
            await asyncio.sleep(0.1)
        provider = cluster.provider()
        state = await provider.ensure(cluster.spec(memory_mb=512))
        assert (state.phase, state.reason) == ("Refused", "QuotaExceeded"), state
        limits = {
            "metadata": {"name": "l"},
            "spec": {"limits": [{"type": "Container", "max": {"memory": "128Mi"}}]},
        }
        await cluster.api.create(f"{cluster.core}/limitranges", limits)
        for _ in range(200):  # the admission plug-in's cache
            state = await provider.ensure(cluster.spec(memory_mb=256))
            if state.reason == "LimitRangeViolated":
                break
            await provider.release(cluster.spec().id)
            await asyncio.sleep(0.2)
        assert (state.phase, state.reason) == ("Refused", "LimitRangeViolated"), state

    in_cluster(scenario)


def test_a_namespace_that_is_not_there_or_is_ending_is_refused(in_cluster):
    async def scenario(cluster):
        missing = dataclasses.replace(cluster.place, namespace="none-such")
        cluster.place = missing
        state = await cluster.provider().ensure(cluster.spec())
        assert (state.phase, state.reason) == ("Refused", "NamespaceNotFound"), state

    in_cluster(scenario)
