"""Checks and texts that several parts share."""

from __future__ import annotations

import re
import string

ALPHABET = string.ascii_letters + string.digits


def valid_code(code: str) -> bool:
    """4 to 32 letters and digits."""
    return re.fullmatch("[A-Za-z0-9]{4,32}", code) is not None


def valid_url(url: str) -> bool:
    """Only web addresses: no `javascript:`, no `file:`."""
    return url.startswith(("http://", "https://")) and not any(c.isspace() for c in url)


def shorten(text: str, width: int = 60) -> str:
    """For tables."""
    return text if len(text) <= width else text[: width - 1] + "…"
