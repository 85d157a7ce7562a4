"""Phase Running: agents start when what they depend on is merged, and are merged as they finish."""

from __future__ import annotations

from functools import partial

from swarmrun.api.status import AgentPhase, Phase
from swarmrun.orchestration import budget, plan_and_baseline
from swarmrun.orchestration.batches import merge, start_merge
from swarmrun.orchestration.board import Board, Item, again_or_failed, branch_of, skip
from swarmrun.orchestration.desk import Desk
from swarmrun.orchestration.flow import Flow, Race, Until, Work, settle
from swarmrun.orchestration.inputs import AgentInput, AgentResult
from swarmrun.steps import (
    AMEND,
    RELEASE,
    AcceptedPlan,
    Amend,
    Amended,
    BoxRef,
    Brief,
    ContractIssue,
    Release,
    Result,
)


def begin(desk: Desk, plan: AcceptedPlan) -> Board:
    desk.scaffold = desk.integration
    board = Board(desk, ground=desk.integration)
    take_plan(board, plan)
    desk.most_agents = min(desk.most_agents, max(1, len(board.items)))
    desk.board_now = board.stand
    return board


def take_up(desk: Desk) -> Board:
    """The board of an earlier life. A batch that was being merged is merged again, the same branches."""
    assert desk.board_before
    board = Board.taken_up(desk, desk.board_before)
    desk.board_now = board.stand
    if desk.stage != "working":
        desk.most_agents = 0
        return board
    desk.most_agents = min(desk.most_agents, max(1, len(board.items)))
    desk.integration = board.ground
    board.workers = [Flow(attempt(board, i)) for i in board.items.values() if i.state == "working"]
    batch = [i for i in board.items.values() if i.state == "merging"]
    if batch:
        board.merge = Flow(merge(board, batch))
    return board


def phase(desk: Desk, board: Board) -> Work[None]:
    desk.show(Phase.RUNNING)
    while True:
        start_ready(board)
        start_merge(board)
        flows = [*board.workers, *([board.merge] if board.merge else [])]
        if flows:
            # What waits for a resume, or for a sandbox, must not wait for the next agent as well.
            held, allowed = desk.mail.suspended, desk.agents_at_once
            yield Race(flows, partial(_may_start, desk, held, allowed))
            settle(flows)
            board.workers = [f for f in board.workers if not f.done]
            if board.merge and board.merge.done:
                board.merge = None
            continue
        blocked = [i for i in board.items.values() if i.state == "waiting"]
        if not blocked:
            desk.most_agents = 0
            return
        if startable(board):
            yield Until(lambda: not desk.mail.suspended)
        elif not (board.replanned or board.out_of_budget or board.out_of_sandboxes):
            yield from replan(board, blocked)
            board.replanned = True
        else:
            for item in blocked:
                skip(board, item)


def _may_start(desk: Desk, held: bool, allowed: int) -> bool:
    return (held and not desk.mail.suspended) or desk.agents_at_once > allowed


def take_plan(board: Board, plan: AcceptedPlan) -> None:
    """New tasks join; those that have not started and are no longer planned go."""
    desk, planned = board.desk, {t.id for t in plan.tasks}
    for task_id in [i for i, item in board.items.items() if item.state == "waiting" and i not in planned]:
        del board.items[task_id]
        desk.report.agents = [r for r in desk.report.agents if r.status.task != task_id]
    for ref in plan.tasks:
        if ref.id in board.items:
            if board.items[ref.id].state == "waiting":
                board.items[ref.id].ref = ref
            continue
        board.items[ref.id] = Item(ref)
        desk.record(ref.id, ref.role.value, branch_of(desk, ref.id))


# ---------------------------------------------------------------- agents


def startable(board: Board) -> list[Item]:
    items = board.items
    return [
        item
        for item in items.values()
        if item.state == "waiting"
        and all(d in items and items[d].state == "merged" for d in item.ref.depends_on)
    ]


def start_ready(board: Board) -> None:
    desk = board.desk
    if desk.mail.suspended:
        return
    for item in startable(board):
        if sum(1 for i in board.items.values() if i.state == "working") >= desk.agents_at_once:
            return
        waiting = [i.ref for i in board.items.values() if i.state == "waiting"]
        item.allowance = budget.share(item.ref, waiting, desk.left_for_tasks())
        item.state = "working"
        item.attempt += 1
        item.base, item.amended = board.ground, 0
        board.workers.append(Flow(attempt(board, item)))


