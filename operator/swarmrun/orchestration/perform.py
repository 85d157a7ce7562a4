"""How an orchestration asks for a step: retries what a retry may mend, by durable timers, and says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from durabletask import task

from swarmrun.orchestration.flow import Work
from swarmrun.steps import Failed, Result, Step, StepModel

O = TypeVar("O", bound=StepModel)  # noqa: E741

RATE_LIMIT_TRIES = 200
OUTAGE_TRIES = 40
OTHER_TRIES = 5
# An outage is waited out for a bit over an hour (40 tries, 2 minutes apart at most); a rate limit for longer,
# since the other side says when to come back. Whatever else claims to be transient gets five tries. All three
# are choices; the run's own duration ends the wait earlier.
LONGEST_WAIT = 120.0

OnWait = Callable[[str, float, Failed], None]


def perform(
    ctx: task.OrchestrationContext, step: Step[O], given: StepModel, on_wait: OnWait | None = None
) -> Work[Result[O]]:
    """One step until it worked or failed for good. Never raises: the failure is in the result."""
    tries = 0
    while True:
        done: task.Task[Any] = yield ctx.call_activity(step.name, input=given.model_dump(mode="json"))  # type: ignore[misc]
        result = read(step, done)
        tries += 1
        pause = wait_before_retry(result.failed, tries)
        if pause is None:
            return result
        if on_wait and result.failed:
            on_wait(step.name, pause, result.failed)
        yield ctx.create_timer(timedelta(seconds=pause))


def perform_all(
    ctx: task.OrchestrationContext, step: Step[O], given: Sequence[StepModel], on_wait: OnWait | None = None
) -> Work[list[Result[O]]]:
    """The same step for several inputs side by side; results in the order given."""
    if not given:
        return []
    tasks = [ctx.call_activity(step.name, input=g.model_dump(mode="json")) for g in given]
    yield task.when_all(tasks)
    results: list[Result[O]] = []
    for each, done in zip(given, tasks, strict=True):
        result = read(step, done)
        if result.failed and result.failed.retryable:
            result = yield from perform(ctx, step, each, on_wait)
        results.append(result)
    return results


def read(step: Step[O], done: task.Task[Any]) -> Result[O]:
    """A finished task as a typed result; what the engine calls failed is a bug or a lost worker."""
    if done.is_failed:
        error = done.get_exception()
        details = getattr(error, "details", None)
        return Result[O](
            failed=Failed(
                reason="InternalError",
                message=f"step {step.name}: {getattr(details, 'message', None) or error}",
                mend="this is a bug of swarmrun or a worker of another version",
            )
        )
    raw = done.get_result()
    if not isinstance(raw, dict):
        return Result[O](failed=Failed(reason="InternalError", message=f"step {step.name} gave {raw!r}"))
    if raw.get("failed"):
        return Result[O](failed=Failed.model_validate(raw["failed"]))
    return Result[O](ok=step.out.model_validate(raw["ok"]))


def wait_before_retry(failed: Failed | None, tries: int) -> float | None:
    """Seconds to wait before the next try, None when there is none. Pure."""
    if failed is None or not failed.retryable:
        return None
    limit = {
        "RateLimited": RATE_LIMIT_TRIES,
        "ModelUnavailable": OUTAGE_TRIES,
        "RemoteUnavailable": OUTAGE_TRIES,
    }.get(failed.kind or failed.reason, OTHER_TRIES)
    if tries >= limit:
        return None
    if failed.retry_after is not None:
        return max(0.0, failed.retry_after)
    return min(LONGEST_WAIT, 2.0 ** min(tries - 1, 7))
