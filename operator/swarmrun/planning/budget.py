"""A run's tokens and money divided before anyone works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal

from swarmrun.api.plan import Plan

HELD_BACK = Decimal("0.30")
"""Held back for everything that is no task: the design's number."""
SHARES: Mapping[str, Decimal] = {
    "planner": Decimal("0.20"),
    "integrator": Decimal("0.25"),
    "judge": Decimal("0.20"),
    "fixer": Decimal("0.35"),
}
"""Parts of what is held back. A choice: fixing is where runs that go wrong spend most."""
_CENT = Decimal("0.000001")
"""The smallest amount of `api.base.Usd`."""


@dataclass(frozen=True)
class Allowance:
    """What one agent may use. `cost` is in US dollars, None where the run has no ceiling."""

    tokens: int
    cost: Decimal | None = None


def divide(plan: Plan, tokens: int, cost: Decimal | None) -> dict[str, Allowance]:
    """Task → its part of what is not held back, in proportion to the estimates; sums never exceed it."""
    open_tokens = tokens - _part(tokens)
    open_cost = None if cost is None else (cost * (1 - HELD_BACK)).quantize(_CENT, ROUND_DOWN)
    return _share(open_tokens, open_cost, [(t.id, Decimal(t.estimate)) for t in plan.tasks])


def held_back(tokens: int, cost: Decimal | None) -> dict[str, Allowance]:
    """Role → its part of what is held back (`planner`, `integrator`, `judge`, `fixer`)."""
    kept_cost = None if cost is None else (cost * HELD_BACK).quantize(_CENT, ROUND_DOWN)
    return _share(_part(tokens), kept_cost, list(SHARES.items()))


def reserve(prompt_tokens: int, output_cap: int, left: int) -> bool:
    """Whether a call may be made: its prompt and all of its output must fit into what is left."""
    return prompt_tokens + output_cap <= left


def _part(tokens: int) -> int:
    return int(tokens * HELD_BACK)


def _share(tokens: int, cost: Decimal | None, weights: Sequence[tuple[str, Decimal]]) -> dict[str, Allowance]:
    total = sum((weight for _, weight in weights), Decimal(0))
    return {
        name: Allowance(
            int(tokens * weight / total),
            None if cost is None else (cost * weight / total).quantize(_CENT, ROUND_DOWN),
        )
        for name, weight in weights
    }
