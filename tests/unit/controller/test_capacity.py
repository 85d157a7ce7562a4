"""Caps on sandboxes: who is let in, with how many, and that nobody waits for ever."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from durabletask.client import OrchestrationStatus

from swarmrun.api.status import Phase, SwarmRunStatus
from swarmrun.controller.capacity import Capacity, Claim
from swarmrun.controller.observe import at_work
from swarmrun.controller.reconcile import Memory, Reconciler
from swarmrun.orchestration.stand import BoardStand, ItemStand, Stand
from swarmrun.report import RunReport
from swarmrun.steps import Preflight, TaskRef

Body = Callable[..., dict[str, Any]]


def claim(
    name: str, *, cls: str = "standard", cap: int | None = None, wanted: int = 5, at_first: int | None = None
) -> Claim:
    return Claim(f"2030-01-01T00:00:{int(name):02d}Z", f"run-{name}", cls, cap, wanted, at_first)


def test_without_a_cap_everybody_gets_what_it_asks_for() -> None:
    capacity = Capacity()
    assert [capacity.admit(claim(str(i))) for i in range(3)] == [5, 5, 5]


def test_a_run_starts_only_when_two_sandboxes_are_free() -> None:
    capacity = Capacity(6)
    assert capacity.admit(claim("1")) == 5
    assert capacity.admit(claim("2")) == 0
    assert capacity.leave("run-1")
    assert capacity.admit(claim("2")) == 5


def test_while_others_wait_nobody_is_given_more_than_it_needs_to_get_anywhere() -> None:
    capacity = Capacity(6)
    capacity.admit(claim("1"))
    assert [capacity.admit(claim(str(i))) for i in (2, 3, 4)] == [0, 0, 0]
    capacity.leave("run-1")
    assert [capacity.admit(claim(str(i))) for i in (2, 3, 4)] == [2, 2, 2]


def test_who_came_first_is_let_in_first_whoever_asks_first() -> None:
    capacity = Capacity(4)
    capacity.admit(claim("1", wanted=4))
    capacity.admit(claim("3", wanted=4))
    capacity.admit(claim("2", wanted=4))
    capacity.leave("run-1")
    assert capacity.next() == ["run-2", "run-3"]
    capacity.admit(claim("4", wanted=4))
    assert [capacity.admit(claim(str(i))) for i in (4, 3, 2)] == [0, 2, 2]


def test_a_class_that_is_full_holds_up_no_other_class() -> None:
    capacity = Capacity(10)
    assert capacity.admit(claim("1", cls="small", cap=2)) == 2
    assert capacity.admit(claim("2", cls="small", cap=2)) == 0
    assert capacity.admit(claim("3")) == 5
    capacity.leave("run-1")
    assert capacity.admit(claim("2", cls="small", cap=2)) == 2


def test_what_is_left_when_nobody_waits_goes_to_those_at_work() -> None:
    capacity = Capacity(6)
    capacity.admit(claim("1", wanted=6))
    capacity.admit(claim("2"))
    capacity.admit(claim("3"))
    capacity.leave("run-1")
    assert (capacity.admit(claim("2")), capacity.admit(claim("3"))) == (4, 2)
    assert capacity.grow("run-3") == 0
    capacity.leave("run-2")
    assert capacity.grow("run-3") == 5
    assert capacity.grow("run-3") == 0


def test_what_a_run_says_before_it_has_heard_of_its_last_grant_takes_nothing_away() -> None:
    capacity = Capacity(6)
    capacity.admit(claim("1", wanted=4))
    capacity.admit(claim("2"))
    capacity.leave("run-1")
    capacity.admit(claim("2"))
    capacity.restore([(claim("2"), 2)])
    assert capacity.grow("run-2") == 5
    assert not capacity.needs("run-2", told=2, at_most=2)
    assert capacity.needs("run-2", told=5, at_most=3)
    assert capacity.grow("run-2") == 0
    assert capacity.admit(claim("3", wanted=3)) == 3


@pytest.mark.parametrize("cap", [None, 10])
def test_one_that_can_use_two_at_first_is_given_two_and_grows_where_nobody_waits(cap: int | None) -> None:
    capacity = Capacity(cap)
    assert [capacity.admit(claim(str(i), at_first=2)) for i in (1, 2)] == [2, 2]
    assert capacity.admit(claim("3", wanted=3)) == 3
    assert capacity.grow("run-1") == 5
    assert capacity.grow("run-2") == (5 if cap is None else 0)


def test_one_that_was_given_two_at_first_gets_no_more_while_another_waits() -> None:
    capacity = Capacity(5)
    assert [capacity.admit(claim(str(i), at_first=2)) for i in (1, 2, 3)] == [2, 2, 0]
    assert capacity.grow("run-1") == 0
    capacity.leave("run-2")
    assert capacity.admit(claim("3", at_first=2)) == 2
    assert capacity.grow("run-1") == 3


def test_who_waits_for_a_class_that_is_full_keeps_nobody_of_another_small() -> None:
    capacity = Capacity()
    assert capacity.admit(claim("1", cls="full", cap=2)) == 2
    assert capacity.admit(claim("2", cls="full", cap=2)) == 0
    assert capacity.admit(claim("3", cls="free", at_first=2)) == 2
    assert capacity.grow("run-3") == 5


def test_what_an_earlier_process_said_last_counts_once_the_run_has_heard_it() -> None:
    """The grant was on its way when that process ended."""
    capacity = Capacity(6)
    capacity.restore([(claim("1"), 2)])
    assert not capacity.needs("run-1", told=5, at_most=5)
    assert capacity.admit(claim("2")) == 0
    assert capacity.needs("run-1", told=5, at_most=4)
    assert capacity.admit(claim("2")) == 2


def test_one_that_waits_for_something_else_holds_up_nobody() -> None:
    capacity = Capacity(3)
    capacity.admit(claim("1", wanted=2))
    assert (capacity.admit(claim("2")), capacity.admit(claim("3"))) == (0, 0)
    capacity.withdraw("run-2")
    capacity.leave("run-1")
    assert capacity.admit(claim("3", wanted=3)) == 3


@pytest.mark.parametrize("seed", range(20))
def test_in_any_order_of_events_no_cap_is_exceeded_and_everybody_gets_its_turn(seed: int) -> None:
    chance = random.Random(seed)
    caps = {"a": chance.choice([None, 2, 5]), "b": chance.choice([None, 3])}
    capacity = Capacity(chance.choice([2, 5, 9]))
    todo = [
        Claim(
            f"2030-01-01T00:00:{i:02d}Z",
            f"run-{i}",
            cls := chance.choice("ab"),
            caps[cls],
            chance.randint(2, 6),
            chance.choice([None, 2]),
        )
        for i in range(30)
    ]
    held: dict[str, tuple[Claim, int]] = {}
    steps = 0
    while todo or held:
        steps += 1
        assert steps < 20_000, (todo, held)
        if todo and chance.random() < 0.7:
            it = chance.choice(todo)
            if granted := capacity.admit(it):
                assert 2 <= granted <= it.wanted
                todo.remove(it)
                held[it.instance] = (it, granted)
        elif held:
            name = chance.choice(list(held))
            it, has = held[name]
            if more := capacity.grow(name):
                held[name] = (it, more)
            elif has > 1 and chance.random() < 0.5:
                capacity.needs(name, has, has - 1)
                held[name] = (it, has - 1)
            else:
                capacity.leave(name)
                del held[name]
        assert sum(n for _, n in held.values()) <= (capacity._cap or 0)
        for cls, cap in caps.items():
            assert cap is None or sum(n for c, n in held.values() if c.class_name == cls) <= cap


# ---------------------------------------------------------------- on resources


def uid(number: int) -> str:
    return f"{number:08d}-1a50-4f4b-b6ee-7191db4fc90f"


def reason(status: SwarmRunStatus, kind: str = "Ready") -> str:
    found = status.condition(kind)
    assert found is not None
    return found.reason


def test_a_run_over_the_cap_says_that_it_waits_and_goes_on_when_another_has_ended(
    engine: Any, worlds: Any, run_body: Body, class_body: Body
) -> None:
    reconciler = Reconciler(engine, worlds, Capacity(20))
    classes = {"standard": class_body(maxSandboxes=3)}
    first, second = (Memory(run_body(uid=uid(i)), SwarmRunStatus()) for i in (1, 2))
    reconciler.reconcile(first, classes)
    waits = reconciler.reconcile(second, classes).status
    assert list(engine.states) == [f"{uid(1)}-1"]
    assert (waits.phase, reason(waits)) == (Phase.PENDING, "WaitingForCapacity")
    assert "SwarmClass standard allows 3 sandboxes at once (spec.maxSandboxes)" in waits.conditions[0].message
    assert [s.run for s in worlds.begun] == [f"{uid(1)}-1"]
    reconciler.to_wake()
    engine.end(RunReport(run=f"{uid(1)}-1", name="shop", phase=Phase.SUCCEEDED))
    reconciler.reconcile(first, classes)
    assert reconciler.to_wake() == [f"{uid(2)}-1"]
    assert reconciler.reconcile(second, classes).status.run == f"{uid(2)}-1"


def test_what_a_run_needs_no_more_lets_another_in(
    engine: Any, worlds: Any, run_body: Body, class_body: Body
) -> None:
    reconciler = Reconciler(engine, worlds, Capacity(5))
    classes = {"standard": class_body()}
    first, second = (Memory(run_body(uid=uid(i)), SwarmRunStatus()) for i in (1, 2))
    reconciler.reconcile(first, classes)
    report = RunReport(run=f"{uid(1)}-1", name="shop", phase=Phase.RUNNING, granted=5, sandboxes=5)
    engine.tell(report)
    reconciler.reconcile(first, classes)
    assert reason(reconciler.reconcile(second, classes).status) == "WaitingForCapacity"
    engine.tell(report.model_copy(update={"phase": Phase.JUDGING, "sandboxes": 1}))
    reconciler.reconcile(first, classes)
    reconciler.reconcile(second, classes)
    assert set(engine.states) == {f"{uid(1)}-1", f"{uid(2)}-1"}


def test_a_run_at_work_is_handed_what_became_free(
    engine: Any, worlds: Any, run_body: Body, class_body: Body
) -> None:
    reconciler = Reconciler(engine, worlds, Capacity(7))
    classes = {"standard": class_body()}
    first, second = (Memory(run_body(uid=uid(i)), SwarmRunStatus()) for i in (1, 2))
    for memory in (first, second):
        reconciler.reconcile(memory, classes)
    engine.tell(RunReport(run=f"{uid(2)}-1", name="shop", phase=Phase.RUNNING, granted=2, sandboxes=2))
    reconciler.reconcile(second, classes)
    assert not engine.mail
    engine.end(RunReport(run=f"{uid(1)}-1", name="shop", phase=Phase.FAILED))
    reconciler.reconcile(first, classes)
    reconciler.reconcile(second, classes)
    assert engine.mail == [(f"{uid(2)}-1", {"kind": "grant", "sandboxes": 5})]


def test_runs_whose_plan_awaits_a_person_hold_two_each_and_grow_once_it_is_approved(
    engine: Any, worlds: Any, run_body: Body, class_body: Body
) -> None:
    reconciler = Reconciler(engine, worlds, Capacity(10))
    classes = {"standard": class_body()}
    asks = [Memory(run_body(uid=uid(i), plan={"approval": True}), SwarmRunStatus()) for i in (1, 2)]
    for memory in asks:
        reconciler.reconcile(memory, classes)
    first, second = (f"{uid(i)}-1" for i in (1, 2))
    for run in (first, second):
        waits = Phase.AWAITING_APPROVAL
        engine.tell(RunReport(run=run, name="shop", phase=waits, waiting_for="plan", granted=2, sandboxes=2))
    for memory in asks:
        reconciler.reconcile(memory, classes)
    assert not engine.mail
    works = Memory(run_body(uid=uid(3)), SwarmRunStatus())
    reconciler.reconcile(works, classes)
    assert [engine.given(f"{uid(i)}-1")["granted"] for i in (1, 2, 3)] == [2, 2, 5]
    engine.tell(RunReport(run=first, name="shop", phase=Phase.RUNNING, granted=2, sandboxes=2))
    reconciler.reconcile(asks[0], classes)
    assert engine.mail == [(first, {"kind": "grant", "sandboxes": 3})]
    engine.end(RunReport(run=f"{uid(3)}-1", name="shop", phase=Phase.SUCCEEDED))
    reconciler.reconcile(works, classes)
    reconciler.reconcile(asks[0], classes)
    assert engine.mail[1:] == [(first, {"kind": "grant", "sandboxes": 5})]


@pytest.mark.parametrize(("point", "granted"), [("", 2), ("plan", 2), ("work", 5), ("task/a", 5)])
def test_a_later_attempt_that_asks_for_no_approval_of_a_plan_is_given_all_at_once(
    point: str, granted: int, engine: Any, worlds: Any, run_body: Body, class_body: Body
) -> None:
    reconciler = Reconciler(engine, worlds, Capacity(10))
    classes = {"standard": class_body()}
    reconciler.reconcile(Memory(run_body(plan={"approval": True}), SwarmRunStatus()), classes)
    (first,) = engine.states
    item = ItemStand(ref=TaskRef(id="a"), state="failed")
    stand = Stand(
        stage="publishing",
        preflight=Preflight(base_branch="main", base_commit="base"),
        board=BoardStand(items=[item], ground="scaffold"),
    )
    ended = RunReport(run=first, name="shop", phase=Phase.FAILED, stand=stand.model_dump(mode="json"))
    engine.end(ended)
    marks = {"swarmrun.dev/attempt": "2"} | ({"swarmrun.dev/rerun-from": point} if point else {})
    again = run_body(plan={"approval": True}, annotations=marks)
    reconciler.reconcile(Memory(again, SwarmRunStatus()), classes)
    assert engine.given(first.removesuffix("-1") + "-2")["granted"] == granted


def test_a_resource_that_goes_while_it_waits_leaves_its_place(
    engine: Any, worlds: Any, run_body: Body, class_body: Body
) -> None:
    reconciler = Reconciler(engine, worlds, Capacity(3))
    classes = {"standard": class_body()}
    first, second = (Memory(run_body(uid=uid(i)), SwarmRunStatus()) for i in (1, 2))
    for memory in (first, second):
        reconciler.reconcile(memory, classes)
    assert reconciler.capacity.next() == [f"{uid(2)}-1"]
    reconciler.gone(second)
    assert not reconciler.capacity.next()


def test_a_new_process_counts_what_the_engine_has_at_work(
    engine: Any, worlds: Any, run_body: Body, class_body: Body
) -> None:
    before = Reconciler(engine, worlds, Capacity(7))
    classes = {"standard": class_body(maxSandboxes=7)}
    bodies = [run_body(uid=uid(i)) for i in (1, 2, 3)]
    for body in bodies[:2]:
        before.reconcile(Memory(body, SwarmRunStatus()), classes)
    engine.tell(RunReport(run=f"{uid(1)}-1", name="shop", phase=Phase.JUDGING, granted=5, sandboxes=1))
    after = Capacity(7)
    found = dict(at_work(engine.get_all_orchestration_states()))
    assert {c.instance: held for c, held in found.items()} == {f"{uid(1)}-1": 1, f"{uid(2)}-1": 2}
    assert {c.class_cap for c in found} == {7}
    after.restore(found.items())
    restarted = Reconciler(engine, worlds, after)
    restarted.reconcile(Memory(bodies[2], SwarmRunStatus()), classes)
    assert engine.given(f"{uid(3)}-1")["granted"] == 4


def test_ended_runs_and_strangers_hold_nothing(
    engine: Any, worlds: Any, run_body: Body, class_body: Body
) -> None:
    Reconciler(engine, worlds).reconcile(Memory(run_body(), SwarmRunStatus()), {"standard": class_body()})
    (state,) = engine.states.values()
    state.runtime_status = OrchestrationStatus.COMPLETED
    engine.schedule_new_orchestration("run", input=["not ours"], instance_id=f"{uid(5)}-1")
    engine.schedule_new_orchestration("run", input={}, instance_id="somebody-elses")
    assert not list(at_work(engine.get_all_orchestration_states()))
