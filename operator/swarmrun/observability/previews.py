"""Short texts for people in the engine's histories: a dashboard shows inputs and outputs, and large things are
artifacts there. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swarmrun.api.base import legible
from swarmrun.observability.secrets import scrub

KEY = "preview"
LIMIT = 2048
"""Bytes as UTF-8. Histories are sent whole to whoever replays them, so they must stay small."""


def preview(text: str, known: tuple[str, ...] = (), limit: int = LIMIT) -> str:
    """The head of a text, without what looks like a key. `known`: secrets that go wherever they stand."""
    # Cut generously first: what is megabytes long need not be searched, and a key across the cut goes whole.
    text = scrub(legible(text[: 4 * limit]), known).strip()
    data = text.encode()
    if len(data) <= limit:
        return text
    return data[: limit - 3].decode("utf-8", "ignore") + "…"


def previewed(text: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """`data` as a payload that begins with a text for people. Whoever reads the data does not see it."""
    return {KEY: preview(text), **data}
