"""The models of a class, probed tier by tier: for `swarmrun doctor --probe` and the chart's test."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from swarmrun.api.swarmclass import Models, Tier
from swarmrun.errors import SwarmRunError
from swarmrun.findings import Finding
from swarmrun.models import probe
from swarmrun.models.client import OpenAIModel, client_for

NEEDED = ("reachable", "key", "answers", "tools")
"""Checks without which no run can work."""
PROBE_SECONDS = 60.0
"""How long a model may say nothing; the questions are small ones. A choice."""

Ask = Callable[[OpenAIModel], Awaitable[list[probe.Finding]]]


async def look(models: Models, ask: Ask = probe.probe, *, name: str = "model") -> list[Finding]:
    """One finding a check and tier. Tiers that are the same are asked once, those of a cassette not at all.

    `ask`: `probe.probe` or, cheaper, `probe.greet`.
    """
    found: list[Finding] = []
    seen: set[str] = set()
    for tier in Tier:
        spec = models.tier(tier)
        key = spec.model_dump_json()
        if key in seen or spec.endpoint.startswith("cassette:"):
            continue
        seen.add(key)
        about = f"{name} {tier.value} ({spec.model})"
        try:
            client = client_for(spec, silence_s=PROBE_SECONDS, total_s=3 * PROBE_SECONDS)
        except SwarmRunError as exc:
            found.append(Finding(about, "problem", exc.message, exc.mend))
            continue
        try:
            for f in await ask(client):
                level = "ok" if f.ok else "problem" if f.check in NEEDED else "warning"
                found.append(Finding(about, level, f"{f.check}: {f.message}", f.mend))
        finally:
            await client.close()
    return found
