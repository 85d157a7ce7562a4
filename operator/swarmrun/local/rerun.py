"""Another attempt of a run that has ended on this machine: in the same directory, with artifacts of its own."""

from __future__ import annotations

from datetime import UTC, datetime

from swarmrun.api.resolve import Snapshot, resolve
from swarmrun.controller.inputs import run_input
from swarmrun.errors import Conflict
from swarmrun.local.directory import RunDirectory, RunFile
from swarmrun.local.lock import lock_unworked
from swarmrun.local.paths import cassettes
from swarmrun.orchestration.inputs import RunInput
from swarmrun.orchestration.rerun import taking_over

FIELD = "--from"


def begin(directory: RunDirectory, point: str) -> None:
    """Writes the next attempt down; `Runs.work` then does it. `point` empty: from the beginning.

    Raises Conflict `NotEnded`, InvalidResource where the last attempt never came to that point, NotFound where it
    has left no report.
    """
    name = directory.name
    with lock_unworked(directory.lock, name):
        run, file = directory.resource(), directory.file()
        if not (run.status and run.status.phase.terminal):
            raise Conflict(
                f"run {name} has not ended",
                mend=f"`swarmrun resume {name}` goes on with it, `swarmrun cancel {name}` ends it",
                reason="NotEnded",
            )
        # As it was given, without the words that ended the attempt before.
        spec = run.spec.model_copy(update={"cancel": False, "suspend": False})
        run = run.model_copy(update={"spec": spec})
        first = file.instance if file.attempt == 1 else file.instance.rpartition("-")[0]
        attempt = file.attempt + 1
        snapshot = resolve(
            run,
            directory.swarm_class(),
            instance=f"{first}-{attempt}",
            attempt=attempt,
            guards=directory.snapshot().guards,
            own_machine=True,
        )
        update = {
            "instance": snapshot.run,
            "attempt": attempt,
            "rerun_from": point,
            "created_at": datetime.now(UTC),
            "endpoints": cassettes(snapshot),
        }
        later = file.model_copy(update=update)
        first_input(directory, later, snapshot)  # what is wrong with the point is told now
        directory.save_resource(run)
        directory.begin_attempt(later, snapshot)


def first_input(directory: RunDirectory, file: RunFile, snapshot: Snapshot) -> RunInput:
    """What the attempt's orchestration is started with."""
    given = run_input(snapshot)
    if file.attempt == 1:
        return given
    given = given.model_copy(update={"anew": True})
    if not file.rerun_from:
        return given
    return taking_over(given, directory.report(file.attempt - 1), file.rerun_from, FIELD)
