"""What all phases of a run share: its input, its mailbox, its report, and how agents are started."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from durabletask import task
from pydantic import ValidationError

from swarmrun.api.status import AgentPhase, AgentStatus, Phase, ResultStatus
from swarmrun.observability.previews import previewed
from swarmrun.orchestration import budget
from swarmrun.orchestration.agent import NAME as AGENT
from swarmrun.orchestration.flow import Host, Until, Work
from swarmrun.orchestration.inputs import AgentInput, AgentResult, RunInput, add_usage
from swarmrun.orchestration.mail import EVENT, Mail
from swarmrun.orchestration.perform import begin, failure_text, perform, perform_all, told, waiting
from swarmrun.orchestration.previews import of_agent
from swarmrun.orchestration.sandboxes import provide
from swarmrun.orchestration.size import fitted
from swarmrun.report import AgentRecord, RunReport
from swarmrun.steps import (
    AMEND,
    ENSURE,
    EVIDENCE,
    GONE,
    PREFLIGHT,
    PUBLISH,
    RELEASE,
    SAMPLE,
    BoxRef,
    Ensure,
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
"""A step that ends the integration sandbox this often will end it again. A choice."""
MAX_NOTES = 50
HELPERS = ("integrator", "fixer")
"""Roles that work on what is held back of the budget."""
WAITS_FOR = {SAMPLE.name: "model", AMEND.name: "model", PREFLIGHT.name: "remote", PUBLISH.name: "remote"}
"""Whom the run itself waits for when such a step is tried again; agents say so on their own line."""


class RunEnded(Exception):
    """The run is over: `phase` and `reason` go to the status."""

    def __init__(self, phase: Phase, reason: str, message: str) -> None:
        super().__init__(message)
        self.phase = phase
        self.reason = reason
        self.message = message


class Desk(Host):
    def __init__(self, ctx: task.OrchestrationContext, given: RunInput) -> None:
        super().__init__(Mail(ctx))
        self.ctx, self.given = ctx, given
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
        self.warming: task.Task[Any] | None = None
        """The first look at it, which makes it."""
        self.plan_key = ""
        self.planners = 0
        """Attempts of the planner so far."""
        self.evidence_number = 0
        self.live: dict[str, task.Task[Any]] = {}
        """Agents at work, by instance id."""
        self.promised: dict[str, tuple[str, budget.Allowance]] = {}
        """Role of each, and what it may use."""
        self.most_agents = given.parallelism
        """At work at once: never more than there are tasks; none once the last has ended."""
        self.approving = ""
        """`plan` or `publish` while an approval is awaited."""
        self.message = ""
        self.waits: dict[str, str] = {}
        """Step → why it is being waited with."""
        self.suspended = False
        """What agents and clock were told last."""
        self.timers: list[task.Task[Any]] = []
        self.deadline: task.Task[Any] | None = None
        self.time_left = timedelta(seconds=given.duration_seconds)
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

    # ------------------------------------------------------------ what `drive` asks and tells

    def alarms(self) -> list[task.Task[Any]]:
        return self.timers

    def out_of_time(self) -> bool:
        return self.deadline is not None and self.deadline.is_complete

    def heard(self) -> None:
        """Suspension holds for agents at work and for the clock; those that start later look for themselves."""
        if self.mail.suspended == self.suspended:
            return
        self.suspended = self.mail.suspended
        for instance in self.live:
            self.tell(instance, kind="suspend" if self.suspended else "resume")
        if self.suspended:
            self.hold_clock()
        else:
            self.release_clock()

    def settled(self) -> None:
        self.publish_status()

    # ------------------------------------------------------------ sandboxes

    @property
    def granted(self) -> int:
        """Sandboxes that may be held at once, the integration sandbox with them."""
        return max(self.given.granted or self.given.parallelism + 1, self.mail.granted)

    @property
    def agents_at_once(self) -> int:
        return min(self.most_agents, self.granted - 1)

    # ------------------------------------------------------------ the report

    def show(self, phase: Phase, message: str = "") -> None:
        self.report.phase, self.message = phase, message

    def publish_status(self) -> None:
        """What was said in an earlier dispatch stands already: a replay would only say it again, and a report
        is large."""
        if self.ctx.is_replaying:
            return
        report = self.report
        report.suspended = self.suspended
        report.integration = self.integration
        report.granted = self.granted
        # The result, once approved, is published without one.
        report.sandboxes = 0 if self.approving == "publish" else 1 + self.agents_at_once
        report.message = next(iter(self.waits.values()), self.message)
        report.waiting_for = self.approving or next((WAITS_FOR.get(step, "") for step in self.waits), "")
        self.ctx.set_custom_status(fitted(report))

    def note(self, text: str) -> None:
        """A line for people: what the run met and got over."""
        text = text[:300]
        if text not in self.report.notes:
            self.report.notes = [*self.report.notes, text][:MAX_NOTES]

    # ------------------------------------------------------------ steps

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
        self.note(f"{step} waited {pause:g} s: {failed.reason}")
        self.waits[step] = waiting(step, pause, failed)

    def charge(self, usage: UsageRecord | None) -> None:
        """Model calls that are no agent's (judge, amendments)."""
        if usage is not None:
            self.report.usage = add_usage(self.report.usage, usage)

    def spent(self, *, without: Sequence[str] = ()) -> list[UsageRecord]:
        """Of ended attempts; `without`: roles that do not count, judge and amendments with them."""
        records = [] if without else list(self.report.usage)
        for agent in self.report.agents:
            if agent.status.role not in without:
                for usage in agent.usage:
                    records = add_usage(records, usage)
        return records

    def left_for_helpers(self) -> budget.Allowance:
        """For planner, integrator, judge and fixer: all that is neither spent nor promised to agents at work."""
        whole = budget.Allowance(self.given.tokens, self.given.cost)
        return budget.left(whole, self.spent(), (allowance for _, allowance in self.promised.values()))

    def left_for_tasks(self) -> budget.Allowance:
        """What is held back is not touched, what planner and tasks used is gone."""
        open_part = budget.for_tasks(budget.Allowance(self.given.tokens, self.given.cost))
        promised = (allowance for role, allowance in self.promised.values() if role not in HELPERS)
        return budget.lesser(
            budget.left(open_part, self.spent(without=HELPERS), promised), self.left_for_helpers()
        )

    # ------------------------------------------------------------ agents

    def record(self, task_id: str, role: str, branch: str = "") -> AgentRecord:
        """The report's line for an agent; made on first sight."""
        for record in self.report.agents:
            if record.status.task == task_id:
                return record
        record = AgentRecord(status=AgentStatus(task=task_id, role=role, branch=branch))
        self.report.agents.append(record)
        return record

    def title(self, task_id: str) -> str:
        """Of a task of the plan; empty for helpers."""
        tasks = self.report.plan.tasks if self.report.plan else []
        return next((t.title for t in tasks if t.id == task_id), "")

    def agent(self, given: AgentInput) -> Work[AgentResult]:
        """One attempt of an agent as a sub-orchestration; its line in the report is kept."""
        yield from self.not_suspended()
        record = self.record(given.task, given.role, given.branch)
        instance = f"{given.run}:{given.task}:{given.attempt}"
        given = given.model_copy(update={"title": self.title(given.task)})
        record.instance = instance
        record.started_at = record.started_at or self.now()
        record.finished_at = None
        record.status.attempts += 1
        record.status.turns = record.status.tool_calls = 0
        record.status.phase = AgentPhase.RUNNING
        record.status.reason = record.status.message = ""
        child = cast(
            "task.Task[Any]",
            self.ctx.call_sub_orchestrator(  # pyright: ignore[reportUnknownMemberType]
                AGENT, input=previewed(of_agent(given), given.model_dump(mode="json")), instance_id=instance
            ),
        )
        self.live[instance] = child
        self.promised[instance] = (given.role, budget.Allowance(given.tokens, given.cost))
        yield child
        del self.live[instance], self.promised[instance]
        result = outcome(child)
        self.note_end(record, result)
        return result

    def note_end(self, record: AgentRecord, result: AgentResult) -> None:
        """What is known of an attempt once it is over."""
        record.finished_at = self.now()
        for usage in result.usage:
            record.usage = add_usage(record.usage, usage)
        status = record.status
        status.turns, status.tool_calls = result.turns, result.tool_calls
        status.tokens = sum(u.total for u in record.usage)
        status.commit = result.commit or result.checkpoint or status.commit
        status.phase = {"Finished": AgentPhase.FINISHED, "Cancelled": AgentPhase.CANCELLED}.get(
            result.status, AgentPhase.FAILED
        )
        status.verified = result.verified if result.status == "Finished" else None
        status.reason, status.message = result.reason, result.message[:512]
        for note in result.notes:
            self.note(f"{status.task}: {note}")
        if result.status == "Finished" and status.role != "integrator":  # an integrator's stand at the merge
            for problem in result.refused:
                self.note(f"{status.task}: refused at first: {problem}")

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

    def warm_box(self) -> Work[None]:
        """Lets the integration sandbox begin to start. What came of it `open_box` finds, a refusal too."""
        yield from self.not_suspended()
        self.warming = begin(self.ctx, ENSURE, Ensure(**self.box.model_dump()))
        yield self.warming

    def open_box(self, commit: str, *, setup: bool) -> Work[None]:
        """Makes sure that the integration sandbox runs; what it holds is loaded by each step itself."""
        yield from self.not_suspended()
        if self.box_ready:
            return
        provided = yield from provide(
            self.ctx, self.box, commit=commit, branch=INTEGRATION, setup=setup, on_wait=self.on_wait
        )
        self.box, self.box_ready = provided.box, True
        self.report.isolation = provided.isolation or self.report.isolation

    def in_box(
        self, step: Step[Any], given: Callable[[BoxRef], StepModel], commit: str, *, setup: bool = True
    ) -> Work[Any]:
        """A step in the integration sandbox; a lost one is replaced and the step runs again."""
        losses = 0
        while losses < MAX_BOX_LOSSES:
            yield from self.open_box(commit, setup=setup)
            result: Result[Any] = yield from self.perform(step, given(self.box))
            if result.failed is None:
                return result.ok
            if not result.failed.lost:
                self.fail(result.failed)
            self.box_lost()
            losses += result.failed.reason != GONE
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
        self.hold_clock()
        self.approving = what
        self.show(Phase.AWAITING_APPROVAL, f"waits for an approval of the {what}")

        def answered() -> bool:
            answer = self.mail.answers.get(what)
            return answer is not None and str(answer.get("bound") or bound) == bound

        # Nobody knows for how long: neither a sandbox nor the git Pod is held meanwhile.
        yield from self.perform(RELEASE, Release(run=self.given.run))
        self.box_lost()
        yield Until(answered)
        self.approving = ""
        answer = self.mail.answers[what]
        if answer.get("kind") == "reject":
            reason = str(answer.get("reason") or "no reason given")
            raise RunEnded(Phase.FAILED, f"{what.capitalize()}Rejected", f"the {what} was rejected: {reason}")
        self.release_clock()

    def result(self) -> ResultStatus:
        if self.report.result is None:
            self.report.result = ResultStatus(commit=self.integration, base_commit=self.preflight.base_commit)
        return self.report.result


def outcome(child: task.Task[Any]) -> AgentResult:
    """A finished sub-orchestration as a value; it failing is a bug, told as such."""
    if child.is_failed:
        return AgentResult(status="Failed", reason="InternalError", message=failure_text(child))
    try:
        return AgentResult.model_validate(child.get_result())
    except ValidationError as exc:
        return AgentResult(status="Failed", reason="InternalError", message=f"no result of an agent: {exc}")
