"""What the durable engine costs an agent's turn, and whether memory stays flat over turns.

    python bench/durable_bench.py            prints a JSON list of {"name", "value", "unit", "goal", "met", "note"}

Activities only sleep: 500 ms for the model, 20 ms for a tool call, 30 ms for the checkpoint, which overlaps the
next model call. What a turn takes beyond 520 ms is the engine's.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import resource
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from durabletask import task

from swarmrun.durable.engine import EmbeddedEngine

MODEL, TOOL, CHECKPOINT = 0.5, 0.02, 0.03
TURNS_A_LIFE = 20


def agent(ctx: Any, state: dict[str, Any]) -> Any:
    """The shape of a real agent: one mailbox, one status a turn, a new life every 20 turns."""
    mail = ctx.wait_for_external_event("mail")
    key = {"run": state["run"], "task": state["task"]}
    checkpoint = None
    last = min(state["turns"], state["turn"] + TURNS_A_LIFE)
    for turn in range(state["turn"], last):
        ctx.set_custom_status({"task": state["task"], "turn": turn, "tokens": turn * 1000})
        model = ctx.call_activity("model_turn", input={**key, "turn": turn})
        yield task.when_any([task.when_all([model, *([checkpoint] if checkpoint else [])]), mail])
        yield task.when_any([ctx.call_activity("tool_call", input={**key, "turn": turn, "call": 0}), mail])
        checkpoint = ctx.call_activity("checkpoint", input={**key, "turn": turn})
    yield checkpoint
    if last == state["turns"]:
        return {"task": state["task"], "turns": last}
    mail.cancel()
    ctx.continue_as_new({**state, "turn": last}, save_events=True)
    return None


def run(ctx: Any, plan: dict[str, int]) -> Any:
    children = [
        ctx.call_sub_orchestrator(
            "agent",
            input={"run": ctx.instance_id, "task": f"t{n}", "turn": 0, "turns": plan["turns"]},
            instance_id=f"{ctx.instance_id}:t{n}:a1",
        )
        for n in range(plan["agents"])
    ]
    yield task.when_all(children)
    return len(children)


class Clock:
    """When each agent's model calls began."""

    def __init__(self, scale: float) -> None:
        self.scale = scale
        self.starts: dict[str, list[float]] = defaultdict(list)

    def model_turn(self, ctx: Any, key: dict[str, Any]) -> dict[str, Any]:
        self.starts[key["task"]].append(time.perf_counter())
        time.sleep(MODEL * self.scale)
        return {"reply": f"turns/{key['task']}/{key['turn']:04d}", "preview": "x" * 400, "calls": 1}

    def tool_call(self, ctx: Any, key: dict[str, Any]) -> dict[str, Any]:
        time.sleep(TOOL * self.scale)
        return {"ok": True, "preview": "y" * 200}

    def checkpoint(self, ctx: Any, key: dict[str, Any]) -> dict[str, Any]:
        time.sleep(CHECKPOINT * self.scale)
        return {"commit": "0" * 40, "changed": True}

    def overheads(self) -> list[float]:
        """Seconds beyond the sleeps, of every turn but each agent's last."""
        asked = (MODEL + TOOL) * self.scale
        return sorted(
            later - earlier - asked
            for starts in self.starts.values()
            for earlier, later in itertools.pairwise(starts)
        )


def swarm(agents: int, turns: int, scale: float, samples: list[float] | None = None) -> Clock:
    """One run; `samples` takes the process's resident megabytes, a few times a second."""
    clock = Clock(scale)
    with tempfile.TemporaryDirectory() as home:
        engine = EmbeddedEngine(Path(home) / "engine.db").open()
        activities = {
            "model_turn": clock.model_turn,
            "tool_call": clock.tool_call,
            "checkpoint": clock.checkpoint,
        }
        engine.start_worker([run, agent], activities)
        client = engine.client()
        done = threading.Event()

        def watch() -> None:  # as the command line does
            while not done.wait(0.1):
                client.get_orchestration_state("R")
                if samples is not None:
                    samples.append(resident_mb())

        watcher = threading.Thread(target=watch)
        watcher.start()
        client.schedule_new_orchestration("run", input={"agents": agents, "turns": turns}, instance_id="R")
        state = client.wait_for_orchestration_completion("R", timeout=600)
        done.set()
        watcher.join()
        assert state is not None
        assert state.get_output() == agents, state.failure_details
        engine.close(wait=0)
    return clock


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def item(name: str, value: float, unit: str, goal: float, note: str = "") -> dict[str, Any]:
    value = round(value, 1)
    return {"name": name, "value": value, "unit": unit, "goal": goal, "met": value <= goal, "note": note}


def main() -> None:
    cpu = time.process_time()
    overheads = swarm(agents=4, turns=25, scale=1).overheads()
    cpu = time.process_time() - cpu
    note = f"4 agents x 25 turns of 500 ms; CPU {cpu / 100 * 1000:.1f} ms a turn; synchronous=FULL"
    figures = [
        item("durable overhead per agent turn, p50", overheads[len(overheads) // 2] * 1000, "ms", 40, note),
        item(
            "durable overhead per agent turn, p99",
            overheads[int(len(overheads) * 0.99)] * 1000,
            "ms",
            150,
            note,
        ),
    ]
    gc.collect()
    samples: list[float] = []
    swarm(agents=16, turns=40, scale=0.2, samples=samples)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    early, late = max(samples[: len(samples) // 2]), max(samples[len(samples) // 2 :])
    figures += [
        item(
            "memory, 16 agents x 40 turns, peak", peak, "MB", 400, "the engine and trivial activities alone"
        ),
        item(
            "memory growth, second half of the turns", late - early, "MB", 10, f"{early:.0f} to {late:.0f} MB"
        ),
    ]
    json.dump(figures, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
