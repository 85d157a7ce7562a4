"""Phases Verifying, Judging, Fixing: gates, judgement, and repair in place while it helps."""

from __future__ import annotations

from dataclasses import dataclass

from swarmrun.api.status import Judgement, Phase
from swarmrun.orchestration.desk import INTEGRATION, Desk, RunEnded
from swarmrun.orchestration.flow import Work
from swarmrun.orchestration.inputs import AgentInput, AgentResult
from swarmrun.orchestration.perform import perform_all
from swarmrun.steps import (
    GATES,
    SAMPLE,
    TALLY,
    Brief,
    GatesRun,
    Result,
    RunGates,
    Sample,
    Sampled,
    Tallied,
    Tally,
)
from swarmrun.verifying.rounds import RoundState, better, good

FIXER_TURNS = 40


@dataclass(frozen=True)
class Round:
    """One state of the integration branch, measured and judged."""

    commit: str
    gates: GatesRun
    tallied: Tallied

    @property
    def judgement(self) -> Judgement:
        return self.tallied.judgement


@dataclass(frozen=True)
class Verdict:
    ok: bool
    reason: str = ""
    message: str = ""


def phase(desk: Desk) -> Work[Verdict]:
    best = yield from measure(desk, 0)
    desk.integration = best.commit
    record(desk, best)
    for number in range(1, desk.given.max_fix_rounds + 1):
        if good(state(best), desk.given.threshold):
            break
        fixed = yield from fix(desk, number, best)
        if fixed is None:
            break
        desk.integration = fixed
        after = yield from measure(desk, number)
        kept, why = better(state(best), state(after))
        after.judgement.kept = kept
        record(desk, after)
        if not kept:
            desk.integration = best.commit
            desk.report.notes = [*desk.report.notes, f"fix round {number} undone: {why}"][:50]
            break
        desk.integration = after.commit
        best = after
    desk.report.score = best.judgement.score
    desk.report.gates = best.gates.gates
    desk.show()
    return verdict(desk, best)


def measure(desk: Desk, number: int) -> Work[Round]:
    """Gates first, as evidence and as a cap; then the judge."""
    desk.show(Phase.VERIFYING, "runs the gates")
    commit = desk.integration
    gates: GatesRun = yield from desk.in_box(
        GATES,
        lambda box: RunGates(**box.model_dump(), commit=commit, round=number, plan=desk.plan_key),
        commit,
    )
    desk.report.gates = gates.gates
    desk.show(Phase.JUDGING, f"round {number}")
    allowance = desk.left_for_helpers()
    samples: list[Result[Sampled]] = yield from perform_all(
        desk.ctx,
        SAMPLE,
        [
            Sample(
                run=desk.given.run,
                round=number,
                sample=i,
                commit=gates.commit,
                base=desk.preflight.base_commit,
                plan=desk.plan_key,
                gates=gates.artifact,
                tokens_left=allowance.tokens // desk.given.samples,
            )
            for i in range(1, desk.given.samples + 1)
        ],
        desk.on_wait,
    )
    usable: list[str] = []
    for sample in samples:
        if sample.ok:
            usable.append(sample.ok.artifact)
            desk.charge(sample.ok.usage)
        elif sample.failed:
            note = f"judge, round {number}: {sample.failed.reason}: {sample.failed.message}"
            desk.report.notes = [*desk.report.notes, note[:300]][:50]
    if not usable:
        failures = [s.failed for s in samples if s.failed]
        if failures:
            desk.fail(failures[0])
        raise RunEnded(Phase.FAILED, "NoJudgement", "the judge gave no usable answer")
    tallied: Tallied = yield from desk.must(
        TALLY,
        Tally(
            run=desk.given.run,
            round=number,
            commit=gates.commit,
            plan=desk.plan_key,
            gates=gates.artifact,
            samples=usable,
            failing_required=gates.failing_required,
            breaches=len(gates.breaches),
        ),
    )
    return Round(gates.commit, gates, tallied)


def record(desk: Desk, done: Round) -> None:
    desk.report.judgements = [*desk.report.judgements, done.judgement]
    desk.report.score = max(j.score for j in desk.report.judgements if j.kept)
    desk.show()


def fix(desk: Desk, number: int, best: Round) -> Work[str | None]:
    """The fixer works in place on the integration sandbox. None: the round closed nothing."""
    desk.show(Phase.FIXING, f"round {number}: score {best.judgement.score}, threshold {desk.given.threshold}")
    yield from desk.open_box(best.commit, setup=True)
    allowance = desk.left_for_helpers()
    result: AgentResult = yield from desk.agent(
        AgentInput(
            run=desk.given.run,
            role="fixer",
            task=f"fix-{number}",
            brief=Brief(plan=desk.plan_key, evidence=best.tallied.evidence, base=best.commit),
            box=desk.box,
            branch=INTEGRATION,
            max_turns=FIXER_TURNS,
            tokens=allowance.tokens,
            cost=allowance.cost,
            unverified_goes_on=True,
            guards=desk.given.guards,
        )
    )
    desk.lent(result)
    if result.status != "Finished" or not result.commit or result.commit == best.commit:
        note = f"fix round {number} closed nothing: {result.reason} {result.message}".strip()
        desk.report.notes = [*desk.report.notes, note[:300]][:50]
        return None
    return result.commit


def state(done: Round) -> RoundState:
    return RoundState(
        commit=done.commit,
        failing_required=done.gates.failing_required,
        breaches=len(done.gates.breaches),
        open=frozenset(done.tallied.open),
        score=done.judgement.score,
        spread=done.judgement.spread,
    )


def verdict(desk: Desk, best: Round) -> Verdict:
    if best.gates.failing_required:
        names = ", ".join(g.name for g in best.gates.gates if g.required and not g.passed)
        return Verdict(False, "GatesFailed", f"required gates fail: {names}")
    if best.gates.breaches:
        return Verdict(False, "ContractsBroken", "; ".join(best.gates.breaches)[:500])
    if best.judgement.score < desk.given.threshold:
        message = f"score {best.judgement.score} is below the threshold {desk.given.threshold}"
        return Verdict(False, "ScoreBelowThreshold", message)
    return Verdict(True)
