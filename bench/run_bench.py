"""Whole runs with models that think for a given time; everything else is real.

    python bench/run_bench.py            prints a JSON list of {"name", "value", "unit", "goal", "met", "note"}

The runs are `tests/e2e/scenes.py`'s `journal`: each turn is one model call and one command that appends a line,
its last turn is `finish`; models answer over HTTP from another process than the run's.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

import scenes  # noqa: E402
from lab import Lab, git  # noqa: E402

PROGRAM = [sys.executable, str(Path(__file__).with_name("timed_run.py"))]
THINKS = 0.5
"""Seconds that a model takes."""
AGENTS = ("sandbox_ensure", "sandbox_prepare", "model_turn", "tool_call", "finish")


@dataclass
class Step:
    step: str
    task: str
    turn: int
    begin: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.begin

    @property
    def agents(self) -> bool:
        """Whether it is one of an agent's own, not the run's."""
        return self.step in AGENTS and self.task.startswith("a")


@dataclass
class Run:
    """One run that succeeded."""

    wall: float
    """Seconds from the first step to the end of the last, by the run's own account."""
    process: float
    """Seconds of the command, its start and end included."""
    steps: list[Step] = field(default_factory=list[Step])
    memory: list[float] = field(default_factory=list[float])
    """Resident megabytes of the process over time."""

    def of(self, name: str) -> list[Step]:
        return [s for s in self.steps if s.step == name]

    def turns(self) -> list[tuple[float, float, float]]:
        """Of every turn with a command: seconds in all, in the model call's step, in the tool call's."""
        found: list[tuple[float, float, float]] = []
        tools = {(s.task, s.turn): s for s in self.of("tool_call")}
        asked = sorted(self.of("model_turn"), key=lambda s: (s.task, s.turn))
        for one, after in itertools.pairwise(asked):
            tool = tools.get((one.task, one.turn))
            if one.task == after.task and tool is not None:
                found.append((after.begin - one.begin, one.seconds, tool.seconds))
        return found

    def critical_path(self) -> list[Step]:
        """The chain of steps that the end had to wait for, last first: from each back to what ended last before it.

        An agent's step waits for the agent's own last one, its first and all steps of the run for whichever ended
        last. Checkpoints overlap the next model call and are left out. No two of the chain overlap, so what the
        run takes beyond their sum is waiting for the engine.
        """
        steps = sorted((s for s in self.steps if s.step != "checkpoint"), key=lambda s: s.end)
        chain = [steps[-1]]
        while True:
            now = chain[-1]
            before = [s for s in steps if s.end <= now.begin]
            own = [s for s in before if now.agents and s.agents and s.task == now.task]
            shared = [s for s in before if not s.agents] if now.agents else before
            if not (own or shared):
                return chain
            chain.append((own or shared)[-1])


def journal(*, agents: int, turns: int, thinks: float = THINKS, solo: bool = False) -> Run:
    """Raises AssertionError, with what it printed, when the run does not succeed."""
    with tempfile.TemporaryDirectory(prefix="swarmrun-bench-") as place:
        lab = Lab(Path(place))
        bare = lab.repository(files={"README": "What was here before.\n"})
        recording = lab.root / "cassette.yaml"
        recording.write_text(
            json.dumps(scenes.journal_recording(agents=1 if solo else agents, turns=turns, delay=thinks))
        )
        try:
            server = lab.start("cassette", "serve", str(recording))
            url = endpoint(server)
            resource = scenes.journal(bare, agents=1 if solo else agents, turns=turns)
            for task in resource["spec"]["plan"]["tasks"]:
                task["role"] = "solo" if solo else "coder"
            file = lab.resource(scenes.documents(scenes.swarm_class(url), resource))
            log = lab.root / "log"
            began = time.monotonic()
            done = lab.start(str(log), "run", "-f", file, program=PROGRAM).wait(900)
            took = time.monotonic() - began
            assert done.code == 0, done
            status = lab.status("journal")
            wall = datetime.fromisoformat(status["finishedAt"]) - datetime.fromisoformat(status["startedAt"])
            rows = [json.loads(line) for line in log.read_text().splitlines()]
        finally:
            lab.close()
    return Run(
        wall.total_seconds(),
        took,
        [Step(**r) for r in rows if "step" in r],
        [r["mb"] for r in rows if "mb" in r],
    )


def endpoint(server: Any) -> str:
    ends = time.monotonic() + 60
    while "endpoint: " not in server.out:
        assert time.monotonic() < ends, server.err
        time.sleep(0.05)
    return server.out.split("endpoint: ")[1].split()[0]


# ---------------------------------------------------------------- figures


