"""Where an agent's packets go: nowhere, also with open egress, also as questions for names.

`SWARMRUN_TEST_OPEN_EGRESS=1`: the cluster enforces policies that hold IPv6 ranges beside IPv4 ones (open egress does).
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import Any

import pytest

from swarmrun.git.pod.manifest import PORT as GIT_PORT
from swarmrun.git.pod.manifest import GitOptions, git_pod, git_policy
from swarmrun.kube.options import NetworkOptions, PodOptions, RunPlace
from swarmrun.sandbox.kubernetes.manifest import PORT

pytestmark = pytest.mark.cluster

LABELS = {"app.kubernetes.io/name": "swarmrun-operator"}
OPEN = pytest.mark.skipif(
    os.environ.get("SWARMRUN_TEST_OPEN_EGRESS") != "1", reason="set SWARMRUN_TEST_OPEN_EGRESS=1"
)
EGRESS = pytest.mark.parametrize(
    "egress", [pytest.param(False, id="closed"), pytest.param(True, id="open egress", marks=OPEN)]
)
LISTEN = "import http.server as h, sys, threading as t\n" + (
    "[t.Thread(target=h.ThreadingHTTPServer(('', int(p)), h.SimpleHTTPRequestHandler).serve_forever).start() "
    "for p in sys.argv[1:]]"
)
BRAIN_PORTS = (8080, 8081, 8082)
"""Probes, metrics, reading."""

TRY = """
import socket, sys
for address in sys.argv[1:]:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 2).close()
        print("connected", address)
    except OSError as exc:
        print("closed", address)
"""
ASK = """
import socket, sys
name = b"".join(bytes([len(part)]) + part for part in b"kubernetes.default.svc.cluster.local.".split(b"."))
question = bytes.fromhex("000101000001000000000000") + name + b"\\0\\1\\0\\1"
for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
    s = socket.socket(socket.AF_INET, kind)
    s.settimeout(3)
    try:
        s.connect((sys.argv[1], 53))
        s.send(question if kind == socket.SOCK_DGRAM else len(question).to_bytes(2, "big") + question)
        print("answered" if s.recv(500) else "closed")
    except OSError:
        print("closed")
"""


def listener(cluster: Any, name: str, ports: tuple[int, ...]) -> dict[str, Any]:
    """Somebody who would answer anybody."""
    container = {
        "name": "c",
        "image": cluster.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", LISTEN, *map(str, ports)],
        "readinessProbe": {"tcpSocket": {"port": ports[0]}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    context = {"runAsNonRoot": True, "runAsUser": 5000, "seccompProfile": {"type": "RuntimeDefault"}}
    return {
        "metadata": {"name": name, "labels": LABELS if name == "brain" else {}},
        "spec": {"securityContext": context, "containers": [container]},
    }


async def address(cluster: Any, name: str) -> str:
    for _ in range(300):
        status = (await cluster.api.get(f"{cluster.core}/pods/{name}"))["status"]
        if (status.get("containerStatuses") or [{}])[0].get("ready"):
            return status["podIP"]
        await asyncio.sleep(0.2)
    raise AssertionError(f"{name} did not start: {status}")


@EGRESS
def test_brain_git_pod_other_sandboxes_api_server_and_metadata_are_out_of_reach(in_cluster, egress):
    async def scenario(cluster):
        network = NetworkOptions("swarmrun-system", LABELS)
        mine, other = cluster.place, RunPlace(cluster.namespace, "other", "other")
        git = GitOptions("https://192.0.2.1/o/r", PodOptions(cluster.operator_image))
        await cluster.api.create(f"{cluster.core}/pods", listener(cluster, "brain", BRAIN_PORTS))
        await cluster.api.create(f"{cluster.core}/pods", listener(cluster, "bystander", (9000,)))
        await cluster.api.create(cluster.policies, git_policy(mine, git, network))
        pod = git_pod(mine, git, token_sha256="0" * 64)
        await cluster.api.create(f"{cluster.core}/pods", pod)
        provider = cluster.provider(network)
        cluster.place = other
        elsewhere = cluster.provider(network)
        hostile, beside, stranger = await asyncio.gather(
            cluster.ready(provider, cluster.spec(egress=egress)),
            cluster.ready(provider, cluster.spec("run-beside-a1-g1")),
            cluster.ready(elsewhere, replace(cluster.spec("other-task-a1-g1"), run="other")),
        )
        brain = await address(cluster, "brain")
        places = [f"{brain}:{port}" for port in BRAIN_PORTS]
        places += [f"{await address(cluster, 'bystander')}:9000"]
        places += [f"{await address(cluster, pod['metadata']['name'])}:{GIT_PORT}"]
        places += [beside.address, stranger.address, "169.254.169.254:80", "$KUBERNETES_SERVICE_HOST:443"]
        await hostile.write("try.py", TRY.encode())
        said = (await hostile.exec("python3 try.py " + " ".join(places), timeout_s=60)).stdout.splitlines()
        assert len(said) == len(places), said
        assert not [line for line in said if line.startswith("connected")], said
        # Somebody was there: its own port answers, and so does the bystander's to itself.
        assert (
            f"connected 127.0.0.1:{PORT}" in (await hostile.exec(f"python3 try.py 127.0.0.1:{PORT}")).stdout
        )
        for box in (beside, stranger):
            assert (await box.exec("echo fine")).stdout == "fine\n"

    in_cluster(scenario)


@EGRESS
def test_no_question_for_a_name_leaves_unless_names_are_granted(in_cluster, egress):
    async def scenario(cluster):
        found = await cluster.api.get("/api/v1/namespaces/kube-system/services/kube-dns")
        server = found["spec"]["clusterIP"]
        box = await cluster.ready(cluster.provider(), cluster.spec(egress=egress))
        await box.write("ask.py", ASK.encode())
        assert (await box.exec(f"python3 ask.py {server}", timeout_s=30)).stdout.split() == [
            "closed",
            "closed",
        ]
        # The question is one that is answered: another run is granted names.
        cluster.place = RunPlace(cluster.namespace, "other", "other")
        named = replace(cluster.spec("other-task-a1-g1"), run="other", dns=True)
        granted = await cluster.ready(cluster.provider(), named)
        await granted.write("ask.py", ASK.encode())
        said = (await granted.exec(f"python3 ask.py {server}", timeout_s=30)).stdout.split()
        assert said == ["answered", "answered"]

    in_cluster(scenario)
