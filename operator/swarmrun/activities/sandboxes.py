"""A sandbox is made, filled with a commit, set up, and released."""

from __future__ import annotations

import json
import shlex

from swarmrun.activities.commands import run_to_end
from swarmrun.activities.world import RunWorld
from swarmrun.errors import SandboxRefused
from swarmrun.ports import Sandbox
from swarmrun.steps import BoxRef, Ensure, Ensured, Nothing, Prepare, Prepared, Release

SETUP_SECONDS = 1800
"""For one set-up command. A choice: dependency installs of large projects take minutes."""


def ensure(world: RunWorld, given: Ensure) -> Ensured:
    state = world.run(world.provider.ensure(world.spec(given)))
    return Ensured(
        phase=state.phase,
        isolation=world.provider.isolation,
        reason=state.reason,
        message=state.message,
        cloned=state.cloned,
        tells=state.tells,
        open=state.open,
    )


def prepare(world: RunWorld, given: Prepare) -> Prepared:
    """The work tree equals `commit` afterwards. Set-up runs once per sandbox."""
    box = world.box(given)
    load(world, box, given.commit, given.branch, head=given.head)
    if given.setup:
        set_up(world, box, given)
    return Prepared(commit=given.commit)


def load(world: RunWorld, box: Sandbox, commit: str, branch: str, head: str = "") -> None:
    """The work tree shows `commit`, the branch stands at `head` (default `commit`): for the integrator
    `git diff HEAD` is then what is being merged."""
    world.repo.ensure(commit)
    world.run(box.load(world.repo.bundle(commit), commit=commit, branch=branch))
    if head and head != commit:
        done = world.run(box.exec(f"git reset -q --soft {shlex.quote(head)}"))
        if done.exit_code != 0:
            raise SandboxRefused(f"the branch could not be set to {head[:12]}: {done.stdout[-500:]}")


def set_up(world: RunWorld, box: Sandbox, ref: BoxRef) -> None:
    """Raises SandboxRefused `SetupFailed`, naming the command."""
    for number, command in enumerate(world.snapshot.sandbox.setup):
        key = f"{ref.id}/setup/{number}"
        done = world.run(run_to_end(box, command, key=key, timeout_s=SETUP_SECONDS))
        if done.exit_code != 0:
            how = "timed out" if done.timed_out else f"ended with {done.exit_code}"
            world.store.put(
                f"setup/{ref.id}.json", json.dumps({"command": command, "output": done.stdout}).encode()
            )
            raise SandboxRefused(
                f"set-up command {command!r} {how}: {done.stdout.strip()[-600:]}",
                reason="SetupFailed",
                mend="spec.sandbox.setup must work on the base commit",
            )


def release(world: RunWorld, given: Release) -> Nothing:
    if given.task:
        ref = BoxRef(run=given.run, task=given.task, attempt=given.attempt, generation=given.generation)
        world.run(world.provider.release(ref.id))
    else:
        world.run(world.provider.release_run(given.run))
    return Nothing()
