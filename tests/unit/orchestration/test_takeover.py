"""Programs take runs over from each other, on the real engine: a run cannot tell that it happened."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from swarmrun.api.status import AgentPhase, Phase
from swarmrun.controller.observe import look
from swarmrun.controller.unheard import unheard
from swarmrun.controller.wanted import Said
from swarmrun.durable.channel import target
from swarmrun.durable.engine import DtsEngine
from swarmrun.orchestration.agent import agent
from swarmrun.orchestration.program import program
from swarmrun.orchestration.run import run
from swarmrun.orchestration.successor import Successor
from swarmrun.steps import (
    STEPS,
    Amended,
    BatchChecked,
    ContractIssue,
    Failed,
    Finished,
    GatesRun,
    Merged,
    Preflight,
    Scaffolded,
)


class Restless(Successor):
    """Two programs share the work: at some dispatches the other one's turn comes, and it takes the run over."""

    def __init__(self, seed: int, often: float) -> None:
        super().__init__()
        self.chance, self.often = random.Random(seed), often
        self.taken = 0
        self.lock = threading.Lock()
        self.left = 400

    def knows(self, name: str, given: Any) -> bool:
        with self.lock:
            return self.left <= 0 or self.chance.random() >= self.often

    def continued(self, *arguments: Any) -> dict[str, Any]:
        with self.lock:
            self.taken += 1
            self.left -= 1
        return super().continued(*arguments)


SEEDS = int(os.environ.get("SWARMRUN_TEST_SEEDS", "2"))


@pytest.fixture(params=range(SEEDS))
def restless(request, tmp_path: Path, stage_class):
    """A stage on which a run changes hands at about every third dispatch."""
    stage = stage_class(tmp_path / "engine.db")
    stage.successor = Restless(request.param, 0.3)
    stage.replays = False
    stage.open()
    yield stage
    stage.close()


def accounts(report) -> tuple[int, int]:
    """Calls that the report knows of: of agents, and of nobody."""
    agents = sum(u.calls for r in report.agents for u in r.usage)
    return agents, sum(u.calls for u in report.usage)


def test_a_run_that_changes_hands_all_the_time_ends_the_same(restless, coder):
    stage = restless
    stage.happy(coder("a"), coder("b"), coder("c", "a", "b"), coder("d", "c"))
    report = stage.run(samples=2)
    assert stage.successor.taken > 3
    assert (report.phase, report.reason) == (Phase.SUCCEEDED, "Published")
    assert {m.task for m in report.merges} == set("abcd")
    assert {r.status.phase for r in report.agents if r.status.role == "coder"} == {AgentPhase.MERGED}
    assert {r.status.attempts for r in report.agents} == {1}
    # Planner 1, coders 2 each: nothing paid twice, nothing counted twice.
    assert set(stage.paid.values()) == {1}
    assert accounts(report) == (9, 2)
    assert report.result.commit.count("+") == 4


def test_everything_that_can_happen_survives_a_change_of_hands(restless, coder):
    """Refused scaffold, failed attempt, amendment, integrator, red batch, fixer, approvals: each once."""
    stage = restless
    stage.happy(*(coder(i, uses=["m"]) for i in "abc"), coder("d", "a", "b"))
    refused: set[str] = set()

    def scaffold(given):
        # The first plan's does not stand; asked again it says so again.
        first = not stage.inputs("model_turn", task="plan", attempt=2)
        return Scaffolded(commit="base", errors=["no"]) if first else Scaffolded(commit="scaffold")

    stage.on("scaffold", scaffold)
    stage.agent("planner/plan/2", "submit_plan")
    stage.before(
        "finish",
        lambda g: (
            Failed(reason="Refused", message="broken") if (g["task"], g["attempt"]) == ("a", 1) else None
        ),
    )
    stage.agent("coder/a/2", "write", "finish")
    issue = ContractIssue(contract="m", problem="p", proposal="…")
    stage.before(
        "finish",
        lambda g: (
            Finished(accepted=True, verified=True, commit="c!", contract_issues=[issue, issue])
            if g["task"] == "c"
            else None
        ),
    )
    stage.on(
        "amend_contract",
        lambda g: Amended(
            outcome="revised", plan=f"plan-{g['number']}", planner_called=True, usage=stage.usage()
        ),
    )
    stage.before(
        "merge",
        lambda g: Merged(conflicts=["m.py"], evidence="e", partial="p") if g["task"] == "b" else None,
    )
    stage.agent("integrator/integrate-b/1", "read search", "write", "finish")
    stage.agent("fixer/fix-1/1", "write", "finish")
    stage.on("judge_tally", lambda g: stage.verdict(g, 90 if g["round"] else 40))
    stage.start(samples=2, plan_approval=True, publish_approval=True)
    stage.until(lambda: stage.status().waiting_for == "plan", timeout=30)
    stage.mail("approve", what="plan", bound="h1")
    stage.mail("suspend")
    stage.until(lambda: stage.status().suspended, timeout=30)
    stage.mail("resume")
    waits = stage.until(lambda: (s := stage.status()).waiting_for == "publish" and s, timeout=60)
    stage.mail("approve", what="publish", bound=waits.integration)
    report = stage.report(timeout=30)
    assert (report.phase, report.reason) == (Phase.SUCCEEDED, "Published"), report.message
    assert not refused
    assert set(stage.paid.values()) == {1}
    assert {g["number"] for g in stage.inputs("amend_contract")} == {1, 2}
    # Judge 2 × 2, amendments 2.
    assert accounts(report) == (sum(stage.paid.values()), 6), stage.paid
    assert [j.round for j in report.judgements] == [0, 1]
    assert report.agent("a").status.attempts == 2
    assert len({g["commit"] for g in stage.inputs("publish")}) == 1


