from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from swarmrun.errors import SandboxLost, SandboxRefused, ToolRejected
from swarmrun.ports import SandboxSpec
from swarmrun.sandbox import bubblewrap, cgroups
from swarmrun.sandbox.process import ProcessProvider
from swarmrun.sandbox.tokens import token

KEY = b"k" * 32
NO_BWRAP = bubblewrap.Usable("", "bubblewrap (bwrap) is not installed")

needs_bwrap = pytest.mark.skipif(
    bool(bubblewrap.usable().problem), reason=f"no bubblewrap here: {bubblewrap.usable().problem}"
)


def spec(name: str = "run-task-a1-g1", **more: Any) -> SandboxSpec:
    return SandboxSpec(name, run=more.pop("run", "run"), **more)


def with_provider(root: Path, scenario: Callable[[ProcessProvider], Awaitable[Any]], **options: Any) -> Any:
    async def go() -> Any:
        provider = ProcessProvider(root, KEY, **options)
        try:
            return await scenario(provider)
        finally:
            await provider.release_run("run")

    return asyncio.run(go())


async def ready(provider: ProcessProvider, it: SandboxSpec):
    state = await provider.ensure(it)
    for _ in range(20):
        if state.phase != "Starting":
            break
        state = await provider.ensure(it)
    assert state.phase == "Ready", state
    return await provider.connect(it.id)


