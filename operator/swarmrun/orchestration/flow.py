"""Several lines of work in one orchestration, each written as a plain generator.

A flow yields a durable task and is resumed with that same task once it is complete, or yields `Until(fact)`
and is resumed once the fact holds. `drive` is the only place that waits on the engine: beside the flows it
always listens to the mailbox and to the alarms, so that no flow has to.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from durabletask import task

from swarmrun.orchestration.mail import Mail, Stopped

T = TypeVar("T")


@dataclass(frozen=True)
class Until:
    """A fact that only mail (or another flow) can make true."""

    holds: Callable[[], bool]


@dataclass(frozen=True)
class Race:
    """Resumed once any of these flows can move, or the fact holds."""

    flows: Sequence[Flow[Any]]
    fact: Callable[[], bool] = lambda: False


Waiting = task.Task[Any] | Until | Race
Work = Generator[Waiting, Any, T]
"""A flow's body: what it yields, and what it returns in the end."""
Orchestration = Generator[task.Task[Any], Any, T]
"""What the engine drives."""


class Host:
    """Whose flow `drive` runs, and what it tells them."""

    def __init__(self, mail: Mail) -> None:
        self.mail = mail

    def alarms(self) -> list[task.Task[Any]]:
        """Timers that wake the orchestration whatever its flow waits for."""
        return []

    def out_of_time(self) -> bool:
        return False

    def heard(self) -> None:
        """Mail was filed."""

    def settled(self) -> None:
        """Nobody moves any more: the orchestration is about to wait."""


class Flow(Generic[T]):
    def __init__(self, work: Work[T]) -> None:
        self._work = work
        self._waiting: Waiting | None = None
        self._value: list[T] = []
        self.done = False
        self._resume(None)

    @property
    def value(self) -> T:
        return self._value[0]

    @property
    def ready(self) -> bool:
        waiting = self._waiting
        if isinstance(waiting, Until):
            return waiting.holds()
        if isinstance(waiting, Race):
            return waiting.fact() or any(flow.done or flow.ready for flow in waiting.flows)
        return waiting is not None and waiting.is_complete

    def tasks(self) -> list[task.Task[Any]]:
        """What the engine must wake us for."""
        if isinstance(self._waiting, Race):
            return [t for flow in self._waiting.flows for t in flow.tasks()]
        return [self._waiting] if isinstance(self._waiting, task.Task) else []

    def advance(self) -> bool:
        """Goes on as far as it can without waiting. True when it moved."""
        moved = False
        while not self.done and self.ready:
            self._resume(self._waiting)
            moved = True
        return moved

    def _resume(self, value: Waiting | None) -> None:
        try:
            self._waiting = self._work.send(value)
        except StopIteration as stop:
            self.done, self._waiting = True, None
            self._value.append(stop.value)


def settle(flows: Sequence[Flow[Any]]) -> None:
    """Until nobody moves: one flow's step may make another's fact true."""
    moved = True
    while moved:
        moved = any([flow.advance() for flow in flows])  # noqa: C419  # each gets its turn


def check(host: Host) -> None:
    """Files the mail; raises Stopped when the work must end."""
    mail = host.mail
    if mail.take():
        host.heard()
    if mail.cancelled is not None:
        raise Stopped(
            str(mail.cancelled.get("reason") or "Cancelled"),
            str(mail.cancelled.get("message") or "cancelled"),
        )
    if host.out_of_time():
        raise Stopped("BudgetExceeded", "the wall time of the run's budget is used up")


def drive(host: Host, work: Work[T]) -> Orchestration[T]:
    """Runs one flow to its end. Raises Stopped, and whatever the flow raises."""
    check(host)
    flow = Flow(work)
    while True:
        settle([flow])
        if flow.done:
            return flow.value
        host.settled()
        # A completed task in it would wake us for ever.
        yield task.when_any([host.mail.wait, *flow.tasks(), *(a for a in host.alarms() if not a.is_complete)])
        check(host)


def beside(*works: Work[Any]) -> Work[list[Any]]:
    """A flow of flows: several lines of work side by side, their results in the order given."""
    flows = [Flow(w) for w in works]
    while True:
        settle(flows)
        if all(f.done for f in flows):
            return [f.value for f in flows]
        yield Race([f for f in flows if not f.done])