def test_a_parked_branch_and_a_replan_survive_a_change_of_hands(restless, coder):
    stage = restless
    stage.happy(coder("a"), coder("b"), coder("c", "b"))
    stage.before(
        "finish",
        lambda g: Failed(reason="Refused", message="broken") if g["task"] == "b" else None,
    )
    stage.agent("coder/b/2", "write", "finish")
    plans = {"plan/1": stage.plan, "plan/2": stage.a_plan(coder("a"), coder("b"), coder("e"), hash="h2")}
    stage.before(
        "finish",
        lambda g: (
            Finished(accepted=True, verified=True, plan=plans[f"plan/{g['attempt']}"])
            if g["role"] == "planner"
            else None
        ),
    )
    stage.agent("planner/plan/2", "submit_plan")
    stage.agent("coder/e/1", "write", "finish")
    report = stage.run()
    assert (report.phase, report.reason) == (Phase.FAILED, "Incomplete"), report.message
    assert set(stage.paid.values()) == {1}
    phases = {r.status.task: r.status.phase for r in report.agents}
    assert (phases["a"], phases["b"], phases["e"]) == (
        AgentPhase.MERGED,
        AgentPhase.FAILED,
        AgentPhase.MERGED,
    )
    assert "c" not in phases


def test_red_batches_are_bisected_all_the_same(restless, coder):
    stage = restless
    stage.happy(*(coder(i) for i in "abcd"))
    door = stage.door()
    stage.before("finish", lambda g: door.wait(20) and None if g["role"] == "coder" else None)
    stage.on("batch_gates", lambda g: BatchChecked(red="+b" in g["commit"], summary="b breaks it"))
    stage.agent("coder/b/2", "write", "finish")
    stage.start(parallelism=4)
    stage.until(lambda: len(stage.inputs("finish")) >= 5, timeout=30)
    door.set()
    report = stage.report(timeout=40)
    assert set(stage.paid.values()) == {1}
    assert report.agent("b").status.reason == "BatchRed"
    assert {r.status.task for r in report.agents if r.status.phase is AgentPhase.MERGED} == set("acd")
    assert "+b" not in report.integration


def test_a_cancelled_run_ends_whoever_works_on_it(restless, coder):
    stage = restless
    stage.happy(coder("a"), coder("b"))
    door = stage.door()
    stage.before("tool_call", lambda g: door.wait(20) and None)
    stage.start()
    stage.until(lambda: stage.inputs("tool_call"), timeout=30)
    stage.mail("cancel", message="enough")
    door.set()
    report = stage.report(timeout=40)
    assert (report.phase, report.reason) == (Phase.CANCELLED, "Cancelled")
    assert all(r.finished_at for r in report.agents if r.instance)


# ---------------------------------------------------------------- one change of hands, looked at


@pytest.fixture
def stage_two(tmp_path: Path, stage_class):
    """Opened twice on one file: the second time by another program."""
    made = []

    def make(program: str):
        stage = stage_class(tmp_path / "engine.db")
        stage.successor = Successor(program=lambda: program)
        stage.replays = False
        made.append(stage)
        return stage

    yield make
    for stage in made:
        stage.close()


def test_results_of_steps_under_way_are_waited_for_before_a_history_is_left(stage_two, coder):
    stage = stage_two("one")
    stage.happy(coder("a"))
    door = stage.door()
    stage.before("model_turn", lambda g: door.wait(20) and None if g["role"] == "coder" else None)
    stage.open()
    stage.start(program="one")
    stage.until(lambda: stage.inputs("model_turn", role="coder"))
    # The other program comes while a model is asked; a word is said to the agent's run meanwhile.
    stage.successor.__dict__["program"] = lambda: "two"
    stage.mail("suspend")
    stage.until(lambda: stage.given_input("r1")["program"] == "two")
    assert stage.given_input("r1:a:1")["program"] == "one"
    stage.mail("resume")
    door.set()
    report = stage.report()
    assert report.phase is Phase.SUCCEEDED
    assert set(stage.paid.values()) == {1}
    assert stage.given_input("r1:a:1")["program"] == "two"
    assert len(stage.inputs("preflight")) == len(stage.inputs("scaffold")) == 1