@pytest.fixture(params=["bubblewrap", "none"])
def kind(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == "bubblewrap":
        if bubblewrap.usable().problem:
            pytest.skip(bubblewrap.usable().problem)
        return {}
    return {"unsafe_no_sandbox": True, "bwrap": NO_BWRAP}


def test_a_sandbox_is_ensured_used_and_released(tmp_path, kind):
    async def scenario(provider):
        box = await ready(provider, spec(env={"ANSWER": "42"}))
        assert (await provider.ensure(spec())).phase == "Ready"
        result = await box.exec(
            "echo $ANSWER; pwd; cd ~ && touch x && cd $TMPDIR && touch y; git config user.name"
        )
        assert result.stdout.splitlines()[0] == "42"
        assert result.stdout.endswith("SwarmRun agent\n")
        await provider.release("run-task-a1-g1")
        with pytest.raises(SandboxLost):
            await box.exec("true")
        with pytest.raises(SandboxLost):
            await provider.connect("run-task-a1-g1")
        await provider.release("run-task-a1-g1")
        assert os.listdir(tmp_path / ("r" * 90)) == []

    # A long root: a unix socket's path may have 107 bytes only.
    with_provider(tmp_path / ("r" * 90), scenario, **kind)


def test_without_bubblewrap_nothing_starts_unless_that_is_accepted(tmp_path):
    async def refused(provider):
        assert provider.isolation == "none"
        with pytest.raises(SandboxRefused, match=r"not installed .*--unsafe-no-sandbox"):
            await provider.ensure(spec())
        with pytest.raises(SandboxRefused):
            provider.preflight()

    with_provider(tmp_path, refused, bwrap=NO_BWRAP)


def test_an_ended_sandbox_is_lost_and_never_restarted(tmp_path, kind):
    async def scenario(provider):
        box = await ready(provider, spec())
        call = asyncio.create_task(box.exec("touch started; sleep 60"))
        while not (tmp_path / "run-task-a1-g1/volume/repo/started").exists():
            await asyncio.sleep(0.01)
        provider._live["run-task-a1-g1"].process.kill()
        with pytest.raises(SandboxLost):
            await call
        for _ in range(3):
            assert (await provider.ensure(spec())).phase == "Lost"
        another = ProcessProvider(tmp_path, KEY, **kind)
        assert (await another.ensure(spec())).phase == "Lost"
        assert (await provider.ensure(spec("run-task-a1-g2"))).phase in ("Ready", "Starting")

    with_provider(tmp_path, scenario, **kind)


BRAIN = """
    import asyncio, sys, time
    from pathlib import Path
    from swarmrun.ports import SandboxSpec
    from swarmrun.sandbox.bubblewrap import Usable
    from swarmrun.sandbox.process import ProcessProvider

    async def main():
        options = {{"unsafe_no_sandbox": True, "bwrap": Usable("", "off")}} if {plain} else {{}}
        provider = ProcessProvider(Path({root!r}), b"k" * 32, **options)
        spec = SandboxSpec("run-task-a1-g1", run="run")
        while (await provider.ensure(spec)).phase == "Starting":
            pass
        box = await provider.connect("run-task-a1-g1")
        await box.exec("sleep 4242 & setsid sleep 4242 & sleep 4242", background=True)
        # A thread that ends must not take the sandbox along.
        other = await asyncio.to_thread(asyncio.run, provider.ensure(SandboxSpec("run-b-a1-g1", run="run")))
        print(other.phase, flush=True)
        await asyncio.sleep(600)

    asyncio.run(main())
"""


def test_everything_dies_with_a_killed_brain_and_is_cleaned_up_by_the_next(tmp_path, kind):
    code = textwrap.dedent(BRAIN).format(root=str(tmp_path), plain=bool(kind))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as brain:
        assert brain.stdout is not None
        assert brain.stdout.readline().strip() in ("Ready", "Starting")
        mark = ProcessProvider(tmp_path, KEY, **kind)._mark("run-task-a1-g1")
        assert len(_marked(mark)) >= 4
        brain.send_signal(signal.SIGKILL)
    ends = time.monotonic() + 20
    while _marked(mark) and time.monotonic() < ends:
        time.sleep(0.02)
    assert _marked(mark) == []

    async def scenario(provider):
        assert (await provider.ensure(spec())).phase == "Lost"
        groups = json.loads((tmp_path / "run-task-a1-g1/sandbox.json").read_text())["cgroups"]
        await provider.release_run("run")
        assert os.listdir(tmp_path) == []
        assert not any(Path(group).exists() for group in groups)

    with_provider(tmp_path, scenario, **kind)


def _marked(mark: str) -> list[int]:
    """Live processes of a sandbox, found as the provider finds them."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z" and f"SWARMRUN_SANDBOX={mark}".encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def test_a_run_is_released_and_others_stay(tmp_path, kind):
    async def scenario(provider):
        await ready(provider, spec("other-a1-g1", run="other"))
        await ready(provider, spec("run-b-a1-g1"))
        another = ProcessProvider(tmp_path, KEY, **kind)  # A second process with the same root.
        await another.release_run("nobody")
        await provider.release_run("run")
        assert os.listdir(tmp_path) == ["other-a1-g1"]
        assert (await (await provider.connect("other-a1-g1")).exec("echo on")).stdout == "on\n"
        await provider.release_run("other")

    with_provider(tmp_path, scenario, **kind)


def test_odd_ids_and_unremovable_trees_are_no_obstacle(tmp_path, kind):
    async def scenario(provider):
        box = await ready(provider, spec("../über lauf/task"))
        await box.exec("mkdir -p d/e; touch d/e/f; chmod 000 d/e d")
        await provider.release("../über lauf/task")
        assert os.listdir(tmp_path / "root") == []

    with_provider(tmp_path / "root", scenario, **kind)


def test_a_token_is_its_sandboxs_own_and_only_its_hash_goes_inside(tmp_path, kind):
    async def scenario(provider):
        await ready(provider, spec())
        for file in (tmp_path / "run-task-a1-g1").rglob("*"):
            if file.is_file():
                assert token(KEY, "run-task-a1-g1").encode() not in file.read_bytes()
        box = await provider.connect("run-task-a1-g1")
        shown = (
            await box.exec("cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' ' '", cap=100_000)
        ).stdout
        assert token(KEY, "run-task-a1-g1") not in shown
        stranger = ProcessProvider(tmp_path, b"x" * 32, **kind)
        live = provider._live["run-task-a1-g1"]
        other = stranger._client("run-task-a1-g1", live.directory_fd, "")
        with pytest.raises(SandboxLost, match="token"):
            await other.health()
        await other.close()

    assert token(KEY, "a") != token(KEY, "b")
    with pytest.raises(ValueError, match="16 bytes"):
        token(b"short", "a")
    with_provider(tmp_path, scenario, **kind)


@needs_bwrap
def test_a_clone_brings_tree_store_and_caches_along(tmp_path):
    async def scenario(provider):
        first = await ready(provider, spec("run-prepared-a1-g1"))
        await first.exec("mkdir .venv; touch .venv/tool; touch ~/cache; touch $TMPDIR/junk; touch a.py")
        state = await provider.ensure(spec("run-t-a1-g1", clone_of="run-prepared-a1-g1"))
        assert state.cloned
        box = await ready(provider, spec("run-t-a1-g1", clone_of="run-prepared-a1-g1"))
        assert (await box.exec("ls .venv ~")).stdout.split() == [".venv:", "tool", "/sandbox/home:", "cache"]
        # Mount points of tools that lie below /tmp on this machine may stand there, what was written may not.
        assert "junk" not in (await box.exec("ls $TMPDIR")).stdout
        await box.write("only-here", b"")
        assert (await first.exec("ls")).stdout == "a.py\n"
        assert not (await provider.ensure(spec("run-u-a1-g1", clone_of="gone"))).cloned

    with_provider(tmp_path, scenario)


@needs_bwrap
def test_inside_bubblewrap_there_is_no_network_and_no_secret(tmp_path, monkeypatch):
    home = tmp_path / "home"
    for name in (".ssh/id_ed25519", ".netrc", ".gitconfig", ".aws/credentials", ".cargo/credentials.toml"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("SECRET")
    (home / ".cargo/bin").mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", f"{home}/.cargo/bin:{os.environ['PATH']}")
    monkeypatch.setenv("OPENAI_API_KEY", "SECRET")
    (tmp_path / "root").mkdir()
    outside = tmp_path / "outside"
    outside.write_text("SECRET")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        async def scenario(provider):
            box = await ready(provider, spec())
            run = box.exec
            connect = f"python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", {port}), 2)'"
            assert "refused" in (await run(connect)).stdout.lower()
            assert "1" not in (await run("grep -c eth /proc/net/dev")).stdout
            files = [
                str(home / n) for n in (".ssh", ".netrc", ".gitconfig", ".aws", ".cargo/credentials.toml")
            ]
            files += [
                str(outside),
                "/etc/shadow",
                "/var/run/docker.sock",
                "/run/docker.sock",
                os.path.expanduser("~root/.gitconfig"),
            ]
            for file in [*files, str(tmp_path / "root")]:
                assert (await run(f"ls {file}")).exit_code == 2, file
            assert (
                "SECRET" not in (await run("env; cat /proc/*/environ; cat ~/.gitconfig", cap=100_000)).stdout
            )
            assert (await run(f"ls -d {home}/.cargo/bin")).exit_code == 0
            assert (await run("touch /usr/x /opt/swarmrun/sandboxd/x /etc/passwd")).exit_code == 1
            assert (await run("id -u; kill -9 1; sleep 0.1; echo alive")).stdout.endswith("1000\nalive\n")
            assert (await run("unshare -Ur true")).exit_code != 0
            assert (await run("grep CapEff /proc/self/status")).stdout.split()[1] == "0" * 16
            assert (
                await run("getent hosts localhost && python3 -c 'import ssl' && git version")
            ).exit_code == 0

        with_provider(tmp_path / "root", scenario)


@needs_bwrap
def test_egress_is_granted_only_when_asked_for(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        connect = (
            f"python3 -c 'import socket; print(socket.create_connection((\"127.0.0.1\", {port}), 2).recv(9))'"
        )

        def greet() -> None:
            connection, _ = listener.accept()
            connection.sendall(b"hello")
            connection.close()

        threading.Thread(target=greet, daemon=True).start()

        async def scenario(provider):
            box = await ready(provider, spec(egress=True))
            assert (await box.exec(connect)).stdout == "b'hello'\n"

        with_provider(tmp_path, scenario)


def test_pytest_runs_inside(tmp_path, kind):
    async def scenario(provider):
        box = await ready(provider, spec())
        await box.write("test_x.py", b"def test_x():\n    assert 1 + 1 == 2\n")
        result = await box.exec("pytest -q -p no:cacheprovider", timeout_s=60)
        assert result.exit_code == 0, result.stdout
        assert (await box.list())[0] == ["test_x.py"]

    with_provider(tmp_path, scenario, **kind)


@pytest.fixture
def needs_cgroup() -> None:
    group = cgroups.create("swarmrun-test-probe", pids=20, memory_mb=50)
    if group is None:
        pytest.skip("no cgroup can be made here")
    group.remove()


@needs_bwrap
def test_a_fork_bomb_and_a_memory_hog_are_contained(tmp_path, needs_cgroup):
    async def scenario(provider):
        box = await ready(provider, spec(pids=60, memory_mb=200))
        (base,) = [await _base(box)]
        hog = await box.exec("python3 -c 'bytearray(900 * 1024 * 1024)'")
        assert hog.exit_code == 137
        await box.write("kept.py", b"")
        await box.exec("bomb() { bomb | bomb & }; bomb; sleep 0.3", timeout_s=20)
        # The server's own work comes first, and what an ended command left behind makes room.
        point = await box.checkpoint(since=base)
        assert point.changed
        assert (await box.exec("echo alive")).stdout == "alive\n"

    with_provider(tmp_path, scenario)


@needs_bwrap
def test_a_running_fork_bomb_gives_an_error_that_names_it(tmp_path, needs_cgroup):
    async def scenario(provider):
        box = await ready(provider, spec(pids=40))
        fill = "for i in $(seq 100); do sleep 60 & done; wait"
        running = await box.exec(fill, timeout_s=1)
        assert running.exit_code is None
        with pytest.raises(ToolRejected, match=r"running: p1.*cannot start another process"):
            await box.exec("true")
        await box.kill(running.process)
        assert (await box.exec("echo alive")).stdout == "alive\n"

    with_provider(tmp_path, scenario)


async def _base(box) -> str:
    """Loads an empty first commit made inside and returns its id."""
    made = await box.exec(
        "git init -q o && cd o && git commit -q --allow-empty -m b && git bundle create -q ../b HEAD && "
        "git rev-parse HEAD"
    )
    commit = made.stdout.strip()
    bundle = await box.read("b")
    await box.exec("rm -rf o b")
    await box.load(bundle, commit=commit, branch="w")
    return commit


@needs_bwrap
def test_without_a_cgroup_rlimits_cap_processes_and_the_state_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(cgroups, "create", lambda *_, **__: None)

    async def scenario(provider):
        box = await ready(provider, spec(pids=60, memory_mb=200))
        state = await provider.ensure(spec())
        assert "no cgroup on this machine" in state.message
        hog = await box.exec("/usr/bin/env python3 -c 'bytearray(900 * 1024 * 1024)'")
        assert "MemoryError" in hog.stdout
        if os.geteuid() == 0:  # The kernel exempts root's processes, also inside a user namespace.
            assert "fork bombs are not capped" in state.message
        else:
            assert (
                "Resource" in (await box.exec("for i in $(seq 100); do sleep 5 & done", timeout_s=20)).stdout
            )

    with_provider(tmp_path, scenario)


def test_a_sandbox_that_ended_leaves_no_cgroup(tmp_path, kind, needs_cgroup):
    def groups(name: str) -> list[Path]:
        return [Path(p) for p in json.loads((tmp_path / name / "sandbox.json").read_text())["cgroups"]]

    async def scenario(provider):
        await ready(provider, spec())
        await ready(provider, spec("run-task-a1-g2"))
        made = groups("run-task-a1-g1") + groups("run-task-a1-g2")
        if not made:
            pytest.skip("cgroups come from systemd here")
        assert all(group.is_dir() for group in made)
        # Killed: the next process meets the marker and clears up after it.
        provider._live["run-task-a1-g1"].process.kill()
        provider._live["run-task-a1-g1"].process.wait()
        later = ProcessProvider(tmp_path, KEY, **kind)
        assert (await later.ensure(spec())).phase == "Lost"
        assert not any(group.exists() for group in groups("run-task-a1-g1"))
        # Interrupted: it clears up itself.
        provider.stop()
        assert not any(group.exists() for group in made)
        assert (await later.ensure(spec("run-task-a1-g2"))).phase == "Lost"

    with_provider(tmp_path, scenario, **kind)


def test_only_old_empty_cgroups_of_ours_are_swept(needs_cgroup):
    stale = cgroups.create("swarmrun-00000000deadbeef", pids=20, memory_mb=50)
    other = cgroups.create("swarmrun-test-other", pids=20, memory_mb=50)
    used = cgroups.create("swarmrun-00000000deadbeee", pids=20, memory_mb=50)
    assert stale and other and used  # noqa: PT018
    if not stale.directories:
        pytest.skip("cgroups come from systemd here")
    sleeper = subprocess.Popen([*used.prefix, "sleep", "60"])
    try:
        while not (used.directories[-1] / "cgroup.procs").read_text().strip():
            time.sleep(0.01)
        assert not set(stale.directories) & set(cgroups.sweep())
        past = time.time() - 2 * cgroups.STALE_SECONDS
        for group in (*stale.directories, *other.directories, *used.directories):
            os.utime(group, (past, past))
        assert set(stale.directories) <= set(cgroups.sweep())
        assert all(group.is_dir() for group in (*other.directories, *used.directories))
    finally:
        sleeper.kill()
        sleeper.wait()
        for group in (stale, other, used):
            group.remove()
