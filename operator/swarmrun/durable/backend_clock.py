"""Things to do later, on a clock that nobody can set."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable

# A wall clock set back would stop every timer and lease; CLOCK_MONOTONIC would stop them while the machine
# sleeps. CLOCK_BOOTTIME (Linux) does neither.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Seconds on a clock that only ever goes forward."""
    return time.clock_gettime(_CLOCK)


class Agenda:
    """A heap of actions with the time when each is due. Not thread-safe: its user holds a lock.

    `owner` groups entries so that they can be dropped together.
    """

    def __init__(self, clock: Callable[[], float] = now) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, str, Callable[[], None]]] = []
        self._order = itertools.count()

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, delay: float, owner: str, action: Callable[[], None]) -> None:
        """Does `action` after `delay` seconds; what is overdue comes at once, in the order of pushing."""
        heapq.heappush(self._heap, (self._clock() + max(0.0, delay), next(self._order), owner, action))

    def drop(self, owner: str) -> None:
        """Forgets every entry of `owner`."""
        kept = [entry for entry in self._heap if entry[2] != owner]
        if len(kept) != len(self._heap):
            heapq.heapify(kept)
            self._heap = kept

    def pop_due(self) -> Callable[[], None] | None:
        """Takes the next action that is due, if there is one."""
        if self._heap and self._heap[0][0] <= self._clock():
            return heapq.heappop(self._heap)[3]
        return None

    def seconds_to_next(self, at_most: float) -> float:
        """How long nothing will be due, capped."""
        if not self._heap:
            return at_most
        return min(at_most, max(0.0, self._heap[0][0] - self._clock()))
