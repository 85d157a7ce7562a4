from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from durabletask.client import OrchestrationStatus

from swarmrun.api.plan import Role
from swarmrun.api.status import GateStatus, Judgement, PlannedTask, PlanStatus
from swarmrun.durable import replay
from swarmrun.durable.engine import EmbeddedEngine
from swarmrun.orchestration.agent import agent
from swarmrun.orchestration.inputs import AgentInput, RunInput
from swarmrun.orchestration.run import run
from swarmrun.report import AgentProgress, RunReport
from swarmrun.steps import (
    STEPS,
    AcceptedPlan,
    BaselineDone,
    BatchChecked,
    BoxRef,
    Brief,
    Called,
    CallRef,
    CheckpointTaken,
    Ensured,
    Failed,
    Finished,
    GatesRun,
    Merged,
    Nothing,
    Ordered,
    Preflight,
    Prepared,
    PublishDone,
    Sampled,
    Saved,
    Scaffolded,
    StepModel,
    Tallied,
    TaskRef,
    TurnDone,
    UsageRecord,
)

Given = dict[str, Any]
Body = Callable[[Given], StepModel]

LOST = Failed(reason="SandboxLost", message="the sandbox is not running", lost=True)
READS = ("read", "search")


def box_id(given: Given) -> str:
    return BoxRef.model_validate(given.get("box") or given).id


def agent_of(given: Given) -> str:
    return f"{given['role']}/{given['task']}/{given['attempt']}"