def attempt(board: Board, item: Item) -> Work[None]:
    desk, ref = board.desk, item.ref
    box = BoxRef(run=desk.given.run, task=ref.id, attempt=item.attempt)
    result: AgentResult = yield from desk.agents.work(
        AgentInput(
            run=desk.given.run,
            role=ref.role.value,
            task=ref.id,
            attempt=item.attempt,
            brief=Brief(
                plan=desk.plan_key,
                base=item.base,
                evidence=item.evidence,
                notes={d: board.items[d].summary for d in ref.depends_on if board.items[d].summary},
            ),
            box=box,
            branch=branch_of(desk, ref.id),
            clone_of=desk.box.ref.id if desk.box.ready and board.merge is None else "",
            max_turns=desk.given.turns,
            tokens=item.allowance.tokens,
            cost=item.allowance.cost,
            guards=desk.given.guards,
        )
    )
    item.head = result.commit or result.checkpoint or item.head
    yield from desk.perform(
        RELEASE,
        Release(run=desk.given.run, task=ref.id, attempt=item.attempt, generation=result.generation),
    )
    if result.contract_issues:
        # One after the other: each builds on the plan that the last one made.
        yield Until(lambda: not board.amending)
        board.amending = True
        for issue in result.contract_issues[item.amended :]:
            yield from amend(board, item, issue)
            item.amended += 1
        board.amending = False
    if result.status == "Finished":
        item.summary = result.summary
        if item.ref.role.value == "researcher":
            item.state = "merged"  # its findings are notes for its dependants, not a branch
            desk.record(ref.id, ref.role.value).status.phase = AgentPhase.MERGED
        else:
            item.state = "finished"
        desk.agents.ended.pop(desk.agents.instance(ref.id, item.attempt), None)
        return
    item.final = result.final
    yield from again_or_failed(
        board, item, "failed", result.reason, f"{result.reason}: {result.message}", result.refused
    )
    desk.agents.ended.pop(desk.agents.instance(ref.id, item.attempt), None)


# ---------------------------------------------------------------- contracts and re-plans


def amend(board: Board, item: Item, issue: ContractIssue) -> Work[None]:
    """An additive change reaches running consumers as their next message; a breaking one costs a planner call."""
    desk = board.desk
    number = board.amendments + 1
    result: Result[Amended] = yield from desk.perform(
        AMEND,
        Amend(
            run=desk.given.run,
            plan=desk.plan_key,
            task=item.ref.id,
            issue=issue,
            number=number,
            planner_calls_left=board.planner_calls,
        ),
    )
    board.amendments = number
    if result.failed:
        desk.note(f"contract {issue.contract}: {result.failed.message}")
        return
    assert result.ok
    amended = result.ok
    desk.charge(amended.usage)
    board.planner_calls -= 1 if amended.planner_called else 0
    told: list[str] = []
    if amended.outcome != "refused":
        desk.plan_key = amended.plan
        if desk.report.plan:
            desk.report.plan.artifact = amended.plan
        for other in board.items.values():
            instance = desk.agents.instance(other.ref.id, other.attempt)
            if instance in desk.agents.live and issue.contract in [*other.ref.uses, *other.ref.provides]:
                desk.agents.tell(instance, kind="news", id=f"amendment-{number}", text=amended.news)
                told.append(other.ref.id)
    hearers = f", told to {', '.join(told)}" if told else ""
    desk.note(f"contract {issue.contract}: {amended.outcome} change by {item.ref.id}{hearers}")


def replan(board: Board, blocked: list[Item]) -> Work[None]:
    """Once a run: what has not started is planned anew around what failed."""
    desk = board.desk
    kept = [i for i in board.items if board.items[i].state != "waiting"]
    lines = [f"- {i.ref.id}: {i.state} ({i.reason or 'done'})" for i in board.items.values()]
    text = "These tasks cannot start, since something they depend on failed:\n" + "\n".join(
        [f"- {i.ref.id} (depends on {', '.join(i.ref.depends_on)})" for i in blocked]
        + ["", "All tasks:", *lines]
    )
    evidence = yield from desk.evidence("replan", text)
    desk.show(Phase.PLANNING, "plans anew what has not started")
    result: AgentResult = yield from plan_and_baseline.planner(desk, evidence=evidence, kept=kept)
    if result.plan is None:
        desk.note(f"no new plan for {', '.join(i.ref.id for i in blocked)}: {result.message}")
    else:
        plan_and_baseline.take(desk, result.plan)
        take_plan(board, result.plan)
    desk.show(Phase.RUNNING)
