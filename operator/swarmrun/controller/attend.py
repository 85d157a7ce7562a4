"""Attends to every resource that the watch shows: one task each, woken by changes and by its own clock.

```
watch ──► see_run / see_class ──► Attendant ──► Reconciler (on a thread) ──► status, Events
```
The only writer of any status. A status is written when it differs from the last one written, at most one every
`WRITE_SECONDS` a resource; figures that every turn moves (turns, tokens) alone are written every `FIGURES_SECONDS`.
How it ends, and what it newly waits for, is written at once: the next ones come that much later.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from swarmrun.api.status import Phase, SwarmRunStatus, UsageStatus
from swarmrun.controller.bodies import status_of
from swarmrun.controller.counted import count
from swarmrun.controller.happenings import happenings
from swarmrun.controller.kube import Gone, Kube
from swarmrun.controller.reconcile import Memory, Outcome, Reconciler
from swarmrun.controller.wanted import uid_of
from swarmrun.errors import SwarmRunError
from swarmrun.observability import metrics
from swarmrun.observability.place import Place, at

WRITE_SECONDS = 2.0
FIGURES_SECONDS = 10.0
"""A run of four agents has a turn a second, and each would be a request to the API server. A choice."""
RETRY_SECONDS = 5.0
"""After the API server refused a write, or a bug. A choice."""
THREADS = 8
"""Looks at the engine at once: each takes milliseconds."""

log = logging.getLogger("swarmrun.controller")


@dataclass
class Attended:
    memory: Memory
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    written_at: float = float("-inf")
    due_at: float = float("-inf")
    """When another write keeps to the pace."""
    changed_at: float | None = None
    """Since when something is known that its status does not show yet."""


class Attendants:
    """On one event loop."""

    def __init__(self, reconciler: Reconciler, kube: Kube) -> None:
        self._reconciler = reconciler
        self._kube = kube
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="reconcile")
        self.attended: dict[str, Attended] = {}
        """By UID."""
        self.classes: dict[str, Mapping[str, Any]] = {}
        """By name, as the API server has them."""
        self.missing = asyncio.Event()
        """A resource has gone since this was cleared."""

    # ------------------------------------------------------------ what the watch shows

    def see_run(self, body: Mapping[str, Any], *, deleted: bool = False) -> None:
        uid = body["metadata"]["uid"]
        known = self.attended.get(uid)
        if deleted:
            if known is not None:
                self._leave(uid, known)
            return
        if known is None:
            known = self.attended[uid] = Attended(Memory(body, status_of(body)), changed_at=time.monotonic())
            known.task = asyncio.create_task(self._attend(uid, known), name=f"attend-{uid}")
        elif _older(body, known.memory.body):
            return
        # Its own status writes come back too: they change nothing that is asked.
        if _asked(body) != _asked(known.memory.body):
            known.changed_at = known.changed_at or time.monotonic()
            known.wake.set()
        known.memory.body = body

    def see_class(self, body: Mapping[str, Any], *, deleted: bool = False) -> None:
        name = body["metadata"]["name"]
        if deleted:
            self.classes.pop(name, None)
        else:
            self.classes[name] = body
            for attended in self.attended.values():
                if attended.memory.seen is None:
                    attended.wake.set()

    def wake(self) -> None:
        """All of them look now."""
        for attended in self.attended.values():
            attended.wake.set()

    def close(self) -> None:
        for attended in self.attended.values():
            if attended.task:
                attended.task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def on_thread(self, function: Any, *arguments: Any) -> Any:
        """A blocking call beside the event loop."""
        # What log lines say of the place goes along.
        inside = partial(contextvars.copy_context().run, function, *arguments)
        return await asyncio.get_running_loop().run_in_executor(self._threads, inside)

    # ------------------------------------------------------------ one resource

    async def _attend(self, uid: str, attended: Attended) -> None:
        meta = attended.memory.body["metadata"]
        # Of this task alone: a task has a context of its own.
        with at(Place(namespace=meta.get("namespace", ""), name=meta.get("name", ""))):
            await self._attend_to(uid, attended)

    async def _attend_to(self, uid: str, attended: Attended) -> None:
        while True:
            attended.wake.clear()
            try:
                again = await self._look(attended)
            except Gone:
                return self._leave(uid, attended)
            except SwarmRunError as exc:
                log.warning("%s: its status cannot be written: %s", _name(attended.memory.body), exc)
                again = RETRY_SECONDS
            except Exception:
                log.exception("%s", _name(attended.memory.body))
                again = RETRY_SECONDS
            try:
                await asyncio.wait_for(attended.wake.wait(), again)
            except TimeoutError:
                continue

    async def _look(self, attended: Attended) -> float | None:
        """Looks once; returns the seconds until the next time."""
        body, began = attended.memory.body, time.monotonic()
        outcome: Outcome = await self.on_thread(self._reconciler.reconcile, attended.memory, self.classes)
        self._let_in()
        before, after = attended.memory.status, outcome.status
        # The same one, mostly: comparing what is large takes longer than all the rest of a look.
        if after is not before and after != before:
            apart = FIGURES_SECONDS
            if standing(after) != standing(before):
                apart = WRITE_SECONDS
                # What the engine has new is seen by looking.
                attended.changed_at = attended.changed_at or began
            now = time.monotonic()
            early = max(attended.due_at, attended.written_at + apart) - now
            if early > 0 and not presses(before, after, ahead=attended.due_at - now):
                # Not longer than it would rest anyway: what must not wait may come meanwhile.
                return early if outcome.again is None else min(early, outcome.again)
            await self._kube.write_status(body["metadata"], after)
            attended.written_at = time.monotonic()
            attended.due_at = max(attended.due_at, attended.written_at) + WRITE_SECONDS
            attended.memory.status = after
            if attended.changed_at is not None:  # figures alone are late on purpose
                metrics.RECONCILE.observe(attended.written_at - attended.changed_at)
            count(before, after)
            await self._report(body, before, after)
        attended.memory.status = after  # of two that are equal the one that comes again
        attended.changed_at = None
        return outcome.again

    async def _report(self, body: Mapping[str, Any], before: SwarmRunStatus, after: SwarmRunStatus) -> None:
        for happening in happenings(before, after):
            try:
                await self._kube.report(body["metadata"], happening)
            except SwarmRunError as exc:  # an Event is a courtesy; a terminating namespace takes none
                log.info("%s: no Event %s: %s", _name(body), happening.reason, exc)

    def _let_in(self) -> None:
        """Wakes those who wait for sandboxes when some were given back."""
        for instance in self._reconciler.to_wake():
            if waiting := self.attended.get(uid_of(instance)):
                waiting.wake.set()

    def _leave(self, uid: str, attended: Attended) -> None:
        self.attended.pop(uid, None)
        self._reconciler.gone(attended.memory)
        self._let_in()
        self.missing.set()
        if attended.task is not asyncio.current_task() and attended.task is not None:
            attended.task.cancel()


def presses(before: SwarmRunStatus, after: SwarmRunStatus, *, ahead: float) -> bool:
    """Whether it may be written though an earlier one was just now: it has ended, or waits for something new, which
    at most one write is `ahead` of (seconds) the pace."""
    if after.phase.terminal:
        return not before.phase.terminal
    now, then = after.condition("Reconciling"), before.condition("Reconciling")
    waits = now is not None and now.reason not in _PHASES and (then is None or then.reason != now.reason)
    return waits and ahead <= WRITE_SECONDS


_PHASES = frozenset(phase.value for phase in Phase)


def standing(status: SwarmRunStatus) -> SwarmRunStatus:
    """All of it but the figures that every turn moves."""
    still = {"turns": 0, "tool_calls": 0, "tokens": 0, "last_tool": "", "message": ""}
    agents = [agent.model_copy(update=still) for agent in status.agents]
    return status.model_copy(update={"agents": agents, "usage": UsageStatus()})


def _asked(body: Mapping[str, Any]) -> tuple[Any, ...]:
    meta = body["metadata"]
    return meta.get("generation"), dict(meta.get("annotations") or {})


def _older(body: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """Lists and the watch may overtake each other. Resource versions of one resource are ordered numbers
    (Kubernetes promises so since 1.35)."""
    try:
        return int(body["metadata"]["resourceVersion"]) < int(known["metadata"]["resourceVersion"])
    except (KeyError, ValueError):
        return False


def _name(body: Mapping[str, Any]) -> str:
    return f"{body['metadata'].get('namespace')}/{body['metadata'].get('name')}"
