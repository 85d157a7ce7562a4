"""What all phases of a run share: its input, its mailbox, its report, and how agents are started."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, cast

from durabletask import task
from pydantic import ValidationError

from swarmrun.api.status import AgentPhase, AgentStatus, Phase, ResultStatus
from swarmrun.observability.previews import previewed
from swarmrun.orchestration import budget
from swarmrun.orchestration.agent import NAME as AGENT
from swarmrun.orchestration.flow import Flow, Host, Race, Until, Work
from swarmrun.orchestration.inputs import AgentInput, AgentResult, RunInput, add_usage
from swarmrun.orchestration.mail import EVENT, Mail
from swarmrun.orchestration.perform import begin, failure_text, perform, perform_all, read, told, waiting
from swarmrun.orchestration.previews import of_agent
from swarmrun.orchestration.sandboxes import OUTGROWN, SandboxFailed, provide, until_next
from swarmrun.orchestration.size import fitted
from swarmrun.orchestration.stand import BoardStand, EndedAgent, LiveAgent, Stage, Stand
from swarmrun.report import AgentRecord, RunReport
from swarmrun.steps import (
    AMEND,
    ENSURE,
    EVIDENCE,
    GONE,
    PREFLIGHT,
    PREPARE,
    PUBLISH,
    RELEASE,
    SAMPLE,
    BoxRef,
    Ensure,
    Ensured,
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
POD = "pod"
"""Waited for: a Pod of the run that does not start. The reason is then the Pod's own."""


@dataclass(frozen=True)
class Wait:
    message: str
    on: str
    """`model`, `remote`, `pod`, or nobody in particular."""
    reason: str


class RunEnded(Exception):
    """The run is over: `phase` and `reason` go to the status."""

    def __init__(self, phase: Phase, reason: str, message: str) -> None:
        super().__init__(message)
        self.phase = phase
        self.reason = reason
        self.message = message


@dataclass(frozen=True)
class Working:
    """An agent at work. `child` is None where an earlier life of this run started it: its end comes as mail."""

    agent: LiveAgent
    child: task.Task[Any] | None = None

    @property
    def allowance(self) -> budget.Allowance:
        return budget.Allowance(self.agent.tokens, self.agent.cost)


