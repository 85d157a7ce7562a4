"""Branches land in batches: merged one by one, proven together, and a red batch is bisected.

A clean merge can be wrong: each branch was green by itself. The gates therefore run on the batch; when they
are red the branch that broke them is found by bisection and goes back to its agent with the evidence, what
came before it lands, what came after it is merged again. Nothing stalls: every red batch costs one branch an
attempt.
"""

from __future__ import annotations

from dataclasses import dataclass

from swarmrun.api.status import AgentPhase, MergeHow, MergeStatus, Phase
from swarmrun.orchestration import merging
from swarmrun.orchestration.board import Board, Item, again_or_failed
from swarmrun.orchestration.desk import Desk
from swarmrun.orchestration.flow import Flow, Work
from swarmrun.steps import BATCH_GATES, BatchChecked, BatchGates


@dataclass(frozen=True)
class Step:
    """One branch of the batch, and the integration branch with it and all before it."""

    item: Item
    commit: str
    combined: bool
    """False: the tree is the branch's own, nothing was put together."""


def start_merge(board: Board) -> None:
    """A batch is what is finished when integration is free."""
    if board.merge is not None:
        return
    batch = [i for i in board.items.values() if i.state == "finished"]
    if batch:
        for item in batch:
            item.state = "merging"
        board.merge = Flow(merge(board, batch))


def merge(board: Board, batch: list[Item]) -> Work[None]:
    desk, before = board.desk, board.desk.integration
    busy = any(i.state == "working" for i in board.items.values())
    desk.show(desk.report.phase if busy else Phase.MERGING)
    parked: list[tuple[Item, merging.Landed]] = []
    for item in batch:
        # Parked in an earlier life of this run, and not told to the task yet.
        if label(item) in desk.kept:
            parked.append((item, merging.Landed(**desk.kept[label(item)])))
    given_up = {item.ref.id for item, _ in parked}
    order = yield from merging.order(desk, {i.ref.id: i.head for i in batch if i.ref.id not in given_up})
    steps: list[Step] = []
    for task_id in order:
        item = board.items[task_id]
        landed = yield from merging.merge_one(desk, task_id, item.head, item.attempt)
        if landed.commit:
            desk.integration = landed.commit
            steps.append(Step(item, landed.commit, landed.combined))
        else:
            parked.append((item, landed))
            desk.kept[label(item)] = {"reason": landed.reason, "refused": landed.refused}
    yield from land(board, before, steps)
    for item, landed in parked:
        # A fresh attempt starts from what the branch conflicts with.
        yield from again_or_failed(board, item, "parked", "Parked", landed.reason, landed.refused)
    desk.kept = {}
    desk.agents.ended = {i: e for i, e in desk.agents.ended.items() if not merging.is_integrator(desk, i)}
    desk.show(Phase.RUNNING)


def label(item: Item) -> str:
    return f"parked {item.ref.id} {item.attempt}"


def land(board: Board, before: str, steps: list[Step]) -> Work[None]:
    """Green: all of it counts. Red: what stands before the culprit counts."""
    desk = board.desk
    culprit, why = yield from first_red(board, steps)
    for step in steps[:culprit]:
        step.item.state = "merged"
        desk.record(step.item.ref.id, step.item.ref.role.value).status.phase = AgentPhase.MERGED
    board.ground = desk.integration = steps[culprit - 1].commit if culprit else before
    if culprit == len(steps):
        return
    broken, *later = steps[culprit:]
    for step in later:
        step.item.state = "finished"  # merged again, onto what is green
        forget_merge(desk, step.item.ref.id)
    merging.note(
        desk,
        MergeStatus(
            task=broken.item.ref.id, how=MergeHow.PARKED, reason=f"gates were red with it: {why}"[:512]
        ),
    )
    yield from again_or_failed(
        board,
        broken.item,
        "parked",
        "BatchRed",
        f"merged with the others' work the gates fail, without it they pass: {why}",
        [],
    )


def first_red(board: Board, steps: list[Step]) -> Work[tuple[int, str]]:
    """Index of the first branch whose merge turns the gates red, `len(steps)` when the batch is green."""
    desk, why = board.desk, ""
    if not desk.given.guards or not any(s.combined for s in steps):
        return len(steps), ""
    checked = yield from check(board, steps, len(steps) - 1)
    if not checked.red:
        return len(steps), ""
    low, high, why = 0, len(steps) - 1, checked.summary
    while low < high:
        middle = (low + high) // 2
        checked = yield from check(board, steps, middle)
        if checked.red:
            high, why = middle, checked.summary
        else:
            low = middle + 1
    # A branch that is red all by itself is no conflict: it is mended in place, by the fixer.
    return (low, why) if steps[low].combined else (len(steps), "")


def check(board: Board, steps: list[Step], last: int) -> Work[BatchChecked]:
    desk = board.desk
    landing = {s.item.ref.id for s in steps[: last + 1]}
    unmerged = [i for i in board.items.values() if i.state != "merged" and i.ref.id not in landing]
    commit = steps[last].commit
    done: BatchChecked = yield from desk.once(
        f"batch {commit} {len(unmerged)}",
        BatchChecked,
        desk.box.perform(
            BATCH_GATES,
            lambda box: BatchGates(**box.model_dump(), commit=commit, unmerged=len(unmerged)),
            commit,
        ),
    )
    return done


def forget_merge(desk: Desk, task_id: str) -> None:
    desk.report.merges = [m for m in desk.report.merges if m.task != task_id]
