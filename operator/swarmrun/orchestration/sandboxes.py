"""A running sandbox that holds a commit, or a clear failure; never a wait inside an activity."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from durabletask import task

from swarmrun.orchestration.flow import Work
from swarmrun.orchestration.perform import OnWait, perform, told
from swarmrun.steps import ENSURE, PREPARE, BoxRef, Ensure, Ensured, Prepare, Prepared, Result

POLL = timedelta(seconds=1)
EARLY = (0.5, 0.3, 0.3, 0.3, 0.3, 0.3)
"""Shares of it between the first looks: a Pod whose image is there takes 1–2 s, which must not be rounded up to the
next second. A choice."""
MAX_POLLS = 600
"""Ten minutes for an image to be pulled and a node to be found. A choice."""
MAX_LOST = 6
"""Sandboxes in a row that are lost before they hold their commit. A choice."""


class SandboxFailed(Exception):
    """No sandbox can be had: refused, or lost again and again."""

    def __init__(self, reason: str, message: str, isolation: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.isolation = isolation


@dataclass(frozen=True)
class Provided:
    box: BoxRef
    isolation: str


def provide(
    ctx: task.OrchestrationContext,
    box: BoxRef,
    *,
    commit: str,
    branch: str,
    head: str = "",
    clone_of: str = "",
    setup: bool = True,
    on_wait: OnWait | None = None,
) -> Work[Provided]:
    """Gives the sandbox that runs now: a lost one is replaced under the next generation.

    `head`: commit that the branch points at while the work tree holds `commit` (for the integrator).
    """
    for _ in range(MAX_LOST):
        ensured = yield from _ready(ctx, box, clone_of, on_wait)
        if ensured.phase == "Ready":
            prepared: Result[Prepared] = yield from perform(
                ctx,
                PREPARE,
                Prepare(
                    **box.model_dump(),
                    commit=commit,
                    branch=branch,
                    head=head,
                    setup=setup and not ensured.cloned,
                ),
                on_wait,
            )
            if prepared.ok:
                return Provided(box, ensured.isolation)
            assert prepared.failed
            if not prepared.failed.lost:
                raise SandboxFailed(prepared.failed.reason, told(prepared.failed))
        box = box.model_copy(update={"generation": box.generation + 1})
        clone_of = ""
    raise SandboxFailed("SandboxLost", f"{MAX_LOST} sandboxes were lost before {box.id} was reached")


def _ready(
    ctx: task.OrchestrationContext, box: BoxRef, clone_of: str, on_wait: OnWait | None
) -> Work[Ensured]:
    for look in range(MAX_POLLS):
        result: Result[Ensured] = yield from perform(
            ctx, ENSURE, Ensure(**box.model_dump(), clone_of=clone_of), on_wait
        )
        if result.failed:
            if result.failed.lost:
                return Ensured(phase="Lost", message=result.failed.message)
            raise SandboxFailed(result.failed.reason, told(result.failed))
        assert result.ok
        if result.ok.phase == "Refused":
            raise SandboxFailed(result.ok.reason or "SandboxRefused", result.ok.message, result.ok.isolation)
        if result.ok.phase != "Starting":
            return result.ok
        yield ctx.create_timer(POLL * (EARLY[look] if look < len(EARLY) else 1))
    raise SandboxFailed("SandboxNotReady", f"sandbox {box.id} did not start within {MAX_POLLS} s")
