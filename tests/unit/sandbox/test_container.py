"""Sandboxes as containers. Most of it needs podman or docker and the image:

SWARMRUN_TEST_CONTAINER_ENGINE="podman" SWARMRUN_TEST_SANDBOX_IMAGE=localhost/swarmrun-sandbox:dev pytest …
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from swarmrun.errors import SandboxLost, SandboxRefused
from swarmrun.ports import SandboxSpec
from swarmrun.sandbox.container import ContainerProvider, engine

KEY = b"k" * 32
ENGINE = shlex.split(os.environ.get("SWARMRUN_TEST_CONTAINER_ENGINE", ""))
IMAGE = os.environ.get("SWARMRUN_TEST_SANDBOX_IMAGE", "localhost/swarmrun-sandbox:dev")

needs_engine = pytest.mark.skipif(not ENGINE, reason="set SWARMRUN_TEST_CONTAINER_ENGINE to podman or docker")


def spec(name: str = "run-task-a1-g1", **more: Any) -> SandboxSpec:
    return SandboxSpec(name, run=more.pop("run", "run"), **({"memory_mb": 256} | more))


def with_provider(root: Path, scenario: Callable[[ContainerProvider], Awaitable[Any]]) -> Any:
    async def go() -> Any:
        provider = ContainerProvider(root, KEY, command=ENGINE, image=IMAGE)
        try:
            return await scenario(provider)
        finally:
            await provider.release_run("run")

    return asyncio.run(go())


async def ready(provider: ContainerProvider, it: SandboxSpec):
    state = await provider.ensure(it)
    for _ in range(20):
        if state.phase != "Starting":
            break
        state = await provider.ensure(it)
    assert state.phase == "Ready", state
    return await provider.connect(it.id)


def left() -> str:
    line = [*ENGINE, "ps", "--all", "--quiet", "--filter", "label=swarmrun.dev/sandbox"]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()


@needs_engine
def test_a_container_is_used_and_leaves_nothing_behind(tmp_path):
    async def scenario(provider):
        box = await ready(provider, spec(env={"ANSWER": "42"}))
        assert provider.isolation == "container"
        seen = await box.exec(
            "echo $ANSWER; id -u; touch /x; touch ~/a /tmp/b && git init -q inner && git -C inner status -s && echo ok;"
            "grep -E 'CapEff|NoNewPrivs' /proc/self/status; cat /proc/net/dev | wc -l; env"
        )
        lines = seen.stdout.splitlines()
        assert lines[0] == "42"
        assert lines[1] != "0"
        assert "Read-only file system" in seen.stdout
        assert "ok" in lines
        assert "CapEff:\t0000000000000000" in lines
        assert "NoNewPrivs:\t1" in lines
        assert "SWARMRUN_TOKEN" not in seen.stdout
        alone = await box.exec("python3 -c 'import socket; socket.create_connection((\"127.0.0.2\", 80), 1)'")
        assert "refused" in alone.stdout
        out = await box.exec("python3 -c 'import socket; socket.create_connection((\"192.0.2.1\", 80), 1)'")
        assert "unreachable" in out.stdout
        await provider.release("run-task-a1-g1")
        with pytest.raises(SandboxLost):
            await box.exec("true")
        assert left() == ""

    with_provider(tmp_path, scenario)
    assert list(tmp_path.iterdir()) == []


@needs_engine
def test_a_prepared_volume_is_taken_over_by_another_container(tmp_path):
    async def scenario(provider):
        first = await ready(provider, spec())
        await first.exec("mkdir -p ~/cache && echo kept > ~/cache/x && echo code > a.py")
        second = await ready(provider, spec("run-other-a1-g1", clone_of=spec().id))
        assert (await provider.ensure(spec("run-other-a1-g1"))).cloned
        seen = await second.exec("cat ~/cache/x a.py && echo more >> a.py && echo fine")
        assert seen.stdout == "kept\ncode\nfine\n"
        assert (await first.exec("cat a.py")).stdout == "code\n"

    with_provider(tmp_path, scenario)


@needs_engine
def test_a_container_that_is_killed_is_lost_and_memory_is_capped(tmp_path):
    async def scenario(provider):
        box = await ready(provider, spec())
        hog = await box.exec("python3 -c 'x = bytearray(1 << 30)'", timeout_s=60)
        assert hog.exit_code != 0
        assert (await box.exec("echo alive")).stdout == "alive\n"
        subprocess.run([*ENGINE, "kill", left()], check=True, capture_output=True)
        for _ in range(50):
            if (state := await provider.ensure(spec())).phase == "Lost":
                break
            await asyncio.sleep(0.1)
        assert state.phase == "Lost"
        assert (await provider.ensure(spec())).phase == "Lost"

    with_provider(tmp_path, scenario)


@needs_engine
def test_containers_end_with_the_process_that_holds_them(tmp_path):
    script = f"""
        import asyncio, sys, time
        from pathlib import Path
        from swarmrun.ports import SandboxSpec
        from swarmrun.sandbox.container import ContainerProvider
        async def go():
            p = ContainerProvider(Path({str(tmp_path)!r}), {KEY!r}, command={ENGINE!r}, image={IMAGE!r})
            while (s := await p.ensure(SandboxSpec("run-task-a1-g1", run="run", memory_mb=256))).phase == "Starting":
                pass
            print(s.phase, flush=True)
        asyncio.run(go())
        time.sleep(60)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "Ready\n"
    assert left() != ""
    process.send_signal(signal.SIGKILL)
    process.wait()
    ends = time.monotonic() + 20
    while left():
        assert time.monotonic() < ends
        time.sleep(0.1)

    async def scenario(provider):
        assert (await provider.ensure(spec())).phase == "Lost"

    with_provider(tmp_path, scenario)


@needs_engine
def test_an_image_that_is_not_there_is_not_pulled(tmp_path):
    async def scenario(provider):
        with pytest.raises(SandboxRefused, match="none-such") as refused:
            await provider.ensure(spec(image="localhost/none-such:1"))
        assert refused.value.reason == "ImageNotPresent"
        assert "build" in refused.value.mend

    with_provider(tmp_path, scenario)


def test_no_engine_is_said_with_what_to_do(monkeypatch):
    with pytest.raises(SandboxRefused, match="nerdctl-none is not installed") as refused:
        engine("nerdctl-none --namespace x")
    assert refused.value.reason == "NoContainerEngine"
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SandboxRefused, match="neither podman nor docker"):
        engine()


def test_what_the_engine_is_asked_for_isolates(tmp_path):
    provider = ContainerProvider(tmp_path, KEY, command=["podman"], image="i")
    line = provider._arguments(spec(pids=9, cpu=0.5), tmp_path / "d", "i", 4711)
    assert {"--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=none"} <= set(
        line
    )
    assert {"--pids-limit=9", "--memory=256m", "--cpus=0.5", "--user=4711:4711", "--rm"} <= set(line)
    assert "--network=none" not in provider._arguments(spec(egress=True), tmp_path / "d", "i", 1)
    ours = [word for word in provider._arguments(spec(env={"HOME": "/"}), tmp_path, "i", 1) if "HOME" in word]
    assert ours == ["--env=HOME=/sandbox/home"]
