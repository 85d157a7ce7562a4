"""Guards against agents that report work which they cannot have done."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from swarmrun.agents.roles import RoleSpec
from swarmrun.agents.tree import owned_by
from swarmrun.errors import PermanentError
from swarmrun.ports import ToolSpec

PHANTOM = "PhantomAgent"


def check_tools(
    specs: Sequence[ToolSpec], executable: Collection[str], *, expected: Collection[str] = ()
) -> None:
    """Before every model call: each tool that is shown can be carried out, and none that the role needs is
    missing. Otherwise the model would be asked to work without hands, and would say that it had worked.

    Raises PermanentError with reason `PhantomAgent`: a fault of ours or of a role file, no retry helps.
    """
    shown = [spec.name for spec in specs]
    doubled = sorted({name for name in shown if shown.count(name) > 1})
    dead = sorted(set(shown) - set(executable))
    missing = sorted(set(expected) - set(shown))
    faults = [
        f"{what}: {', '.join(names)}"
        for what, names in (("not executable", dead), ("missing", missing), ("shown twice", doubled))
        if names
    ]
    if faults:
        raise PermanentError(
            f"the agent's tools are not in order ({'; '.join(faults)})",
            mend="compare the role's file with the toolset",
            reason=PHANTOM,
        )


def ends_without_work(role: RoleSpec, changed: Sequence[str], *, task: str = "") -> bool:
    """Whether a role that must write has written nothing that counts.

    `changed` are the paths of the diff that the brain computed from the bundle; what the agent or its sandbox
    says is no evidence. A role with bounds of its own (notes) must have written within them.
    """
    if not role.must_write:
        return False
    if role.writes:
        return not any(owned_by(role, task, path) for path in changed)
    return not changed
