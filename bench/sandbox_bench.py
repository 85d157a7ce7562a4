"""Tool calls to a sandbox: round trip beyond the command itself, start, checkpoint.

Prints a table and writes build/bench/sandbox.json. Nothing is asserted.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from swarmrun.ports import SandboxSpec
from swarmrun.sandbox import bubblewrap
from swarmrun.sandbox.process import ProcessProvider

CALLS = 200


def row(name: str, value: float, goal: float | None, note: str = "") -> dict[str, Any]:
    met = None if goal is None else value <= goal
    return {"name": name, "value": round(value, 2), "unit": "ms", "goal": goal, "met": met, "note": note}


async def timed(call: Callable[[], Awaitable[Any]]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = await call()
    return (time.perf_counter() - started) * 1000, result


async def measure(root: Path) -> list[dict[str, Any]]:
    provider = ProcessProvider(root, secrets.token_bytes(32), unsafe_no_sandbox=True)
    note = f"isolation {provider.isolation}"
    await provider.ensure(SandboxSpec("warm", run="bench"))
    start, _ = await timed(lambda: provider.ensure(SandboxSpec("bench", run="bench")))
    box = await provider.connect("bench")
    beyond: list[float] = []
    for _ in range(CALLS):
        took, result = await timed(lambda: box.exec("true", key=secrets.token_hex(8)))
        beyond.append(took - result.seconds * 1000)
    await box.write("a.txt", b"x" * 1000)
    reads = [(await timed(lambda: box.read("a.txt")))[0] for _ in range(CALLS)]
    made = await box.exec(
        "git init -q o && cd o && for i in $(seq 500); do echo $i > f$i; done && git add . && git commit -qm b && "
        "git bundle create -q ../b HEAD && git rev-parse HEAD"
    )
    bundle = await box.read("b")
    await box.exec("rm -rf o b")
    load, _ = await timed(lambda: box.load(bundle, commit=made.stdout.strip(), branch="work"))
    since = made.stdout.strip()
    checkpoints: list[float] = []
    for n in range(20):
        await box.write("a.txt", str(n).encode())
        took, point = await timed(lambda since=since: box.checkpoint(since=since))
        checkpoints.append(took)
        since = point.commit
    await provider.release_run("bench")
    p99 = statistics.quantiles(beyond, n=100)[98]
    return [
        row("tool call round trip beyond the command, p50", statistics.median(beyond), 3, note),
        row("tool call round trip beyond the command, p99", p99, None, note),
        row("read of a small file, p50", statistics.median(reads), None, note),
        row("sandbox start to ready", start, None, note),
        row("load of a bundle of 500 files", load, None, note),
        row("checkpoint of one changed file of 500, p50", statistics.median(checkpoints), None, note),
    ]


def main() -> None:
    with tempfile.TemporaryDirectory() as root:
        rows = asyncio.run(measure(Path(root)))
    out = Path("build/bench/sandbox.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(rows, indent=1) + "\n")
    for it in rows:
        goal = "" if it["goal"] is None else f"goal {it['goal']} {'met' if it['met'] else 'MISSED'}"
        print(f"{it['name']:50} {it['value']:9.2f} ms  {goal}  ({it['note']})")
    if bubblewrap.usable().problem:
        print(f"without bubblewrap: {bubblewrap.usable().problem}")


if __name__ == "__main__":
    main()
