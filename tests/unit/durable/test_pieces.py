"""Converter, payloads, bridge, worker's answers, replay."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from durabletask import task
from pydantic import BaseModel

from swarmrun.durable import replay
from swarmrun.durable.bridge import Bridge
from swarmrun.durable.channel import LocalChannel
from swarmrun.durable.converter import Converter
from swarmrun.durable.engine import DtsEngine, EmbeddedEngine
from swarmrun.durable.payloads import ArtifactPayloads
from swarmrun.durable.worker import guarded
from swarmrun.errors import EngineError, NotFound, RateLimited, StorageUnavailable, TransientError


class Plan(BaseModel):
    name: str
    tasks: list[str] = []


@dataclasses.dataclass
class Step:
    plan: Plan
    turn: int = 1


class Tier(enum.Enum):
    LIGHT = "light"


class Broken:
    def __str__(self):
        raise RuntimeError("no text")


# ---------------------------------------------------------------- converter


def test_models_and_dataclasses_come_back_as_themselves():
    converter = Converter()
    step = Step(Plan(name="p", tasks=["a"]), 3)
    assert converter.deserialize(converter.serialize(step), Step) == step
    assert converter.deserialize(converter.serialize([step.plan]), list[Plan]) == [step.plan]
    assert converter.can_reconstruct(Plan | None)
    assert not converter.can_reconstruct(dict[str, int])


@pytest.mark.parametrize(
    "value",
    [
        Broken(),
        {Broken(): object()},
        float("nan"),
        "\ud800",
        Path("/x"),
        Tier.LIGHT,
        {1: {2, 3}},
        b"\xff",
        [[]],
    ],
)
def test_nothing_that_is_sent_raises(value):
    assert Converter().serialize(value)


def test_a_value_without_an_end_does_not_raise():
    endless: list[object] = []
    endless.append(endless)
    assert Converter().serialize(endless)


@pytest.mark.parametrize("data", ['{"nope": 1}', "not json", "[1]"])
def test_a_payload_that_does_not_fit_arrives_as_it_is(data):
    assert Converter().deserialize(data, Plan) is not None


def test_a_set_is_written_in_the_same_order_in_every_process():
    program = (
        "from swarmrun.durable.converter import Converter; print(Converter().serialize({'b','a','c','d'}))"
    )
    outs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert outs == {'["a","b","c","d"]\n'}


def test_models_travel_through_orchestrations(lab):
    def planner(ctx, plan: Plan):
        step = yield ctx.call_activity("next", input=Step(plan), return_type=Step)
        return [type(plan).__name__, type(step).__name__, step.turn]

    def next_step(ctx, step: Step) -> Step:
        return Step(step.plan, step.turn + 1)

    lab.open([planner], {"next": next_step})
    assert lab.run("planner", Plan(name="x")) == ["Plan", "Step", 2]


# ---------------------------------------------------------------- payloads


class Memory:
    """An artifact store that can be told to fail."""

    def __init__(self):
        self.kept: dict[str, bytes] = {}
        self.fail_puts = self.fail_gets = 0

    def put(self, key, data):
        if self.fail_puts:
            self.fail_puts -= 1
            raise StorageUnavailable("disk full")
        self.kept[key] = data
        return key

    def get(self, key):
        if self.fail_gets:
            self.fail_gets -= 1
            raise StorageUnavailable("unreachable")
        if key not in self.kept:
            raise NotFound(key)
        return self.kept[key]

    def delete(self, prefix):
        self.kept = {k: v for k, v in self.kept.items() if not k.startswith(prefix)}


@pytest.fixture
def payloads(lab):
    store = Memory()

    def opened(orchestrators, activities):
        lab.engine = EmbeddedEngine(lab.path, payloads=ArtifactPayloads(store, threshold_bytes=1000)).open()
        lab.client = lab.engine.client()
        lab.engine.start_worker(orchestrators, activities)
        return store

    return opened


def large(ctx, _):
    text = yield ctx.call_activity("make")
    return len((yield ctx.call_activity("echo", input=text)))


def test_large_payloads_go_to_the_artifact_store_and_with_their_run(lab, payloads):
    store = payloads([large], {"make": lambda ctx, _: "x" * 5000, "echo": lambda ctx, text: text})
    assert lab.run("large", instance_id="run-1:t1:a1") == 5000
    assert store.kept
    assert all(key.startswith("payloads/run-1/") for key in store.kept)
    assert not any(b"xxxxx" in e.SerializeToString() for e in lab.engine.history("run-1:t1:a1"))
    ArtifactPayloads(store).clean("run-1")
    assert not store.kept


def test_a_result_that_cannot_be_stored_is_a_failure_and_not_a_stuck_item(lab, payloads):
    def careful(ctx, _):
        try:
            yield ctx.call_activity("make")
        except task.TaskFailedError as failed:
            return [failed.details.error_type, failed.details.message]

    store = payloads([careful], {"make": lambda ctx, _: "x" * 5000})
    store.fail_puts = 1
    kind, message = lab.run("careful")
    assert kind == "ResultNotDelivered"
    assert "make" in message


def test_a_payload_that_does_not_load_is_tried_again(lab, payloads):
    store = payloads([large], {"make": lambda ctx, _: "x" * 5000, "echo": lambda ctx, text: text})
    store.fail_gets = 1
    assert lab.run("large") == 5000


def test_a_foreign_token_is_not_downloaded():
    with pytest.raises(NotFound):
        ArtifactPayloads(Memory()).download("file:///etc/passwd")


# ---------------------------------------------------------------- bridge


@pytest.fixture
def bridge():
    one = Bridge()
    yield one
    one.close()


def test_the_bridge_returns_results_and_raises_errors(bridge):
    async def good():
        await asyncio.sleep(0)
        return threading.current_thread().name

    async def bad():
        raise RateLimited("slow down", retry_after=3)

    assert bridge.run(good()) == "swarmrun-loop"
    with pytest.raises(RateLimited, match="slow down"):
        bridge.run(bad())


def test_a_cancelled_coroutine_is_no_success(bridge):
    async def cancels_itself():
        asyncio.current_task().cancel()
        await asyncio.sleep(1)

    with pytest.raises(TransientError, match="cancelled"):
        bridge.run(cancels_itself())


def test_closing_the_bridge_frees_whoever_waits(bridge):
    outcome: list[Exception] = []
    begun = threading.Event()

    async def endless():
        begun.set()
        await asyncio.sleep(3600)

    def wait():
        try:
            bridge.run(endless())
        except TransientError as error:
            outcome.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    begun.wait(5)
    bridge.close()
    thread.join(5)
    assert "cancelled" in str(outcome[0])
    with pytest.raises(TransientError, match="ended"):
        bridge.run(endless())


def test_an_activity_cut_off_by_closing_is_delivered_again_and_not_recorded_as_failed(lab, until):
    begun = threading.Event()
    bridge = Bridge()

    async def endless():
        begun.set()
        await asyncio.sleep(3600)

    def one(ctx, _):
        return (yield ctx.call_activity("work"))

    lab.open([one], {"work": lambda ctx, _: bridge.run(endless())})
    instance = lab.start("one")
    assert begun.wait(10)
    lab.engine.close(cancel=bridge.close)
    lab.open([one], {"work": lambda ctx, _: "second time"})
    assert lab.wait(instance).get_output() == "second time"


def test_a_worker_of_many_that_ends_finishes_what_it_can_and_gives_back_the_rest(lab, until):
    begun, go = threading.Event(), threading.Event()
    bridge = Bridge()

    def both(ctx, _):
        return (yield task.when_all([ctx.call_activity("short"), ctx.call_activity("long")]))

    def short(ctx, _):
        assert go.wait(10)
        return "by the first"

    async def endless():
        begun.set()
        await asyncio.sleep(3600)

    lab.open([])
    first, second = (DtsEngine(f"unix:{lab.engine.serve()}") for _ in range(2))
    first.start_worker([both], {"short": short, "long": lambda ctx, _: bridge.run(endless())})
    instance = lab.start("both")
    assert begun.wait(10)
    ending = threading.Thread(target=lambda: first.close(cancel=bridge.close, wait=2))
    try:
        ending.start()
        go.set()
        second.start_worker([both], {"long": lambda ctx, _: "by the second"})
        assert lab.wait(instance).get_output() == ["by the first", "by the second"]
    finally:
        bridge.close()
        ending.join(20)
        second.close(wait=2)
    ending.join(20)
    second.close(wait=2)


def test_what_an_ending_worker_still_finishes_is_not_begun_by_another(lab):
    """It takes longer than the engine waits for a worker that has gone."""
    begun, ended = [], []

    def slow(ctx, who):
        begun.append(who)
        time.sleep(4 * 0.3)
        ended.append(who)
        return who

    def twice(ctx, _):
        one = yield ctx.call_activity("slow", input="one")
        return [one, (yield ctx.call_activity("slow", input="two"))]

    lab.open([])
    first, second = (DtsEngine(f"unix:{lab.engine.serve()}") for _ in range(2))
    first.start_worker([twice], {"slow": slow})
    instance = lab.start("twice")
    while not begun:
        time.sleep(0.01)
    second.start_worker([twice], {"slow": slow})
    first.close(wait=20)
    assert ended == ["one"]
    assert lab.wait(instance).get_output() == ["one", "two"]
    assert begun == ["one", "two"]
    second.close(wait=2)


# ---------------------------------------------------------------- failures, replay, engines


def test_what_a_failure_says_about_retrying_reaches_the_orchestrator(lab):
    def limited(ctx, _):
        try:
            yield ctx.call_activity("call")
        except task.TaskFailedError as failed:
            return failed.details.properties

    def call(ctx, _):
        raise RateLimited("slow down", retry_after=7)

    lab.open([limited], {"call": call})
    properties = lab.run("limited")
    assert properties["reason"] == "RateLimited"
    assert properties["retryable"] is True
    assert properties["retry_after"] == 7


def test_a_guarded_activity_keeps_its_types_for_the_converter():
    def activity(ctx, plan: Plan) -> Plan: ...

    assert guarded("a", activity).__annotations__ == activity.__annotations__


def test_a_failed_delivery_is_seen_by_the_worker(lab):
    calls: list[str] = []

    class Refusing(LocalChannel):
        def unary_unary(self, method, *a, **k):
            inner = super().unary_unary(method, *a, **k)

            def call(request, **kw):
                if method.endswith("CompleteActivityTask") and not calls:
                    calls.append(method)
                    raise RuntimeError("refused: too large")
                return inner(request, **kw)

            return call

    def careful(ctx, _):
        try:
            yield ctx.call_activity("make")
        except task.TaskFailedError as failed:
            return failed.details.message

    lab.open([])
    worker = lab.engine.start_worker([careful], {"make": lambda ctx, _: "x"})
    worker.stop()
    worker._channel = Refusing(lab.engine._opened)
    worker.start()
    assert "too large" in lab.run("careful")


def steady(ctx, names):
    got = []
    for name in names:
        got.append((yield ctx.call_activity("echo", input=name)))
    yield ctx.call_sub_orchestrator("leaf", input=got)
    return got


def leaf(ctx, got):
    return len(got)


def test_a_deterministic_orchestrator_replays(lab):
    lab.open([steady, leaf], {"echo": lambda ctx, name: name})
    lab.run("steady", ["a", "b"], instance_id="S")
    assert replay.check([steady, leaf], lab.engine.history("S")) == 4


def test_swapped_inputs_are_found_in_replay(lab):
    lab.open([steady, leaf], {"echo": lambda ctx, name: name})
    lab.run("steady", ["a", "b"], instance_id="S")

    def swapped(ctx, names):
        return (yield from steady(ctx, list(reversed(names))))

    swapped.__name__ = "steady"
    with pytest.raises(EngineError, match="dispatch 1 decides otherwise") as caught:
        replay.check([swapped, leaf], lab.engine.history("S"))
    assert caught.value.reason == "NotDeterministic"


def test_an_unknown_instance_has_no_history(lab):
    lab.open([])
    with pytest.raises(NotFound, match="nobody"):
        lab.engine.history("nobody")


def test_a_closed_engine_says_so(lab):
    lab.open([])
    client = lab.client
    lab.close()
    with pytest.raises(Exception, match="closed"):
        client.get_orchestration_state("x")
    with pytest.raises(EngineError, match="not open"):
        lab.engine.client()


def test_the_managed_engine_runs_the_same_code_over_the_wire(lab, tmp_path):
    """The same service at a socket stands in for the scheduler; its own behaviour is not tested here."""
    lab.open([])
    dts = DtsEngine(f"unix:{lab.engine.serve()}")
    dts.start_worker([steady, leaf], {"echo": lambda ctx, name: "x" * 5_000_000})
    client = dts.client()
    instance = client.schedule_new_orchestration("steady", input=["a"])
    state = client.wait_for_orchestration_completion(instance, timeout=30)
    dts.close(wait=5)
    assert len(state.get_output()[0]) == 5_000_000


@pytest.mark.parametrize("length", [10, 90])
def test_a_socket_is_found_by_the_path_that_it_was_given_however_long_that_is(lab, tmp_path, length):
    """A socket's address ends at 107 bytes; what stands at a longer path is a file that names it."""
    lab.open([])
    with EmbeddedEngine(tmp_path / "e.db", socket=tmp_path / ("s" * length)) as engine:
        dts = DtsEngine(f"unix:{engine.serve()}")
        assert dts.client().get_orchestration_state("nobody") is None
        dts.close(wait=0)


def test_azure_identity_is_only_wanted_for_the_managed_engine(monkeypatch):
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    with pytest.raises(EngineError, match="azure-identity") as caught:
        DtsEngine("https://example.invalid")
    assert "swarmrun[azure]" in caught.value.mend


def test_the_failure_of_a_bad_entry_does_not_stop_the_timers(lab, until):
    lab.open([])
    done = threading.Event()
    with lab.engine._opened._lock:
        lab.engine._opened._later(0, "", lambda: 1 / 0)
        lab.engine._opened._later(0.01, "", done.set)
    assert done.wait(5)
