"""The whole way of a run: preflight, baseline beside plan, agents, merges, gates, judge, fixes, publish."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from durabletask import task

from swarmrun.api.status import AgentPhase, Phase
from swarmrun.observability.previews import previewed
from swarmrun.orchestration import judge_and_fix, plan_and_baseline, publish, rerun, unreadable, work
from swarmrun.orchestration.desk import Desk
from swarmrun.orchestration.ends import RunEnded
from swarmrun.orchestration.flow import Orchestration, Work, beside, drive
from swarmrun.orchestration.inputs import RunInput
from swarmrun.orchestration.mail import Stopped
from swarmrun.orchestration.perform import begin
from swarmrun.orchestration.previews import of_report
from swarmrun.orchestration.sandboxes import SandboxFailed
from swarmrun.orchestration.stand import Stand
from swarmrun.steps import ADOPT, PREFLIGHT, RELEASE, Adopt, Look, Preflight, Release

NAME = "run"
GRACE = timedelta(seconds=20)
"""How long agents may take to stop on their own."""


def run(ctx: task.OrchestrationContext, given: Any) -> Orchestration[dict[str, Any]]:
    """The orchestration that is registered. Ends with the report, whatever happens."""
    desk = Desk(ctx, RunInput.model_validate(given))
    desk.show(Phase.PENDING)
    desk.start_clock()
    desk.heard()
    try:
        if desk.given.unreadable:
            raise RunEnded(Phase.FAILED, unreadable.REASON, desk.given.unreadable)
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
    if desk.box.warming is not None and not desk.box.warming.is_complete:
        yield desk.box.warming  # or its Pod would come after those of the run were removed
    yield task.when_any([begin(ctx, RELEASE, Release(run=desk.given.run))])
    report = desk.report
    report.reason, report.finished_at = end.reason, desk.now()
    desk.approving, desk.waits = "", {}
    desk.result()
    desk.show(end.phase, end.message)
    desk.publish_status()
    report.stand = desk.stand()
    return previewed(of_report(report), report.model_dump(mode="json"))


def phases(desk: Desk) -> Work[None]:
    """From where the desk stands: the beginning, or what an earlier life or attempt has left."""
    if desk.given.earlier and not desk.adopted:
        yield from adopt(desk)
    if desk.stage == "looking":
        yield from look(desk)
        desk.enter("planning")
    if desk.stage == "planning":
        plan = yield from plan_and_baseline.phase(desk)
        board = work.begin(desk, plan)
        desk.enter("working")
    else:
        board = work.take_up(desk)
    if desk.stage == "working":
        yield from work.phase(desk, board)
        publish.check_budget(desk, board)
        desk.judged_from = desk.integration
        desk.enter("judging")
    if desk.stage == "judging":
        desk.verdict = yield from judge_and_fix.phase(desk)
        desk.enter("publishing")
    assert desk.verdict
    yield from publish.phase(desk, board, desk.verdict)


def adopt(desk: Desk) -> Work[None]:
    """The work of an earlier attempt comes into this run's store; then the repository is looked at, as ever."""
    desk.show(Phase.PENDING, "takes over the work of an earlier attempt")
    stand = Stand.model_validate(desk.given.stand)
    merged = [i.ref.id for i in stand.board.items if i.state == "merged"] if stand.board else []
    yield from desk.must(
        ADOPT,
        Adopt(
            run=desk.given.run,
            earlier=desk.given.earlier,
            commits=rerun.commits(stand),
            scaffold=stand.scaffold,
            artifacts=rerun.artifacts(stand),
            tasks=merged,
        ),
    )
    yield from look(desk)
    desk.adopted = True


def look(desk: Desk) -> Work[None]:
    desk.show(Phase.PENDING, "looks at the repository")
    pinned = desk.preflight
    asked = Look(
        run=desk.given.run,
        base_branch=pinned.base_branch,
        base_commit=pinned.base_commit,
        anew=desk.given.anew,
    )
    looked: list[Preflight] = []

    def preflight() -> Work[None]:
        looked.append((yield from desk.must(PREFLIGHT, asked)))

    # In vain where the preflight ends the run; else the two Pods start side by side.
    yield from beside(preflight(), desk.box.warm(lambda: bool(looked)))
    (found,) = looked
    desk.preflight = found
    desk.integration = desk.integration or found.base_commit
    desk.report.base_branch, desk.report.base_commit = found.base_branch, found.base_commit
    if found.already_published:
        result = desk.result()
        result.branch, result.commit = found.published_branch or desk.given.branch, found.already_published
        raise RunEnded(
            Phase.SUCCEEDED,
            "AlreadyPublished",
            f"branch {result.branch} already holds the result of this very goal",
        )
    if desk.box.refused is not None:
        raise desk.box.refused  # before anything is paid


def wind_down(desk: Desk, end: RunEnded) -> Orchestration[None]:
    """Agents that still work are told to stop and waited for, but not for ever. Every branch is kept."""
    if not desk.agents.live:
        return
    desk.show(desk.report.phase, f"{end.reason}: waits for {len(desk.agents.live)} agents to stop")
    desk.publish_status()
    for instance in desk.agents.live:
        desk.agents.tell(instance, kind="cancel", reason=end.reason, message=end.message)
    patience = desk.ctx.create_timer(GRACE)
    while not patience.is_complete:
        at_work = [i for i in desk.agents.live if not desk.agents.is_over(i)]
        if not at_work:
            break
        children = [w.child for i, w in desk.agents.live.items() if i in at_work and w.child is not None]
        yield task.when_any([desk.mail.wait, patience, *children])
        desk.mail.take()
    for instance in list(desk.agents.live):
        record = next(r for r in desk.report.agents if r.instance == instance)
        if desk.agents.is_over(instance):
            desk.agents.note_end(record, desk.agents.end_of(instance))
        del desk.agents.live[instance]
        record.finished_at = desk.now()
        if record.status.phase is not AgentPhase.FINISHED:
            record.status.phase = AgentPhase.CANCELLED
            record.status.reason, record.status.message = end.reason, end.message[:512]
