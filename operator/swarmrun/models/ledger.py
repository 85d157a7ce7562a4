"""What tokens cost, and sums of them by tier and kind."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from swarmrun.errors import InvalidResource
from swarmrun.ports import Profile, Usage
from swarmrun.steps import UsageRecord

_MILLION = Decimal(1_000_000)
_CENT_OF_A_CENT = Decimal("0.000001")
"""Six digits: what `api.base.Usd` holds. One token of the cheapest model is below it, a call never is."""


def has_prices(profile: Profile) -> bool:
    return profile.price_input is not None and profile.price_output is not None


def require_prices(profile: Profile, tier: str) -> None:
    """Raises InvalidResource: a cap in dollars cannot be kept for a model whose price nobody knows."""
    if not has_prices(profile):
        raise InvalidResource(
            f"model {profile.model} (tier {tier}) has no known price, but the run has a cost cap",
            field=f"models.{tier}.prices",
            mend=f"set models.{tier}.prices (input, output; USD per million tokens) or cap tokens instead",
            reason="UnknownPrice",
        )


def cost(usage: Usage, profile: Profile) -> Decimal | None:
    """US dollars of one call; None while the price is unknown.

    Cached input without a price of its own counts as input, so does what is written to the cache: too dear
    rather than too cheap, as a cap must hold.
    """
    if profile.price_input is None or profile.price_output is None:
        return None
    price = Decimal(profile.price_input)
    cached = Decimal(profile.price_cached) if profile.price_cached is not None else price
    written = Decimal(profile.price_cache_write) if profile.price_cache_write is not None else price
    # Some servers report cached tokens beside the input instead of within it.
    plain = max(0, usage.input - usage.cached - usage.cache_write)
    total = (
        plain * price
        + usage.cached * cached
        + usage.cache_write * written
        + usage.output * Decimal(profile.price_output)
    )
    return (total / _MILLION).quantize(_CENT_OF_A_CENT)


def record(usage: Usage, profile: Profile, tier: str, *, calls: int = 1) -> UsageRecord:
    amount = cost(usage, profile)
    return UsageRecord(
        tier=tier,
        input=usage.input,
        cached=usage.cached,
        cache_write=usage.cache_write,
        output=usage.output,
        calls=calls,
        cost=None if amount is None else str(amount),
    )


def by_tier(records: Iterable[UsageRecord]) -> list[UsageRecord]:
    """One record a tier, in order of first appearance. A tier with one unknown cost has an unknown cost."""
    sums: dict[str, UsageRecord] = {}
    for item in records:
        have = sums.get(item.tier)
        sums[item.tier] = item.model_copy() if have is None else _plus(have, item)
    return list(sums.values())


def total(records: Iterable[UsageRecord]) -> UsageRecord:
    """Everything in one record, its tier `total`."""
    result = UsageRecord(tier="total", cost="0")
    for item in records:
        result = _plus(result, item)
    return result


def cache_hit_share(records: Iterable[UsageRecord]) -> float:
    """Cached tokens of all input tokens, 0 to 1; 0 when nothing was sent."""
    everything = total(records)
    return min(1.0, everything.cached / everything.input) if everything.input else 0.0


def _plus(one: UsageRecord, other: UsageRecord) -> UsageRecord:
    unknown = one.cost is None or other.cost is None
    return UsageRecord(
        tier=one.tier,
        input=one.input + other.input,
        cached=one.cached + other.cached,
        cache_write=one.cache_write + other.cache_write,
        output=one.output + other.output,
        calls=one.calls + other.calls,
        cost=None if unknown else str(Decimal(one.cost or 0) + Decimal(other.cost or 0)),
    )
