"""A run's name out of its goal."""

from __future__ import annotations

import re

_WORDS = "a an and as at be by for from in into is it of on or that the to with"
_LITTLE = frozenset(_WORDS.split())


def name_from_goal(goal: str) -> str:
    """The first words that say something, as a DNS label: `Add a URL shortener` → `add-url-shortener`.

    The same goal gives the same name, so that the same command a second time finds its run.
    """
    words = [w for w in re.findall(r"[a-z0-9]+", goal.lower()) if w not in _LITTLE]
    name = ""
    for word in words[:5]:
        if len(name) + len(word) > 40:
            break
        name += f"-{word}" if name else word
    return name or words[0][:40] if words else "run"
