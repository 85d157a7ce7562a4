"""One execution of a step as it is seen from outside: its log lines' place, its span, its numbers, and the text that
a dashboard shows."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from typing import Any, Self

from opentelemetry.trace import Span
from pydantic import BaseModel

from swarmrun import steps
from swarmrun.activities.previews import of_output
from swarmrun.activities.world import RunWorld
from swarmrun.observability import metrics, tracing
from swarmrun.observability.genai import tool_execution
from swarmrun.observability.place import Place, at
from swarmrun.observability.previews import KEY, preview
from swarmrun.observability.secrets import held
from swarmrun.steps import AgentRef, Ensured, Failed, Finish, Finished, RunRef, TurnDone


class Observed:
    """Used as a context manager around the whole of an execution."""

    def __init__(self, step: str) -> None:
        self._step = step
        self._outcome = "failed"
        self._stack = ExitStack()
        self._span: Span | None = None
        self._world: RunWorld | None = None
        self._given: RunRef | None = None

    def __enter__(self) -> Self:
        metrics.ACTIVITIES_RUNNING.inc()
        self._began = time.monotonic()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        metrics.ACTIVITY_SECONDS.labels(self._step, self._outcome).observe(time.monotonic() - self._began)
        metrics.ACTIVITIES_RUNNING.dec()

    def begin(self, world: RunWorld, given: RunRef) -> None:
        """The input fits, and its run is known."""
        self._world, self._given = world, given
        place = _place(world, given)
        self._stack.enter_context(at(place))
        known = {f"swarmrun.{k}": v for k, v in place.known().items()}
        parent = tracing.agent(given.task) if isinstance(given, AgentRef) else ""
        context = tracing.within(given.run, parent)
        self._span = self._stack.enter_context(tracing.span(self._step, known, context=context))

    def ok(self, said: BaseModel) -> dict[str, Any]:
        """What the engine is given for a step that did its work."""
        assert self._world is not None
        assert self._given is not None
        self._outcome = "ok"
        self._count(self._world, self._given, said)
        text = preview(of_output(self._given, said), held(os.environ))
        return {KEY: text, "ok": said.model_dump(mode="json")}

    def failed(self, failed: Failed) -> dict[str, Any]:
        """The same for one that did not."""
        self._outcome = "retry" if failed.retryable or failed.lost else "failed"
        if self._span is not None:
            tracing.failed(self._span, failed.reason)
        if failed.lost and self._world is not None:
            _ended(self._world, getattr(self._given, "box", None) or self._given, "lost", failed.reason)
        text = preview(f"{failed.reason}: {failed.message}", held(os.environ))
        return {KEY: text, "failed": failed.model_dump(mode="json")}

    def _count(self, world: RunWorld, given: RunRef, said: BaseModel) -> None:
        match said:
            case TurnDone(replayed=False) if isinstance(given, AgentRef):
                metrics.TURNS.labels(given.role).inc()
            case Finished() if isinstance(given, Finish) and given.index >= 0:
                tool = "submit_plan" if given.role == "planner" else "finish"
                with tool_execution(tool, f"{given.turn}/{given.index}", given.role) as answered:
                    answered(said.accepted)
            case Ensured(phase="Ready") if isinstance(given, steps.BoxRef) and _first(world, "ready", given):
                metrics.SANDBOXES_STARTED.labels(said.isolation).inc()
            case Ensured(phase="Lost" | "Refused"):
                _ended(world, given, said.phase.lower(), said.reason)
            case _:
                pass


def _place(world: RunWorld, given: RunRef) -> Place:
    """Steps on an agent say all of it, others as much as their input holds."""
    snapshot = world.snapshot
    return Place(
        run=given.run,
        namespace=snapshot.namespace,
        name=snapshot.name,
        task=getattr(given, "task", ""),
        role=getattr(given, "role", ""),
        attempt=getattr(given, "attempt", 0),
        turn=getattr(given, "turn", 0),
    )


def _ended(world: RunWorld, box: object, end: str, reason: str) -> None:
    # Calls side by side meet the same loss. `GONE` is not one: an earlier process took its sandboxes with it.
    if isinstance(box, steps.BoxRef) and reason != steps.GONE and _first(world, end, box):
        metrics.SANDBOXES_LOST.labels(end, metrics.reason(reason)).inc()


def _first(world: RunWorld, what: str, box: steps.BoxRef) -> bool:
    known: set[str] = world.caches.setdefault(f"sandboxes {what}", set())
    if box.id in known:
        return False
    known.add(box.id)
    return True