class Desk(Host):
    def __init__(self, ctx: task.OrchestrationContext, given: RunInput) -> None:
        super().__init__(Mail(ctx, {"suspended": given.suspended}))
        self.ctx, self.given = ctx, given
        stand = Stand.model_validate(given.stand or {})
        of_this_run = {"run": given.run, "name": given.name, "namespace": given.namespace}
        measured_by = {"generation": given.generation, "threshold": given.threshold}
        self.report = RunReport.model_validate({**(given.report or {}), **of_this_run, **measured_by})
        self.report.started_at = self.report.started_at or self.now()
        self.stage: Stage = stand.stage
        self.adopted = stand.adopted
        self.preflight = stand.preflight or Preflight(base_branch="", base_commit="")
        self.scaffold = stand.scaffold
        self.integration = stand.integration
        """Commit of the integration branch."""
        self.box = stand.box or BoxRef(run=given.run, task=INTEGRATION)
        self.box_ready = stand.box_ready
        self.warming: task.Task[Any] | None = None
        """The last of the first looks at it, the first of which makes it."""
        self.box_refused: SandboxFailed | None = None
        """What these looks found."""
        self.plan_key = stand.plan
        self.planners = stand.planners
        """Attempts of the planner that have ended."""
        self.evidence_number = stand.evidence_number
        self.serial = stand.serial
        """Agents started so far."""
        self.live = {instance: Working(agent) for instance, agent in stand.live.items()}
        """Agents at work, by instance id."""
        for instance, why in stand.broken.items():
            self.mail.ended[instance] = broken(stand.live[instance], why)
        self.ended = stand.ended
        self.kept = stand.kept
        self.charged = stand.charged
        self.board_before = stand.board
        """As an earlier life left it."""
        self.board_now: Callable[[], BoardStand | None] = lambda: self.board_before
        self.judged_from = stand.judged_from
        """The integration branch as it was when it was first judged."""
        self.verdict = stand.verdict
        self.most_agents = given.parallelism
        """At work at once: never more than there are tasks; none once the last has ended."""
        self.approving = ""
        """`plan` or `publish` while an approval is awaited."""
        self.message = ""
        self.waits: dict[str, Wait] = {}
        """Step → why it is being waited with."""
        self.suspended = False
        """What agents and clock were told last."""
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
        wait = next(iter(self.waits.values()), None)
        report.message = wait.message if wait else self.message
        report.waiting_for = self.approving or (wait.on if wait else "")
        if report.finished_at is None:
            report.reason = wait.reason if wait and wait.on == POD else ""
        report.stand = None  # it is not cut down
        self.ctx.set_custom_status({**fitted(report), "stand": self.stand()})

    def stand(self) -> dict[str, Any]:
        """For another life of this run."""
        running = self.deadline is not None
        return Stand(
            stage=self.stage,
            adopted=self.adopted,
            preflight=self.preflight if self.preflight.base_commit else None,
            scaffold=self.scaffold,
            integration=self.integration,
            plan=self.plan_key,
            planners=self.planners,
            evidence_number=self.evidence_number,
            serial=self.serial,
            box=self.box,
            box_ready=self.box_ready,
            live={instance: working.agent for instance, working in self.live.items()},
            ended=self.ended,
            kept=self.kept,
            charged=self.charged,
            seconds_left=self.time_left.total_seconds(),
            running_since=self.clock_started if running else None,
            board=self.board_now(),
            judged_from=self.judged_from,
            verdict=self.verdict,
        ).model_dump(mode="json", exclude_defaults=True)

    def enter(self, stage: Stage) -> None:
        """What the stage before has brought is made use of."""
        self.stage = stage
        self.ended, self.kept = {}, {}

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
        on = POD if step == ENSURE.name or failed.reason == "GitPodWaiting" else WAITS_FOR.get(step, "")
        self.waits[step] = Wait(waiting(step, pause, failed), on, failed.reason)

    def charge(self, usage: UsageRecord | None, *, once: str = "") -> None:
        """Model calls that are no agent's (judge, amendments). `once`: counted under this name one time only."""
        if usage is None or once in self.charged:
            return
        self.report.usage = add_usage(self.report.usage, usage)
        if once:
            self.charged.append(once)

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
        return budget.left(whole, self.spent(), (working.allowance for working in self.live.values()))

    def left_for_tasks(self) -> budget.Allowance:
        """What is held back is not touched, what planner and tasks used is gone."""
        open_part = budget.for_tasks(budget.Allowance(self.given.tokens, self.given.cost))
        promised = (w.allowance for w in self.live.values() if w.agent.role not in HELPERS)
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

    def instance(self, task_id: str, attempt: int) -> str:
        return f"{self.given.run}:{task_id}:{attempt}"

    def begun(self, task_id: str, attempt: int) -> bool:
        """Whether an earlier life of this run has started this attempt, and no use was made of its end."""
        instance = self.instance(task_id, attempt)
        return instance in self.live or instance in self.ended

    def agent(self, given: AgentInput) -> Work[AgentResult]:
        """One attempt of an agent as a sub-orchestration; its line in the report is kept."""
        yield from self.not_suspended()
        instance = self.instance(given.task, given.attempt)
        if instance in self.ended and self.ended[instance].answers(given.brief):
            return self.ended[instance].result
        record = self.record(given.task, given.role, given.branch)
        if instance not in self.live:
            self.begin_agent(record, instance, given.model_copy(update={"title": self.title(given.task)}))
        working = self.live[instance]
        if working.child is not None:
            yield working.child
        else:
            yield Until(lambda: self.is_over(instance))
        result = self.end_of(instance)
        del self.live[instance]
        self.note_end(record, result)
        self.ended[instance] = EndedAgent(
            base=given.brief.base, ours=given.brief.ours, theirs=given.brief.theirs, result=result
        )
        return result

    def begin_agent(self, record: AgentRecord, instance: str, given: AgentInput) -> None:
        record.instance = instance
        record.started_at = record.started_at or self.now()
        record.finished_at = None
        record.status.attempts += 1
        record.status.turns = record.status.tool_calls = 0
        record.status.phase = AgentPhase.RUNNING
        record.status.reason = record.status.message = ""
        self.serial += 1
        given = given.model_copy(update={"serial": self.serial})
        child = cast(
            "task.Task[Any]",
            self.ctx.call_sub_orchestrator(  # pyright: ignore[reportUnknownMemberType]
                AGENT, input=previewed(of_agent(given), given.model_dump(mode="json")), instance_id=instance
            ),
        )
        live = LiveAgent(role=given.role, tokens=given.tokens, cost=given.cost, serial=self.serial)
        self.live[instance] = Working(live, child)

    def is_over(self, instance: str) -> bool:
        """Whether an agent at work has ended."""
        working = self.live[instance]
        if working.child is not None:
            return working.child.is_complete
        return self.mail.ended.get(instance, {}).get("serial") == working.agent.serial

    def end_of(self, instance: str) -> AgentResult:
        child = self.live[instance].child
        return outcome(child) if child is not None else told_end(self.mail.ended[instance])

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

    def warm_box(self, enough: Callable[[], bool]) -> Work[None]:
        """Lets the integration sandbox begin to start, and looks at it until that is `enough`. A refusal is told at
        once; the run ends of it (`box_refused`) after what the repository says: it may hold the result already."""
        yield from self.not_suspended()
        for look in count():
            self.warming = begin(self.ctx, ENSURE, Ensure(**self.box.model_dump(), setup="ahead"))
            yield self.warming
            found: Ensured | None = read(ENSURE, self.warming).ok
            if found is None or enough():
                return
            self.waits.pop(ENSURE.name, None)
            if found.phase == "Refused" or found.tells:
                self.waits[ENSURE.name] = Wait(found.message, POD, found.reason)
            if found.phase == "Refused":
                self.box_refused = SandboxFailed(
                    found.reason or "SandboxRefused", found.message, found.isolation, final=True
                )
            if found.phase != "Starting":
                return
            yield Race([Flow(_passes(self.ctx.create_timer(until_next(look))))], enough)

    def open_box(self, commit: str, *, setup: bool) -> Work[None]:
        """Makes sure that the integration sandbox runs; what it holds is loaded by each step itself."""
        yield from self.not_suspended()
        if self.box_ready:
            return
        provided = yield from provide(
            self.ctx, self.box, commit=commit, branch=INTEGRATION, setup=setup, on_wait=self.on_wait
        )
        for step in (ENSURE, PREPARE):
            self.waits.pop(step.name, None)
        self.box, self.box_ready = provided.box, True
        self.report.isolation = provided.isolation or self.report.isolation

    def in_box(
        self, step: Step[Any], given: Callable[[BoxRef], StepModel], commit: str, *, setup: bool = True
    ) -> Work[Any]:
        """A step in the integration sandbox; a lost one is replaced and the step runs again."""
        losses = 0
        cause = said = ""
        while losses < MAX_BOX_LOSSES:
            yield from self.open_box(commit, setup=setup)
            result: Result[Any] = yield from self.perform(step, given(self.box))
            if result.failed is None:
                return result.ok
            if not result.failed.lost:
                self.fail(result.failed)
            self.box_lost()
            losses += result.failed.reason != GONE
            cause, said = result.failed.reason, result.failed.message
        mend = f" ({OUTGROWN[cause]})" if cause in OUTGROWN else ""
        raise RunEnded(
            Phase.FAILED,
            cause if mend else "SandboxLost",
            f"the integration sandbox was lost {MAX_BOX_LOSSES} times in {step.name}, the last time: {said}{mend}",
        )

    def give_box_back(self) -> Work[None]:
        """The next step in it gets a fresh one."""
        if self.box_ready:
            yield from self.perform(
                RELEASE,
                Release(run=self.given.run, task=self.box.task, attempt=1, generation=self.box.generation),
            )
            self.box_lost()

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


def _passes(timer: task.Task[Any]) -> Work[None]:
    yield timer


def broken(agent: LiveAgent, why: str) -> dict[str, Any]:
    """As the mail that an agent cannot send any more."""
    end = AgentResult(status="Failed", reason="InternalError", message=why)
    return {"serial": agent.serial, "result": end.model_dump(mode="json")}


def told_end(mail: Mapping[str, Any]) -> AgentResult:
    return _result(mail.get("result"))


def outcome(child: task.Task[Any]) -> AgentResult:
    """A finished sub-orchestration as a value; it failing is a bug, told as such."""
    if child.is_failed:
        return AgentResult(status="Failed", reason="InternalError", message=failure_text(child))
    return _result(child.get_result())


def _result(value: Any) -> AgentResult:
    try:
        return AgentResult.model_validate(value)
    except ValidationError as exc:
        return AgentResult(status="Failed", reason="InternalError", message=f"no result of an agent: {exc}")
