"""Tokens, money and time of a run, summed from its records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal

from swarmrun.api.base import usd
from swarmrun.api.status import AgentPhase, TokenUsage, UsageStatus
from swarmrun.report import AgentProgress, AgentRecord, RunReport
from swarmrun.steps import UsageRecord

TIERS = ("premium", "standard", "light")


def usage(report: RunReport, progress: Mapping[str, AgentProgress]) -> UsageStatus:
    """An agent's record holds its ended attempts; the attempt at work adds what its progress says.

    Times reach up to the last thing that began or ended: a status must not change, and be written, only
    because a second has passed.
    """
    records = list(report.usage)
    for agent in report.agents:
        records += agent.usage
        if working(agent) and agent.instance in progress:
            records += progress[agent.instance].usage
    tiers = by_tier(records)
    tokens_in = sum(t.input for t in tiers)
    return UsageStatus(
        tokens=sum(t.input + t.output for t in tiers),
        cost=money([t.cost for t in tiers if t.input + t.output]),
        cache_hit_percent=round(100 * sum(t.cached for t in tiers) / tokens_in) if tokens_in else 0,
        wall_seconds=_between(report.started_at, report.finished_at or latest(report)),
        critical_path_seconds=critical_path(report),
        tiers=tiers,
    )


def working(agent: AgentRecord) -> bool:
    """An attempt is under way (its record may still hold the end of the one before)."""
    return agent.status.phase in (AgentPhase.STARTING, AgentPhase.RUNNING)


def by_tier(records: Iterable[UsageRecord]) -> list[TokenUsage]:
    found: dict[str, list[UsageRecord]] = {}
    for record in records:
        found.setdefault(record.tier, []).append(record)
    order = [*(t for t in TIERS if t in found), *sorted(t for t in found if t not in TIERS)]
    return [
        TokenUsage(
            tier=tier,
            input=sum(r.input for r in found[tier]),
            cached=sum(r.cached for r in found[tier]),
            cache_write=sum(r.cache_write for r in found[tier]),
            output=sum(r.output for r in found[tier]),
            calls=sum(r.calls for r in found[tier]),
            cost=money([r.cost for r in found[tier] if r.total]),
        )
        for tier in order
    ]


def money(amounts: list[str | None]) -> str | None:
    """None as soon as one is unknown: a sum that leaves some out would be taken for the whole."""
    if any(amount is None for amount in amounts):
        return None
    total = sum((usd(amount) for amount in amounts if amount), Decimal(0))
    return f"{total.quantize(Decimal('0.000001')).normalize():f}"


def latest(report: RunReport) -> datetime | None:
    """When something was last seen to begin or end."""
    times = [t for a in report.agents for t in (a.started_at, a.finished_at) if t is not None]
    return max(times, key=_naive, default=report.started_at)


def critical_path(report: RunReport) -> int:
    """Seconds of the longest chain of agents that had to wait for each other, by the plan's dependencies."""
    until = report.finished_at or latest(report)
    spent = {
        a.status.task: _between(a.started_at, until if working(a) else a.finished_at) for a in report.agents
    }
    needs = {t.id: t.depends_on for t in report.plan.tasks} if report.plan else {}
    longest: dict[str, int] = {}

    def upto(task: str, above: frozenset[str]) -> int:
        if task not in longest:
            before = [n for n in needs.get(task, []) if n not in above]
            longest[task] = spent.get(task, 0) + max((upto(n, above | {task}) for n in before), default=0)
        return longest[task]

    return max((upto(task, frozenset()) for task in spent), default=0)


def _between(start: datetime | None, end: datetime | None) -> int:
    if start is None or end is None:
        return 0
    return max(0, round((_naive(end) - _naive(start)).total_seconds()))


def _naive(time: datetime) -> datetime:
    """The engine's clock is naive UTC, others say so."""
    return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time
