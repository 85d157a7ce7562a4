"""`swarmrun` as whole processes: speed, signals, two at once, death and resume."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swarmrun.api.status import Condition, Phase, SwarmRunStatus
from swarmrun.local.directory import RunDirectory


def directory(processes: Any) -> RunDirectory:
    return RunDirectory(processes.home / "runs" / "default" / "demo")


def opened(processes: Any) -> list[int]:
    path = directory(processes).path / "opened"
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def phase(processes: Any) -> Phase:
    """The last one whose event was told: the status is written a moment earlier."""
    now = directory(processes).status().phase
    log = directory(processes).events
    return now if log.exists() and f"run  {now.value}" in log.read_text() else Phase.PENDING


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['swarmrun', '--help']\n"
        "from swarmrun.cli.main import run\n"
        "try: run()\n"
        "except SystemExit: pass\n"
        "heavy = {'pydantic', 'rich', 'yaml', 'httpx', 'openai', 'agent_framework', 'durabletask', 'grpc', 'git',"
        " 'kopf', 'tree_sitter', 'obstore', 'asyncio'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "[]"
    assert "cassette" in done.stdout


def test_every_command_has_help() -> None:
    from swarmrun.cli.main import app

    names = [c.name for c in app.registered_commands]
    assert {"run", "plan", "list", "describe", "logs", "diff", "get", "cancel", "suspend", "resume"} <= set(
        names
    )
    assert {"approve", "reject", "delete", "doctor", "mergetool", "verify"} <= set(names)
    for command in app.registered_commands:
        assert command.callback
        assert command.callback.__doc__


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_the_run_resumable_and_says_how(
    processes: Any, run_file: Path, until: Callable[..., None], number: int
) -> None:
    process = processes.start("run", "-f", str(run_file), pace=20)
    until(lambda: phase(processes) is Phase.PLANNING)
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err.splitlines()[-2:] == ["error: interrupted", "  mend: swarmrun resume demo"]
    assert "Planning (stopped)" in processes.run("list").out
    done = processes.run("resume", "demo")
    assert done.code == 0
    assert "run  Planning" not in done.out
    assert phase(processes) is Phase.SUCCEEDED


def test_a_killed_run_is_stopped_not_stuck(
    processes: Any, run_file: Path, until: Callable[..., None]
) -> None:
    process = processes.start("run", "-f", str(run_file), pace=20)
    until(lambda: phase(processes) is Phase.PLANNING)
    process.kill()
    process.wait()
    assert "Planning (stopped)" in processes.run("list").out
    assert processes.run("run", "-f", str(run_file)).code == 0


def test_the_same_run_started_twice_at_once_is_worked_on_once(processes: Any, run_file: Path) -> None:
    both = [processes.start("run", "-f", str(run_file), pace=0.5) for _ in range(2)]
    outs = [p.communicate(timeout=60)[0] for p in both]
    assert [p.returncode for p in both] == [0, 0]
    assert len(opened(processes)) == 1
    assert all("Succeeded (Published)" in out for out in outs)
    events = directory(processes).events.read_text().splitlines()
    assert len(events) == len({line.split(" ", 1)[1] for line in events})


def test_a_follower_takes_over_when_the_worker_dies(
    processes: Any, run_file: Path, until: Callable[..., None]
) -> None:
    first = processes.start("run", "-f", str(run_file), pace=3)
    until(lambda: phase(processes) is Phase.PLANNING)
    second = processes.start("run", "-f", str(run_file))
    import time

    time.sleep(0.7)
    assert opened(processes) == [first.pid]
    first.kill()
    assert second.communicate(timeout=30)
    assert (second.returncode, opened(processes)) == (0, [first.pid, second.pid])


def test_an_approval_from_another_process_reaches_the_worker(
    processes: Any, run_file: Path, until: Callable[..., None]
) -> None:
    ready = Condition(type="Ready", status="False", reason="AwaitingPublishApproval", message="")
    waits = SwarmRunStatus(phase=Phase.AWAITING_APPROVAL, conditions=[ready])
    processes.script.insert(1, waits)
    worker = processes.start("run", "-f", str(run_file))
    until(lambda: phase(processes) is Phase.AWAITING_APPROVAL)
    done = processes.run("approve", "demo", "publish")
    assert (done.code, done.out) == (0, "demo: publish approved\n")
    worker.communicate(timeout=30)
    assert worker.returncode == 0


def test_cancelling_from_another_process_ends_the_worker_with_3(
    processes: Any, run_file: Path, until: Callable[..., None]
) -> None:
    worker = processes.start("run", "-f", str(run_file), pace=1)
    until(lambda: phase(processes) is Phase.PLANNING)
    assert processes.run("cancel", "demo").code == 0
    worker.communicate(timeout=30)
    assert worker.returncode == 3


def test_a_run_at_work_cannot_be_deleted(processes: Any, run_file: Path, until: Callable[..., None]) -> None:
    worker = processes.start("run", "-f", str(run_file), pace=20)
    until(lambda: phase(processes) is Phase.PLANNING)
    done = processes.run("delete", "demo")
    assert done.code == 1
    assert f"process {worker.pid} works on run demo" in done.err
    assert directory(processes).path.exists()


def test_logs_follow_until_the_run_ends(processes: Any, run_file: Path, until: Callable[..., None]) -> None:
    worker = processes.start("run", "-f", str(run_file), pace=0.4)
    until(lambda: directory(processes).events.exists())
    followed = processes.run("logs", "demo", "-f")
    worker.communicate(timeout=30)
    assert followed.code == 0
    assert followed.out.splitlines()[-1].endswith("run  Succeeded  3/3  Published")


def test_a_reader_that_has_had_enough_is_no_error(processes: Any, run_file: Path) -> None:
    processes.run("run", "-f", str(run_file))
    process = processes.start("describe", "demo")
    assert process.stdout
    process.stdout.close()
    process.stdout = None
    err = process.stderr.read() if process.stderr else ""
    process.wait(timeout=20)
    assert "Traceback" not in err


def test_logs_into_head_are_quiet(processes: Any, run_file: Path) -> None:
    processes.run("run", "-f", str(run_file))
    directory(processes).events.write_text("12:00:00 run  note\n" * 20_000)
    process = processes.start("logs", "demo")
    assert process.stdout
    process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    assert process.stderr
    assert (process.stderr.read(), process.wait(timeout=20)) == ("", 0)


def test_without_arguments_help_is_printed(processes: Any) -> None:
    done = processes.run()
    assert (done.code, done.err) == (0, "")
    assert "Usage: swarmrun" in done.out
    group = processes.run("cassette")
    assert group.code == 2
    assert group.err.startswith("Usage: swarmrun cassette")


def on_a_terminal(processes: Any, *arguments: str, pace: float, stop: bytes = b"") -> tuple[int, str]:
    """(exit code, what was shown); Ctrl-C once `stop` is seen."""
    import json
    import pty

    main, side = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
    env["SWARMRUN_HOME"] = str(processes.home)
    env["SWARMRUN_TEST_SCRIPT"] = json.dumps([s.model_dump(mode="json") for s in processes.script])
    env["SWARMRUN_TEST_PACE"] = str(pace)
    driver = Path(__file__).with_name("driver.py")
    process = subprocess.Popen(
        [sys.executable, str(driver), *arguments],
        stdout=side,
        stderr=side,
        env=env,
        # A shell starts background jobs with Ctrl-C ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    processes.started.append(process)
    os.close(side)
    shown = b""
    while True:
        try:
            chunk = os.read(main, 65536)
        except OSError:
            break
        if not chunk:
            break
        shown += chunk
        if stop and stop in shown:
            process.send_signal(signal.SIGINT)
            stop = b""
    os.close(main)
    return process.wait(timeout=20), shown.decode()


def test_the_terminal_shows_it_live(processes: Any, run_file: Path) -> None:
    processes.script[:] = processes.script[-2:]
    code, text = on_a_terminal(processes, "run", "-f", str(run_file), pace=0.6)
    assert code == 0
    assert "Merging" in text
    assert "attempt 2" in text
    assert "swarmrun diff demo" in text


def test_an_interrupted_live_view_leaves_how_the_run_stands(processes: Any, run_file: Path) -> None:
    processes.script[:] = processes.script[-2:]
    code, text = on_a_terminal(processes, "run", "-f", str(run_file), pace=20, stop=b"Merging")
    assert code == 130
    left = text.replace("\r", "").splitlines()
    assert left[-3:] == [
        "demo: Merging, 2/3 tasks merged",
        "error: interrupted",
        "  mend: swarmrun resume demo",
    ]
    assert left[-4].endswith("run  Merging  2/3")
