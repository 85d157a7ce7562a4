"""Whether a merge by hand may count: guards over what was merged, gates and contracts over what came of it."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from swarmrun.activities import gates, sandboxes
from swarmrun.activities.world import SCAFFOLD, RunWorld
from swarmrun.api.plan import Plan, Task
from swarmrun.api.status import GateStatus
from swarmrun.errors import SandboxRefused
from swarmrun.local.handed import INTEGRATION
from swarmrun.merging.guards import check, check_branch
from swarmrun.planning.contracts import verify
from swarmrun.steps import BoxRef, Ensure, Merged, Prepare, Release, RunGates

START_SECONDS = 120
"""How long a sandbox may take to start. A choice."""


def findings(world: RunWorld, task: Task, before: str, head: str, merged: Merged, own: str) -> list[str]:
    """What the guards refuse of a merge of `head` into `before`, and of the branch by itself.

    `own` is the head that the task's agent left; empty when there is none.
    """
    if not world.guards:
        return []
    repo = world.repo
    fork = repo.merge_base(before, head)
    theirs = head
    if fork == before and own:
        # A human has merged the result in: nothing of either side may have been lost over it.
        repo.ensure(own)
        theirs = own
    # A rule of the ladder may well end with the text of one side.
    by_rule = {f.path for f in merged.files}
    found = [
        f
        for f in check(repo.path, merged.commit, ours=before, theirs=theirs)
        if not (f.kind == "one-parent" and f.path in by_rule)
    ]
    found += check_branch(
        repo.path,
        fork,
        head,
        owned=task.owned_paths,
        role=task.role.value,
        scaffold=world.text(SCAFFOLD) if world.store.exists(SCAFFOLD) else None,
    )
    return list(dict.fromkeys(f.message for f in found if f.severity == "hard"))


@dataclass(frozen=True)
class Proof:
    """What was found on a commit: the gates' results, and all that is wrong, as texts that can be compared."""

    commit: str
    """With the gates' safe fixes."""
    gates: list[GateStatus]
    failures: list[str]
    """Of required gates."""
    breaches: list[str]


def prove(
    world: RunWorld, box: BoxRef, commit: str, number: int, plan: Plan, missing: Collection[str]
) -> Proof:
    """Runs the gates in the sandbox and reads the contracts, without those of tasks that are `missing`.

    `number` keeps the gates' artifact apart from others.
    """
    ran = gates.run_gates(world, RunGates(**box.model_dump(), commit=commit, round=number))
    failures = [
        f"gate {gate.name}: {what}"
        for gate in ran.gates
        if gate.required and not gate.passed
        for what in gate.new_failures or [gate.message or "failed"]
    ]
    paths = [e.path for e in world.repo.list_tree(ran.commit)]
    found = verify(plan, lambda path: world.repo.read(ran.commit, path), paths) if world.guards else []
    breaches = [
        f"contract {b.contract or '-'}: {b.message} ({b.path})" for b in found if b.task not in missing
    ]
    return Proof(ran.commit, ran.gates, failures, breaches)


@contextmanager
def sandbox(world: RunWorld, name: str, commit: str) -> Iterator[BoxRef]:
    """One that is set up on `commit`, for as long as it is needed. Raises SandboxRefused."""
    everything = Release(run=world.snapshot.run)
    box = BoxRef(run=world.snapshot.run, task=name)
    # What an earlier call left behind when it was killed would pass for a sandbox that was lost.
    sandboxes.release(world, everything)
    try:
        ends = time.monotonic() + START_SECONDS
        while (state := sandboxes.ensure(world, Ensure(**box.model_dump()))).phase != "Ready":
            if state.phase != "Starting" or time.monotonic() > ends:
                raise SandboxRefused(state.message, reason=state.reason or "SandboxNotReady")
            time.sleep(0.1)
        sandboxes.prepare(world, Prepare(**box.model_dump(), commit=commit, branch=INTEGRATION))
        yield box
    finally:
        sandboxes.release(world, everything)
