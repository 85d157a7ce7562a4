"""Branches are ordered and merged by code, in the brain's bare repository: nothing of them is run here."""

from __future__ import annotations

from datetime import UTC, datetime

from swarmrun.activities.world import AUTHOR, RunWorld
from swarmrun.api.status import MergedFile, MergeHow
from swarmrun.git import trailers
from swarmrun.merging import ladder
from swarmrun.merging import order as ordering
from swarmrun.merging.plumbing import Signature
from swarmrun.steps import Merge, Merged, Order, Ordered

INTEGRATION = "integration"
LOCKFILES = "lockfiles"
"""Artifacts: commands that make lockfiles anew; run in the integration sandbox before the gates."""


def order(world: RunWorld, given: Order) -> Ordered:
    for commit in [given.integration, *given.heads.values()]:
        world.repo.ensure(commit)
    # A task cannot be called so: its name is taken for the integration branch's sandbox.
    heads = {INTEGRATION: given.integration, **given.heads}
    matrix = ordering.predict(world.repo.path, heads)
    tasks = list(given.heads)
    return Ordered(
        tasks=ordering.order(matrix, INTEGRATION, tasks),
        conflicts={t: [o for o in tasks if o != t and matrix.conflicts(t, o)] for t in tasks},
    )


def merge(world: RunWorld, given: Merge) -> Merged:
    repo = world.repo
    repo.ensure(given.integration)
    repo.ensure(given.head)
    outcome = ladder.merge(
        repo.path,
        given.integration,
        given.head,
        message=message(world, f"Merge task {given.task}", given.task),
        author=signature(world, f"merge-{given.task}-{given.head[:12]}"),
        labels=("integration", given.task),
    )
    # What git merged by itself is no conflict; what the guards say of it is told all the same.
    files = [MergedFile(path=r.path, how=MergeHow(r.how)) for r in outcome.resolutions if r.how != "Clean"]
    findings = [f.message[:300] for f in outcome.findings if f.severity == "hard"][:5]
    if outcome.commands:
        world.put(f"{LOCKFILES}/{given.task}.json", list(outcome.commands))
    if outcome.commit:
        repo.hold(outcome.commit)
        repo.record(outcome.commit, given.integration)
        return Merged(
            commit=outcome.commit,
            combined=repo.tree_of(outcome.commit) != repo.tree_of(given.head),
            how=outcome.how,
            files=files,
            findings=findings,
        )
    partial = repo.commit_tree(
        outcome.partial_tree,
        [given.integration, given.head],
        message(world, f"Merge of task {given.task}, not resolved", given.task),
        AUTHOR,
        world.date(f"merge-{given.task}-{given.head[:12]}"),
    )
    repo.record(partial, given.integration)
    evidence = world.put(
        f"merges/{given.task}-{given.head[:12]}.json",
        {
            "task": given.task,
            "resolved": [{"path": r.path, "how": r.how, "note": r.note} for r in outcome.resolutions],
            "conflicts": [
                {
                    "path": c.path,
                    "kind": c.kind,
                    "base": _text(c.base),
                    "ours": _text(c.ours),
                    "theirs": _text(c.theirs),
                    "resolved": c.resolved_hunks,
                }
                for c in outcome.conflicts
            ],
        },
    )
    return Merged(
        files=files, conflicts=[c.path for c in outcome.conflicts], evidence=evidence, partial=partial
    )


def message(world: RunWorld, subject: str, task: str = "") -> str:
    """A commit message that carries run, task and spec hash as trailers."""
    snapshot = world.snapshot
    marks = trailers.run_trailers(run=snapshot.run, spec_hash=snapshot.spec_hash, task=task)
    return trailers.add(subject, marks)


def signature(world: RunWorld, name: str) -> Signature:
    author, _, mail = AUTHOR.rstrip(">").partition(" <")
    when = datetime.fromtimestamp(world.date(name), UTC).isoformat()
    return Signature(name=author, email=mail, date=when)


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode("utf-8", "replace")
