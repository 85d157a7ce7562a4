"""A network for set-up alone, around real Pods."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from swarmrun.kube.names import EGRESS
from swarmrun.ports import EgressRule, SandboxSpec
from swarmrun.sandbox.kubernetes import provider as providers

pytestmark = pytest.mark.cluster

HOLD = (
    "import socket,sys,time; s=socket.create_connection((sys.argv[1],9001),2);"
    " open(sys.argv[2],'w').write('held'); time.sleep(600)"
)
CONNECT = 'import socket,sys; socket.create_connection((sys.argv[1],9001),2); print("connected")'


def python(code: str, *words: str) -> str:
    return f"python3 -c '{code.replace(chr(39), chr(34))}' {' '.join(words)}"


async def target(cluster: Any) -> str:
    """Address of a Pod that takes connections on 9001."""
    container = {
        "name": "c",
        "image": cluster.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", "cd /; exec python3 -m http.server 9001"],
        "readinessProbe": {"tcpSocket": {"port": 9001}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "runAsUser": 5000, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"securityContext": security, "containers": [container]}
    await cluster.api.create(f"{cluster.core}/pods", {"metadata": {"name": "target"}, "spec": spec})
    while True:
        status = (await cluster.api.get(f"{cluster.core}/pods/target"))["status"]
        if (status.get("containerStatuses") or [{}])[0].get("ready"):
            return status["podIP"]
        await asyncio.sleep(0.2)


async def opened(cluster: Any, provider: Any, it: SandboxSpec, ip: str) -> Any:
    """The sandbox, once set-up reaches the target."""
    state = await cluster.settled(provider, it)
    assert (state.phase, state.open) == ("Ready", True), state
    box = await provider.connect(it.id)
    for _ in range(20):
        if (await box.exec(python(CONNECT, ip), timeout_s=10)).stdout == "connected\n":
            return box
        await asyncio.sleep(0.5)
    raise AssertionError("what was granted for set-up is not reached")


async def label(cluster: Any) -> str:
    (pod,) = [p for p in await cluster.pods() if p["metadata"]["name"].startswith("demo-")]
    return pod["metadata"]["labels"].get(EGRESS, "")


def test_what_set_up_could_reach_nobody_reaches_afterwards(in_cluster):
    async def scenario(cluster):
        ip = await target(cluster)
        ahead = cluster.spec(
            allow=(EgressRule(f"{ip}/32", (9001,)),), dns=True, setup_only=True, setup="ahead"
        )
        done = dataclasses.replace(ahead, setup="done")
        provider = cluster.provider()
        box = await opened(cluster, provider, ahead, ip)
        assert await label(cluster) == "setup"
        # A connection that stands outlives the policy that allowed it: whoever holds it must end.
        held = (
            f"setsid {python(HOLD, ip, '~/held')} >/dev/null 2>&1 & while [ ! -s ~/held ]; do sleep 0.1; done"
        )
        assert (await box.exec(held, timeout_s=20)).exit_code == 0
        first = await provider.ensure(done)
        assert (first.phase, first.reason) == ("Starting", "NetworkClosing")
        state = await cluster.settled(provider, done)
        assert (state.phase, state.open) == ("Ready", False), state
        assert await label(cluster) == ""
        assert "connected" not in (await box.exec(python(CONNECT, ip), timeout_s=20)).stdout
        assert "held" in (await box.exec("cat ~/held")).stdout
        assert (await box.exec("pgrep -f [c]reate_connection || echo none")).stdout == "none\n"
        named = await box.exec("getent hosts kubernetes.default.svc.cluster.local", timeout_s=60)
        assert named.exit_code != 0
        # Asked again, also by another process: nothing opens.
        for it in (provider, cluster.provider()):
            for spec in (ahead, done):
                assert (await cluster.settled(it, spec)) == providers.SandboxState("Ready")

    in_cluster(scenario)


def test_another_process_goes_on_where_the_closing_was_cut_off(in_cluster):
    async def scenario(cluster):
        ip = await target(cluster)
        ahead = cluster.spec(allow=(EgressRule(f"{ip}/32", (9001,)),), setup_only=True, setup="ahead")
        done = dataclasses.replace(ahead, setup="done")
        await opened(cluster, cluster.provider(), ahead, ip)
        # Killed after the label was taken away and before anything was tried.
        assert (await cluster.provider().ensure(done)).reason == "NetworkClosing"
        heir = cluster.provider()
        assert (await cluster.settled(heir, done)).phase == "Ready"
        box = await heir.connect(done.id)
        assert "connected" not in (await box.exec(python(CONNECT, ip), timeout_s=20)).stdout
        # A sandbox that is gone is not made again without what it held: its successor is set up anew.
        await heir.release(done.id)
        assert (await cluster.provider().ensure(done)).phase == "Lost"
        again = dataclasses.replace(ahead, id="run-task-a1-g2")
        await opened(cluster, heir, again, ip)

    in_cluster(scenario)


def test_a_grant_that_does_not_close_stops_the_run_unless_that_is_waived(in_cluster, monkeypatch):
    monkeypatch.setattr(providers, "ENFORCED_WITHIN", 4.0)

    async def scenario(cluster):
        ip = await target(cluster)
        # A tenant's own policy, for this very address: nothing that is always forbidden is opened by it.
        body = {
            "metadata": {"name": "tenant"},
            "spec": {
                "podSelector": {},
                "policyTypes": ["Egress"],
                "egress": [{"to": [{"ipBlock": {"cidr": f"{ip}/32"}}]}],
            },
        }
        await cluster.api.create(cluster.policies, body)
        # Granted as a range: that the address answers is known from set-up's own connections alone.
        rule = EgressRule(ip.rsplit(".", 1)[0] + ".0/24", (9001,))
        ahead = cluster.spec(allow=(rule,), setup_only=True, setup="ahead")
        provider = cluster.provider()
        await opened(cluster, provider, ahead, ip)
        state = await cluster.settled(provider, dataclasses.replace(ahead, setup="done"))
        assert (state.phase, state.reason) == ("Refused", "NetworkPolicyNotEnforced"), state
        assert f"{ip}:9001 can be reached" in state.message
        waived = cluster.provider(dataclasses.replace(cluster.network, waive_enforcement=True))
        another = dataclasses.replace(ahead, id="run-other-a1-g1")
        await opened(cluster, waived, another, ip)
        state = await cluster.settled(waived, dataclasses.replace(another, setup="done"))
        assert (state.phase, state.open) == ("Ready", False)

    in_cluster(scenario)
