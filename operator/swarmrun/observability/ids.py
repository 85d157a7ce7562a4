"""Trace and span ids that every process computes alike from a run's instance id: nobody has to hand them around,
and a restarted process goes on in the same trace. Pure."""

from __future__ import annotations

import hashlib


def trace_id(run: str) -> int:
    """128 bits, as evenly spread as random ones: samplers may decide by them."""
    return int.from_bytes(_digest(f"trace:{run}")[:16]) or 1


def span_id(run: str, what: str = "") -> int:
    """64 bits: of the run's own span, or of the one for `what` in it (`agent:<task>`)."""
    return int.from_bytes(_digest(f"span:{run}:{what}")[:8]) or 1


def _digest(text: str) -> bytes:
    return hashlib.sha256(f"swarmrun:{text}".encode()).digest()
