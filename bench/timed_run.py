"""`swarmrun` that writes down when each of its steps began and ended, and how much memory it had. For run_bench.

    timed_run.py LOG ARGUMENT…        LOG: JSON lines {"step", "task", "turn", "begin", "end"} and {"at", "mb"}

Clock: CLOCK_MONOTONIC, the same for all processes of a machine.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import swarmrun.local.runner as runner
from swarmrun.cli.main import run

SAMPLE_SECONDS = 0.25


def main(log: str, *arguments: str) -> None:
    out = Path(log).open("a", buffering=1)  # noqa: SIM115 — open as long as the process
    activities = runner.activities

    def write(**row: Any) -> None:
        out.write(json.dumps(row) + "\n")

    def timed(name: str, activity: Any) -> Any:
        def call(context: Any, given: Any) -> Any:
            begin = time.monotonic()
            result = activity(context, given)
            end = time.monotonic()
            write(step=name, task=given.get("task", ""), turn=given.get("turn", 0), begin=begin, end=end)
            return result

        return call

    def sample() -> None:
        page = os.sysconf("SC_PAGE_SIZE") / 2**20
        while True:
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * page
            write(at=time.monotonic(), mb=resident)
            time.sleep(SAMPLE_SECONDS)

    def watched(worlds: Any) -> Any:
        return {name: timed(name, activity) for name, activity in activities(worlds).items()}

    runner.activities = watched
    threading.Thread(target=sample, daemon=True).start()
    run(list(arguments))


if __name__ == "__main__":
    main(*sys.argv[1:])
