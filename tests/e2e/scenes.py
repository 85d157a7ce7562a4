"""Runs made to measure: resources and recordings, as data.

`journal` is the plain one: N agents, each with files of its own, each turn one command that *appends* a line.
Appending twice shows in the tree: a doubled effect cannot hide.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

API = "swarmrun.dev/v1alpha1"
GATE = "journals"


def swarm_class(endpoint: str) -> dict[str, Any]:
    """Every role asks `endpoint`; local repositories are allowed."""
    return {
        "apiVersion": API,
        "kind": "SwarmClass",
        "metadata": {"name": "e2e"},
        "spec": {
            "models": {"standard": {"endpoint": endpoint, "model": "recorded", "auth": {"type": "none"}}},
            "repositories": {"schemes": ["https", "ssh", "http", "file"]},
            "parallelism": 16,
        },
    }


def journal(
    bare: Path | str, *, name: str = "journal", agents: int = 2, turns: int = 3, **spec: Any
) -> dict[str, Any]:
    """A SwarmRun with its plan given. An agent's last turn is its `finish`. `spec` is laid over."""
    tasks = [
        {
            "id": who,
            "title": f"Journal of {who}",
            "role": "coder",
            "instructions": f"Keep {who}/journal.txt, one line a turn.",
            "ownedPaths": [f"{who}/"],
            "estimate": turns,
            "acceptance": [
                {
                    "description": "Every turn has its line.",
                    "command": f'test "$(wc -l < {who}/journal.txt)" -eq {turns - 1}',
                }
            ],
        }
        for who in names(agents)
    ]
    base: dict[str, Any] = {
        "className": "e2e",
        "goal": f"Keep the journals of {agents} agents.",
        "repository": {"url": str(bare)},
        "mode": "Swarm",
        "parallelism": max(1, agents),
        "plan": {"tasks": tasks, "maxTasks": max(12, agents)},
        "gates": [{"name": GATE, "command": "ls */journal.txt"}],
        "judge": {
            "samples": 1,
            "maxFixRounds": 0,
            "rubric": [{"id": "works", "question": "Is there a journal of each?", "weight": 10}],
        },
    }
    return {"apiVersion": API, "kind": "SwarmRun", "metadata": {"name": name}, "spec": overlaid(base, spec)}


def overlaid(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Mappings are merged, everything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = overlaid(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def journal_recording(
    *, agents: int = 2, turns: int = 3, delay: float = 0, pause: float = 0, who: str = ""
) -> dict[str, Any]:
    """What the models of `journal` say. `delay`: seconds a model thinks. `pause`: seconds a command takes.

    `who`: only this task, for a plan with one."""
    entries: list[dict[str, Any]] = []
    for task in [who] if who else names(agents):
        for turn in range(1, turns):
            command = f"mkdir -p {task} && echo 'turn {turn}' >> {task}/journal.txt"
            if pause:
                command += f" && sleep {pause}"
            entries.append(entry(task, turn, delay, {"name": "exec", "arguments": {"command": command}}))
        end = {"name": "finish", "arguments": {"summary": f"The journal of {task} is kept."}}
        entries.append(entry(task, turns, delay, end))
    answer = {
        "criterion": "works",
        "evidence": [{"where": GATE, "quote": ""}],
        "reason": "There is one for each.",
        "answer": "yes",
    }
    entries.append({"role": "judge", "turn": "*", "json": {"answers": [answer]}})
    return {"model": "recorded", "entries": entries}


def entry(task: str, turn: int, delay: float, call: dict[str, Any]) -> dict[str, Any]:
    return {
        "role": "*",
        "task": task,
        "turn": turn,
        "delay": delay,
        "usage": {"input": 1000, "cached": 800, "output": 50},
        "calls": [call],
    }


def names(agents: int) -> list[str]:
    return [f"a{n:02d}" for n in range(1, agents + 1)]


def documents(*resources: dict[str, Any]) -> str:
    return yaml.safe_dump_all(resources, sort_keys=False)
