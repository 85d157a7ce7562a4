"""What was granted for set-up only: opened by a label, taken away, and tried."""

from __future__ import annotations

import asyncio
import os
import shlex
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from swarmrun.errors import SandboxLost
from swarmrun.kube.names import EGRESS
from swarmrun.kube.options import EgressProxy, NetworkOptions, PodOptions, RunPlace
from swarmrun.ports import EgressRule, SandboxSpec
from swarmrun.sandbox import bubblewrap
from swarmrun.sandbox.kubernetes import enforcement, manifest
from swarmrun.sandbox.process import ProcessProvider
from swarmrun.sandbox.sandboxd import certificates

PLACE = RunPlace("team", "uid-1", "demo")
NETWORK = NetworkOptions("swarmrun-system", {"app": "brain"})
RULE = EgressRule("10.9.8.7/32", (443,))
PROXY = EgressProxy("http://proxy.example.com:3128", "10.1.2.3/32", ("git.example.com",))


def spec(**more: Any) -> SandboxSpec:
    return SandboxSpec("uid-1-task-a1-g1", run="uid-1", **more)


def pod(it: SandboxSpec, options: PodOptions | None = None, net: NetworkOptions = NETWORK) -> dict[str, Any]:
    return manifest.sandbox_pod(PLACE, it, options or PodOptions("i"), net, token_sha256="h" * 64)


def env(it: dict[str, Any]) -> dict[str, str]:
    return {e["name"]: e["value"] for e in it["spec"]["containers"][0]["env"]}


# ------------------------------------------------------------ Pods


def test_what_is_granted_for_set_up_stands_in_a_policy_that_a_label_opens() -> None:
    it = spec(allow=(RULE,), setup_only=True, setup="ahead")
    fence, opening = manifest.sandbox_policies(PLACE, it, NETWORK)
    assert fence["spec"]["egress"] == []
    assert opening["spec"]["egress"][0]["to"] == [{"ipBlock": {"cidr": "10.9.8.7/32"}}]
    wanted = opening["spec"]["podSelector"]["matchLabels"]
    assert wanted == fence["spec"]["podSelector"]["matchLabels"] | {EGRESS: "setup"}
    assert wanted.items() <= pod(it)["metadata"]["labels"].items()
    assert fence["metadata"]["name"] != opening["metadata"]["name"]


@pytest.mark.parametrize(
    "it",
    [
        spec(allow=(RULE,), setup_only=True),
        spec(allow=(RULE,), setup_only=True, setup="done"),
        spec(setup_only=True, setup="ahead"),
        spec(allow=(RULE,), setup="ahead"),
    ],
    ids=["no set-up", "set up", "nothing granted", "granted for good"],
)
def test_only_a_sandbox_that_will_be_set_up_is_born_open(it: SandboxSpec) -> None:
    assert EGRESS not in pod(it, PodOptions("i", labels={EGRESS: "setup"}))["metadata"]["labels"]


def test_without_set_up_only_the_policy_is_one() -> None:
    assert len(manifest.sandbox_policies(PLACE, spec(allow=(RULE,)), NETWORK)) == 1


def test_what_can_be_told_beforehand_is_tried_after_the_closing() -> None:
    net = NetworkOptions("s", {}, proxy=PROXY)
    wide = EgressRule("10.0.0.0/8", (443,))
    it = spec(egress=True, dns=True, allow=(RULE, EgressRule("fd00::7/128", (22,)), wide), setup_only=True)
    assert enforcement.closed_again(it, net) == [
        enforcement.RESOLVERS,
        "10.1.2.3:3128",
        "10.9.8.7:443",
        "[fd00::7]:22",
        enforcement.REACHED,
    ]


# ------------------------------------------------------------ proxy and certificates


def test_open_egress_by_a_proxy_is_the_proxy_and_nothing_else() -> None:
    net = NetworkOptions("s", {}, proxy=PROXY)
    (fence,) = manifest.sandbox_policies(PLACE, spec(egress=True), net)
    (rule,) = fence["spec"]["egress"]
    assert rule == {
        "to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}],
        "ports": [{"protocol": "TCP", "port": 3128}],
    }
    it = pod(spec(egress=True, env={"NO_PROXY": "mine"}), net=net)
    found = env(it)
    assert found["https_proxy"] == found["HTTP_PROXY"] == PROXY.url
    assert found["no_proxy"] == "localhost,127.0.0.1,::1,git.example.com"
    assert found["NO_PROXY"] == "mine"
    # Its name is known without a resolver.
    assert it["spec"]["hostAliases"] == [{"ip": "10.1.2.3", "hostnames": ["proxy.example.com"]}]
    closed = pod(spec(), net=net)
    assert "HTTP_PROXY" not in env(closed)
    assert "hostAliases" not in closed["spec"]


