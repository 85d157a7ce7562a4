"""Which program is to work on the runs while workers of several are there: the one of the controller that leads.

A key beside the runs' artifacts says it. Without it (no controller has led yet) every program is as good.
"""

from __future__ import annotations

import logging
import time

from swarmrun.artifacts.store import open_store
from swarmrun.errors import NotFound, SwarmRunError
from swarmrun.orchestration.program import program

KEY = "program.txt"
KNOWN_SECONDS = 5.0
"""How long an answer of the store is believed. A choice: asked for only while histories of another are met."""

log = logging.getLogger("swarmrun.operator")


class Rollout:
    def __init__(self, artifacts: str) -> None:
        self._store = open_store(artifacts)
        self._wanted = ""
        self._asked_at = float("-inf")

    def lead(self) -> None:
        """This process's program is wanted from now on. Raises what the store raises."""
        self._store.put(KEY, program().encode())

    def wanted(self) -> bool:
        """Whether this process's program is the wanted one; the last answer while the store does not give any."""
        if time.monotonic() - self._asked_at > KNOWN_SECONDS:
            self._asked_at = time.monotonic()
            try:
                self._wanted = self._store.get(KEY).decode()
            except NotFound:
                self._wanted = ""
            except SwarmRunError as exc:
                log.warning("which program is wanted cannot be read: %s", exc)
        return self._wanted in ("", program())
