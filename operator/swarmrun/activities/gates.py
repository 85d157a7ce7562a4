"""Gates: on the base before anyone works, and on the merged result. Only failures that are new count."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import TypeAdapter

from swarmrun.activities.commands import run_to_end
from swarmrun.activities.merging import LOCKFILES, message
from swarmrun.activities.sandboxes import load, set_up
from swarmrun.activities.world import AUTHOR, RunWorld
from swarmrun.api.run import Gate
from swarmrun.planning.contracts import verify
from swarmrun.ports import Sandbox
from swarmrun.steps import Baseline, BaselineDone, BatchChecked, BatchGates, GatesRun, RunGates
from swarmrun.verifying.gates import (
    GateOutcome,
    compare,
    detect,
    failing_required,
    new_failures,
    parse,
    without_empty,
)

BASELINE = "gates/baseline.json"
LOCKFILE_SECONDS = 300
OUTCOMES = TypeAdapter(list[GateOutcome])


def baseline(world: RunWorld, given: Baseline) -> BaselineDone:
    """Set-up, then the gates, on the base commit. Raises SandboxRefused `SetupFailed`."""
    box = world.box(given)
    set_up(world, box, given)
    outcomes = _runnable(world, [run_gate(world, box, gate) for gate in gates_of(world, given.commit)])
    # Tests leave things behind; the planner reads the same tree.
    load(world, box, given.commit, "integration")
    world.store.put(BASELINE, OUTCOMES.dump_json(outcomes))
    return BaselineDone(gates=compare(outcomes, outcomes), artifact=BASELINE)


def gates_of(world: RunWorld, commit: str) -> list[Gate]:
    """The run's own, else what the repository shows."""
    if world.snapshot.gates:
        return world.snapshot.gates
    world.repo.ensure(commit)
    paths = [e.path for e in world.repo.list_tree(commit)]
    return detect(paths, lambda path: world.repo.read(commit, path))


def run_gate(world: RunWorld, box: Sandbox, gate: Gate, outputs: dict[str, str] | None = None) -> GateOutcome:
    done = world.run(run_to_end(box, gate.command, timeout_s=gate.timeout_seconds, cap=60_000))
    if outputs is not None:
        outputs[gate.name] = done.stdout[-12_000:]
    return parse(gate, done.stdout, None if done.timed_out else done.exit_code)


def run_gates(world: RunWorld, given: RunGates) -> GatesRun:
    """Safe fixes first, then every gate, then the contracts by reading the code."""
    box = world.box(given)
    load(world, box, given.commit, "integration")
    gates = gates_of(world, given.commit)
    commit = _fixed(world, given, box, gates)
    outputs: dict[str, str] = {}
    before = baseline_of(world)
    outcomes = _asked_for(
        world, before, _runnable(world, [run_gate(world, box, gate, outputs) for gate in gates])
    )
    # A new failure is run once more: one that flips is flaky and does not count.
    again = new_failures(before, outcomes)
    status = compare(before, outcomes, [run_gate(world, box, g) for g in gates if g.name in again])
    load(world, box, commit, "integration")
    breaches = _breaches(world, given.plan, commit) if given.plan else []
    artifact = world.put(
        f"gates/round-{given.round}.json",
        {
            "gates": [s.model_dump(mode="json") for s in status],
            "outputs": outputs,
            "breaches": breaches,
        },
    )
    evidence = ""
    if breaches:
        failing = {s.name: outputs[s.name] for s in status if s.required and not s.passed}
        evidence = world.put(
            f"evidence/contracts-{given.round}.json",
            {"complaints": [], "gates": failing, "breaches": breaches},
        )
    return GatesRun(
        commit=commit,
        evidence=evidence,
        gates=status,
        breaches=[b[:300] for b in breaches][:20],
        artifact=artifact,
        failing_required=len(failing_required(status)),
    )