def test_a_program_that_is_not_wanted_leaves_the_run_to_the_one_that_is(stage_two):
    stage = stage_two("one")
    stage.happy()
    stage.open()
    wanted = threading.Event()
    stage.successor.__dict__["wanted"] = wanted.is_set
    stage.start(program="two")
    assert not stage.inputs("preflight")
    wanted.set()
    assert stage.report().phase is Phase.SUCCEEDED


def test_the_wall_time_goes_on_where_it_was(stage_two, coder):
    stage = stage_two("one")
    stage.happy(coder("a"))
    door = stage.door()
    stage.before("tool_call", lambda g: door.wait(20) and None)
    stage.open()
    stage.start(program="one", duration_seconds=4)
    stage.until(lambda: stage.inputs("tool_call"))
    stage.successor.__dict__["program"] = lambda: "two"
    stage.mail("nothing")
    stage.until(lambda: stage.given_input("r1")["program"] == "two")
    left = stage.given_input("r1")["stand"]
    assert 0 < left["seconds_left"] <= 4
    assert left["running_since"]
    stage.until(lambda: "BudgetExceeded" in (stage.status().reason, stage.status().message[:14]), timeout=15)
    door.set()
    assert stage.report().reason == "BudgetExceeded"


def test_a_child_that_the_engine_lost_fails_its_attempt(stage_two, coder):
    """Its end is in the history that is left behind."""
    stage = stage_two("one")
    stage.happy(coder("a"))
    door = stage.door()
    stage.before("model_turn", lambda g: door.wait(20) and None if g["task"] == "a" else None)
    stage.agent("coder/a/2", "write", "finish")
    stage.open()
    stage.start(program="one")
    stage.until(lambda: stage.inputs("model_turn", task="a"))
    stage.successor.__dict__["program"] = lambda: "two"
    stage.client.terminate_orchestration("r1:a:1")
    door.set()
    report = stage.report()
    assert report.phase is Phase.SUCCEEDED
    assert report.agent("a").status.attempts == 2


def test_an_agent_that_the_engine_ends_after_its_run_was_taken_over_is_told_by_who_looks(stage_two, coder):
    """The life of the run that has started it is over: neither engine nor agent tells the next one."""
    stage = stage_two("one")
    stage.happy(coder("a"))
    door = stage.door()
    stage.before("model_turn", lambda g: door.wait(20) and None if g["task"] == "a" else None)
    stage.agent("coder/a/2", "write", "finish")
    stage.open()
    stage.start(program="one")
    stage.until(lambda: stage.inputs("model_turn", task="a"))
    stage.successor.__dict__["program"] = lambda: "two"
    stage.mail("nothing")
    stage.until(lambda: stage.given_input("r1")["program"] == "two")
    said = Said()
    assert not unheard(look(stage.client, "r1", "x"), said)
    stage.client.terminate_orchestration("r1:a:1")
    mails = stage.until(lambda: unheard(look(stage.client, "r1", "x"), said))
    assert [(m["kind"], m["agent"]) for m in mails] == [("ended", "r1:a:1")]
    assert not unheard(look(stage.client, "r1", "x"), said)
    for mail in mails:
        stage.client.raise_orchestration_event("r1", "mail", data=mail)
    door.set()
    report = stage.report()
    assert report.phase is Phase.SUCCEEDED
    assert report.agent("a").status.attempts == 2


def test_preflight_is_not_asked_a_second_time_by_the_next_program(stage_two, coder):
    """It might find another base, or the run's own result."""
    stage = stage_two("one")
    stage.happy(coder("a"))
    bases = iter(["base", "moved"])
    stage.on("preflight", lambda g: Preflight(base_branch="main", base_commit=next(bases)))
    stage.on("gates", lambda g: GatesRun(commit=g["commit"], artifact="gates"))
    door = stage.door()
    stage.before("publish", lambda g: door.wait(20) and None)
    stage.open()
    stage.start(program="one")
    stage.until(lambda: stage.inputs("publish"))
    stage.successor.__dict__["program"] = lambda: "two"
    stage.mail("nothing")
    door.set()
    report = stage.report()
    assert (report.base_commit, len(stage.inputs("gates"))) == ("base", 1)
    assert {g["base_commit"] for g in stage.inputs("publish")} == {"base"}


# ---------------------------------------------------------------- what cannot be read


