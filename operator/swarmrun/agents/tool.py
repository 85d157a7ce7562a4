"""What a tool is: a name, checked arguments, and a body that works in one agent's sandbox."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from swarmrun.agents.roles import RoleSpec
from swarmrun.ports import Profile, Sandbox, ToolSpec


class Arguments(BaseModel):
    """Arguments of one tool. Unknown ones are refused: the framework would drop them silently."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


def always_new(name: str, data: bytes) -> bytes:
    """`ToolContext.once` without a store."""
    return data


@dataclass(frozen=True)
class ToolContext:
    """What tools need to know of their agent."""

    role: RoleSpec
    task: str
    profile: Profile
    owned: tuple[str, ...] = ()
    """Paths of the task (files, directories ending in `/`, globs). Empty: no bounds."""
    run_checks: Callable[[str], Awaitable[str]] | None = None
    """Runs `acceptance`, `tests` or `lint` and gives the text for the model."""
    once: Callable[[str, bytes], bytes] = always_new
    """`once(name, data)` stores `data` under the call's key unless the name is taken, and gives what stands
    there: a call that is made again after a crash then sees the file as its first try saw it, and gives the
    same answer instead of `new is already there`. The key must name the sandbox's generation."""
    max_exec_seconds: float = 900


@dataclass(frozen=True)
class ToolOutcome:
    """What the model is told."""

    text: str
    ok: bool = True
    changed: bool = False
    """May have changed the work tree."""
    preview: str = ""


@dataclass(frozen=True)
class Hands:
    """One call's access to its agent's own sandbox."""

    sandbox: Sandbox
    key: str
    """Makes the call idempotent; parts of a call append to it."""
    context: ToolContext


A = TypeVar("A", bound=Arguments)


@dataclass(frozen=True)
class Tool(Generic[A]):
    """A body raises ToolRejected or NotFound for what the model can mend; anything else is our own bug."""

    name: str
    description: str
    arguments: type[A]
    body: Callable[[A, Hands], Awaitable[ToolOutcome]] | None
    """None: the call ends the agent and is handled by the step `finish`."""
    preview: Callable[[dict[str, Any]], str] = field(default=lambda _: "")
    """Short text of the arguments, as they came."""

    def spec(self) -> ToolSpec:
        return ToolSpec(
            self.name, self.description, plain_schema(self.arguments.model_json_schema(by_alias=True))
        )


def plain_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Without `$ref` and titles: small servers' templates understand neither, and titles cost tokens."""
    definitions: dict[str, Any] = schema.get("$defs", {})

    def walk(node: Any, *, names: bool = False) -> Any:
        if isinstance(node, list):
            return [walk(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            target = definitions[node["$ref"].rpartition("/")[2]]
            return walk({**target, **{k: v for k, v in node.items() if k != "$ref"}})
        # A property may well be called `title`: inside `properties` keys are names, not keywords.
        dropped = () if names else ("title", "$defs")
        return {
            k: walk(v, names=k == "properties" and not names) for k, v in node.items() if k not in dropped
        }

    return walk(schema)
