"""What all phases of a run share: its input, its mailbox, its report, and how agents are started."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from durabletask import task

from swarmrun.api.status import AgentPhase, AgentStatus, Phase, ResultStatus
from swarmrun.orchestration import budget
from swarmrun.orchestration.agent import NAME as AGENT
from swarmrun.orchestration.flow import Orchestration, Until, Work, drive
from swarmrun.orchestration.inputs import AgentInput, AgentResult, RunInput, add_usage
from swarmrun.orchestration.mail import EVENT, Mail
from swarmrun.orchestration.perform import perform
from swarmrun.orchestration.sandboxes import provide
from swarmrun.report import AgentRecord, RunReport
from swarmrun.steps import (
    EVIDENCE,
    RELEASE,
    BoxRef,
    Evidence,
    Failed,
    Preflight,
    Release,
    Result,
    Step,
    StepModel,
    UsageRecord,
)

INTEGRATION = "integration"
"""Task name of the integration sandbox: baseline, planner, integrator, gates and fixer work in it."""


MAX_BOX_LOSSES = 3
"""A step that loses the integration sandbox this often will lose it again. A choice."""


class RunEnded(Exception):
    """The run is over: `phase` and `reason` go to the status."""

    def __init__(self, phase: Phase, reason: str, message: str) -> None:
        super().__init__(message)
        self.phase = phase
        self.reason = reason
        self.message = message


class Desk:
    def __init__(self, ctx: task.OrchestrationContext, given: RunInput) -> None:
        self.ctx, self.given = ctx, given
        self.mail = Mail(ctx)
        self.report = RunReport(
            run=given.run,
            name=given.name,
            namespace=given.namespace,
            generation=given.generation,
            threshold=given.threshold,
            started_at=self.now(),
        )
        self.preflight = Preflight(base_branch="", base_commit="")
        self.integration = ""
        """Commit of the integration branch."""
        self.box = BoxRef(run=given.run, task=INTEGRATION)
        self.box_ready = False
        self.plan_key = ""
        self.baseline_key = ""
        self.evidence_number = 0
        self.live: dict[str, task.Task[Any]] = {}
        """Agents at work, by instance id."""
        self.deadline: task.Task[Any] | None = None
        self.time_left = timedelta(seconds=given.duration_seconds)
        self.clock_started: datetime | None = None

    # ------------------------------------------------------------ time

    def now(self) -> datetime:
        return self.ctx.current_utc_datetime

    def start_clock(self) -> None:
        """Wall time counts from here; waits for approvals do not."""
        self.clock_started = self.now()
        self.deadline = self.ctx.create_timer(self.time_left)

    def stop_clock(self) -> None:
        if self.deadline is not None and self.clock_started is not None:
            self.time_left = max(timedelta(0), self.time_left - (self.now() - self.clock_started))
            cancel = getattr(self.deadline, "cancel", None)
            if cancel is not None and not self.deadline.is_complete:
                cancel()
        self.deadline = None

    # ------------------------------------------------------------ the report

    def show(self, phase: Phase | None = None, message: str = "") -> None:
        report = self.report
        if phase is not None:
            report.phase = phase
            report.message = message
        report.suspended = self.mail.suspended
        report.integration = self.integration
        self.ctx.set_custom_status(report.model_dump(mode="json"))

    def drive(self, work: Work[Any]) -> Orchestration[Any]:
        return drive(self.mail, work, lambda: self.deadline)

    def perform(self, step: Step[Any], given: StepModel) -> Work[Result[Any]]:
        return perform(self.ctx, step, given, self.on_wait)

    def must(self, step: Step[Any], given: StepModel) -> Work[Any]:
        """A step without which the run cannot go on."""
        result: Result[Any] = yield from self.perform(step, given)
        if result.failed:
            self.fail(result.failed)
        return result.ok

    def fail(self, failed: Failed) -> None:
        message = f"{failed.message} ({failed.mend})" if failed.mend else failed.message
        raise RunEnded(Phase.FAILED, failed.reason, message)

    def on_wait(self, step: str, pause: float, failed: Failed) -> None:
        note = f"{step} waited {pause:g} s: {failed.reason}"
        if note not in self.report.notes:
            self.report.notes = [*self.report.notes, note][:50]
        self.show(message=f"{step}: {failed.reason}, next try in {pause:g} s: {failed.message}")

    def charge(self, usage: UsageRecord | None) -> None:
        """Model calls that are no agent's (judge, amendments)."""
        if usage is not None:
            self.report.usage = add_usage(self.report.usage, usage)

    def spent(self) -> list[UsageRecord]:
        records = list(self.report.usage)
        for agent in self.report.agents:
            for usage in agent.usage:
                records = add_usage(records, usage)
        return records

    def left_for_helpers(self) -> budget.Allowance:
        """Of the held-back part, for planner, integrator, judge and fixer."""
        return budget.left(self.given.tokens, self.given.cost, self.spent())

    # ------------------------------------------------------------ agents

    def record(self, task_id: str, role: str, branch: str = "") -> AgentRecord:
        """The report's line for an agent; made on first sight."""
        for record in self.report.agents:
            if record.status.task == task_id:
                return record
        record = AgentRecord(status=AgentStatus(task=task_id, role=role, branch=branch))
        self.report.agents.append(record)
        return record

    def agent(self, given: AgentInput) -> Work[AgentResult]:
        """One attempt of an agent as a sub-orchestration; its line in the report is kept."""
        record = self.record(given.task, given.role, given.branch)
        instance = f"{given.run}:{given.task}:{given.attempt}"
        record.instance = instance
        record.started_at = record.started_at or self.now()
        record.status.attempts = given.attempt
        record.status.phase = AgentPhase.RUNNING
        record.status.reason = record.status.message = ""
        before = list(record.usage)
        self.show()
        child: task.Task[Any] = self.ctx.call_sub_orchestrator(
            AGENT, input=given.model_dump(mode="json"), instance_id=instance
        )
        self.live[instance] = child
        yield child
        del self.live[instance]
        result = outcome(child)
        self.note_end(record, result, before)
        self.show()
        return result

    def note_end(self, record: AgentRecord, result: AgentResult, before: list[UsageRecord]) -> None:
        """What is known of an attempt once it is over."""
        record.finished_at = self.now()
        record.usage = before
        for usage in result.usage:
            record.usage = add_usage(record.usage, usage)
        status = record.status
        status.turns, status.tool_calls = result.turns, result.tool_calls
        status.tokens = sum(u.total for u in record.usage)
        status.phase = {"Finished": AgentPhase.FINISHED, "Cancelled": AgentPhase.CANCELLED}.get(
            result.status, AgentPhase.FAILED
        )
        status.verified = result.verified if result.status == "Finished" else None
        status.reason, status.message = result.reason, result.message[:512]
        for note in result.notes:
            line = f"{status.task}: {note}"
            if line not in self.report.notes:
                self.report.notes = [*self.report.notes, line][:50]

    def tell(self, instance: str, **message: Any) -> None:
        """A word to an agent at work."""
        self.ctx.send_event(instance, EVENT, data=message)

    def evidence(self, name: str, text: str) -> Work[str]:
        """Stores a text for an agent; gives its key."""
        self.evidence_number += 1
        saved = yield from self.must(
            EVIDENCE,
            Evidence(run=self.given.run, name=f"{self.evidence_number:03d}-{name}", text=text),
        )
        return saved.artifact

    # ------------------------------------------------------------ the integration sandbox

    def open_box(self, commit: str, *, setup: bool, head: str = "") -> Work[None]:
        """Makes sure that the integration sandbox runs; what it holds is loaded by each step itself."""
        if self.box_ready:
            return
        provided = yield from provide(
            self.ctx, self.box, commit=commit, branch=INTEGRATION, setup=setup, on_wait=self.on_wait
        )
        self.box, self.box_ready = provided.box, True
        self.report.isolation = provided.isolation or self.report.isolation

    def in_box(self, step: Step[Any], given: Callable[[BoxRef], StepModel], commit: str) -> Work[Any]:
        """A step in the integration sandbox; a lost one is replaced and the step runs again."""
        for _ in range(MAX_BOX_LOSSES):
            yield from self.open_box(commit, setup=True)
            result: Result[Any] = yield from self.perform(step, given(self.box))
            if result.failed is None:
                return result.ok
            if not result.failed.lost:
                self.fail(result.failed)
            self.box_lost()
        raise RunEnded(
            Phase.FAILED,
            "SandboxLost",
            f"the integration sandbox was lost {MAX_BOX_LOSSES} times in {step.name}",
        )

    def box_lost(self) -> None:
        self.box = self.box.model_copy(update={"generation": self.box.generation + 1})
        self.box_ready = False

    def lent(self, result: AgentResult) -> None:
        """An agent worked in the integration sandbox and may have had to replace it."""
        if result.generation > self.box.generation:
            self.box = self.box.model_copy(update={"generation": result.generation})
        if result.reason == "SandboxLost":
            self.box_lost()

    # ------------------------------------------------------------ approvals

    def approval(self, what: str, bound: str) -> Work[None]:
        """Waits for `approve` or `reject` of exactly what is there now (a plan's hash, a commit)."""
        self.stop_clock()
        self.report.waiting_for = what
        self.show(Phase.AWAITING_APPROVAL, f"waits for an approval of the {what}")

        def answered() -> bool:
            answer = self.mail.answers.get(what)
            return answer is not None and str(answer.get("bound") or bound) == bound

        if self.box_ready:
            # Nobody knows for how long: no sandbox is held meanwhile.
            yield from self.perform(
                RELEASE,
                Release(run=self.given.run, task=self.box.task, attempt=1, generation=self.box.generation),
            )
            self.box_lost()
        yield Until(answered)
        self.report.waiting_for = ""
        answer = self.mail.answers[what]
        if answer.get("kind") == "reject":
            reason = str(answer.get("reason") or "no reason given")
            raise RunEnded(Phase.FAILED, f"{what.capitalize()}Rejected", f"the {what} was rejected: {reason}")
        self.start_clock()

    def result(self) -> ResultStatus:
        if self.report.result is None:
            self.report.result = ResultStatus(commit=self.integration, base_commit=self.preflight.base_commit)
        return self.report.result


def outcome(child: task.Task[Any]) -> AgentResult:
    """A finished sub-orchestration as a value; it failing is a bug, told as such."""
    if child.is_failed:
        error = child.get_exception()
        message = getattr(getattr(error, "details", None), "message", None) or str(error)
        return AgentResult(status="Failed", reason="InternalError", message=message)
    return AgentResult.model_validate(child.get_result())
