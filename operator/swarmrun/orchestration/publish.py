"""Phase Publishing: one branch (and a pull request), or a clear word why not. Nothing is lost either way."""

from __future__ import annotations

from swarmrun.api.status import Phase
from swarmrun.orchestration.desk import Desk
from swarmrun.orchestration.ends import RunEnded
from swarmrun.orchestration.flow import Work
from swarmrun.orchestration.stand import Verdict
from swarmrun.orchestration.work import Board
from swarmrun.steps import PUBLISH, SAVE_REPORT, PublishDone, PublishResult, SaveReport


def phase(desk: Desk, board: Board, verdict: Verdict) -> Work[None]:
    reason, message = verdict.reason, verdict.message
    if board.unfinished():
        reason, message = "BudgetExceeded" if board.out_of_budget else "Incomplete", missing(board)
    if desk.integration == desk.preflight.base_commit:
        # Also of a plan of researchers alone: their notes are for dependants, of which there are none.
        raise RunEnded(
            Phase.FAILED, reason or "NothingToPublish", message or "nothing was changed in the repository"
        )
    if reason and not desk.given.publish_partial:
        raise RunEnded(Phase.FAILED, reason, message)
    if desk.given.publish_approval:
        yield from desk.approval("publish", desk.integration)
    done = yield from push(desk, board, partial=reason)
    if reason:
        raise RunEnded(Phase.FAILED, reason, f"{message}; published as {done.branch}")
    desk.message = done.message or f"published as {done.branch}"


def check_budget(desk: Desk, board: Board) -> None:
    """A budget that is used up stops the work: nobody judges or mends what will not be published."""
    if board.out_of_budget and not desk.given.publish_partial:
        raise RunEnded(Phase.FAILED, "BudgetExceeded", missing(board))


def missing(board: Board) -> str:
    left = [f"{i.ref.id} ({i.state}: {i.reason or 'not started'})" for i in board.unfinished()]
    return "not in the result: " + ", ".join(left)


def push(desk: Desk, board: Board, *, partial: str) -> Work[PublishDone]:
    desk.show(Phase.PUBLISHING)
    saved = yield from desk.must(
        SAVE_REPORT, SaveReport(run=desk.given.run, report=desk.report.model_dump(mode="json"))
    )
    heads = {i.ref.id: i.head for i in board.items.values() if i.head}
    done: PublishDone = yield from desk.must(
        PUBLISH,
        PublishResult(
            run=desk.given.run,
            commit=desk.integration,
            base_branch=desk.preflight.base_branch,
            base_commit=desk.preflight.base_commit,
            report=saved.artifact,
            tasks=heads if desk.given.publish_task_branches else {},
            partial=partial,
        ),
    )
    result = desk.result()
    result.branch, result.commit = done.branch, done.commit
    result.beside, result.pull_request = done.beside, done.pull_request
    return done