def batch_gates(world: RunWorld, given: BatchGates) -> BatchChecked:
    """Whether branches that were green one by one are so together. Only required gates count."""
    box = world.box(given)
    load(world, box, given.commit, "integration")
    gates = [g for g in gates_of(world, given.commit) if g.required]
    outputs: dict[str, str] = {}
    before = baseline_of(world)
    outcomes = _asked_for(world, before, [run_gate(world, box, gate, outputs) for gate in gates])
    if given.unmerged:
        # Tests that run into the scaffold of work that is still to come are not anybody's fault.
        outcomes = [o for o in outcomes if "NotImplementedError" not in outputs[o.gate]]
    again = new_failures(before, outcomes)
    status = compare(before, outcomes, [run_gate(world, box, g) for g in gates if g.name in again])
    red = [s for s in status if not s.passed]
    load(world, box, given.commit, "integration")
    summary = "; ".join(f"{s.name}: {', '.join(s.new_failures[:5]) or s.message}" for s in red)
    if red:
        summary += "\n" + first_failure(outputs[red[0].name])
    return BatchChecked(red=bool(red), summary=summary[:4000])


def _runnable(world: RunWorld, outcomes: list[GateOutcome]) -> list[GateOutcome]:
    """Nobody asked for a tool that is only guessed at and is not on this machine."""
    guessed = not world.snapshot.gates
    return [o for o in outcomes if not (guessed and o.why == "missing" and not o.required)]


def _asked_for(world: RunWorld, before: Sequence[GateOutcome], after: list[GateOutcome]) -> list[GateOutcome]:
    return after if world.snapshot.gates else without_empty(before, after)


def _fixed(world: RunWorld, given: RunGates, box: Sandbox, gates: Sequence[Gate]) -> str:
    """Formatters and safe lint fixes cost no model; what they change is a commit of its own."""
    fixes = [g for g in gates if g.fix]
    merged = world.store.list(LOCKFILES) if given.round == 0 else []
    lockfiles = [command for key in merged for command in world.get(key)]
    if not fixes and not lockfiles:
        return given.commit
    for command in dict.fromkeys(lockfiles):
        # Best effort: without network most package managers cannot, and the older lockfile stays.
        world.run(run_to_end(box, command, timeout_s=LOCKFILE_SECONDS))
    for gate in fixes:
        world.run(run_to_end(box, gate.fix, timeout_s=gate.timeout_seconds))
    taken = world.run(box.checkpoint(since=given.commit, message="safe fixes"))
    if not taken.changed:
        return given.commit
    world.repo.keep_bundle(taken.bundle, commit=taken.commit, since=[given.commit])
    world.repo.ensure(taken.commit)
    commit = world.repo.commit_tree(
        world.repo.tree_of(taken.commit),
        [given.commit],
        message(world, f"Apply safe fixes ({', '.join([*lockfiles, *(g.name for g in fixes)])})"),
        AUTHOR,
        world.date(f"fixes-{given.round}-{given.commit[:12]}"),
    )
    world.repo.record(commit, given.commit)
    load(world, box, commit, "integration")
    return commit


def baseline_of(world: RunWorld) -> list[GateOutcome]:
    if not world.store.exists(BASELINE):
        return []  # an empty repository had nothing that could have failed
    return OUTCOMES.validate_json(world.store.get(BASELINE))


def _breaches(world: RunWorld, plan_key: str, commit: str) -> list[str]:
    paths = [e.path for e in world.repo.list_tree(commit)]
    found = verify(world.plan(plan_key), lambda p: world.repo.read(commit, p), paths)
    return [f"{b} (expected {b.expected}; provided by task {b.task or 'nobody'})" for b in found]


def first_failure(output: str) -> str:
    """The first failure's text: the others often have the same cause."""
    for mark in ("Traceback (most recent call last)", "= FAILURES =", "= ERRORS =", "--- FAIL", "not ok"):
        at = output.find(mark)
        if at >= 0:
            return output[at : at + 3000]
    return output.strip()[-2000:]
