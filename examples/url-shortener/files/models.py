"""What a short link is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    """A code and where it leads."""

    code: str
    url: str
    hits: int = 0

    def short_url(self, base: str) -> str:
        return base + "/" + self.code
