from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from swarmrun.errors import NotFound, ToolRejected


@pytest.fixture(params=["own", "3.9"])
def python(request):
    """Both: how processes are started and awaited differs most between versions of Python."""
    return sys.executable if request.param == "own" else request.getfixturevalue("old_python")


def _alive(pid: int) -> bool:
    """A zombie is dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def _gone(pid: int) -> bool:
    for _ in range(200):
        if not _alive(pid):
            return True
        await asyncio.sleep(0.01)
    return False


def test_a_command_returns_its_exit_code_and_both_outputs_in_order(in_sandbox):
    async def scenario(box):
        result = await box.client.exec("echo out; echo err >&2; exit 3")
        assert (result.exit_code, result.stdout) == (3, "out\nerr\n")
        assert (result.process, result.timed_out, result.omitted) == ("", False, 0)

    in_sandbox(scenario)


def test_nothing_waits_for_input_or_a_pager(in_sandbox):
    async def scenario(box):
        await box.loaded()
        result = await box.client.exec(
            "cat; git log; echo $PAGER $COLUMNS; git commit --amend; echo $?", timeout_s=20
        )
        assert result.exit_code == 0
        assert "cat 120\n" in result.stdout
        assert result.stdout.endswith("0\n")

    in_sandbox(scenario)


def test_a_command_that_outlasts_its_time_goes_on_and_can_be_polled_and_killed(in_sandbox):
    async def scenario(box):
        late = await box.client.exec("echo started; sleep 60", timeout_s=0.3)
        assert (late.exit_code, late.timed_out, late.stdout) == (None, True, "started\n")
        assert (await box.client.poll(late.process)).exit_code is None
        killed = await box.client.kill(late.process)
        assert killed.exit_code == 137
        assert (await box.client.poll(late.process)).exit_code == 137

    in_sandbox(scenario)


def test_a_background_command_returns_at_once(in_sandbox):
    async def scenario(box):
        started = time.monotonic()
        back = await box.client.exec("sleep 0.2; echo done", background=True)
        assert back.exit_code is None
        assert not back.timed_out
        assert time.monotonic() - started < 5
        ended = await box.client.poll(back.process, wait_s=20)
        assert (ended.exit_code, ended.stdout) == (0, "done\n")

    in_sandbox(scenario)


def test_kill_takes_grandchildren_also_those_that_left_the_process_group(in_sandbox):
    async def scenario(box):
        back = await box.client.exec(
            "(sleep 300 & echo $!; setsid sleep 300 & echo $!; wait) & wait", timeout_s=0.5
        )
        ours = Path("/proc/self/status").exists()
        await box.client.kill(back.process)
        pids = [int(word) for word in back.stdout.split()]
        assert len(pids) == 2
        if ours:
            assert [await _gone(pid) for pid in pids] == [True, True]

    in_sandbox(scenario)


def test_a_command_returns_when_its_shell_ends_though_a_child_holds_the_output(in_sandbox):
    async def scenario(box):
        result = await box.client.exec("sleep 300 & echo shell done", timeout_s=30)
        assert result.exit_code == 0
        assert result.stdout.startswith("shell done\n")
        assert "still run; kill p1" in result.stdout
        assert "still run" not in (await box.client.kill("p1")).stdout

    in_sandbox(scenario)


def test_a_hundred_megabytes_of_output_are_capped_in_memory_answer_and_file(in_sandbox):
    async def scenario(box):
        result = await box.client.exec(
            "echo first; head -c 100000000 /dev/zero | tr '\\0' x; echo; echo last", cap=1000
        )
        assert result.exit_code == 0
        assert result.stdout.startswith("first\nxxx")
        assert result.stdout.endswith("xxx\nlast\n")
        assert len(result.stdout) < 1200
        assert result.omitted == 100_000_012 - 1000
        assert f"[{result.omitted} bytes omitted: see {result.output_file}]" in result.stdout
        assert os.path.getsize(result.output_file) < 65 * 1024**2
        memory = Path(f"/proc/{box.process.pid}/status").read_text()
        peak = int(memory.partition("VmHWM:")[2].split()[0])
        assert peak < 200 * 1024  # kB

    in_sandbox(scenario)


@pytest.mark.parametrize("size", [999, 1000, 1001, 65_536, 65_537, 131_073])
def test_head_and_tail_join_without_loss_at_every_boundary(tmp_path, size):
    from swarmrun.sandbox.sandboxd.output import Output

    text = bytes(b"abcdefghij"[i % 10] for i in range(size))
    output = Output(str(tmp_path / "o" / "1.txt"))
    for start in range(0, size, 700):
        output.add(text[start : start + 700])
    output.close()
    shown, omitted, path = output.shown(1000)
    if size <= 1000:
        assert (shown, omitted, path) == (text.decode(), 0, "")
    else:
        assert shown.startswith(text[:500].decode() + "\n[")
        assert shown.endswith("]\n" + text[-500:].decode())
        assert omitted == size - 1000
        assert Path(path).read_bytes() == text


def test_sixteen_commands_run_side_by_side(in_sandbox):
    async def scenario(box):
        # Each waits until all have started: one after the other they would never end.
        wait = "touch s$N; while [ $(ls s* | wc -l) -lt 16 ]; do sleep 0.02; done; echo $N"
        results = await asyncio.gather(
            *(box.client.exec(wait, env={"N": str(n)}, timeout_s=60) for n in range(16))
        )
        assert [r.stdout for r in results] == [f"{n}\n" for n in range(16)]

    in_sandbox(scenario)


def test_binary_and_broken_text_survive_as_text(in_sandbox):
    async def scenario(box):
        result = await box.client.exec(r"printf 'a\0b\xff\xc3'")
        assert result.stdout == "a\0b\ufffd\ufffd"

    in_sandbox(scenario)


def test_a_working_directory_outside_or_missing_is_refused(in_sandbox):
    async def scenario(box):
        await box.loaded({"d/x": b""})
        assert (await box.client.exec("pwd", workdir="d")).stdout == f"{box.repo}/d\n"
        with pytest.raises(ToolRejected, match="outside"):
            await box.client.exec("pwd", workdir="../..")
        with pytest.raises(NotFound, match="no such directory"):
            await box.client.exec("pwd", workdir="nowhere")

    in_sandbox(scenario)


def test_an_unknown_process_is_named_with_those_that_run(in_sandbox):
    async def scenario(box):
        await box.client.exec("sleep 30", background=True)
        with pytest.raises(NotFound, match="no process 'p9'; running: p1"):
            await box.client.poll("p9")

    in_sandbox(scenario)


def test_orphans_are_reaped(in_sandbox):
    async def scenario(box):
        pids = "(sh -c 'echo $$ >pid; exec sleep 0.1' &); while [ ! -s pid ]; do sleep 0.01; done; cat pid"
        pid = int((await box.client.exec(pids)).stdout.split()[0])
        for _ in range(300):
            if not Path(f"/proc/{pid}").exists():
                break
            await asyncio.sleep(0.01)
        assert not Path(f"/proc/{pid}").exists()

    in_sandbox(scenario)


def test_sigterm_ends_the_server_and_all_that_it_started(make_box):
    box = make_box()

    async def scenario():
        back = await box.client.exec("sleep 300 & setsid sleep 300 & echo $! $$; wait", timeout_s=0.4)
        return [int(word) for word in back.stdout.split()]

    pids = asyncio.run(scenario())
    box.stop()
    assert box.process.returncode == 0
    assert [asyncio.run(_gone(pid)) for pid in pids] == [True, True]
