"""All figures: runs the benches one after the other, prints one table, writes build/bench/*.json.

    python bench/all.py [NAME …]        NAME: engine, sandbox, runs, tests …; default all that can be run here

Nothing is asserted: a figure that is missed is marked, and its note says where the time goes. The machine's load
before each bench stands in its rows: on a busy machine figures are worse.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "build" / "bench"

BENCHES = {
    "runs": ["bench/run_bench.py"],
    "engine": ["bench/durable_bench.py"],
    "sandbox": ["bench/sandbox_bench.py"],
}
"""Programs that print a JSON list of figures, or write one to build/bench/<name>.json."""


def main(*wanted: str) -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    failed = False
    for name in wanted or BENCHES:
        print(f"{name} …", file=sys.stderr, flush=True)
        load = os.getloadavg()[0]
        done = subprocess.run(
            [sys.executable, *BENCHES[name]], cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ}
        )
        if done.returncode != 0:
            failed = True
            print(f"{name} ended with {done.returncode}", file=sys.stderr)
            continue
        file = OUT / f"{name}.json"
        figures = json.loads(done.stdout if done.stdout.lstrip().startswith("[") else file.read_text())
        if load > 1:
            for figure in figures:
                figure["note"] = "; ".join(filter(None, [figure["note"], f"load {load:.1f} before"]))
        file.write_text(json.dumps(figures, indent=1) + "\n")
        rows += figures
    print(f"\n{os.cpu_count()} cores, Python {platform.python_version()}, {platform.platform()}\n")
    print(table(rows))
    sys.exit(failed)


def table(rows: list[dict[str, Any]]) -> str:
    width = max((len(r["name"]) for r in rows), default=0)
    lines = [f"{'what':{width}}  {'measured':>12}  {'to reach':>12}         where the time goes"]
    for row in rows:
        goal = "" if row["goal"] is None else f"≤ {row['goal']:g} {row['unit']}"
        met = {True: "met", False: "MISSED", None: ""}[row["met"]]
        value = f"{row['value']:g} {row['unit']}"
        lines.append(f"{row['name']:{width}}  {value:>12}  {goal:>12}  {met:6} {row['note']}".rstrip())
    return "\n".join(lines)


if __name__ == "__main__":
    main(*sys.argv[1:])
