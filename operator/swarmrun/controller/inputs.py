"""What an orchestration is started with."""

from __future__ import annotations

from swarmrun.api.resolve import Snapshot
from swarmrun.observability.previews import preview
from swarmrun.orchestration.inputs import RunInput


def run_input(snapshot: Snapshot, *, granted: int = 0, suspended: bool = False) -> RunInput:
    """The decisions' parameters out of the snapshot. `granted`: sandboxes it may hold at once, 0 for no cap."""
    return RunInput(
        run=snapshot.run,
        preview=preview(snapshot.goal),
        name=snapshot.name,
        namespace=snapshot.namespace,
        generation=snapshot.generation,
        branch=snapshot.branch,
        given_plan=snapshot.given_plan is not None,
        mode=snapshot.mode.value,
        plan_approval=snapshot.plan_approval,
        publish_approval=snapshot.publish.approval,
        publish_partial=snapshot.publish.partial,
        publish_task_branches=snapshot.publish.task_branches,
        parallelism=snapshot.parallelism,
        class_name=snapshot.class_name,
        max_sandboxes=snapshot.max_sandboxes,
        granted=granted,
        suspended=suspended,
        tokens=snapshot.limits.tokens,
        cost=snapshot.limits.cost,
        duration_seconds=snapshot.limits.duration_seconds,
        turns=snapshot.limits.turns,
        threshold=snapshot.threshold,
        max_fix_rounds=snapshot.max_fix_rounds,
        samples=snapshot.samples,
        guards=snapshot.guards,
        setup_only=snapshot.sandbox.opens_for_setup,
    )
