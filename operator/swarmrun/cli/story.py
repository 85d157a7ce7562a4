"""`swarmrun describe`: the run told as a story, from the resource alone."""

from __future__ import annotations

from swarmrun.api.run import SwarmRun
from swarmrun.api.status import AgentStatus, SwarmRunStatus
from swarmrun.cli.dag import plan_text
from swarmrun.cli.events import gate_outcome, judgement_outcome
from swarmrun.cli.summary import duration, verdict
from swarmrun.cli.typed import named
from swarmrun.cli.wording import count, why


def story(run: SwarmRun, state: str) -> str:
    """`state`: working, stopped or ended, as `local.runs` tells it."""
    status = run.status or SwarmRunStatus()
    sections = [
        _head(run, status, state),
        _conditions(status),
        ("Plan", plan_text(status.plan).splitlines() if status.plan else []),
        ("Agents", [line for agent in status.agents for line in _agent(agent)]),
        ("Merges", _merges(status)),
        ("Gates", [f"{g.name}  {gate_outcome(g)}" for g in status.gates]),
        ("Judgements", [f"round {j.round}  {judgement_outcome(j)}" for j in status.judgements]),
        ("Met on the way", status.notes),
        ("Usage", _usage(status)),
        ("Result", _result(status)),
    ]
    blocks = ["\n".join([title, *(f"  {line}" for line in lines)]) for title, lines in sections if lines]
    return "\n\n".join(blocks)


def _head(run: SwarmRun, status: SwarmRunStatus, state: str) -> tuple[str, list[str]]:
    spec, name = run.spec, named(run.metadata.name, run.metadata.namespace)
    branch = f" ({spec.repository.branch})" if spec.repository.branch else ""
    lines = [
        f"goal        {_first_line(spec.goal)}",
        f"repository  {spec.repository.url}{branch}",
        f"state       {verdict(status)}" + (f" [{state}]" if state != "ended" else ""),
    ]
    if status.started_at:
        ended = f", ended {status.finished_at:%Y-%m-%d %H:%M:%S}" if status.finished_at else ""
        lines.append(f"started     {status.started_at:%Y-%m-%d %H:%M:%S}{ended}")
    if status.isolation:
        lines.append(f"sandboxes   {status.isolation}")
    if state == "stopped":
        lines.append(f"go on with  swarmrun resume {name}")
    if status.phase.value == "AwaitingApproval":
        ready = status.condition("Ready")
        what = "publish" if ready and ready.reason == "AwaitingPublishApproval" else "plan"
        lines.append(f"decide with swarmrun approve {name} {what}  (or reject … --reason)")
    return f"{run.metadata.namespace}/{run.metadata.name}", lines


def _conditions(status: SwarmRunStatus) -> tuple[str, list[str]]:
    lines = []
    for c in status.conditions:
        since = f"  since {c.last_transition_time:%H:%M:%S}" if c.last_transition_time else ""
        lines.append(
            f"{c.type:<12} {c.status:<8} {c.reason}{since}" + (f"  {c.message}" if c.message else "")
        )
    return "Conditions", lines


def _agent(agent: AgentStatus) -> list[str]:
    verified = {True: "verified", False: "UNVERIFIED", None: ""}[agent.verified]
    facts = [
        f"{agent.task}  {agent.role}  {agent.phase.value}",
        f"attempt {agent.attempts}" if agent.attempts > 1 else "",
        count(agent.turns, "turn"),
        count(agent.tool_calls, "tool call"),
        f"{agent.tokens:,} tokens",
        verified,
        agent.branch,
    ]
    lines = ["  ".join(f for f in facts if f)]
    said = why(agent)
    return [*lines, *([f"    {said}"] if said else [])]


def _merges(status: SwarmRunStatus) -> list[str]:
    lines: list[str] = []
    for merge in status.merges:
        lines.append(
            "  ".join(t for t in (merge.task, merge.how.value, merge.commit[:12], merge.reason) if t)
        )
        lines += [f"    {f.path}  {f.how.value}" for f in merge.files]
        lines += [f"    refused: {reason}" for reason in merge.refused]
    return lines


def _usage(status: SwarmRunStatus) -> list[str]:
    usage = status.usage
    if not usage.tokens and not usage.wall_seconds:
        return []
    cost = f"${usage.cost}" if usage.cost is not None else "cost unknown"
    lines = [f"{usage.tokens:,} tokens, {usage.cache_hit_percent} % cache hits, {cost}"]
    for t in usage.tiers:
        price = f"${t.cost}" if t.cost is not None else "price unknown"
        lines.append(
            f"  {t.tier}: {t.input:,} in ({t.cached:,} cached), {t.output:,} out, {count(t.calls, 'call')}, {price}"
        )
    lines.append(f"{duration(usage.wall_seconds)}, critical path {duration(usage.critical_path_seconds)}")
    return lines


def _result(status: SwarmRunStatus) -> list[str]:
    result = status.result
    if result is None:
        return []
    lines = [f"branch       {result.branch} at {result.commit[:12]}"] if result.branch else []
    if result.pull_request:
        lines.append(f"pull request {result.pull_request}")
    return lines


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0] + (" …" if len(lines) > 1 else "") if lines else ""
