"""A brain to be killed: engine, worker and orchestrations in one process, with effects that are logged outside.

    durable_victim.py run ENGINE EFFECTS [TASKS TURNS]   starts or resumes run "R", serves a socket, prints its result
    durable_victim.py work SOCKET EFFECTS                only a worker, over the socket
    durable_victim.py fill ENGINE BYTES                  raises events until the file may not grow any more

Every activity's effect happens once per key: EFFECTS/<key> is created exclusively. Each try is a line in
EFFECTS/.calls.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
from datetime import timedelta
from pathlib import Path

from durabletask import task

from swarmrun.durable.engine import DtsEngine, EmbeddedEngine

TURNS_A_LIFE = 3


def agent(ctx, state):
    mail = ctx.wait_for_external_event("mail")
    key = {"task": state["task"]}
    checkpoint = None
    last = min(state["turns"], state["turn"] + TURNS_A_LIFE)
    for turn in range(state["turn"], last):
        model = ctx.call_activity("model_turn", input={**key, "turn": turn})
        yield task.when_any([task.when_all([model, *([checkpoint] if checkpoint else [])]), mail])
        if mail.is_complete:
            return {"task": state["task"], "status": "cancelled"}
        calls = [
            ctx.call_activity("tool_call", input={**key, "turn": turn, "call": n})
            for n in range(1 + turn % 3)
        ]
        yield task.when_all(calls)
        pause = ctx.create_timer(timedelta(milliseconds=20))
        yield pause
        checkpoint = ctx.call_activity("checkpoint", input={**key, "turn": turn})
    yield checkpoint
    if mail.is_complete:  # delivered to the armed wait: it would not be carried into the next life
        return {"task": state["task"], "status": "cancelled"}
    if last == state["turns"]:
        return {"task": state["task"], "status": "done", "turns": last}
    mail.cancel()
    ctx.continue_as_new({**state, "turn": last}, save_events=True)
    return None


def run(ctx, plan):
    mail = ctx.wait_for_external_event("mail")
    children = {}
    for n in range(plan["tasks"]):
        child = {"task": f"t{n}", "turn": 0, "turns": plan["turns"]}
        children[f"t{n}"] = ctx.call_sub_orchestrator("agent", input=child, instance_id=f"R:t{n}:a1")
    out, merged, told = {}, [], False
    while children:
        yield task.when_any([*children.values(), *([] if told else [mail])])
        if mail.is_complete and not told:
            told = True
            for name in children:
                ctx.send_event(f"R:{name}:a1", "mail", data={"kind": "cancel"})
        for name in [n for n, c in children.items() if c.is_complete]:
            out[name] = children.pop(name).get_result()["status"]
            if out[name] == "done":
                merged.append((yield ctx.call_activity("merge", input={"task": name})))
    yield ctx.call_activity("publish", input={})
    return {"tasks": dict(sorted(out.items())), "merged": sorted(merged)}


class Effects:
    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(exist_ok=True)

    def once(self, key: str, seconds: float) -> str:
        with open(self.root / ".calls", "a") as calls:
            calls.write(key + "\n")
        time.sleep(seconds)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.root / key, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        return key

    def activities(self):
        def step(kind, seconds):
            return lambda ctx, k: self.once("-".join([kind, *(str(v) for v in k.values())]), seconds)

        return {
            "model_turn": step("model", 0.05),
            "tool_call": step("tool", 0.005),
            "checkpoint": step("checkpoint", 0.01),
            "merge": step("merge", 0.01),
            "publish": step("publish", 0.01),
        }


def main(mode: str, place: str, *rest: str) -> None:
    if mode == "fill":
        engine = EmbeddedEngine(Path(place)).open()
        client = engine.client()
        if client.get_orchestration_state("R") is None:
            client.schedule_new_orchestration("waits", instance_id="R")
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(rest[0]), int(rest[0])))  # a disk that is full
        for n in range(10_000):
            client.raise_orchestration_event("R", "mail", data={"n": n, "pad": "x" * 2000})
            print(n, flush=True)
    effects = Effects(Path(rest[0]))
    if mode == "work":
        DtsEngine(f"unix:{place}").start_worker([run, agent], effects.activities())
        print("up", flush=True)
        time.sleep(3600)
    engine = EmbeddedEngine(Path(place), grace=0.3).open()
    client = engine.client()
    if client.get_orchestration_state("R") is None:
        plan = {"tasks": int(rest[1]), "turns": int(rest[2])}
        client.schedule_new_orchestration("run", input=plan, instance_id="R")
    if mode == "run":
        engine.start_worker([run, agent], effects.activities())
    engine.serve()
    print("up", flush=True)
    state = client.wait_for_orchestration_completion("R", timeout=3600)
    assert state is not None
    print(json.dumps({"status": state.runtime_status.name, "output": state.get_output()}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
