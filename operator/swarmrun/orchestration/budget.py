"""How tokens and money are shared out. Pure; money is Decimal inside and a string outside.

30 % is held back for merge, judge and fix; the rest is divided over the tasks by their estimated turns. What a
finished task left over goes to those that have not started.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from swarmrun.steps import TaskRef, UsageRecord

HELD_BACK = 30
"""Per cent (from the harness's design)."""


@dataclass(frozen=True)
class Allowance:
    """What may be used; `cost` in US dollars, None where nobody set a ceiling."""

    tokens: int
    cost: str | None


def for_tasks(whole: Allowance) -> Allowance:
    """What is not held back."""
    cost = None if whole.cost is None else _money(Decimal(whole.cost) * (100 - HELD_BACK) / 100)
    return Allowance(whole.tokens * (100 - HELD_BACK) // 100, cost)


def left(whole: Allowance, spent: Iterable[UsageRecord], promised: Iterable[Allowance] = ()) -> Allowance:
    """Of `whole`, what is neither spent nor promised to an agent at work."""
    gone, given = list(spent), list(promised)
    tokens = whole.tokens - sum(u.total for u in gone) - sum(p.tokens for p in given)
    if whole.cost is None:
        return Allowance(max(0, tokens), None)
    money = Decimal(whole.cost) - sum((Decimal(u.cost) for u in gone if u.cost is not None), Decimal(0))
    money -= sum((Decimal(p.cost) for p in given if p.cost is not None), Decimal(0))
    return Allowance(max(0, tokens), _money(money))


def lesser(one: Allowance, other: Allowance) -> Allowance:
    costs = [Decimal(a.cost) for a in (one, other) if a.cost is not None]
    return Allowance(min(one.tokens, other.tokens), _money(min(costs)) if costs else None)


def share(task: TaskRef, waiting: Sequence[TaskRef], pool: Allowance) -> Allowance:
    """Of `pool`, what `task` (one of `waiting`, those that have not started) may use."""
    estimates = sum(t.estimate for t in waiting) or 1
    cost = None if pool.cost is None else _money(Decimal(pool.cost) * task.estimate / estimates)
    return Allowance(pool.tokens * task.estimate // estimates, cost)


def share_equally(pool: Allowance, number: int) -> Allowance:
    return Allowance(
        pool.tokens // number, None if pool.cost is None else _money(Decimal(pool.cost) / number)
    )


def _money(amount: Decimal) -> str:
    return str(max(Decimal(0), amount).quantize(Decimal("0.000001")))
