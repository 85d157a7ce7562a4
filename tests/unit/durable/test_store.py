"""What is in the file: who may have it, what survives, what is not kept."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from durabletask.client import OrchestrationStatus
from durabletask.entities import DurableEntity, EntityInstanceId

from swarmrun.durable.backend_clock import Agenda
from swarmrun.durable.backend_store import SCHEMA, Store
from swarmrun.durable.engine import EmbeddedEngine
from swarmrun.errors import Conflict, EngineError, StorageUnavailable


def sleeper(ctx, milliseconds):
    yield ctx.create_timer(timedelta(milliseconds=milliseconds))
    return "woke"


def waiter(ctx, _):
    return (yield ctx.wait_for_external_event("go"))


def test_the_file_is_for_its_owner_only(lab):
    lab.open([sleeper])
    lab.run("sleeper", 1)
    for path in lab.path.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_second_process_is_told_who_has_the_file(lab):
    lab.open([])
    program = (
        "import sys, pathlib; from swarmrun.durable.engine import EmbeddedEngine\n"
        "try: EmbeddedEngine(pathlib.Path(sys.argv[1])).open()\n"
        "except Exception as e: print(type(e).__name__, e)"
    )
    out = subprocess.run(
        [sys.executable, "-c", program, lab.path], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert out.startswith("Conflict")
    assert str(os.getpid()) in out
    assert str(lab.path) in out


def test_the_same_process_cannot_open_it_twice(lab):
    lab.open([])
    with pytest.raises(Conflict):
        EmbeddedEngine(lab.path).open()


def test_state_of_a_newer_version_is_refused_and_left_alone(lab):
    lab.open([sleeper])
    lab.run("sleeper", 1)
    lab.close()
    with sqlite3.connect(lab.path) as db:
        db.execute(f"PRAGMA user_version={SCHEMA + 1}")
    before = lab.path.read_bytes()
    with pytest.raises(EngineError, match="newer version") as caught:
        EmbeddedEngine(lab.path).open()
    assert caught.value.reason == "StateFromNewerVersion"
    assert caught.value.mend
    assert lab.path.read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database at all" * 100, None])
def test_a_file_that_is_not_ours_is_refused(lab, content):
    if content is None:
        with sqlite3.connect(lab.path) as db:
            db.execute("CREATE TABLE theirs(x)")
    else:
        lab.path.write_bytes(content)
    with pytest.raises(EngineError) as caught:
        EmbeddedEngine(lab.path).open()
    assert caught.value.reason == "StateUnreadable"


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(StorageUnavailable, match="file"):
        EmbeddedEngine(blocker / "engine.db").open()


def test_events_acknowledged_before_a_restart_arrive_after_it(lab):
    lab.open([])
    instance = lab.start("waiter")
    lab.client.raise_orchestration_event(instance, "go", data={"n": 1})
    lab.close()
    lab.open([waiter])
    assert lab.wait(instance).get_output() == {"n": 1}


def test_timers_go_on_after_a_restart(lab, until):
    lab.open([sleeper])
    short, long = lab.start("sleeper", 300), lab.start("sleeper", 60_000)
    backend = lab.engine._opened
    until(lambda: all(backend._lives[i].timers for i in (short, long)))
    lab.close()
    lab.open([sleeper])
    assert lab.wait(short).get_output() == "woke"
    assert lab.client.get_orchestration_state(long).runtime_status == OrchestrationStatus.RUNNING


def test_a_clock_set_back_does_not_stop_a_timer(lab, until, monkeypatch):
    """Set back by an hour while the engine is closed: the timer lasts at most as long as was asked."""
    lab.open([sleeper])
    instance = lab.start("sleeper", 500)
    until(lambda: lab.engine._opened._lives[instance].timers)
    lab.close()

    class Earlier(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) - timedelta(hours=1)

    monkeypatch.setattr("swarmrun.durable.backend_instances.datetime", Earlier)
    lab.open([sleeper])
    assert lab.wait(instance).get_output() == "woke"


def test_the_agenda_keeps_order_and_drops_by_owner():
    time = [0.0]
    agenda = Agenda(lambda: time[0])
    said: list[str] = []
    for delay, owner, word in ((2, "a", "late"), (1, "a", "one"), (1, "b", "gone"), (1, "a", "two")):
        agenda.push(delay, owner, lambda word=word: said.append(word))
    agenda.drop("b")
    assert agenda.pop_due() is None
    assert agenda.seconds_to_next(60) == 1
    time[0] = 1
    while action := agenda.pop_due():
        action()
    assert said == ["one", "two"]
    assert len(agenda) == 1


def test_a_start_in_the_future_waits_also_over_a_restart(lab):
    lab.open([sleeper])
    started = datetime.now(UTC)
    instance = lab.start("sleeper", 1, start_at=started + timedelta(milliseconds=600))
    lab.close()
    lab.open([sleeper])
    lab.wait(instance)
    assert datetime.now(UTC) - started >= timedelta(milliseconds=600)


def test_version_and_tags_survive_a_restart_and_reach_the_orchestrator(lab):
    def versioned(ctx, life):
        yield ctx.create_timer(timedelta(milliseconds=1))
        if life == 0:
            ctx.continue_as_new(1)
        return ctx.version

    lab.open([])
    instance = lab.start("versioned", 0, tags={"run": "demo"}, version="7")
    lab.close()
    lab.open([versioned])
    assert lab.wait(instance).get_output() == "7"
    lab.close()
    lab.open([])
    kept = lab.engine._opened._instances[instance]
    assert (kept.tags, kept.version) == ({"run": "demo"}, "7")


def test_ended_and_continued_lives_leave_memory_and_file(lab):
    def agent(ctx, turn):
        yield ctx.call_activity("big", input=turn)
        if turn == 60:
            return turn
        ctx.continue_as_new(turn + 1)

    lab.open([agent], {"big": lambda ctx, _: "x" * 200_000})
    lab.run("agent", 0, instance_id="A")
    backend = lab.engine._opened
    assert backend._instances["A"].history == []
    assert not backend._leases
    assert not backend._ready_activities
    assert len(backend._agenda) == 0
    assert lab.engine.history("A")[-1].HasField("executionCompleted")
    lab.close()
    assert lab.path.stat().st_size < 2_000_000  # 61 lives of 200 kB went through it


def test_purging_gives_the_space_back(lab):
    def hoarder(ctx, _):
        for n in range(30):
            yield ctx.call_activity("big", input=n)

    lab.open([hoarder], {"big": lambda ctx, _: "x" * 300_000})
    lab.run("hoarder", instance_id="H")
    lab.close()
    full = lab.path.stat().st_size
    lab.open([])
    assert lab.client.purge_orchestration("H").deleted_instance_count == 1
    assert "H" not in lab.engine._opened._lives
    lab.close()
    assert lab.path.stat().st_size < full / 10


def test_a_history_is_appended_and_not_written_anew(lab):
    """The cost of a step must not grow with the steps before it."""

    def steps(ctx, count):
        for n in range(count):
            yield ctx.call_activity("echo", input=n)

    written: list[int] = []
    inner = Store._append

    def counting(self, instance_id, life, history):
        before = self._rows.get(instance_id, ("", 0))[1]
        inner(self, instance_id, life, history)
        written.append(len(history) - before)

    Store._append = counting
    try:
        lab.open([steps], {"echo": lambda ctx, n: n})
        lab.run("steps", 40)
    finally:
        Store._append = inner
    assert max(written) <= 6


def test_a_delayed_signal_arrives_once_over_a_restart(lab, until):
    class Counter(DurableEntity):
        def add(self, n):
            self.set_state(self.get_state(int, 0) + n)

    def open_with_entity():
        lab.open([])
        lab.worker = lab.engine.start_worker([], {})
        lab.worker.stop()
        lab.worker.add_entity(Counter, "counter")
        lab.worker.start()

    entity = EntityInstanceId("counter", "1")
    lab.open([])
    lab.client.signal_entity(entity, "add", 1)
    lab.client.signal_entity(entity, "add", 10, signal_time=datetime.now(UTC) + timedelta(milliseconds=300))
    lab.close()
    open_with_entity()
    until(lambda: (s := lab.client.get_entity(entity)) and s.get_typed_state(int) == 11)
    lab.close()
    open_with_entity()
    assert lab.client.get_entity(entity).get_typed_state(int) == 11
    assert not lab.engine._opened._signals


def test_state_that_cannot_be_written_stops_everything_and_loses_nothing(tmp_path):
    failures: list[EngineError] = []
    path = tmp_path / "engine.db"
    engine = EmbeddedEngine(path, on_fatal=failures.append).open()
    client = engine.client()
    client.schedule_new_orchestration("waiter", instance_id="W")
    backend = engine._opened
    pages = backend._store._db.execute("PRAGMA page_count").fetchone()[0]
    backend._store._db.execute(f"PRAGMA max_page_count={pages + 200}")  # as good as a full disk

    def fill():
        for n in range(100):
            client.raise_orchestration_event("W", "go", data={"n": n, "pad": "x" * 100_000})

    with pytest.raises(EngineError, match=r"engine\.db could not be written"):
        fill()
    assert str(path) in str(failures[0])
    assert "free space" in failures[0].mend
    with pytest.raises(Exception, match="closed"):
        client.raise_orchestration_event("W", "go", data="must not be acknowledged")
    engine.close(wait=0.1)
    again = EmbeddedEngine(path).open()
    again.start_worker([waiter], {})
    state = again.client().wait_for_orchestration_completion("W", timeout=20)
    again.close(wait=0.1)
    assert state.get_output()["n"] == 0
