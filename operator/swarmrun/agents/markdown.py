"""Markdown files with YAML front matter: how roles and skills are kept."""

from __future__ import annotations

from typing import Any

import yaml

from swarmrun.errors import InvalidResource

_FENCE = "---"


def front_matter(text: str, *, name: str) -> tuple[dict[str, Any], str]:
    """The mapping between the two `---` lines, and the text below them. Without front matter: ({}, text).

    Raises InvalidResource, naming the file.
    """
    lines = text.lstrip("\ufeff").split("\n")
    if lines[0].strip() != _FENCE:
        return {}, text.strip()
    try:
        end = next(i for i, line in enumerate(lines[1:], 1) if line.strip() == _FENCE)
    except StopIteration:
        raise InvalidResource(
            f"{name}: the front matter has no end", mend="close it with a line of three dashes"
        ) from None
    try:
        head: Any = yaml.safe_load("\n".join(lines[1:end])) or {}
    except yaml.YAMLError as exc:
        raise InvalidResource(f"{name}: the front matter is not YAML: {exc}") from exc
    if not isinstance(head, dict):
        raise InvalidResource(f"{name}: the front matter must be a mapping of names to values")
    return head, "\n".join(lines[end + 1 :]).strip()
