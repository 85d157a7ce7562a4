"""The integration sandbox: baseline, planner, integrator, gates and fixer work in it, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from durabletask import task

from swarmrun.api.status import Phase
from swarmrun.orchestration.ends import RunEnded
from swarmrun.orchestration.flow import Flow, Race, Work
from swarmrun.orchestration.ground import Ground
from swarmrun.orchestration.inputs import AgentResult
from swarmrun.orchestration.perform import begin, read
from swarmrun.orchestration.sandboxes import OUTGROWN, SandboxFailed, provide, until_next
from swarmrun.orchestration.stand import Stand
from swarmrun.orchestration.waits import POD, Wait
from swarmrun.steps import (
    ENSURE,
    GONE,
    PREPARE,
    RELEASE,
    BoxRef,
    Ensure,
    Ensured,
    Release,
    Result,
    Step,
    StepModel,
)

INTEGRATION = "integration"
"""Its task's name."""
MAX_LOSSES = 3
"""A step that ends it this often will end it again. A choice."""


class IntegrationBox:
    def __init__(self, ground: Ground, stand: Stand) -> None:
        self._ground = ground
        self.ref = stand.box or BoxRef(run=ground.given.run, task=INTEGRATION)
        self.ready = stand.box_ready
        self.warming: task.Task[Any] | None = None
        """The last of the first looks at it, the first of which makes it."""
        self.refused: SandboxFailed | None = None
        """What these looks found."""

    def warm(self, enough: Callable[[], bool]) -> Work[None]:
        """Lets it begin to start, and looks at it until that is `enough`. A refusal is told at once; the run ends of it
        (`refused`) after what the repository says: it may hold the result already."""
        yield from self._ground.not_suspended()
        for look in count():
            self.warming = begin(self._ground.ctx, ENSURE, Ensure(**self.ref.model_dump(), setup="ahead"))
            yield self.warming
            found: Ensured | None = read(ENSURE, self.warming).ok
            if found is None or enough():
                return
            self._ground.waits.pop(ENSURE.name, None)
            if found.phase == "Refused" or found.tells:
                self._ground.waits[ENSURE.name] = Wait(found.message, POD, found.reason)
            if found.phase == "Refused":
                self.refused = SandboxFailed(
                    found.reason or "SandboxRefused", found.message, found.isolation, final=True
                )
            if found.phase != "Starting":
                return
            yield Race([Flow(_passes(self._ground.ctx.create_timer(until_next(look))))], enough)

    def open(self, commit: str, *, setup: bool) -> Work[None]:
        """Makes sure that it runs; what it holds is loaded by each step itself."""
        yield from self._ground.not_suspended()
        if self.ready:
            return
        provided = yield from provide(
            self._ground.ctx,
            self.ref,
            commit=commit,
            branch=INTEGRATION,
            setup=setup,
            on_wait=self._ground.on_wait,
        )
        for step in (ENSURE, PREPARE):
            self._ground.waits.pop(step.name, None)
        self.ref, self.ready = provided.box, True
        self._ground.report.isolation = provided.isolation or self._ground.report.isolation

    def perform(
        self, step: Step[Any], given: Callable[[BoxRef], StepModel], commit: str, *, setup: bool = True
    ) -> Work[Any]:
        """A step in it; a lost one is replaced and the step runs again."""
        losses = 0
        cause = said = ""
        while losses < MAX_LOSSES:
            yield from self.open(commit, setup=setup)
            result: Result[Any] = yield from self._ground.perform(step, given(self.ref))
            if result.failed is None:
                return result.ok
            if not result.failed.lost:
                self._ground.fail(result.failed)
            self.lost()
            losses += result.failed.reason != GONE
            cause, said = result.failed.reason, result.failed.message
        mend = f" ({OUTGROWN[cause]})" if cause in OUTGROWN else ""
        raise RunEnded(
            Phase.FAILED,
            cause if mend else "SandboxLost",
            f"the integration sandbox was lost {MAX_LOSSES} times in {step.name}, the last time: {said}{mend}",
        )

    def give_back(self) -> Work[None]:
        """The next step in it gets a fresh one."""
        if self.ready:
            yield from self._ground.perform(
                RELEASE,
                Release(
                    run=self._ground.given.run, task=self.ref.task, attempt=1, generation=self.ref.generation
                ),
            )
            self.lost()

    def lost(self) -> None:
        self.ref = self.ref.model_copy(update={"generation": self.ref.generation + 1})
        self.ready = False

    def lent(self, result: AgentResult) -> None:
        """An agent worked in the integration sandbox and may have had to replace it."""
        if result.generation > self.ref.generation:
            self.ref = self.ref.model_copy(update={"generation": result.generation})
        if result.reason == "SandboxLost":
            self.lost()


def _passes(timer: task.Task[Any]) -> Work[None]:
    yield timer
