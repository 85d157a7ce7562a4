"""Tokens, money and time of a run, summed from its records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal

from swarmrun.api.base import usd
from swarmrun.api.status import TokenUsage, UsageStatus
from swarmrun.report import AgentProgress, AgentRecord, RunReport
from swarmrun.steps import UsageRecord

TIERS = ("premium", "standard", "light")


def usage(report: RunReport, progress: Mapping[str, AgentProgress], now: datetime) -> UsageStatus:
    """An agent's record holds its ended attempts; the attempt at work adds what its progress says."""
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
        wall_seconds=_between(report.started_at, report.finished_at, now),
        critical_path_seconds=critical_path(report, now),
        tiers=tiers,
    )


def working(agent: AgentRecord) -> bool:
    return agent.finished_at is None


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


def critical_path(report: RunReport, now: datetime) -> int:
    """Seconds of the longest chain of agents that had to wait for each other, by the plan's dependencies."""
    spent = {a.status.task: _between(a.started_at, a.finished_at, now) for a in report.agents}
    needs = {t.id: t.depends_on for t in report.plan.tasks} if report.plan else {}
    longest: dict[str, int] = {}

    def upto(task: str, above: frozenset[str]) -> int:
        if task not in longest:
            before = [n for n in needs.get(task, []) if n not in above]
            longest[task] = spent.get(task, 0) + max((upto(n, above | {task}) for n in before), default=0)
        return longest[task]

    return max((upto(task, frozenset()) for task in spent), default=0)


def _between(start: datetime | None, end: datetime | None, now: datetime) -> int:
    if start is None:
        return 0
    end = end or now
    if (start.tzinfo is None) != (end.tzinfo is None):
        # The engine's clock is naive UTC, a person's is not.
        start, end = start.replace(tzinfo=None), end.replace(tzinfo=None)
    return max(0, round((end - start).total_seconds()))
