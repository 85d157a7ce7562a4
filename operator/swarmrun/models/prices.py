"""List prices by model name, in US dollars per million tokens, gathered in November 2026.

Claude: Anthropic's price page (a stored copy). GPT-5.2 to 5.5 and GPT-5 mini: tables of third parties that repeat
OpenAI's list. Older OpenAI models: common knowledge, not looked up again. None was checked against a bill.

They are a start, not a bill: resellers, regions, batch and priority tiers, surcharges for very long prompts
and negotiated rates are not in here. A class overrides them (`prices`). A model that is missing, or whose
price depends on the prompt's length or on who hosts it (open weights), has no price here on purpose: an
unknown price is said to be unknown.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple


class Price(NamedTuple):
    input: str
    cached: str
    cache_write: str | None
    """None: written at the price of input."""
    output: str


# First match wins, so the longer name stands before the shorter. Dated snapshots (`-2026-01-31`) share the
# price of their family, which the trailing patterns allow; `-pro` and the like do not and match nothing.
_TABLE: tuple[tuple[str, Price], ...] = (
    ("gpt-5.5", Price("5", "0.5", None, "30")),
    ("gpt-5.4-mini", Price("0.75", "0.075", None, "4.5")),
    ("gpt-5.4-nano", Price("0.2", "0.02", None, "1.25")),
    ("gpt-5.4", Price("2.5", "0.25", None, "15")),
    ("gpt-5.3-codex", Price("1.75", "0.175", None, "14")),
    ("gpt-5.2-codex", Price("1.75", "0.175", None, "14")),
    ("gpt-5.2", Price("1.75", "0.175", None, "14")),
    ("gpt-5.1", Price("1.25", "0.125", None, "10")),
    ("gpt-5-mini", Price("0.25", "0.025", None, "2")),
    ("gpt-5-nano", Price("0.05", "0.005", None, "0.4")),
    ("gpt-5", Price("1.25", "0.125", None, "10")),
    ("gpt-4.1-mini", Price("0.4", "0.1", None, "1.6")),
    ("gpt-4.1-nano", Price("0.1", "0.025", None, "0.4")),
    ("gpt-4.1", Price("2", "0.5", None, "8")),
    ("gpt-4o-mini", Price("0.15", "0.075", None, "0.6")),
    ("gpt-4o", Price("2.5", "1.25", None, "10")),
    ("o4-mini", Price("1.1", "0.275", None, "4.4")),
    ("o3", Price("2", "0.5", None, "8")),
    ("claude-opus-5", Price("5", "0.5", "6.25", "25")),
    ("claude-opus-4-[5678]", Price("5", "0.5", "6.25", "25")),
    ("claude-sonnet-5", Price("2", "0.2", "2.5", "10")),
    ("claude-sonnet-4-[56]", Price("3", "0.3", "3.75", "15")),
    ("claude-haiku-4-5", Price("1", "0.1", "1.25", "5")),
)

_DATED = ("", "-20[0-9][0-9]-[0-9][0-9]-[0-9][0-9]", "-20[0-9][0-9][0-9][0-9][0-9][0-9]", "-latest")


def list_price(model: str) -> Price | None:
    """The list price of a model by its bare name (`gpt-5-mini`, `openai/gpt-5-mini`), None when unknown."""
    name = model.lower().rsplit("/", 1)[-1]
    for pattern, price in _TABLE:
        if any(fnmatchcase(name, pattern + suffix) for suffix in _DATED):
            return price
    return None