def test_certificates_are_mounted_joined_and_named_to_every_tool() -> None:
    it = pod(spec(), PodOptions("i", ca_config_map="corp"))
    assert {"name": "corp", "items": [{"key": "ca.crt", "path": "ca.crt"}]} in [
        v.get("configMap") for v in it["spec"]["volumes"]
    ]
    (container,) = it["spec"]["containers"]
    joined = next(a for a in container["command"] if a.startswith("--ca-joined=")).partition("=")[2]
    found = env(it)
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"):
        assert found[name] == joined
    assert found["NODE_EXTRA_CA_CERTS"] == "/etc/swarmrun/ca/ca.crt"  # this one adds by itself
    assert "SSL_CERT_FILE" not in env(pod(spec()))


def test_joined_certificates_are_the_systems_and_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, ours, out = tmp_path / "system", tmp_path / "ours", tmp_path / "out"
    system.write_text("-----BEGIN CERTIFICATE-----\nsystem\n-----END CERTIFICATE-----\n")
    ours.write_text("-----BEGIN CERTIFICATE-----\nours\n-----END CERTIFICATE-----\n")
    monkeypatch.setattr(certificates, "SYSTEM", (str(tmp_path / "absent"), str(system)))
    certificates.join(str(ours), str(out))
    assert out.read_text() == system.read_text() + ours.read_text()
    ours.write_text("not a certificate")
    with pytest.raises(SystemExit, match="holds no certificate"):
        certificates.join(str(ours), str(out))


# ------------------------------------------------------------ the server


def test_sealing_ends_what_set_up_left_running_and_forgets_its_proxy(in_sandbox: Any) -> None:
    async def scenario(box: Any) -> None:
        detached = "setsid sh -c 'sleep 300 & echo $! > ../left; sleep 300' >/dev/null 2>&1 &"
        await box.client.exec(f"{detached} while [ ! -s ../left ]; do sleep 0.01; done")
        pid = int((await box.client.exec("cat ../left")).stdout)
        os.kill(pid, 0)
        await box.client.seal(forget=["LANG"])
        await box.client.seal(forget=["LANG"])
        for _ in range(200):
            if not _runs(pid):
                break
            await asyncio.sleep(0.01)
        assert not _runs(pid)
        assert (await box.client.exec("echo ${LANG-gone}")).stdout == "gone\n"

    in_sandbox(scenario)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# ------------------------------------------------------------ processes

needs_bwrap = pytest.mark.skipif(
    bool(bubblewrap.usable().problem), reason=f"no bubblewrap here: {bubblewrap.usable().problem}"
)


async def _ready(provider: ProcessProvider, it: SandboxSpec) -> Any:
    state = await provider.ensure(it)
    for _ in range(20):
        if state.phase != "Starting":
            break
        state = await provider.ensure(it)
    assert state.phase == "Ready", state
    return state


def _connects(port: int) -> str:
    code = f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)"
    return f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} 2>/dev/null && echo open || echo closed"


@needs_bwrap
def test_a_local_sandbox_is_started_anew_without_network_on_the_same_files(tmp_path: Path) -> None:
    ahead = SandboxSpec("run-task-a1-g1", run="run", egress=True, setup_only=True, setup="ahead")
    done = SandboxSpec("run-task-a1-g1", run="run", egress=True, setup_only=True, setup="done")
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]

    async def go() -> None:
        provider = ProcessProvider(tmp_path / "root", b"k" * 32)
        try:
            assert (await _ready(provider, ahead)).open
            box = await provider.connect(ahead.id)
            said = await box.exec(f"echo kept > ~/made; sleep 300 & {_connects(port)}", key="setup/0")
            assert said.stdout.startswith("open\n")
            state = await _ready(provider, done)
            assert not state.open
            box = await provider.connect(ahead.id)
            assert (await box.exec(f"cat ~/made; {_connects(port)}")).stdout == "kept\nclosed\n"
            # Set-up asked for again is answered from the journal.
            again = await box.exec(f"echo kept > ~/made; sleep 300 & {_connects(port)}", key="setup/0")
            assert again.stdout.startswith("open\n")
            assert not (await _ready(provider, ahead)).open
            # Killed in between it is lost, never made anew without its commit.
            other = ProcessProvider(tmp_path / "other", b"k" * 32)
            assert (await other.ensure(done)).phase == "Lost"
            with pytest.raises(SandboxLost):
                await other.connect(done.id)
        finally:
            await provider.release_run("run")

    try:
        asyncio.run(go())
    finally:
        server.close()
