"""Steps as the engine calls them: real git, a real sandbox, a model that answers from a script."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from agent_framework import Content, Message

from swarmrun.activities.registry import activities
from swarmrun.activities.world import RunWorld
from swarmrun.api.plan import Plan
from swarmrun.api.resolve import resolve
from swarmrun.api.run import SwarmRun
from swarmrun.artifacts.store import open_store
from swarmrun.durable.bridge import Bridge
from swarmrun.git.credentials import UserGit
from swarmrun.git.remote import Remote
from swarmrun.git.repo import RunRepo
from swarmrun.local.default_class import default_class
from swarmrun.ports import ModelReply, ModelRequest, Profile, PullRequest, ToolCall, Usage
from swarmrun.sandbox.process import ProcessProvider
from swarmrun.steps import (
    CHECKPOINT,
    ENSURE,
    FINISH,
    MODEL_TURN,
    PREPARE,
    SCAFFOLD,
    TOOL_CALL,
    BoxRef,
    Brief,
    Call,
    Called,
    CheckpointTaken,
    Ensure,
    Failed,
    Finish,
    Finished,
    Preflight,
    Prepare,
    Scaffold,
    Scaffolded,
    Step,
    StepModel,
    TakeCheckpoint,
    Turn,
    TurnDone,
)

GIT = ["git", "-c", "user.name=Ann", "-c", "user.email=ann@example.invalid"]
FILES = {
    "calc.py": "def one() -> int:\n    return 1\n",
    "tests/test_calc.py": "from calc import one\n\n\ndef test_one():\n    assert one() == 1\n",
    "conftest.py": "",
}
PLAN: dict[str, Any] = {
    "summary": "Sums.",
    "language": "python",
    "tasks": [
        {
            "id": "sums",
            "title": "Sums",
            "role": "coder",
            "instructions": "Write add().",
            "ownedPaths": ["sums.py", "tests/test_sums.py"],
            "provides": ["add"],
            "acceptance": [
                {"description": "It adds.", "command": "python3 -c 'import sums; assert sums.add(1, 2) == 3'"}
            ],
        },
        {
            "id": "facts",
            "title": "Facts",
            "role": "researcher",
            "instructions": "Find out.",
            "acceptance": [{"description": "There are notes."}],
        },
    ],
    "contracts": [
        {
            "id": "add",
            "kind": "function",
            "path": "sums.py",
            "declaration": "def add(a: int, b: int) -> int: ...",
            "description": "The sum.",
        }
    ],
}
SUMS = "def add(a: int, b: int) -> int:\n    return a + b\n"
SUMS_TEST = "from sums import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n"

_numbers = itertools.count(1)


class ScriptedModel:
    """Answers in the order given, and fails loudly when it is asked once more."""

    def __init__(self) -> None:
        self.profile = Profile("scripted", price_input="1", price_output="2", max_output=1000)
        self.script: list[Any] = []
        self.asked: list[ModelRequest] = []

    def will(self, *answers: Any) -> None:
        """Each a list of calls `(name, arguments)`, a text, a dict (a structured answer) or an error."""
        self.script += answers

    async def turn(self, request: ModelRequest) -> ModelReply:
        self.asked.append(request)
        assert self.script, f"the model was asked once more: {request.key.path()}"
        answer = self.script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        usage = Usage(input=100, output=10)
        if isinstance(answer, dict):
            return ModelReply([], "", [], usage, "stop", "scripted", value=answer)
        calls: list[ToolCall] = []
        contents: list[Any] = [Content.from_text(answer if isinstance(answer, str) else "…")]
        for n, (name, arguments) in enumerate([] if isinstance(answer, str) else answer):
            call_id = f"{request.key.turn}-{n}"
            contents.append(Content.from_function_call(call_id, name, arguments=json.dumps(arguments)))
            calls.append(ToolCall(n, call_id, name, arguments))
        message = Message("assistant", contents).to_dict()
        return ModelReply([message], "…", calls, usage, "tool_calls", "scripted")

    async def close(self) -> None:
        pass


class ScriptedHost:
    """A repository host: keeps what was opened; may refuse."""

    def __init__(self) -> None:
        self.opened: list[dict[str, str]] = []
        self.error: Exception | None = None

    async def open_or_update(self, **given: str) -> PullRequest:
        if self.error:
            raise self.error
        self.opened.append(given)
        return PullRequest(1, "https://host.invalid/pull/1", created=len(self.opened) == 1)


def git(*arguments: str, cwd: Path) -> str:
    done = subprocess.run([*GIT, *arguments], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Lab:
    """One run's world, and the steps on it."""

    SUMS, SUMS_TEST, PLAN, FILES = SUMS, SUMS_TEST, PLAN, FILES

    def __init__(self, path: Path, provider: ProcessProvider, bridge: Bridge) -> None:
        self.path, self.provider, self.bridge = path, provider, bridge
        self.run = f"t{next(_numbers)}"
        self.model, self.host = ScriptedModel(), ScriptedHost()
        self.work, self.bare = path / "work", path / "remote.git"
        self.store = open_store((path / "artifacts").as_uri())
        self.world = self.a_world()
        self.base = ""

    # ------------------------------------------------------------ the world

    def a_world(self, **spec: Any) -> RunWorld:
        wanted = {"goal": "Sums.", "repository": {"url": str(self.bare)}, "mode": "Swarm", **spec}
        # Plugins of these tests' own pytest would triple the time of every run in a sandbox.
        env = [{"name": "PYTEST_DISABLE_PLUGIN_AUTOLOAD", "value": "1"}]
        wanted["sandbox"] = {**wanted.get("sandbox", {}), "env": env}
        run = SwarmRun.model_validate(
            {
                "apiVersion": "swarmrun.dev/v1alpha1",
                "kind": "SwarmRun",
                "metadata": {"name": "x"},
                "spec": wanted,
            }
        )
        snapshot = resolve(run, default_class({}, model="scripted"), instance=self.run)
        return RunWorld(
            snapshot=snapshot,
            store=self.store,
            repo=RunRepo(self.path / "brain.git", self.store, ""),
            provider=self.provider,
            bridge=self.bridge,
            model_of=lambda _: self.model,
            remote=lambda: Remote(str(self.bare), credential=UserGit(), schemes=("file",)),
            pull_requests=lambda: self.host,
        )

    def spec(self, **spec: Any) -> None:
        """The run as it was asked for; the repository of the brain stays."""
        self.world = self.a_world(**spec)

    def another_process(self) -> None:
        """What was only in memory is gone."""
        spec = self.world.snapshot
        self.world = self.a_world()
        self.world.snapshot = spec

    def start(self, files: dict[str, str] | None = None) -> str:
        """A remote with one commit, known to the brain."""
        self.work.mkdir()
        git("init", "-q", "--bare", "-b", "main", str(self.bare), cwd=self.path)
        git("init", "-q", "-b", "main", cwd=self.work)
        git("remote", "add", "origin", str(self.bare), cwd=self.work)
        self.base = self.commit(FILES if files is None else files)
        git("push", "-q", "origin", "main", cwd=self.work)
        found = self.ok(Step[Preflight](name="preflight", out=Preflight), {})
        assert found.base_commit == self.base
        return self.base

    def commit(self, files: dict[str, str], *, onto: str = "", take: bool = False) -> str:
        """A commit made by hand; `take`: into the brain's repository."""
        if onto:
            git("fetch", "-q", str(self.world.repo.path), "+refs/*:refs/brain/*", cwd=self.work)
            git("checkout", "-q", "--detach", onto, cwd=self.work)
        for name, content in files.items():
            (self.work / name).parent.mkdir(parents=True, exist_ok=True)
            (self.work / name).write_text(content)
        git("add", "-A", cwd=self.work)
        git("commit", "-q", "--allow-empty", "-m", "by hand", cwd=self.work)
        commit = git("rev-parse", "HEAD", cwd=self.work)
        if take:
            git("push", "-q", str(self.world.repo.path), f"HEAD:refs/by-hand/{commit}", cwd=self.work)
            self.world.repo.hold(commit)
            self.world.repo.record(commit, onto or None)
        return commit

    def plan(self, plan: dict[str, Any] | None = None) -> str:
        key, _ = self.world.save_plan(Plan.model_validate(plan or PLAN))
        return key

    def file(self, commit: str, path: str) -> str:
        self.world.repo.ensure(commit)
        return self.world.repo.read(commit, path).decode()

    # ------------------------------------------------------------ steps

    def step(self, step: Step[Any], given: StepModel | dict[str, Any]) -> dict[str, Any]:
        data = given if isinstance(given, dict) else given.model_dump(mode="json")
        table = activities(lambda _: nullcontext(self.world))
        # There and back again, as through the engine.
        return json.loads(
            json.dumps(table[step.name](None, json.loads(json.dumps({"run": self.run, **data}))))
        )

    def ok(self, step: Step[Any], given: StepModel | dict[str, Any]) -> Any:
        said = self.step(step, given)
        assert "ok" in said, said
        return step.out.model_validate(said["ok"])

    def failed(self, step: Step[Any], given: StepModel | dict[str, Any]) -> Failed:
        said = self.step(step, given)
        assert "failed" in said, said
        return Failed.model_validate(said["failed"])

    def box_only(self, task: str = "integration", **more: Any) -> BoxRef:
        """A sandbox that runs, with nothing in it."""
        ref = BoxRef(run=self.run, task=task, **more)
        for _ in range(50):
            if self.ok(ENSURE, Ensure(**ref.model_dump())).phase == "Ready":
                break
        return ref

    def box(self, task: str = "integration", *, commit: str = "", branch: str = "b", **more: Any) -> BoxRef:
        """A sandbox that runs and holds a commit."""
        ref = self.box_only(task, **more)
        self.ok(PREPARE, Prepare(**ref.model_dump(), commit=commit or self.base, branch=branch))
        return ref

    def kill(self, ref: BoxRef) -> None:
        self.provider._live[ref.id].process.kill()
        self.provider._live[ref.id].process.wait()

    def exec(self, ref: BoxRef, command: str) -> str:
        async def go() -> str:
            box = await self.provider.connect(ref.id)
            return (await box.exec(command)).stdout

        return self.bridge.run(go())

    def tree(self, ref: BoxRef) -> Path:
        return self.provider._directory(ref.id) / "volume" / "repo"

    def scaffolded(self, plan: str, task: str = "sums") -> str:
        ref = self.box(task)
        done: Scaffolded = self.ok(SCAFFOLD, Scaffold(**ref.model_dump(), plan=plan, base=self.base))
        assert not done.errors, done.errors
        return done.commit

    def agent(self, role: str, task: str, brief: Brief, **more: Any) -> Agent:
        ref = self.box(task, commit=brief.base, **more)
        return Agent(self, role, task, brief, ref)


