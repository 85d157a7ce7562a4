"""A plan in the making: `plan_of` builds one from short rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from swarmrun.api.plan import Acceptance, Contract, Plan, Task


def _task(identity: str, **fields: Any) -> Task:
    values: dict[str, Any] = {
        "title": identity.title(),
        "instructions": f"Write {identity}.",
        "owned_paths": [f"shop/{identity}.py"],
        "acceptance": [Acceptance(description="its tests pass", command=f"pytest tests/test_{identity}.py")],
    }
    return Task(id=identity, **{**values, **fields})


@pytest.fixture
def task_of() -> Callable[..., Task]:
    return _task


@pytest.fixture
def plan_of() -> Callable[..., Plan]:
    """`plan_of("a", "b", after={"b": ["a"]})`"""

    def build(
        *tasks: str | Task, after: dict[str, list[str]] | None = None, contracts: tuple[Contract, ...] = ()
    ) -> Plan:
        rows = [_task(t, depends_on=(after or {}).get(t, [])) if isinstance(t, str) else t for t in tasks]
        return Plan(summary="A shop.", tasks=rows, contracts=list(contracts))

    return build


@pytest.fixture
def function() -> Callable[..., Contract]:
    """A contract: `function("def f(a: int) -> str: ...", path="shop/a.py", kind="class")`."""

    def build(
        declaration: str, *, id: str = "c", path: str = "shop/a.py", kind: str = "function", **more: Any
    ):
        return Contract(id=id, path=path, kind=kind, declaration=declaration, **more)

    return build
