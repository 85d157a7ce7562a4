"""Phases Verifying, Judging, Fixing: gates, judgement, and repair in place while it helps."""

from __future__ import annotations

from dataclasses import dataclass

from swarmrun.api.status import Judgement, Phase
from swarmrun.orchestration import budget
from swarmrun.orchestration.box import INTEGRATION
from swarmrun.orchestration.desk import Desk
from swarmrun.orchestration.ends import RunEnded
from swarmrun.orchestration.flow import Work
from swarmrun.orchestration.inputs import AgentInput, AgentResult
from swarmrun.orchestration.stand import Verdict
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


def phase(desk: Desk) -> Work[Verdict]:
    # From its beginning, also where an earlier life of this run was in the middle of it: what was found and paid
    # is found again.
    desk.integration, desk.report.judgements = desk.judged_from, []
    rounds = 0
    gates = yield from prove(desk, 0, desk.integration)
    if gates.breaches and desk.given.guards and desk.given.max_fix_rounds:
        rounds, gates = yield from mend_contracts(desk, gates)
    best = yield from judge(desk, rounds, gates)
    desk.integration = best.commit
    record(desk, best)
    for number in range(rounds + 1, desk.given.max_fix_rounds + 1):
        if good(state(best), desk.given.threshold):
            break
        why = f"score {best.judgement.score}, threshold {desk.given.threshold}"
        fixed = yield from fix(desk, number, best.commit, best.tallied.evidence, why)
        if fixed is None:
            break
        after = yield from measure(desk, number, fixed)
        kept, why = better(state(best), state(after))
        after.judgement.kept = kept
        record(desk, after)
        if not kept:
            desk.note(f"fix round {number} undone: {why}")
            break
        desk.integration = after.commit
        best = after
    desk.report.score = best.judgement.score
    desk.report.gates = best.gates.gates
    return verdict(desk, best)


def measure(desk: Desk, number: int, commit: str) -> Work[Round]:
    """Gates first, as evidence and as a cap; then the judge."""
    gates = yield from prove(desk, number, commit)
    done: Round = yield from judge(desk, number, gates)
    return done


def prove(desk: Desk, number: int, commit: str) -> Work[GatesRun]:
    """Gates, and the contracts by reading the code."""
    desk.show(Phase.VERIFYING, "runs the gates")
    gates: GatesRun = yield from desk.once(
        f"gates {number} {commit}",
        GatesRun,
        desk.box.perform(
            GATES,
            lambda box: RunGates(**box.model_dump(), commit=commit, round=number, plan=desk.plan_key),
            commit,
        ),
    )
    desk.report.gates = gates.gates
    return gates


def mend_contracts(desk: Desk, broken: GatesRun) -> Work[tuple[int, GatesRun]]:
    """A broken contract is a complaint that code makes: the fixer gets it before the judge is paid.

    Gives the number of rounds that it took (one), and the better of the two states."""
    why = f"{len(broken.breaches)} contracts are not kept"
    mended = yield from fix(desk, 1, broken.commit, broken.evidence, why)
    if mended is None:
        return 1, broken
    after = yield from prove(desk, 1, mended)
    better_now = len(after.breaches) < len(broken.breaches)
    if better_now and after.failing_required <= broken.failing_required:
        return 1, after
    desk.note(f"fix round 1 undone: {len(after.breaches)} contracts are not kept, {why} before")
    desk.report.gates = broken.gates
    return 1, broken


def judge(desk: Desk, number: int, gates: GatesRun) -> Work[Round]:
    """Several samples, one judgement."""
    desk.show(Phase.JUDGING, f"round {number}")
    each = budget.share_equally(desk.left_for_helpers(), desk.given.samples)
    samples: list[Result[Sampled]] = yield from desk.perform_all(
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
                tokens_left=each.tokens,
                cost_left=each.cost,
            )
            for i in range(1, desk.given.samples + 1)
        ],
    )
    usable: list[str] = []
    for i, sample in enumerate(samples, start=1):
        if sample.ok:
            usable.append(sample.ok.artifact)
            desk.charge(sample.ok.usage, once=f"judge {number} {i}")
        elif sample.failed:
            desk.note(f"judge, round {number}: {sample.failed.reason}: {sample.failed.message}")
    if not usable:
        failures = [s.failed for s in samples if s.failed]
        for failed in failures:
            if failed.kind != "BadModelOutput":
                desk.fail(failed)
        why = f": {failures[0].reason}: {failures[0].message}" if failures else ""
        raise RunEnded(Phase.FAILED, "NoJudgement", f"the judge gave no usable answer{why}")
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


def fix(desk: Desk, number: int, commit: str, evidence: str, why: str) -> Work[str | None]:
    """The fixer works in place on the integration sandbox. None: the round closed nothing."""
    desk.show(Phase.FIXING, f"round {number}: {why}")
    if not desk.agents.begun(f"fix-{number}", 1):
        yield from desk.box.open(commit, setup=True)
    allowance = desk.left_for_helpers()
    result: AgentResult = yield from desk.agents.work(
        AgentInput(
            run=desk.given.run,
            role="fixer",
            task=f"fix-{number}",
            brief=Brief(plan=desk.plan_key, evidence=evidence, base=commit),
            box=desk.box.ref,
            branch=INTEGRATION,
            max_turns=FIXER_TURNS,
            tokens=allowance.tokens,
            cost=allowance.cost,
            # What its guards refuse is a weakened test or a stub: no round is better for that.
            unverified_goes_on=False,
            guards=desk.given.guards,
        )
    )
    desk.box.lent(result)
    if result.status != "Finished" or not result.commit or result.commit == commit:
        desk.note(f"fix round {number} closed nothing: {result.reason} {result.message}".strip())
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
        return Verdict(ok=False, reason="GatesFailed", message=f"required gates fail: {names}")
    if best.gates.breaches:
        return Verdict(ok=False, reason="ContractsBroken", message="; ".join(best.gates.breaches)[:500])
    if best.judgement.score < desk.given.threshold:
        message = f"score {best.judgement.score} is below the threshold {desk.given.threshold}"
        return Verdict(ok=False, reason="ScoreBelowThreshold", message=message)
    return Verdict(ok=True)