class Stage:
    """The real engine and the real orchestrations; what activities say is scripted.

    A step without a script, and a turn that was not foreseen, fail the run and the test.
    """

    run_id = "r1"
    successor: Any = None
    replays = True
    """False where histories of several programs are mixed."""

    def __init__(self, path: Path) -> None:
        self.engine = EmbeddedEngine(path, synchronous="OFF", grace=0.3)
        self.calls: list[tuple[str, Given]] = []
        self.unexpected: list[str] = []
        self.bodies: dict[str, Body] = {}
        self.turns: dict[str, list[list[str]]] = {}
        """`role/task/attempt` → the calls of each turn."""
        self.replies: dict[str, tuple[TurnDone, list[str]]] = {}
        self.paid: Counter[str] = Counter()
        self.plan = self.a_plan(TaskRef(id="a"))
        self.doors: list[threading.Event] = []
        self._lock = threading.Lock()
        for name in ("model_turn", "tool_call", "checkpoint", "finish"):
            self.bodies[name] = getattr(self, f"_{name}")

    # ------------------------------------------------------------ the script

    def on(self, step: str, *answers: StepModel | Body) -> None:
        """Answers in the order given; the last one stays."""
        left = list(answers)

        def body(given: Given) -> StepModel:
            with self._lock:
                answer = left.pop(0) if len(left) > 1 else left[0]
            return answer(given) if callable(answer) else answer

        assert step in STEPS
        self.bodies[step] = body

    def before(self, step: str, hook: Callable[[Given], StepModel | None]) -> None:
        """`hook` may answer instead of what is there."""
        body = self.bodies[step]
        self.bodies[step] = lambda given: hook(given) or body(given)

    def door(self) -> threading.Event:
        """Somebody waits in front of it until it is opened, or the test is over."""
        door = threading.Event()
        self.doors.append(door)
        return door

    def agent(self, key: str, *turns: str) -> None:
        """One attempt's turns, each the names of its calls: `write`, `read read`, `finish`, or nothing."""
        self.turns[key] = [t.split() for t in turns]

    def a_plan(self, *tasks: TaskRef, hash: str = "h1") -> AcceptedPlan:
        status = PlanStatus(
            hash=hash,
            tasks=[PlannedTask(id=t.id, role=t.role.value, depends_on=t.depends_on) for t in tasks],
        )
        return AcceptedPlan(artifact=f"plan-{hash}", status=status, tasks=list(tasks))

    def happy(self, *tasks: TaskRef) -> None:
        """Everything works: each task writes once and finishes, the judge is content."""
        if tasks:
            self.plan = self.a_plan(*tasks)
        self.on("preflight", Preflight(base_branch="main", base_commit="base"))
        self.on("sandbox_ensure", Ensured(phase="Ready", isolation="test"))
        self.on("sandbox_prepare", lambda g: Prepared(commit=g["commit"]))
        self.on("sandbox_release", Nothing())
        self.on("baseline", BaselineDone(artifact="baseline"))
        self.on("scaffold", Scaffolded(commit="scaffold"))
        self.on("save_evidence", lambda g: Saved(artifact=f"evidence/{g['name']}"))
        self.on("order", lambda g: Ordered(tasks=list(g["heads"])))
        self.on("merge", lambda g: Merged(commit=f"{g['integration']}+{g['task']}"))
        self.on("batch_gates", BatchChecked(red=False))
        self.on("gates", lambda g: GatesRun(commit=g["commit"], artifact="gates"))
        self.on("judge_sample", lambda g: Sampled(artifact=f"s{g['sample']}", usage=self.usage()))
        self.on("judge_tally", lambda g: self.verdict(g, 90))
        self.on("save_report", Saved(artifact="report.json"))
        self.on("publish", lambda g: PublishDone(branch="swarm/x", commit=g["commit"]))
        self.agent("planner/plan/1", "submit_plan")
        for ref in self.plan.tasks:
            self.agent(f"{ref.role.value}/{ref.id}/1", "write", "finish")

    @staticmethod
    def verdict(given: Given, score: int, **more: Any) -> Tallied:
        judged = Judgement(round=given["round"], score=score, commit=given["commit"])
        return Tallied(judgement=judged, evidence=f"evidence/fix-{given['round'] + 1}", **more)

    @staticmethod
    def usage(tokens: int = 10) -> UsageRecord:
        return UsageRecord(tier="standard", input=tokens, calls=1, cost="0.01")

    # ------------------------------------------------------------ what agents do

    def _model_turn(self, given: Given) -> StepModel:
        place = f"{agent_of(given)}/{given['turn']}"
        if place in self.replies:
            reply, news = self.replies[place]
            return reply.model_copy(update={"replayed": True, "news_taken": news == given["news"]})
        planned = self.turns.get(agent_of(given), [])
        if given["turn"] > len(planned):
            raise LookupError(f"nobody foresaw turn {place}")
        calls = [
            CallRef(
                index=i,
                name=name,
                preview=name,
                read_only=name in READS,
                ends=name in ("finish", "submit_plan"),
            )
            for i, name in enumerate(planned[given["turn"] - 1])
        ]
        self.paid[place] += 1
        reply = TurnDone(calls=calls, usage=self.usage())
        self.replies[place] = (reply, given["news"])
        return reply

    def _tool_call(self, given: Given) -> StepModel:
        reply, _ = self.replies[f"{agent_of(given)}/{given['turn']}"]
        name = reply.calls[given["index"]].name
        return Called(ok=True, changed=name.startswith("write") and not given["poisoned"], preview=name)

    def _checkpoint(self, given: Given) -> StepModel:
        return CheckpointTaken(commit=f"{agent_of(given)}@{given['turn']}", changed=True)

    def _finish(self, given: Given) -> StepModel:
        if given["role"] == "planner":
            return Finished(accepted=True, verified=True, plan=self.plan)
        return Finished(
            accepted=True,
            verified=True,
            commit=f"{agent_of(given)}!",
            checkpoint=f"{agent_of(given)}@{given['turn']}",
            summary=f"summary of {given['task']}",
        )

    # ------------------------------------------------------------ running

    def _activity(self, name: str) -> Callable[[Any, Given], Given]:
        def body(_: Any, given: Given) -> Given:
            with self._lock:
                self.calls.append((name, given))
            try:
                if name not in self.bodies:
                    raise LookupError(f"nobody foresaw the step {name}: {given}")
                said = self.bodies[name](given)
            except (LookupError, AssertionError) as exc:
                self.unexpected.append(str(exc))
                return {"failed": Failed(reason="Unforeseen", message=str(exc)).model_dump(mode="json")}
            return {"failed" if isinstance(said, Failed) else "ok": said.model_dump(mode="json")}

        return body

    def open(self) -> None:
        self.client = self.engine.open().client()
        self.engine.start_worker(
            [run, agent], {name: self._activity(name) for name in STEPS}, successor=self.successor
        )

    def start(self, **options: Any) -> None:
        options = {"name": "x", "branch": "swarm/x", "samples": 1} | options
        given = RunInput(run=self.run_id, **options)
        self.client.schedule_new_orchestration(
            "run", input=given.model_dump(mode="json"), instance_id=self.run_id
        )

    def start_agent(self, **options: Any) -> None:
        options = {
            "role": "coder",
            "task": "a",
            "brief": Brief(plan="p", base="base"),
            "box": BoxRef(run=self.run_id, task="a"),
            "branch": "b",
            "tokens": 1_000_000,
        } | options
        given = AgentInput(run=self.run_id, **options)
        self.client.schedule_new_orchestration(
            "agent", input=given.model_dump(mode="json"), instance_id=f"{self.run_id}:a:1"
        )

    def mail(self, kind: str, instance: str = "", **more: Any) -> None:
        self.client.raise_orchestration_event(instance or self.run_id, "mail", data={"kind": kind, **more})

    def output(self, instance: str, timeout: float = 20) -> Given:
        state = self.client.wait_for_orchestration_completion(instance, timeout=timeout)
        assert state is not None
        assert not self.unexpected, self.unexpected
        assert state.runtime_status == OrchestrationStatus.COMPLETED, state.failure_details
        self.replay()
        return state.get_output()

    def report(self, timeout: float = 20) -> RunReport:
        """How the run ended. Every history is replayed and compared, step by step."""
        return RunReport.model_validate(self.output(self.run_id, timeout))

    def run(self, **options: Any) -> RunReport:
        self.start(**options)
        return self.report()

    def run_agent(self, **options: Any) -> Given:
        self.start_agent(**options)
        return self.output(f"{self.run_id}:a:1")

    def replay(self) -> None:
        if not self.replays:
            return
        state = self.client.get_orchestration_state(self.run_id)
        ids = [self.run_id] if state else []
        ids += dict.fromkeys(f"{g['run']}:{g['task']}:{g['attempt']}" for _, g in self.given("model_turn"))
        for instance in ids:
            assert replay.check([run, agent], self.engine.history(instance)) > 0

    # ------------------------------------------------------------ looking

    def given(self, step: str, **fields: Any) -> list[tuple[str, Given]]:
        with self._lock:
            calls = list(self.calls)
        return [
            (name, g) for name, g in calls if name == step and all(g.get(k) == v for k, v in fields.items())
        ]

    def inputs(self, step: str, **fields: Any) -> list[Given]:
        return [g for _, g in self.given(step, **fields)]

    def status(self) -> RunReport:
        state = self.client.get_orchestration_state(self.run_id)
        assert state is not None
        if not state.serialized_custom_status:
            return RunReport(run=self.run_id, name="x")
        return RunReport.model_validate_json(state.serialized_custom_status)

    def progress(self, instance: str) -> AgentProgress:
        state = self.client.get_orchestration_state(instance)
        assert state is not None
        return AgentProgress.model_validate_json(state.serialized_custom_status or "{}")

    def ended(self, step: str, instance: str = "") -> int:
        """How many calls of this step the orchestration has had an answer to."""
        events = self.engine.history(instance or self.run_id)
        begun = {e.eventId for e in events if e.HasField("taskScheduled") and e.taskScheduled.name == step}
        return sum(e.HasField("taskCompleted") and e.taskCompleted.taskScheduledId in begun for e in events)

    def given_input(self, instance: str) -> Given:
        """What the present life of it began with."""
        state = self.client.get_orchestration_state(instance)
        assert state is not None
        return json.loads(state.serialized_input or "{}")

    def idle(self, instance: str) -> bool:
        """Every step that was begun has ended, and the orchestration has taken note of it."""
        events = self.engine.history(instance)
        begun = {e.eventId for e in events if e.HasField("taskScheduled")}
        over = {e.taskCompleted.taskScheduledId for e in events if e.HasField("taskCompleted")}
        return begun == over and events[-1].HasField("orchestratorCompleted")

    def until(self, fact: Callable[[], Any], timeout: float = 10) -> Any:
        ends = time.monotonic() + timeout
        while not (value := fact()):
            assert time.monotonic() < ends, f"never came true; status {self.status().model_dump_json()}"
            assert not self.unexpected, self.unexpected
            time.sleep(0.01)
        return value

    def close(self) -> None:
        for door in self.doors:
            door.set()
        self.engine.close(wait=0.1)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    it = Stage(tmp_path / "engine.db")
    it.open()
    yield it
    it.close()


@pytest.fixture
def stage_class() -> type[Stage]:
    return Stage


@pytest.fixture
def lost() -> Failed:
    return LOST


@pytest.fixture
def coder() -> Callable[..., TaskRef]:
    def make(id: str, *depends_on: str, **more: Any) -> TaskRef:
        return TaskRef(id=id, role=Role.CODER, depends_on=list(depends_on), **more)

    return make


@pytest.fixture
def red() -> Callable[[Given], GatesRun]:
    """Required gates with one new failure."""

    def gates(given: Given) -> GatesRun:
        failing = GateStatus(name="pytest", passed=False, new_failures=["t"])
        return GatesRun(commit=given["commit"], artifact="gates", gates=[failing], failing_required=1)

    return gates
