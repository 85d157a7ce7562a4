"""What all phases of a run share: where it stands, its sandbox, its agents, its budget, what its status says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from durabletask import task

from swarmrun.api.status import Phase, ResultStatus
from swarmrun.orchestration import budget, waits
from swarmrun.orchestration.box import IntegrationBox
from swarmrun.orchestration.ends import RunEnded
from swarmrun.orchestration.flow import Until, Work
from swarmrun.orchestration.ground import Ground
from swarmrun.orchestration.inputs import RunInput, add_usage
from swarmrun.orchestration.size import fitted
from swarmrun.orchestration.stand import BoardStand, Stage, Stand
from swarmrun.orchestration.team import Team
from swarmrun.steps import (
    EVIDENCE,
    RELEASE,
    Evidence,
    Preflight,
    Release,
    UsageRecord,
)

HELPERS = ("integrator", "fixer")
"""Roles that work on what is held back of the budget."""


class Desk(Ground):
    def __init__(self, ctx: task.OrchestrationContext, given: RunInput) -> None:
        stand = Stand.model_validate(given.stand or {})
        super().__init__(ctx, given, stand)
        self.stage: Stage = stand.stage
        self.adopted = stand.adopted
        self.preflight = stand.preflight or Preflight(base_branch="", base_commit="")
        self.scaffold = stand.scaffold
        self.integration = stand.integration
        """Commit of the integration branch."""
        self.box = IntegrationBox(self, stand)
        self.agents = Team(self, stand)
        self.plan_key = stand.plan
        self.planners = stand.planners
        """Attempts of the planner that have ended."""
        self.evidence_number = stand.evidence_number
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
        self.suspended = False
        """What agents and clock were told last."""

    # ------------------------------------------------------------ what `drive` asks and tells

    def heard(self) -> None:
        """Suspension holds for agents at work and for the clock; those that start later look for themselves."""
        if self.mail.suspended == self.suspended:
            return
        self.suspended = self.mail.suspended
        for instance in self.agents.live:
            self.agents.tell(instance, kind="suspend" if self.suspended else "resume")
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
            report.reason = wait.reason if wait and wait.on == waits.POD else ""
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
            serial=self.agents.serial,
            box=self.box.ref,
            box_ready=self.box.ready,
            live={instance: working.agent for instance, working in self.agents.live.items()},
            ended=self.agents.ended,
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
        self.agents.ended, self.kept = {}, {}

    # ------------------------------------------------------------ budget

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
        return budget.left(whole, self.spent(), (working.allowance for working in self.agents.live.values()))

    def left_for_tasks(self) -> budget.Allowance:
        """What is held back is not touched, what planner and tasks used is gone."""
        open_part = budget.for_tasks(budget.Allowance(self.given.tokens, self.given.cost))
        promised = (w.allowance for w in self.agents.live.values() if w.agent.role not in HELPERS)
        return budget.lesser(
            budget.left(open_part, self.spent(without=HELPERS), promised), self.left_for_helpers()
        )

    # ------------------------------------------------------------ what agents and people are given

    def evidence(self, name: str, text: str) -> Work[str]:
        """Stores a text for an agent; gives its key."""
        self.evidence_number += 1
        saved = yield from self.must(
            EVIDENCE,
            Evidence(run=self.given.run, name=f"{self.evidence_number:03d}-{name}", text=text),
        )
        return saved.artifact

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
        self.box.lost()
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