def figure(name: str, value: float, unit: str, goal: float | None, note: str = "") -> dict[str, Any]:
    value = round(value, 2 if unit == "x" else 1)
    met = None if goal is None else value <= goal
    return {"name": name, "value": value, "unit": unit, "goal": goal, "met": met, "note": note}


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def swarm_figures() -> list[dict[str, Any]]:
    swarm = journal(agents=4, turns=10)
    solo = journal(agents=4, turns=37, solo=True)  # 36 turns of work and one end, as 4 × 9 and their ends
    path = swarm.critical_path()
    critical = sum(s.seconds for s in path)
    models = 10 * THINKS
    turns = swarm.turns()
    beyond = [(whole - model - tool) * 1000 for whole, model, tool in turns]
    everything = [(whole - THINKS) * 1000 for whole, _, _ in turns]
    where = (
        f"of a turn's time beyond the model's 500 ms, medians: model call "
        f"{statistics.median(m - THINKS for _, m, _ in turns) * 1000:.0f} ms, tool call "
        f"{statistics.median(t for _, _, t in turns) * 1000:.0f} ms, engine {statistics.median(beyond):.0f} ms"
    )
    kinds: dict[str, float] = defaultdict(float)
    for step in path:
        kinds[step.step] += step.seconds
    spent = ", ".join(f"{kind} {seconds:.1f}" for kind, seconds in kinds.items() if seconds >= 0.05)
    return [
        figure(
            "wall clock of 4 agents x 10 turns against the critical path",
            swarm.wall / critical,
            "x",
            1.15,
            f"{swarm.wall:.1f} s and {critical:.1f} s, of which {spent}",
        ),
        figure(
            "the same against the time that models think, one agent's",
            swarm.wall / models,
            "x",
            None,
            f"{swarm.wall:.1f} s and {models:.1f} s; the command as a whole {swarm.process:.1f} s",
        ),
        figure(
            "wall clock of 4 agents x 10 turns against one solo agent with the same turns",
            swarm.wall / solo.wall,
            "x",
            0.5,
            f"{swarm.wall:.1f} s and {solo.wall:.1f} s",
        ),
        figure(
            "durable overhead per agent turn in a run, p50",
            quantile(beyond, 0.5),
            "ms",
            40,
            f"{len(turns)} turns",
        ),
        figure("durable overhead per agent turn in a run, p99", quantile(beyond, 0.99), "ms", 150),
        figure(
            "everything beyond the model's time per turn, p50", quantile(everything, 0.5), "ms", None, where
        ),
    ]


def memory_figures() -> list[dict[str, Any]]:
    run = journal(agents=16, turns=40, thinks=0.2)
    # Without the start: the first agents' imports and the last agents' ends are not turns.
    work = run.memory[len(run.memory) // 4 : -len(run.memory) // 20 or None]
    early, late = work[: len(work) // 2], work[len(work) // 2 :]
    growth = statistics.median(late) - statistics.median(early)
    return [
        figure(
            "memory of the brain, 16 agents x 40 turns, peak",
            max(run.memory),
            "MB",
            400,
            f"{run.wall:.0f} s, {640 / run.wall:.1f} turns a second",
        ),
        figure(
            "memory of the brain, growth over the second half of the turns",
            growth,
            "MB",
            20,
            f"medians {statistics.median(early):.0f} and {statistics.median(late):.0f} MB; flat: a choice of 20 MB",
        ),
    ]


def merge_figures() -> list[dict[str, Any]]:
    from swarmrun.merging import ladder
    from swarmrun.merging import order as ordering
    from swarmrun.merging.plumbing import Signature

    with tempfile.TemporaryDirectory(prefix="swarmrun-bench-") as place:
        bare = Lab(Path(place)).repository(files={f"src/m{n:03d}.py": body(n) for n in range(300)})
        heads = {f"t{n}": branch(bare, n) for n in range(8)}
        base = git("-C", str(bare), "rev-parse", "main")
        began = time.perf_counter()
        matrix = ordering.predict(bare, {"integration": base, **heads})
        wanted = ordering.order(matrix, "integration", list(heads))
        predicted = time.perf_counter() - began
        who = Signature(name="SwarmRun", email="swarmrun@localhost", date="2026-01-01T00:00:00+00:00")
        tip = base
        for task in wanted:
            outcome = ladder.merge(
                bare, tip, heads[task], message=f"Merge {task}", author=who, labels=("integration", task)
            )
            assert outcome.commit, task
            tip = outcome.commit
        took = time.perf_counter() - began
    note = f"300 files, 6 changed a branch; prediction of 36 pairs {predicted:.2f} s of it"
    return [figure("clean merge of 8 branches, predicted and ordered", took, "s", 2, note)]


def body(number: int) -> str:
    return f'"""Module {number}."""\n\n\n' + "\n\n".join(
        f"def f{number}_{n}(x):\n    return x + {n}\n" for n in range(12)
    )


def branch(bare: Path, number: int) -> str:
    """Five files of its own changed, and a new one."""
    work = bare.parent / f"branch{number}"
    git("clone", "-q", str(bare), str(work))
    for n in range(number * 5, number * 5 + 5):
        file = work / f"src/m{n:03d}.py"
        file.write_text(file.read_text().replace("return x + 3", f"return x * {number + 2}"))
    (work / f"src/new{number}.py").write_text(body(1000 + number))
    git("-C", str(work), "add", "-A")
    git("-C", str(work), "commit", "-q", "-m", f"branch {number}")
    git("-C", str(work), "push", "-q", "origin", f"HEAD:refs/heads/t{number}")
    return git("-C", str(work), "rev-parse", "HEAD")


def help_figures() -> list[dict[str, Any]]:
    program = Path(sys.executable).with_name("swarmrun")
    command = [str(program)] if program.exists() else [sys.executable, "-m", "swarmrun.cli.main"]
    times: list[float] = []
    for _ in range(15):
        began = time.perf_counter()
        subprocess.run([*command, "--help"], capture_output=True, check=True, env={**os.environ})
        times.append((time.perf_counter() - began) * 1000)
    note = f"fastest {min(times):.0f} ms, slowest {max(times):.0f} ms of {len(times)}"
    return [figure("swarmrun --help, median", statistics.median(times), "ms", 250, note)]


PARTS = {"help": help_figures, "merge": merge_figures, "swarm": swarm_figures, "memory": memory_figures}


def main(*wanted: str) -> None:
    figures = [f for name in wanted or PARTS for f in PARTS[name]()]
    json.dump(figures, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main(*sys.argv[1:])
