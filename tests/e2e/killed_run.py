"""`swarmrun` that kills itself, with its whole process group, at step boundaries. Run by `killing.py`.

    killed_run.py SEEN DUE ARGUMENT…

Every step has three boundaries: `begun` (handed out, nothing done), `done` (its effect is there, its result is
not recorded) and `recorded`. Each is appended to the file SEEN when it is reached, as `KIND STEP key=value …`;
one that stands in the file DUE is taken out of it and ends the process by kill -9.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import swarmrun.local.runner as runner
from swarmrun.cli.main import run
from swarmrun.durable.backend import DurableBackend

IDENTITY = ("role", "task", "attempt", "turn", "index", "round", "sample", "number", "name")
# Not the generation: after a kill there is always the next one.


class Boundaries:
    def __init__(self, seen: Path, due: Path) -> None:
        self.seen, self.due = seen, due
        self.lock = threading.Lock()
        self.steps: dict[tuple[str, int], str] = {}
        """Orchestration and task id → the step at work there."""

    def reach(self, kind: str, step: str) -> None:
        boundary = f"{kind} {step}"
        with self.lock:
            with self.seen.open("a") as file:
                file.write(f"{boundary}\n")
            due = self.due.read_text().splitlines() if self.due.exists() else []
            if boundary in due:
                due.remove(boundary)
                self.due.write_text("".join(f"{line}\n" for line in due))
                os.killpg(0, signal.SIGKILL)

    def watched(self, name: str, activity: Any) -> Any:
        def watch(context: Any, given: Any) -> Any:
            step = " ".join([name, *(f"{k}={given[k]}" for k in IDENTITY if given.get(k) not in (None, ""))])
            self.steps[context.orchestration_id, context.task_id] = step
            self.reach("begun", step)
            result = activity(context, given)
            self.reach("done", step)
            return result

        return watch


def main(seen: str, due: str, *arguments: str) -> None:
    boundaries = Boundaries(Path(seen), Path(due))
    activities, complete = runner.activities, DurableBackend.CompleteActivityTask

    def watched(worlds: Any) -> Any:
        return {name: boundaries.watched(name, activity) for name, activity in activities(worlds).items()}

    def recorded(self: DurableBackend, request: Any, context: Any) -> Any:
        response = complete(self, request, context)
        if step := boundaries.steps.get((request.instanceId, request.taskId)):
            boundaries.reach("recorded", step)
        return response

    runner.activities = watched
    DurableBackend.CompleteActivityTask = recorded
    run(list(arguments))


if __name__ == "__main__":
    main(*sys.argv[1:])
