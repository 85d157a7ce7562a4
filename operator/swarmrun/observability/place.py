"""Where in which run the code at work is: known to every log line, without being handed around.

Set by the wrapper of activities and by the controller's attendants. It goes with a coroutine to another loop
(`run_coroutine_threadsafe` copies the caller's context), not with a bare thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Place:
    run: str = ""
    """Instance id of the run's orchestration."""
    namespace: str = ""
    name: str = ""
    task: str = ""
    role: str = ""
    attempt: int = 0
    turn: int = 0

    def known(self) -> dict[str, str | int]:
        """The fields that say something, in their order."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name))}


_here: ContextVar[Place | None] = ContextVar("swarmrun_place", default=None)


def here() -> Place:
    return _here.get() or Place()


@contextmanager
def at(place: Place) -> Iterator[None]:
    token = _here.set(place)
    try:
        yield
    finally:
        _here.reset(token)
