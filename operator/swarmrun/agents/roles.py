"""Roles: who an agent is, which tools it has and how it ends. Each is a file in `roles/`."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Literal

from pydantic import ConfigDict

from swarmrun.agents.markdown import front_matter
from swarmrun.agents.near import unknown
from swarmrun.api.base import ApiModel
from swarmrun.errors import NotFound


class RoleSpec(ApiModel):
    """One file of `roles/`: front matter and prompt."""

    model_config = ConfigDict(frozen=True)

    name: str
    tools: tuple[str, ...] = ()
    """Names of the toolset. `edit_file` stands for whatever the model's profile edits with."""
    tier: Literal["premium", "standard", "light"] = "standard"
    """What `api.swarmclass.DEFAULT_ROLES` says, too; a class may say otherwise."""
    must_write: bool = False
    """An empty diff, computed by the brain, is no result."""
    writes: tuple[str, ...] = ()
    """Paths it may write at all, `<task>` standing for the task's id. Empty: anywhere."""
    ends_by: Literal["finish", "submit_plan", "answer"] = "finish"
    """`answer`: one structured answer, no tools (judge)."""
    prompt: str = ""


def fold(name: str) -> str:
    """`Test_Writer ` → `test-writer`: models spell roles in many ways."""
    return "-".join(str(name).strip().lower().replace("_", " ").replace("-", " ").split())


@lru_cache(maxsize=1)
def roles() -> dict[str, RoleSpec]:
    """All roles by name. A role's name is its file's."""
    found: dict[str, RoleSpec] = {}
    for file in sorted((files("swarmrun.agents") / "roles").iterdir(), key=lambda f: f.name):
        if file.name.endswith(".md"):
            head, prompt = front_matter(file.read_text(encoding="utf-8"), name=file.name)
            spec = RoleSpec.model_validate({"name": file.name.removesuffix(".md"), **head, "prompt": prompt})
            found[spec.name] = spec
    return found


def role(name: str) -> RoleSpec:
    """The role, whatever the spelling of `-`, `_` and case. Raises NotFound naming the nearest."""
    known = roles()
    try:
        return known[fold(name)]
    except KeyError:
        raise NotFound(unknown("role", str(name), known)) from None
