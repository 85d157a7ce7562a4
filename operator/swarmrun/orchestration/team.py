"""The agents of a run: how they are started, told of something, and what is known once one has ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from durabletask import task

from swarmrun.api.status import AgentPhase
from swarmrun.observability.previews import previewed
from swarmrun.orchestration import budget
from swarmrun.orchestration.agent import NAME as AGENT
from swarmrun.orchestration.ends import broken, outcome, told_end
from swarmrun.orchestration.flow import Until, Work
from swarmrun.orchestration.ground import Ground
from swarmrun.orchestration.inputs import AgentInput, AgentResult, add_usage
from swarmrun.orchestration.mail import EVENT
from swarmrun.orchestration.previews import of_agent
from swarmrun.orchestration.stand import EndedAgent, LiveAgent, Stand
from swarmrun.report import AgentRecord


@dataclass(frozen=True)
class Working:
    """An agent at work. `child` is None where an earlier life of this run started it: its end comes as mail."""

    agent: LiveAgent
    child: task.Task[Any] | None = None

    @property
    def allowance(self) -> budget.Allowance:
        return budget.Allowance(self.agent.tokens, self.agent.cost)


class Team:
    def __init__(self, ground: Ground, stand: Stand) -> None:
        self._ground = ground
        self.serial = stand.serial
        """Agents started so far."""
        self.live = {instance: Working(agent) for instance, agent in stand.live.items()}
        """Agents at work, by instance id."""
        self.ended = stand.ended
        """Ends that no use was made of yet."""
        for instance, why in stand.broken.items():
            ground.mail.ended[instance] = broken(stand.live[instance], why)

    def title(self, task_id: str) -> str:
        """Of a task of the plan; empty for helpers."""
        tasks = self._ground.report.plan.tasks if self._ground.report.plan else []
        return next((t.title for t in tasks if t.id == task_id), "")

    def instance(self, task_id: str, attempt: int) -> str:
        return f"{self._ground.given.run}:{task_id}:{attempt}"

    def begun(self, task_id: str, attempt: int) -> bool:
        """Whether an earlier life of this run has started this attempt, and no use was made of its end."""
        instance = self.instance(task_id, attempt)
        return instance in self.live or instance in self.ended

    def work(self, given: AgentInput) -> Work[AgentResult]:
        """One attempt of an agent as a sub-orchestration; its line in the report is kept."""
        yield from self._ground.not_suspended()
        instance = self.instance(given.task, given.attempt)
        if instance in self.ended and self.ended[instance].answers(given.brief):
            return self.ended[instance].result
        record = self._ground.record(given.task, given.role, given.branch)
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
        record.started_at = record.started_at or self._ground.now()
        record.finished_at = None
        record.status.attempts += 1
        record.status.turns = record.status.tool_calls = 0
        record.status.phase = AgentPhase.RUNNING
        record.status.reason = record.status.message = ""
        self.serial += 1
        given = given.model_copy(update={"serial": self.serial})
        child = cast(
            "task.Task[Any]",
            self._ground.ctx.call_sub_orchestrator(  # pyright: ignore[reportUnknownMemberType]
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
        return self._ground.mail.ended.get(instance, {}).get("serial") == working.agent.serial

    def end_of(self, instance: str) -> AgentResult:
        child = self.live[instance].child
        return outcome(child) if child is not None else told_end(self._ground.mail.ended[instance])

    def note_end(self, record: AgentRecord, result: AgentResult) -> None:
        """What is known of an attempt once it is over."""
        record.finished_at = self._ground.now()
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
            self._ground.note(f"{status.task}: {note}")
        if result.status == "Finished" and status.role != "integrator":  # an integrator's stand at the merge
            for problem in result.refused:
                self._ground.note(f"{status.task}: refused at first: {problem}")

    def tell(self, instance: str, **message: Any) -> None:
        """A word to an agent at work."""
        self._ground.ctx.send_event(instance, EVENT, data=message)
