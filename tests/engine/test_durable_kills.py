"""kill -9 and full disks, with real processes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from swarmrun.durable.engine import EmbeddedEngine, connect
from swarmrun.errors import NotFound

SEED = int(os.environ.get("SWARMRUN_TEST_SEED", "20261123"))


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def wanted(tasks=3, turns=7):
    """Every effect that an uninterrupted run has."""
    effects = ["publish", *(f"merge-t{n}" for n in range(tasks))]
    for n in range(tasks):
        for turn in range(turns):
            effects += [f"model-t{n}-{turn}", f"checkpoint-t{n}-{turn}"]
            effects += [f"tool-t{n}-{turn}-{call}" for call in range(1 + turn % 3)]
    return sorted(effects)


def test_a_run_killed_at_random_instants_ends_as_if_it_had_not_been(victim):
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    for _ in range(4):
        process = victim.brain()
        time.sleep(chance.uniform(0.05, 0.5))
        kill(process)
    result = victim.result(victim.brain())
    assert result["status"] == "COMPLETED"
    assert result["output"]["tasks"] == {"t0": "done", "t1": "done", "t2": "done"}
    assert result["output"]["merged"] == ["merge-t0", "merge-t1", "merge-t2"]
    assert victim.done() == wanted()
    # At most what was at work at a kill is done again: three agents with up to three calls and a checkpoint.
    assert victim.calls() <= len(wanted()) + 4 * 3 * 4


def test_a_cancel_acknowledged_right_before_the_kill_is_obeyed(victim):
    process = victim.brain(turns=500)
    client = connect(victim.engine.with_name("engine.db.sock"))
    client.raise_orchestration_event("R", "mail", data={"kind": "cancel"})
    kill(process)
    client.close()
    result = victim.result(victim.brain())
    assert set(result["output"]["tasks"].values()) == {"cancelled"}
    assert "publish" in victim.done()


def test_a_killed_worker_process_loses_its_work_to_another(victim):
    engine = victim.brain("serve", turns=4)
    socket = victim.engine.with_name("engine.db.sock")
    first = victim.start("work", socket, victim.effects)
    deadline = time.monotonic() + 30
    while not (victim.effects / "model-t0-1").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    kill(first)
    victim.start("work", socket, victim.effects)
    assert victim.result(engine)["status"] == "COMPLETED"
    assert victim.done() == wanted(turns=4)


def test_a_full_disk_stops_the_process_loudly_and_loses_nothing(victim):
    process = victim.start("fill", victim.engine, 400_000)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 70
    assert str(victim.engine) in err
    assert "free space" in err
    acknowledged = len(out.split())
    assert acknowledged > 10
    with EmbeddedEngine(victim.engine) as engine:
        kept = engine._opened._instances["R"].pending_events
        events = [e for e in kept if e.HasField("eventRaised")]
        assert len(events) in (acknowledged, acknowledged + 1)  # the last may be written and not yet printed


def test_the_socket_is_private_and_a_dead_one_is_told_and_replaced(victim):
    process = victim.brain(turns=500)
    socket = victim.engine.with_name("engine.db.sock")
    assert oct(socket.stat().st_mode)[-3:] == "600"
    kill(process)
    assert socket.exists()
    with pytest.raises(NotFound, match="no engine is serving"):
        connect(socket)
    victim.brain(turns=500)
    client = connect(socket)
    assert client.get_orchestration_state("R") is not None
    client.close()


def test_a_path_too_long_for_a_socket_still_works(tmp_path):
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    with EmbeddedEngine(deep / "engine.db") as engine:
        engine.client().schedule_new_orchestration("nobody", instance_id="X")
        socket = engine.serve()
        client = connect(socket)
        assert client.get_orchestration_state("X") is not None
        client.close()
        assert oct(socket.stat().st_mode)[-3:] == "600"
    assert not socket.exists()
    with pytest.raises(NotFound):
        connect(socket)


def test_a_main_thread_that_dies_does_not_leave_the_process_hanging(tmp_path):
    program = (
        "import sys, pathlib; from swarmrun.durable.engine import EmbeddedEngine\n"
        "engine = EmbeddedEngine(pathlib.Path(sys.argv[1])).open(); engine.start_worker([], {})\n"
        "raise ValueError('the command line has a bug')"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "engine.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "has a bug" in done.stderr
    assert "Unexpected error" not in done.stderr
