"""All figures: runs the benches one after the other, prints one table, writes build/bench/*.json.

    python bench/all.py [NAME …]        NAME: runs, engine, sandbox, cluster, mistakes

The default is those that need no cluster.

Nothing is asserted: a figure that is missed is marked, and its note says where the time goes. The machine's load
before each bench is told with it: on a busy machine figures are worse.
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
    "runs": ("whole runs, models simulated, everything else real", "bench/run_bench.py"),
    "engine": ("the durable engine alone, activities that only sleep", "bench/durable_bench.py"),
    "sandbox": ("one sandbox alone", "bench/sandbox_bench.py"),
    "cluster": ("the operator on a real cluster", "bench/cluster_bench.py"),
    "mistakes": ("how soon a mistake is told, on a real cluster with a forge", "bench/mistakes_bench.py"),
}
"""What it measures, and the program: it prints a JSON list of figures, or writes one to build/bench/<name>.json."""


def main(*wanted: str) -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    tables: list[str] = []
    failed = False
    for name in wanted or [name for name in BENCHES if name not in ("cluster", "mistakes")]:
        what, program = BENCHES[name]
        print(f"{name}: {what} …", file=sys.stderr, flush=True)
        load = os.getloadavg()[0]
        done = subprocess.run([sys.executable, program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            failed = True
            print(f"{name} ended with {done.returncode}", file=sys.stderr)
            continue
        file = OUT / f"{name}.json"
        figures: list[dict[str, Any]] = json.loads(
            done.stdout if done.stdout.lstrip().startswith("[") else file.read_text()
        )
        tables.append(f"{what} (load {load:.1f} before)\n{table(figures)}")
        for figure in figures:
            figure["note"] = "; ".join(filter(None, [figure["note"], f"load {load:.1f} before"]))
        file.write_text(json.dumps(figures, indent=1) + "\n")
    print(f"\n{os.cpu_count()} cores, Python {platform.python_version()}, {platform.platform()}\n")
    print("\n\n".join(tables))
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
