"""A running sandbox that holds a commit, or a clear failure; never a wait inside an activity."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from durabletask import task

from swarmrun.orchestration.flow import Work
from swarmrun.orchestration.perform import OnWait, perform, told
from swarmrun.steps import ENSURE, PREPARE, BoxRef, Ensure, Ensured, Failed, Prepare, Prepared, Result

POLL = timedelta(seconds=1)
EARLY = (0.5, *[0.3] * 15)
"""Shares of it between the first looks: a Pod whose image is there takes 1–4 s, which must not be rounded up to the
next second. A choice."""
MAX_POLLS = 600
"""Ten minutes for an image to be pulled and a node to be found. A choice."""
MAX_LOST = 6
"""Sandboxes in a row that are lost before they hold their commit. A choice."""
OUTGROWN = {
    "DiskFull": "raise spec.sandbox.resources.disk",
    "OOMKilled": "raise spec.sandbox.resources.memory",
}
"""Ends that a sandbox of the same size meets again, and their mends: the second one in a row counts."""

Setup = Literal["none", "ahead", "done"]


class SandboxFailed(Exception):
    """No sandbox can be had: refused, or lost again and again. `final`: any other of its kind would meet the same."""

    def __init__(self, reason: str, message: str, isolation: str = "", *, final: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.isolation = isolation
        self.final = final


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
    reason = message = ""
    for _ in range(MAX_LOST):
        state = yield from _ready(ctx, box, clone_of, "ahead" if setup else "none", on_wait)
        if state.phase == "Ready":
            given = Prepare(
                **box.model_dump(),
                commit=commit,
                branch=branch,
                head=head,
                setup=setup and not state.cloned,
            )
            state = yield from _filled(ctx, box, state, given, on_wait)
        if state.phase == "Ready":
            return Provided(box, state.isolation)
        if state.reason in OUTGROWN and state.reason == reason:
            raise SandboxFailed(reason, f"{state.message} ({OUTGROWN[reason]})", final=True)
        reason, message = state.reason, state.message
        box = box.model_copy(update={"generation": box.generation + 1})
        clone_of = ""
    raise SandboxFailed(
        "SandboxLost", f"{MAX_LOST} sandboxes were lost before {box.id} was reached, the last one: {message}"
    )


def until_next(look: int) -> timedelta:
    """From one look at a sandbox that starts to the next."""
    return POLL * (EARLY[look] if look < len(EARLY) else 1)


def _filled(
    ctx: task.OrchestrationContext, box: BoxRef, found: Ensured, given: Prepare, on_wait: OnWait | None
) -> Work[Ensured]:
    """The commit is loaded, set-up has run, and what was open for set-up alone is closed; or it was lost."""
    prepared: Result[Prepared] = yield from perform(ctx, PREPARE, given, on_wait)
    if prepared.failed:
        if not prepared.failed.lost:
            raise SandboxFailed(prepared.failed.reason, told(prepared.failed))
        return Ensured(phase="Lost", reason=prepared.failed.reason, message=prepared.failed.message)
    if not found.open:
        return found
    return (yield from _ready(ctx, box, "", "done", on_wait))


def _ready(
    ctx: task.OrchestrationContext, box: BoxRef, clone_of: str, setup: Setup, on_wait: OnWait | None
) -> Work[Ensured]:
    told_of = ""
    for look in range(MAX_POLLS):
        result: Result[Ensured] = yield from perform(
            ctx, ENSURE, Ensure(**box.model_dump(), clone_of=clone_of, setup=setup), on_wait
        )
        if result.failed:
            if result.failed.lost:
                return Ensured(phase="Lost", reason=result.failed.reason, message=result.failed.message)
            final = not result.failed.retryable
            raise SandboxFailed(result.failed.reason, told(result.failed), final=final)
        assert result.ok
        if result.ok.phase == "Refused":
            raise SandboxFailed(
                result.ok.reason or "SandboxRefused", result.ok.message, result.ok.isolation, final=True
            )
        if result.ok.phase != "Starting":
            return result.ok
        if on_wait and result.ok.tells and result.ok.reason != told_of:
            told_of = result.ok.reason
            on_wait(ENSURE.name, POLL.total_seconds(), Failed(reason=told_of, message=result.ok.message))
        yield ctx.create_timer(until_next(look))
    why = f": {told_of}" if told_of else ""
    raise SandboxFailed("SandboxNotReady", f"sandbox {box.id} did not start within {MAX_POLLS} s{why}")
