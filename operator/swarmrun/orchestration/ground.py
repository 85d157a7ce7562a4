"""What everything of a run stands on: its input, mailbox, clock and report, and how it asks for steps."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from durabletask import task

from swarmrun.api.status import AgentStatus, Phase
from swarmrun.orchestration import waits
from swarmrun.orchestration.ends import RunEnded
from swarmrun.orchestration.flow import Host, Until, Work
from swarmrun.orchestration.inputs import RunInput, add_usage
from swarmrun.orchestration.mail import Mail
from swarmrun.orchestration.perform import perform, perform_all, told
from swarmrun.orchestration.stand import Stand
from swarmrun.report import AgentRecord, RunReport
from swarmrun.steps import Failed, Result, Step, StepModel, UsageRecord

MAX_NOTES = 50


class Ground(Host):
    def __init__(self, ctx: task.OrchestrationContext, given: RunInput, stand: Stand) -> None:
        super().__init__(Mail(ctx, {"suspended": given.suspended}))
        self.ctx, self.given = ctx, given
        of_this_run = {"run": given.run, "name": given.name, "namespace": given.namespace}
        measured_by = {"generation": given.generation, "threshold": given.threshold}
        self.report = RunReport.model_validate({**(given.report or {}), **of_this_run, **measured_by})
        self.report.started_at = self.report.started_at or self.now()
        self.kept: dict[str, Any] = stand.kept
        self.charged = stand.charged
        self.waits: dict[str, waits.Wait] = {}
        """Step → why it is being waited with."""
        self.timers: list[task.Task[Any]] = []
        self.deadline: task.Task[Any] | None = None
        self.time_left = timedelta(
            seconds=given.duration_seconds if stand.seconds_left is None else stand.seconds_left
        )
        if stand.running_since is not None:
            self.time_left = max(timedelta(0), self.time_left - (self.now() - stand.running_since))
        self.clock_started = self.now()
        self.clock_held = 0

    # ------------------------------------------------------------ time

    def now(self) -> datetime:
        return self.ctx.current_utc_datetime.replace(tzinfo=UTC)

    def start_clock(self) -> None:
        """Wall time counts from here; waits for approvals and suspension do not."""
        self.clock_started = self.now()
        self.deadline = self.ctx.create_timer(self.time_left)
        self.timers.append(self.deadline)

    def hold_clock(self) -> None:
        self.clock_held += 1
        if self.deadline is not None:
            self.time_left = max(timedelta(0), self.time_left - (self.now() - self.clock_started))
            # Left to fire, it only wakes us. A timer that was cancelled would fire all the same, into nothing.
            self.deadline = None

    def release_clock(self) -> None:
        self.clock_held -= 1
        if not self.clock_held:
            self.start_clock()

    def alarms(self) -> list[task.Task[Any]]:
        return self.timers

    def out_of_time(self) -> bool:
        return self.deadline is not None and self.deadline.is_complete

    # ------------------------------------------------------------ the report

    def record(self, task_id: str, role: str, branch: str = "") -> AgentRecord:
        """The report's line for an agent; made on first sight."""
        for record in self.report.agents:
            if record.status.task == task_id:
                return record
        record = AgentRecord(status=AgentStatus(task=task_id, role=role, branch=branch))
        self.report.agents.append(record)
        return record

    def note(self, text: str) -> None:
        """A line for people: what the run met and got over."""
        text = text[:300]
        if text not in self.report.notes:
            self.report.notes = [*self.report.notes, text][:MAX_NOTES]

    # ------------------------------------------------------------ steps

    def once(self, label: str, out: type[StepModel], work: Work[Any]) -> Work[Any]:
        """A step that takes long: a later life of this run that comes here again finds its result."""
        if label in self.kept:
            work.close()
            return out.model_validate(self.kept[label])
        result = yield from work
        self.kept[label] = result.model_dump(mode="json", exclude_defaults=True)
        return result

    def perform(self, step: Step[Any], given: StepModel) -> Work[Result[Any]]:
        yield from self.not_suspended()
        result: Result[Any] = yield from perform(self.ctx, step, given, self.on_wait)
        self.waits.pop(step.name, None)
        if result.failed:
            self.charge(result.failed.usage)
        return result

    def perform_all(self, step: Step[Any], given: Sequence[StepModel]) -> Work[list[Result[Any]]]:
        yield from self.not_suspended()
        results: list[Result[Any]] = yield from perform_all(self.ctx, step, given, self.on_wait)
        self.waits.pop(step.name, None)
        for result in results:
            self.charge(result.failed.usage if result.failed else None)
        return results

    def not_suspended(self) -> Work[None]:
        if self.mail.suspended:
            yield Until(lambda: not self.mail.suspended)

    def must(self, step: Step[Any], given: StepModel) -> Work[Any]:
        """A step without which the run cannot go on."""
        result: Result[Any] = yield from self.perform(step, given)
        if result.failed:
            self.fail(result.failed)
        return result.ok

    def fail(self, failed: Failed) -> None:
        raise RunEnded(Phase.FAILED, failed.reason, told(failed))

    def on_wait(self, step: str, pause: float, failed: Failed) -> None:
        self.charge(failed.usage)
        if failed.reason == "GitPodStarting":
            return  # as every run's does
        self.note(f"{step} waited {pause:g} s: {failed.reason}")
        self.waits[step] = waits.of_step(step, pause, failed)

    def charge(self, usage: UsageRecord | None, *, once: str = "") -> None:
        """Model calls that are no agent's (judge, amendments). `once`: counted under this name one time only."""
        if usage is None or once in self.charged:
            return
        self.report.usage = add_usage(self.report.usage, usage)
        if once:
            self.charged.append(once)
