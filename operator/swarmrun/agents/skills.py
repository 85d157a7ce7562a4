"""Skills: short texts that a role, a task or a run can name. Built in, or the repository's own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files

from pydantic import ConfigDict

from swarmrun.agents.markdown import front_matter
from swarmrun.agents.near import unknown
from swarmrun.agents.roles import fold
from swarmrun.api.base import ApiModel
from swarmrun.errors import NotFound

FOLDER = ".swarmrun/skills/"
"""Where a repository keeps its own; they win over the built-in ones of the same name."""

MAX_CHARACTERS = 12_000
"""Of one skill: it stands in a prompt that is paid on every turn. Arbitrary."""


class Skill(ApiModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    description: str = ""
    text: str


def _parse(name: str, source: str) -> Skill:
    head, text = front_matter(source, name=name)
    description = str(head.get("description", ""))
    return Skill(name=fold(str(head.get("name", name))), description=description, text=text[:MAX_CHARACTERS])


@lru_cache(maxsize=1)
def built_in() -> dict[str, Skill]:
    folder = files("swarmrun.agents") / "skills"
    found = (f for f in folder.iterdir() if f.name.endswith(".md"))
    parsed = (_parse(f.name.removesuffix(".md"), f.read_text(encoding="utf-8")) for f in found)
    return {s.name: s for s in sorted(parsed, key=lambda s: s.name)}


def repository_skills(sources: Mapping[str, str]) -> dict[str, Skill]:
    """Skills of the repository out of path → text; other paths are left aside. Raises InvalidResource."""
    names = {p: p.removeprefix(FOLDER).removesuffix(".md") for p in sources if p.startswith(FOLDER)}
    parsed = [_parse(name, sources[path]) for path, name in names.items() if path.endswith(".md")]
    return {s.name: s for s in parsed}


def skill(name: str, own: Mapping[str, Skill] | None = None) -> Skill:
    """The skill, the repository's own first. Raises NotFound naming the nearest."""
    known = {**built_in(), **(own or {})}
    try:
        return known[fold(name)]
    except KeyError:
        raise NotFound(unknown("skill", name, known)) from None
