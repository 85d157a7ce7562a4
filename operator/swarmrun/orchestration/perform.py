"""How an orchestration asks for a step: retries what a retry may mend, by durable timers, and says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar, cast

from durabletask import task
from pydantic import ValidationError

from swarmrun.observability.previews import previewed
from swarmrun.orchestration.flow import Work, beside
from swarmrun.orchestration.previews import of_input
from swarmrun.steps import Failed, Result, Step, StepModel

O = TypeVar("O", bound=StepModel)  # noqa: E741

RATE_LIMIT_TRIES = 200
OUTAGE_TRIES = 40
OTHER_TRIES = 5
STARTING_TRIES = 600
# An outage is waited out for a bit over an hour (40 tries, 2 minutes apart at most); a rate limit for longer,
# since the other side says when to come back. Whatever else claims to be transient gets five tries. A git Pod is
# asked for about once a second: ten minutes for an image to be pulled and a node to be found. All four are choices;
# the run's own duration ends the wait earlier. Each sort of failure is counted for itself (`counted_as`).
LONGEST_WAIT = 120.0

OnWait = Callable[[str, float, Failed], None]
"""Told of the step, the seconds until the next try, and why. What a useless answer cost is in `Failed.usage`."""


MESSAGE = 480
"""A status holds 512 characters of a message; the rest is for what is said before it, as `no plan: `."""


def told(failed: Failed) -> str:
    """What went wrong and how to mend it, for a status. A message too long for it loses its end, not its mend."""
    if not failed.mend:
        return failed.message
    mend = f" ({failed.mend})"
    return failed.message[: max(0, MESSAGE - len(mend))] + mend


def begin(ctx: task.OrchestrationContext, step: Step[Any], given: StepModel) -> task.Task[Any]:
    """Starts a step; the task's result goes through `read`."""
    return cast(
        "task.Task[Any]",
        ctx.call_activity(  # pyright: ignore[reportUnknownMemberType]
            step.name, input=previewed(of_input(given), given.model_dump(mode="json"))
        ),
    )


def perform(
    ctx: task.OrchestrationContext, step: Step[O], given: StepModel, on_wait: OnWait | None = None
) -> Work[Result[O]]:
    """One step until it worked or failed for good. Never raises: the failure is in the result."""
    tries: Counter[str] = Counter()
    while True:
        done = begin(ctx, step, given)
        yield done
        result = read(step, done)
        if result.failed is None:
            return result
        tries[counted_as(result.failed)] += 1
        pause = wait_before_retry(result.failed, tries[counted_as(result.failed)])
        if pause is None:
            return result
        if on_wait:
            on_wait(step.name, pause, result.failed)
        yield ctx.create_timer(timedelta(seconds=pause))


def perform_all(
    ctx: task.OrchestrationContext, step: Step[O], given: Sequence[StepModel], on_wait: OnWait | None = None
) -> Work[list[Result[O]]]:
    """The same step for several inputs side by side, each with its own waits; results in the order given."""
    results: list[Result[O]] = yield from beside(*(perform(ctx, step, g, on_wait) for g in given))
    return results


def read(step: Step[O], done: task.Task[Any]) -> Result[O]:
    """A finished task as a typed result; what the engine calls failed is a bug or a lost worker."""
    if done.is_failed:
        failed = _bug(step, failure_text(done))
        if _unknown_there(done) and failed.failed:
            failed.failed.reason = failed.failed.kind = UNKNOWN
            failed.failed.retryable = True
        return failed
    raw = done.get_result()
    try:
        given = cast(dict[str, Any], raw)
        if given.get("failed"):
            return Result[O](failed=Failed.model_validate(given["failed"]))
        return Result[O](ok=step.out.model_validate(given["ok"]))
    except (AttributeError, KeyError, ValidationError):
        # Raised here, it would end the orchestration where nobody can catch it.
        return _bug(step, f"it gave {str(raw)[:200]!r}")


UNKNOWN = "WorkerOfAnotherVersion"
"""While an upgrade is rolled out a step may reach a worker that does not know it yet, or any more."""


def _unknown_there(done: task.Task[Any]) -> bool:
    details = getattr(done.get_exception(), "details", None)
    return str(getattr(details, "error_type", "")).endswith("ActivityNotRegisteredError")


def failure_text(done: task.Task[Any]) -> str:
    """What the engine says of a failed task."""
    error = done.get_exception()
    return str(getattr(getattr(error, "details", None), "message", None) or error)


def _bug(step: Step[O], what: str) -> Result[O]:
    return Result[O](
        failed=Failed(
            reason="InternalError",
            message=f"step {step.name}: {what}",
            mend="this is a bug of swarmrun or a worker of another version",
        )
    )


_HINTS = {
    "ModelUnavailable": " (is the endpoint right? a run that is interrupted now can be resumed)",
    "RemoteUnavailable": " (is the repository's url right? a run that is interrupted now can be resumed)",
}


def waiting(step: str, pause: float, failed: Failed) -> str:
    """One line about a wait, with what the reader may look at. Pure."""
    hint = "" if failed.reason in ("GitPodStarting", "GitPodWaiting") else _HINTS.get(failed.kind, "")
    return f"{step}: {failed.reason}, next try in {pause:g} s: {failed.message[:300]}{hint}"


_STARTING = "GitPodStarting"
_LIMITS = {
    "RateLimited": RATE_LIMIT_TRIES,
    "ModelUnavailable": OUTAGE_TRIES,
    "RemoteUnavailable": OUTAGE_TRIES,
    _STARTING: STARTING_TRIES,
    UNKNOWN: OUTAGE_TRIES,
}


def counted_as(failed: Failed) -> str:
    """The sort of a failure. What was waited for one sort is not held against another: the git Pod that took two
    minutes to start may still be lost once. Sorts are few (the classes of `errors.py`), so however they take turns
    there is an end: when one of them has had its tries. Pure."""
    if failed.reason == "GitPodWaiting":
        return _STARTING  # the same wait; only why it takes long is known
    return failed.reason if failed.reason in _LIMITS else failed.kind


def wait_before_retry(failed: Failed | None, tries: int) -> float | None:
    """Seconds to wait before the next try, None when there is none. `tries`: those that failed like this. Pure."""
    if failed is None or not failed.retryable:
        return None
    if tries >= _LIMITS.get(counted_as(failed), OTHER_TRIES):
        return None
    if failed.retry_after is not None:
        return max(0.0, failed.retry_after)
    return min(LONGEST_WAIT, 2.0 ** min(tries - 1, 7))
