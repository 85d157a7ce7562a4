"""The judge answers fixed criteria with evidence; code checks the evidence and computes the score."""

from __future__ import annotations

from typing import Any

from swarmrun.activities.records import as_json, key_of
from swarmrun.activities.world import BYTES_PER_TOKEN, RunWorld, reserve, reserve_money
from swarmrun.agents import briefs
from swarmrun.agents.roles import role
from swarmrun.agents.transcript import user_message
from swarmrun.api.plan import Criterion
from swarmrun.api.status import GateStatus, Judgement
from swarmrun.errors import BadModelOutput
from swarmrun.planning import render
from swarmrun.ports import ModelRequest
from swarmrun.steps import AgentRef, Sample, Sampled, Tallied, Tally, UsageRecord
from swarmrun.verifying import judging


def sample(world: RunWorld, given: Sample) -> Sampled:
    """One answer of the judge, paid once. The criteria's order differs from sample to sample."""
    # The sample is the attempt: several answers to one question.
    key = key_of(AgentRef(run=given.run, role="judge", task=f"round-{given.round}", attempt=given.sample), 1)
    place = f"{key.path()}/answer.json"
    if not world.store.exists(place):
        listed = judging.permute(_criteria(world, given.plan), given.sample)
        tier, client = world.model("judge")
        spec = role("judge")
        text = _question(world, given, listed)
        prompt = len(text) // BYTES_PER_TOKEN
        who = f"judge, round {given.round}"
        reserve(prompt + client.profile.max_output, given.tokens_left, who)
        reserve_money(prompt, client.profile, tier.value, given.cost_left, who)
        reply = world.run(
            client.turn(
                ModelRequest(
                    key=key,
                    instructions=spec.prompt,
                    messages=[user_message(text)],
                    response_schema=judging.answer_schema(listed),
                )
            )
        )
        value = reply.value if reply.value is not None else reply.text
        if not judging.answered(value, listed):
            raise BadModelOutput(
                f"the judge's answer in round {given.round} answers none of the criteria"
                + (" and calls tools, which a judge has none of" if reply.calls else ""),
                feedback="Answer every criterion, with one JSON object that fits the schema, and call no tool.",
                usage=reply.usage,
                reason="NoJudgement",
            )
        world.put(place, {"value": value, "usage": world.usage("judge", reply.usage).model_dump()})
    answer = world.get(place)
    told = as_json(answer["value"])
    return Sampled(artifact=place, usage=UsageRecord.model_validate(answer["usage"]), told=told)


def tally(world: RunWorld, given: Tally) -> Tallied:
    repo = world.repo
    repo.ensure(given.commit)
    gates = world.get(given.gates)
    statuses = [GateStatus.model_validate(g) for g in gates["gates"]]
    passed = [g.name for g in statuses if g.passed]
    failing = [g for g in statuses if g.required and not g.passed]
    listed = _criteria(world, given.plan)
    samples = [
        judging.check_evidence(
            judging.normalise_answers(world.get(key)["value"], listed),
            lambda path: repo.read(given.commit, path),
            passed,
        )
        for key in given.samples
    ]
    result = judging.tally(samples, listed)
    score, capped = judging.cap(
        result.score, [g.name for g in failing], gates["breaches"], world.snapshot.threshold
    )
    measured = [f"gate {g.name}: {', '.join(g.new_failures[:3]) or g.message}" for g in failing]
    evidence = world.put(
        f"evidence/fix-{given.round + 1}.json",
        {
            "complaints": [_complaint(c, listed) for c in result.complaints],
            "gates": {g.name: gates["outputs"].get(g.name, g.message) for g in failing},
            "breaches": gates["breaches"],
        },
    )
    return Tallied(
        judgement=Judgement(
            round=given.round,
            score=score,
            spread=result.spread,
            complaints=[c[:512] for c in [*measured, *gates["breaches"], *result.complaints]][:20],
            commit=given.commit,
            capped_by=capped[:200],
        ),
        evidence=evidence,
        open=result.open,
    )


def _criteria(world: RunWorld, plan_key: str) -> list[Criterion]:
    return judging.criteria(world.snapshot.rubric, world.plan(plan_key))


def _question(world: RunWorld, given: Sample, listed: list[Criterion]) -> str:
    repo = world.repo
    for commit in (given.base, given.commit):
        repo.ensure(commit)
    gates = world.get(given.gates)
    return briefs.judge_message(
        world.snapshot,
        criteria=listed,
        diff=repo.diff(given.base, given.commit),
        gates={g["name"]: _gate_text(GateStatus.model_validate(g), gates["outputs"]) for g in gates["gates"]},
        contracts=render.contracts(world.plan(given.plan)),
        breaches=gates["breaches"],
        files=repo.changed_files(given.base, given.commit),
    )


def _gate_text(gate: GateStatus, outputs: dict[str, str]) -> str:
    if gate.passed:
        old = f" ({len(gate.baseline_failures)} failures were there before)" if gate.baseline_failures else ""
        return f"passed{old}"
    return f"FAILED, new: {', '.join(gate.new_failures)}\n{outputs.get(gate.name, '')[-3000:]}"


def _complaint(text: str, listed: list[Criterion]) -> dict[str, Any]:
    """`works: it does not …` as the fixer's brief wants it."""
    criterion, _, said = text.partition(": ")
    weight = next((c.weight for c in listed if c.id == criterion), 10)
    return {"criterion": criterion, "text": said or text, "evidence": "", "weight": weight}
