"""The whole way of a run: preflight, baseline beside plan, agents, merges, gates, judge, fixes, publish."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from durabletask import task

from swarmrun.api.status import AgentPhase, Phase
from swarmrun.observability.previews import previewed
from swarmrun.orchestration import judge_and_fix, plan_and_baseline, publish, work
from swarmrun.orchestration.desk import Desk, RunEnded, outcome
from swarmrun.orchestration.flow import Orchestration, Work, beside, drive
from swarmrun.orchestration.inputs import RunInput
from swarmrun.orchestration.mail import Stopped
from swarmrun.orchestration.perform import begin
from swarmrun.orchestration.previews import of_report
from swarmrun.orchestration.sandboxes import SandboxFailed
from swarmrun.steps import PREFLIGHT, RELEASE, Preflight, Release, RunRef

NAME = "run"
GRACE = timedelta(seconds=20)
"""How long agents may take to stop on their own."""


def run(ctx: task.OrchestrationContext, given: Any) -> Orchestration[dict[str, Any]]:
    """The orchestration that is registered. Ends with the report, whatever happens."""
    desk = Desk(ctx, RunInput.model_validate(given))
    desk.show(Phase.PENDING)
    desk.start_clock()
    try:
        yield from drive(desk, phases(desk))
        end = RunEnded(Phase.SUCCEEDED, "Published", desk.message)
    except RunEnded as ended:
        end = ended
    except SandboxFailed as failed:
        desk.report.isolation = desk.report.isolation or failed.isolation
        end = RunEnded(Phase.FAILED, failed.reason, failed.message)
    except Stopped as stop:
        cancelled = stop.reason == "Cancelled"
        end = RunEnded(Phase.CANCELLED if cancelled else Phase.FAILED, stop.reason, stop.message)
    yield from wind_down(desk, end)
    if desk.warming is not None and not desk.warming.is_complete:
        yield desk.warming  # or its Pod would come after those of the run were removed
    yield task.when_any([begin(ctx, RELEASE, Release(run=desk.given.run))])
    report = desk.report
    report.reason, report.finished_at = end.reason, desk.now()
    desk.approving, desk.waits = "", {}
    desk.result()
    desk.show(end.phase, end.message)
    desk.publish_status()
    return previewed(of_report(report), report.model_dump(mode="json"))


def phases(desk: Desk) -> Work[None]:
    desk.show(Phase.PENDING, "looks at the repository")
    # In vain where the preflight ends the run; else the two Pods start side by side.
    found: Preflight = (yield from beside(desk.must(PREFLIGHT, RunRef(run=desk.given.run)), desk.warm_box()))[
        0
    ]
    desk.preflight, desk.integration = found, found.base_commit
    desk.report.base_branch, desk.report.base_commit = found.base_branch, found.base_commit
    if found.already_published:
        result = desk.result()
        result.branch, result.commit = desk.given.branch, found.already_published
        raise RunEnded(
            Phase.SUCCEEDED,
            "AlreadyPublished",
            f"branch {desk.given.branch} already holds the result of this very goal",
        )
    tasks = yield from plan_and_baseline.phase(desk)
    board = yield from work.phase(desk, tasks)
    publish.check_budget(desk, board)
    verdict = yield from judge_and_fix.phase(desk)
    yield from publish.phase(desk, board, verdict)


def wind_down(desk: Desk, end: RunEnded) -> Orchestration[None]:
    """Agents that still work are told to stop and waited for, but not for ever. Every branch is kept."""
    if not desk.live:
        return
    desk.show(desk.report.phase, f"{end.reason}: waits for {len(desk.live)} agents to stop")
    desk.publish_status()
    for instance in desk.live:
        desk.tell(instance, kind="cancel", reason=end.reason, message=end.message)
    waiting: list[task.Task[Any]] = [
        task.when_all(list(desk.live.values())),
        desk.ctx.create_timer(GRACE),
    ]
    yield task.when_any(waiting)
    for instance, child in desk.live.items():
        record = next(r for r in desk.report.agents if r.instance == instance)
        if child.is_complete:
            desk.note_end(record, outcome(child))
        record.finished_at = desk.now()
        if record.status.phase is not AgentPhase.FINISHED:
            record.status.phase = AgentPhase.CANCELLED
            record.status.reason, record.status.message = end.reason, end.message[:512]
