"""One branch into the integration branch: code first, the integrator for what is left, else parked."""

from __future__ import annotations

from dataclasses import dataclass, field

from swarmrun.api.status import MergedFile, MergeHow, MergeStatus
from swarmrun.orchestration.box import INTEGRATION
from swarmrun.orchestration.desk import Desk
from swarmrun.orchestration.flow import Work
from swarmrun.orchestration.inputs import AgentInput, AgentResult
from swarmrun.orchestration.perform import told
from swarmrun.steps import MERGE, ORDER, Brief, Merge, Merged, Order, Ordered, Result

INTEGRATOR_TURNS = 30


@dataclass(frozen=True)
class Landed:
    """How a branch's merge ended; without a commit it is parked for `reason`."""

    commit: str = ""
    combined: bool = True
    """False: the merged tree is the branch's own, nothing of others came in."""
    reason: str = ""
    refused: list[str] = field(default_factory=list[str])


def order(desk: Desk, heads: dict[str, str]) -> Work[list[str]]:
    """Fewest predicted conflicts first, ties by plan order; plan order when prediction fails."""
    if len(heads) < 2:
        return list(heads)
    result: Result[Ordered] = yield from desk.perform(
        ORDER, Order(run=desk.given.run, integration=desk.integration, heads=heads)
    )
    if result.failed or result.ok is None or sorted(result.ok.tasks) != sorted(heads):
        return list(heads)
    return result.ok.tasks


def merge_one(desk: Desk, task_id: str, head: str, attempt: int) -> Work[Landed]:
    """Never stalls the run: what cannot be merged is parked and named."""
    result: Result[Merged] = yield from desk.perform(
        MERGE,
        Merge(run=desk.given.run, integration=desk.integration, task=task_id, head=head, plan=desk.plan_key),
    )
    if result.failed:
        return park(desk, task_id, f"{result.failed.reason}: {told(result.failed)}", [], [])
    assert result.ok
    merged = result.ok
    if merged.commit:
        note(
            desk,
            MergeStatus(
                task=task_id,
                how=MergeHow(merged.how),
                files=merged.files,
                commit=merged.commit,
                reason="; ".join(merged.findings)[:512],
            ),
        )
        return Landed(commit=merged.commit, combined=merged.combined)
    outcome = yield from integrate(desk, task_id, head, attempt, merged)
    desk.box.lent(outcome)
    if outcome.status == "Finished" and outcome.commit:
        left = [MergedFile(path=p, how=MergeHow.INTEGRATOR) for p in merged.conflicts]
        note(
            desk,
            MergeStatus(
                task=task_id,
                how=MergeHow.INTEGRATOR,
                files=[*merged.files, *left],
                refused=heads(outcome.refused),
                commit=outcome.commit,
            ),
        )
        return Landed(commit=outcome.commit)
    why = f"conflicts in {', '.join(merged.conflicts)}; integrator {outcome.reason}: {outcome.message}"
    return park(desk, task_id, why, merged.conflicts, outcome.refused)


def integrate(desk: Desk, task_id: str, head: str, attempt: int, merged: Merged) -> Work[AgentResult]:
    if not desk.agents.begun(f"integrate-{task_id}", attempt):
        yield from desk.box.open(desk.integration, setup=True)
    allowance = desk.left_for_helpers()
    result: AgentResult = yield from desk.agents.work(
        AgentInput(
            run=desk.given.run,
            role="integrator",
            task=f"integrate-{task_id}",
            attempt=attempt,
            brief=Brief(
                plan=desk.plan_key,
                evidence=merged.evidence,
                base=merged.partial,
                ours=desk.integration,
                theirs=head,
                other=task_id,
            ),
            box=desk.box.ref,
            branch=INTEGRATION,
            setup=True,
            max_turns=INTEGRATOR_TURNS,
            tokens=allowance.tokens,
            cost=allowance.cost,
            unverified_goes_on=False,
            guards=desk.given.guards,
        )
    )
    return result


def is_integrator(desk: Desk, instance: str) -> bool:
    return instance.startswith(f"{desk.given.run}:integrate-")


def park(desk: Desk, task_id: str, why: str, files: list[str], refused: list[str]) -> Landed:
    note(
        desk,
        MergeStatus(
            task=task_id,
            how=MergeHow.PARKED,
            files=[MergedFile(path=p, how=MergeHow.PARKED) for p in files],
            reason=why[:512],
            refused=heads(refused),
        ),
    )
    return Landed(reason=why, refused=refused)


def heads(refused: list[str]) -> list[str]:
    return [r[:300] for r in refused[:5]]


def note(desk: Desk, status: MergeStatus) -> None:
    """One line a task: a later attempt's merge replaces the parked one."""
    desk.report.merges = [*(m for m in desk.report.merges if m.task != status.task), status]
