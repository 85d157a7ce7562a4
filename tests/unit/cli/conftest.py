from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from swarmrun.api.status import (
    AgentPhase,
    AgentStatus,
    Condition,
    GateStatus,
    Judgement,
    MergedFile,
    MergeHow,
    MergeStatus,
    Phase,
    PlannedContract,
    PlannedTask,
    PlanStatus,
    ResultStatus,
    SwarmRunStatus,
    TokenUsage,
    UsageStatus,
)

DRIVER = Path(__file__).with_name("driver.py")


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("swarmrun_cli_test_driver", DRIVER)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


driver = _load()


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Cli:
    """`swarmrun` in this process, with a scripted runner."""

    home: Path
    capsys: pytest.CaptureFixture[str]
    runners: Any

    def __call__(self, *arguments: str) -> Done:
        from swarmrun.cli.main import run

        self.capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            run(list(arguments))
        said = self.capsys.readouterr()
        return Done(int(exit_.value.code or 0), said.out, said.err)


@pytest.fixture
def script() -> list[SwarmRunStatus]:
    """A run that meets what the field met, as a list of statuses."""
    return story_statuses()


@pytest.fixture
def cli(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    script: list[SwarmRunStatus],
) -> Iterator[Cli]:
    from swarmrun.local.runs import Runs
    from swarmrun.settings import settings

    for variable in [v for v in os.environ if v.startswith(("OPENAI_", "AZURE_OPENAI_", "SWARMRUN_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("SWARMRUN_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    runners = driver.ScriptedRunners(script)
    monkeypatch.setattr(Runs, "runners", lambda self: runners)
    monkeypatch.chdir(tmp_path)
    yield Cli(tmp_path / "home", capsys, runners)
    settings.cache_clear()


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    (tmp_path / "repo").mkdir()
    path = tmp_path / "run.yaml"
    path.write_text(
        "apiVersion: swarmrun.dev/v1alpha1\nkind: SwarmRun\nmetadata: {name: demo}\n"
        "spec: {goal: Build a URL shortener, repository: {url: ./repo}}\n---\n"
        "apiVersion: swarmrun.dev/v1alpha1\nkind: SwarmClass\nmetadata: {name: local}\n"
        "spec: {models: {standard: {model: m, endpoint: 'http://127.0.0.1:9/v1'}},"
        " repositories: {schemes: [file]}}\n"
    )
    return path


@dataclass
class Processes:
    """`swarmrun` as real processes, with the scripted runner."""

    home: Path
    script: list[SwarmRunStatus]
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *arguments: str, pace: float = 0.0) -> subprocess.Popen[str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "AZURE_", "SWARMRUN_"))}
        env["SWARMRUN_HOME"] = str(self.home)
        env["SWARMRUN_TEST_SCRIPT"] = json.dumps([s.model_dump(mode="json") for s in self.script])
        env["SWARMRUN_TEST_PACE"] = str(pace)
        process = subprocess.Popen(
            [sys.executable, str(DRIVER), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
            # A shell starts background jobs with Ctrl-C ignored, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self.started.append(process)
        return process

    def run(self, *arguments: str) -> Done:
        out, err = (process := self.start(*arguments)).communicate(timeout=60)
        return Done(process.returncode, out, err)


@pytest.fixture
def processes(tmp_path: Path, script: list[SwarmRunStatus]) -> Any:
    made = Processes(tmp_path / "home", script)
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def until() -> Callable[..., None]:
    import time

    def wait(condition: Callable[[], object], seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.02)

    return wait


def story_statuses() -> list[SwarmRunStatus]:
    plan = PlanStatus(
        summary="A URL shortener",
        hash="h1",
        notes=['id 1 became "1"', "role test_writer became test-writer"],
        tasks=[
            PlannedTask(id="storage", title="Storage", owned_paths=["storage.py"], provides=["store"]),
            PlannedTask(id="api", title="API", depends_on=["storage"], uses=["store"]),
            PlannedTask(id="tests", title="Tests", role="test-writer", depends_on=["storage", "api"]),
        ],
        contracts=[
            PlannedContract(
                id="store",
                kind="function",
                path="storage.py",
                provided_by="storage",
                signature="def put(url: str) -> str: ...",
            )
        ],
    )

    def agent(task: str, phase: AgentPhase, **fields: Any) -> AgentStatus:
        role = "test-writer" if task == "tests" else "coder"
        return AgentStatus(task=task, role=role, phase=phase, **({"attempts": 1} | fields))

    def status(phase: Phase, reason: str = "", message: str = "", **fields: Any) -> SwarmRunStatus:
        ready = "True" if phase is Phase.SUCCEEDED else "False"
        succeeded = "Unknown" if not phase.terminal else ready
        conditions = [
            Condition(type="Ready", status=ready, reason=reason or phase.value, message=message),  # type: ignore[arg-type]
            Condition(type="Succeeded", status=succeeded, reason=reason or phase.value),  # type: ignore[arg-type]
        ]
        return SwarmRunStatus(phase=phase, conditions=conditions, **fields)

    running = AgentPhase.RUNNING
    conflict = MergeStatus(
        task="api",
        how=MergeHow.INTEGRATOR,
        files=[MergedFile(path="models.py", how=MergeHow.INTEGRATOR)],
        refused=[
            "models.py: restored wholesale from one side",
            "models.py: stub `pass  # TODO` in place of code",
        ],
        commit="c" * 40,
    )
    judged = [
        Judgement(round=1, score=43, spread=6, complaints=["main.py: import of storage is missing"]),
        Judgement(round=2, score=91, spread=2),
    ]
    notes = [
        "model_turn waited 2 s: RateLimited",
        "api: stream cut off in the middle of a call, repeated",
        "storage: arguments were broken JSON",
        "tests: attempt 1 ended PhantomAgent; one fresh attempt",
    ]
    return [
        status(Phase.PLANNING, isolation="bubblewrap"),
        status(
            Phase.RUNNING,
            isolation="bubblewrap",
            plan=plan,
            progress="0/3",
            agents=[agent("storage", running, turns=3, last_tool="exec pytest -q", tokens=900)],
        ),
        status(
            Phase.MERGING,
            isolation="bubblewrap",
            plan=plan,
            progress="2/3",
            agents=[
                agent("storage", AgentPhase.MERGED, turns=5, verified=True),
                agent("api", AgentPhase.MERGED, turns=4, verified=True),
                agent("tests", running, turns=1, attempts=2),
            ],
            merges=[MergeStatus(task="storage", how=MergeHow.CLEAN, commit="b" * 40), conflict],
            notes=notes,
        ),
        status(
            Phase.SUCCEEDED,
            "Published",
            isolation="bubblewrap",
            plan=plan,
            progress="3/3",
            score=91,
            agents=[
                agent("storage", AgentPhase.MERGED, turns=5, tool_calls=9, verified=True),
                agent("api", AgentPhase.MERGED, turns=4, tool_calls=7, verified=True),
                agent("tests", AgentPhase.MERGED, turns=6, tool_calls=8, attempts=2, verified=True),
            ],
            merges=[MergeStatus(task="storage", how=MergeHow.CLEAN, commit="b" * 40), conflict],
            gates=[GateStatus(name="pytest", passed=True, baseline_failures=["tests/old.py::test_x"])],
            judgements=judged,
            usage=UsageStatus(
                tokens=12345,
                cost="0.42",
                cache_hit_percent=61,
                wall_seconds=75,
                critical_path_seconds=60,
                tiers=[
                    TokenUsage(tier="standard", input=12000, cached=7320, output=345, calls=15, cost="0.42")
                ],
            ),
            notes=notes,
            result=ResultStatus(branch="swarm/demo", commit="d" * 40, base_commit="a" * 40),
        ),
    ]
