"""Phase Planning: the baseline and the plan side by side, then the scaffold, then the approval."""

from __future__ import annotations

from swarmrun.api.status import Phase
from swarmrun.orchestration.box import INTEGRATION
from swarmrun.orchestration.desk import Desk
from swarmrun.orchestration.ends import RunEnded
from swarmrun.orchestration.flow import Work, beside
from swarmrun.orchestration.inputs import AgentInput, AgentResult
from swarmrun.steps import (
    BASELINE,
    GIVEN_PLAN,
    SCAFFOLD,
    AcceptedPlan,
    Baseline,
    BaselineDone,
    Brief,
    RunRef,
    Scaffold,
    Scaffolded,
)

ROUNDS = 3
"""Plans at most: a plan whose scaffold does not stand goes back to the planner (design)."""
PLANNER_TURNS = 15
PLANNER_TURNS_EMPTY = 4
"""One call is enough; the others are for errors that go back."""


def phase(desk: Desk) -> Work[AcceptedPlan]:
    desk.show(Phase.PLANNING)
    # From its beginning, also where an earlier life of this run has begun it: the same planners come again.
    desk.planners = desk.evidence_number = 0
    desk.integration = desk.preflight.base_commit
    if desk.preflight.empty:
        # Nothing to read and nothing that could have failed before: set-up waits for the scaffold.
        accepted: AcceptedPlan = yield from plan(desk)
    else:
        if "baseline" not in desk.kept:
            # Beside a set-up that has a network of its own no planner reads: then set-up comes first.
            yield from desk.box.open(desk.preflight.base_commit, setup=desk.given.setup_only)
        accepted, _ = yield from beside(plan(desk), baseline(desk))
    for round_number in range(1, ROUNDS + 1):
        take(desk, accepted)
        scaffolded: Scaffolded = yield from desk.once(
            f"scaffold {round_number}", Scaffolded, scaffold(desk, accepted.artifact)
        )
        if not scaffolded.errors:
            desk.integration = scaffolded.commit
            break
        complaint = "The plan's contracts do not make a sound scaffold:\n" + "\n".join(scaffolded.errors)
        if desk.given.given_plan or round_number == ROUNDS:
            raise RunEnded(Phase.FAILED, "InvalidPlan", complaint)
        evidence = yield from desk.evidence("scaffold", complaint)
        accepted = yield from plan(desk, evidence=evidence)
    if desk.preflight.empty and desk.given.setup_only:
        # The step left set-up out; what fails in it is to be known before anybody works.
        yield from desk.box.give_back()
        yield from desk.box.open(desk.integration, setup=True)
    if desk.given.plan_approval:
        yield from desk.approval("plan", accepted.status.hash)
    return accepted


def take(desk: Desk, accepted: AcceptedPlan) -> None:
    desk.plan_key = accepted.artifact
    desk.report.plan = accepted.status


def scaffold(desk: Desk, plan_key: str) -> Work[Scaffolded]:
    base = desk.preflight.base_commit
    done: Scaffolded = yield from desk.box.perform(
        SCAFFOLD,
        lambda box: Scaffold(**box.model_dump(), plan=plan_key, base=base),
        base,
        # An empty tree cannot be set up; the step does it itself once the scaffold stands.
        setup=not desk.preflight.empty,
    )
    return done


def baseline(desk: Desk) -> Work[None]:
    base = desk.preflight.base_commit
    done: BaselineDone = yield from desk.once(
        "baseline",
        BaselineDone,
        desk.box.perform(BASELINE, lambda box: Baseline(**box.model_dump(), commit=base), base),
    )
    desk.report.gates = done.gates


def plan(desk: Desk, *, evidence: str = "") -> Work[AcceptedPlan]:
    if desk.given.given_plan:
        accepted: AcceptedPlan = yield from desk.must(GIVEN_PLAN, RunRef(run=desk.given.run))
        return accepted
    result: AgentResult = yield from planner(desk, evidence=evidence, kept=[])
    if result.plan is None:
        refused = result.reason in ("Refused", "NoFinish", "TurnsExhausted", "")
        raise RunEnded(
            Phase.FAILED, "InvalidPlan" if refused else result.reason, f"no plan: {result.message}"
        )
    return result.plan


def planner(desk: Desk, *, evidence: str, kept: list[str]) -> Work[AgentResult]:
    """One attempt of the planner; at a re-plan `kept` names the tasks that stay as they are."""
    blank, attempt = desk.preflight.empty and not kept, desk.planners + 1
    if not blank and not desk.agents.begun("plan", attempt):
        yield from desk.box.open(desk.integration, setup=desk.given.setup_only)
    allowance = desk.left_for_helpers()
    result: AgentResult = yield from desk.agents.work(
        AgentInput(
            run=desk.given.run,
            role="planner",
            task="plan",
            attempt=attempt,
            brief=Brief(
                base=desk.integration,
                plan=desk.plan_key,
                evidence=evidence,
                empty=blank,
                kept=kept,
            ),
            box=None if blank else desk.box.ref,
            # Later the sandbox may hold anything, a refused scaffold too: the commit is loaded first.
            ready=desk.box.ready and attempt == 1,
            branch=INTEGRATION,
            max_turns=PLANNER_TURNS_EMPTY if blank else PLANNER_TURNS,
            tokens=allowance.tokens,
            cost=allowance.cost,
            must_write=False,
            unverified_goes_on=False,
            guards=desk.given.guards,
        )
    )
    desk.planners = attempt
    desk.box.lent(result)
    return result
