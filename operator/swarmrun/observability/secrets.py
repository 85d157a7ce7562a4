"""What looks like a key, taken out of text. Used on everything that is recorded, logged or previewed, and on servers'
own words."""

from __future__ import annotations

import re
from collections.abc import Mapping

HIDDEN = "[secret removed]"

# Shapes that common issuers' keys have, and `key=value` forms with a value too random to be code. Program text in a
# recording must survive, so nothing is removed only for standing next to the word "token".
_PATTERNS = (
    re.compile(r"\b(?:sk|pk|rk)-(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{16,}"),
    re.compile(r"\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}|\bglpat-[A-Za-z0-9_-]{16,}"),
    re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[A-Za-z0-9_-]{30,}|\bhf_[A-Za-z0-9]{20,}"),
    re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
    re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    re.compile(r"(?<=[?&])(?:api[-_]?key|key|sig|code|access_token|token)=[^&\s\"']{8,}", re.IGNORECASE),
    re.compile(r"(?i:bearer)\s+[A-Za-z0-9._~+/-]{16,}=*"),
    re.compile(r"\b(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{84}\b"),  # Azure OpenAI's newer keys
)


def scrub(text: str, known: tuple[str, ...] = ()) -> str:
    """Text without secrets. `known` are values seen in headers: they go wherever they stand."""
    for value in known:
        if len(value) >= 6:
            text = text.replace(value, HIDDEN)
    for pattern in _PATTERNS:
        text = pattern.sub(HIDDEN, text)
    return text


_NAMED = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|HEADERS", re.IGNORECASE)
_SHORTEST = 8
"""Characters of a variable's value that is taken for a secret: shorter ones would be found in ordinary text."""


def held(env: Mapping[str, str]) -> tuple[str, ...]:
    """Secrets that a process holds in its environment, by the variables' names; the longest first.

    A header list (`OTEL_EXPORTER_OTLP_HEADERS`) counts as a whole and by its values.
    """
    found: set[str] = set()
    for name, value in env.items():
        if _NAMED.search(name) and not value.startswith("/"):  # a path is no secret, what lies there is
            found |= {value, *(part.partition("=")[2] for part in value.split(",") if "=" in part)}
    return tuple(sorted((v for v in found if len(v) >= _SHORTEST), key=len, reverse=True))
