"""What every tool that touches files needs: first-try reads, paths, and whose they are."""

from __future__ import annotations

from collections.abc import Iterable
from posixpath import normpath

from swarmrun.agents.roles import RoleSpec
from swarmrun.agents.tool import Hands
from swarmrun.errors import NotFound, ToolRejected
from swarmrun.merging.guards.branch import owns

_THERE, _ABSENT = b"+", b"-"


def clean(path: str) -> str:
    """`./a//b.py` → `a/b.py`; the sandbox itself refuses what leaves the repository."""
    return normpath(path.strip()) if path.strip() else "."


async def read_before(path: str, hands: Hands) -> bytes:
    """The file as the call's first try saw it (see `ToolContext.once`). Raises NotFound."""
    try:
        now = _THERE + await hands.sandbox.read(path)
        missing = None
    except NotFound as exc:
        now, missing = _ABSENT, exc
    first = hands.context.once(f"before/{clean(path)}", now)
    if first.startswith(_THERE):
        return first[1:]
    raise missing or NotFound(f"{path}: not found")


def allowed_paths(role: RoleSpec, task: str) -> list[str]:
    """Where a role with bounds of its own (a researcher and its notes) may write; empty: anywhere."""
    return [pattern.replace("<task>", task) for pattern in role.writes]


def owned_by(role: RoleSpec, task: str, path: str) -> bool:
    return not role.writes or owns(allowed_paths(role, task), clean(path))


def refuse_foreign(path: str, hands: Hands) -> None:
    """Raises ToolRejected where the role may not write at all."""
    role, task = hands.context.role, hands.context.task
    if not owned_by(role, task, path):
        allowed = allowed_paths(role, task)
        raise ToolRejected(
            f"{path}: a {role.name} writes {', '.join(allowed)} only; put what you found into {allowed[0]}"
        )


def note_outside(paths: Iterable[str], hands: Hands) -> str:
    """A remark on changed paths that are not the task's; refusing them is for the end of the task."""
    owned = hands.context.owned
    foreign = [path for path in paths if owned and not owns(owned, clean(path))]
    if not foreign:
        return ""
    return (
        f"Note: {', '.join(foreign)} is not among this task's paths ({', '.join(owned)}). Keep such changes "
        "to what the task cannot do without; finish may refuse them."
    )