class Misreading(Successor):
    """Of a program that knows no state `dreaming`, in which the one before it has left everything."""

    def continued(self, given: Any, status: Any, broken: Any) -> dict[str, Any]:
        if stand := (status or {}).get("stand"):
            dreaming = {"turn": "dreaming"} if "brief" in given else {"stage": "dreaming", **MORE}
            status = {**status, "stand": {**stand, **dreaming}}
        return super().continued(given, status, broken)


MORE: dict[str, Any] = {}


@pytest.mark.parametrize(
    "more", [{}, {"live": {"r1:a:1": {"role": "coder", "serial": 2, "tokens": "dreaming"}}}]
)
def test_a_run_whose_stand_cannot_be_read_ends_with_that_reason_and_stops_its_agents(
    stage_two, coder, more, monkeypatch
):
    stage = stage_two("one")
    stage.happy(coder("a"), coder("b"))
    door = stage.door()
    stage.before("tool_call", lambda g: door.wait(20) and None if g["task"] == "a" else None)
    stage.open()
    stage.start(program="one", parallelism=1)
    stage.until(lambda: stage.inputs("tool_call", task="a"))
    released = len(stage.inputs("sandbox_release"))
    monkeypatch.setitem(globals(), "MORE", more)
    stage.engine._workers[0].successor = Misreading(program=lambda: "two")
    stage.mail("nothing")
    stage.until(lambda: stage.given_input("r1")["program"] == "two")
    door.set()
    report = stage.report(timeout=40)
    assert (report.phase, report.reason) == (Phase.FAILED, "StandUnreadable")
    assert "stage: Input should be" in report.message
    assert "another version" in report.message
    # What can be read is kept and shown.
    assert report.plan
    assert report.base_commit == "base"
    record = report.agent("a")
    assert record.finished_at
    assert record.status.phase in (AgentPhase.CANCELLED, AgentPhase.FAILED)
    assert len(stage.inputs("sandbox_release")) > released
    assert stage.output("r1:a:1")["status"] in ("Cancelled", "Failed")
    assert not stage.inputs("publish")


def test_an_agent_whose_stand_cannot_be_read_fails_its_attempt_and_the_run_goes_on(stage_two, coder):
    stage = stage_two("one")
    stage.happy(coder("a"))
    stage.agent("coder/a/2", "write", "finish")
    door = stage.door()
    stage.before("tool_call", lambda g: door.wait(20) and None if g["attempt"] == 1 else None)
    stage.open()
    stage.start(program="one")
    stage.until(lambda: stage.inputs("tool_call", task="a"))

    class Half(Misreading):
        def continued(self, given: Any, status: Any, broken: Any) -> dict[str, Any]:
            if "brief" in given:
                return super().continued(given, status, broken)
            return Successor.continued(self, given, status, broken)

    stage.engine._workers[0].successor = Half(program=lambda: "two")
    door.set()
    report = stage.report(timeout=40)
    assert report.phase is Phase.SUCCEEDED
    assert report.agent("a").status.attempts == 2
    assert stage.output("r1:a:1")["reason"] == "StandUnreadable"


# ---------------------------------------------------------------- several workers


def test_while_workers_of_two_programs_are_there_the_wanted_one_works(stage_two, coder):
    """Over gRPC, as the Durable Task Scheduler would be reached. The rollout's word comes in the middle of it."""
    stage = stage_two("none")
    stage.happy(coder("a"), coder("b"), coder("c", "a", "b"))
    first = program()
    wanted, began = [first], Counter()
    door = stage.door()
    stage.before("finish", lambda g: door.wait(20) and None if g["task"] == "a" else None)
    stage.client = stage.engine.open().client()
    address = target(stage.engine.serve())
    workers = [DtsEngine(address) for _ in range(2)]
    for name, engine in zip((first, "two"), workers, strict=True):

        class Counted(Successor):
            def continued(self, *arguments: Any) -> dict[str, Any]:
                began[self.program()] += 1
                return super().continued(*arguments)

        counted = Counted(program=lambda name=name: name, wanted=lambda name=name: wanted[0] == name)
        steps = {step: stage._activity(step) for step in STEPS}
        engine.start_worker([run, agent], steps, successor=counted)
    try:
        # Begun by a controller of the first program: its worker alone takes it, whoever is offered it.
        stage.start(samples=2)
        stage.until(lambda: stage.inputs("finish", task="a"), timeout=90)
        assert not began
        wanted[0] = "two"
        door.set()
        report = stage.report(timeout=120)
    finally:
        for engine in workers:
            engine.close(wait=1)
    assert (report.phase, report.reason) == (Phase.SUCCEEDED, "Published")
    assert set(began) == {"two"}
    assert set(stage.paid.values()) == {1}
    assert accounts(report) == (7, 2)