@dataclass
class Agent:
    """An agent whose turns the test makes, as its orchestration would."""

    lab: Lab
    role: str
    task: str
    brief: Brief
    box: BoxRef
    attempt: int = 1
    turn: int = 0
    checkpoint: str = ""

    def me(self) -> dict[str, Any]:
        return {"run": self.lab.run, "role": self.role, "task": self.task, "attempt": self.attempt}

    def asked(self, **more: Any) -> Turn:
        fields = {"turn": self.turn, "brief": self.brief, "box": self.box, "tokens_left": 1_000_000}
        return Turn(**self.me(), **(fields | more))

    def says(self, *calls: tuple[str, dict[str, Any]], **more: Any) -> TurnDone:
        """The next turn: the model makes these calls; none is run."""
        self.turn += 1
        self.lab.model.will(list(calls))
        return self.lab.ok(MODEL_TURN, self.asked(**more))

    def calls(self, name: str, **arguments: Any) -> Called:
        """A turn of one call, which is run."""
        self.says((name, arguments))
        return self.runs(0)

    def call(self, index: int = 0, **more: Any) -> Call:
        fields = {"turn": self.turn, "index": index, "brief": self.brief, "box": self.box}
        return Call(**self.me(), **(fields | more))

    def runs(self, index: int = 0, **more: Any) -> Called:
        return self.lab.ok(TOOL_CALL, self.call(index, **more))

    def result(self, index: int = 0, turn: int = 0) -> str:
        """What the model is told of a call."""
        key = f"turns/{self.role}/{self.task}/{self.attempt}/{turn or self.turn:04d}/call-{index}.json"
        return json.loads(self.lab.store.get(key))["text"]

    def takes_checkpoint(self) -> CheckpointTaken:
        since = self.checkpoint or self.brief.base
        taken = self.lab.ok(
            CHECKPOINT, TakeCheckpoint(**self.me(), turn=self.turn, box=self.box, since=since)
        )
        self.checkpoint = taken.commit
        return taken

    def finishes(self, summary: str = "Done.", **more: Any) -> Finished:
        """A turn that calls `finish`."""
        arguments = {k: more.pop(k) for k in ("contract_issues", "blocked") if k in more}
        self.says(("finish", {"summary": summary, **arguments}))
        return self.looked_at(**more)

    def finish(self, index: int = 0, **more: Any) -> Finish:
        fields = {"turn": self.turn, "index": index, "brief": self.brief, "box": self.box}
        since = self.checkpoint or self.brief.base
        return Finish(**self.me(), **({"since": since} | fields | more))

    def looked_at(self, index: int = 0, **more: Any) -> Finished:
        end = self.lab.ok(FINISH, self.finish(index, **more))
        self.checkpoint = end.checkpoint or self.checkpoint
        return end


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ProcessProvider, Bridge]]:
    """The sandboxes find the Python of these tests, with pytest."""
    path = os.environ["PATH"]
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{path}"
    provider = ProcessProvider(tmp_path_factory.mktemp("sandboxes"), b"k" * 32, unsafe_no_sandbox=True)
    bridge = Bridge()
    yield provider, bridge
    bridge.close()
    os.environ["PATH"] = path


@pytest.fixture
def lab(tmp_path: Path, machine: tuple[ProcessProvider, Bridge]) -> Iterator[Lab]:
    provider, bridge = machine
    it = Lab(tmp_path, provider, bridge)
    yield it
    bridge.run(provider.release_run(it.run))


@pytest.fixture
def coder(lab: Lab) -> Agent:
    """A coder on the task `sums`, on the scaffold."""
    lab.start()
    plan = lab.plan()
    # One sandbox for both: starting them is what these tests spend their time on.
    return lab.agent("coder", "sums", Brief(plan=plan, base=lab.scaffolded(plan)))
