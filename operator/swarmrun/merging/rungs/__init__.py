"""The ladder's steps, each a module; all have the shape of `Rung`."""

from __future__ import annotations

from typing import Protocol

from swarmrun.merging.cases import Attempt, Case, How


class Rung(Protocol):
    """One way to merge a file that git could not."""

    @property
    def how(self) -> How: ...

    def resolve(self, case: Case) -> Attempt | None:
        """The merged text, or None when this way does not lead there. Never raises for any text."""
        ...
