"""A sandbox's token: derived, never stored; the sandbox knows its hash only."""

from __future__ import annotations

import hashlib
import hmac


def token(master_key: bytes, sandbox_id: str) -> str:
    """Hex of HMAC-SHA-256 over the sandbox's id. Raises ValueError for a key under 16 bytes."""
    if len(master_key) < 16:
        raise ValueError("the master key needs at least 16 bytes")
    return hmac.new(master_key, sandbox_id.encode(), hashlib.sha256).hexdigest()


def token_sha256(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()
