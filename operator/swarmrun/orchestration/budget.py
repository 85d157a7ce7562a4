"""How tokens and money are shared out. Pure; money is Decimal inside and a string outside.

30 % is held back for planner, merge, judge and fix; the rest is divided over the tasks by their estimated
turns. What a finished task left over goes back to those that have not started.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from swarmrun.steps import TaskRef, UsageRecord

HELD_BACK = 30
"""Per cent (from the harness's design)."""


@dataclass(frozen=True)
class Allowance:
    tokens: int
    cost: str | None


def share(
    task: TaskRef,
    waiting: Sequence[TaskRef],
    promised: Sequence[Allowance],
    tokens: int,
    cost: str | None,
    spent: Sequence[UsageRecord],
) -> Allowance:
    """What `task` (one of `waiting`, those that have not started) may use.

    `promised` is what agents at work may still use, `spent` what is gone for good.
    """
    estimates = sum(t.estimate for t in waiting) or 1
    pool = tokens * (100 - HELD_BACK) // 100 - sum(u.total for u in spent) - sum(p.tokens for p in promised)
    money = None
    if cost is not None:
        left = Decimal(cost) * (100 - HELD_BACK) / 100 - spent_money(spent)
        left -= sum((Decimal(p.cost) for p in promised if p.cost is not None), Decimal(0))
        money = _money(left * task.estimate / estimates)
    return Allowance(tokens=max(0, pool) * task.estimate // estimates, cost=money)


def left(tokens: int, cost: str | None, spent: Sequence[UsageRecord]) -> Allowance:
    """All that is left of the run's budget."""
    money = None if cost is None else _money(Decimal(cost) - spent_money(spent))
    return Allowance(tokens=max(0, tokens - sum(u.total for u in spent)), cost=money)


def spent_money(spent: Sequence[UsageRecord]) -> Decimal:
    return sum((Decimal(u.cost) for u in spent if u.cost is not None), Decimal(0))


def _money(amount: Decimal) -> str:
    return str(max(Decimal(0), amount).quantize(Decimal("0.000001")))
