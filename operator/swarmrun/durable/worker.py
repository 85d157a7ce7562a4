"""Workers that never leave a work item behind, and activities that cannot fail in silence."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import durabletask.internal.helpers as helpers
import durabletask.internal.orchestrator_service_pb2 as pb
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker
from durabletask.exception_properties import ExceptionPropertiesProvider
from durabletask.worker import ConcurrencyOptions

from swarmrun.durable.takeover import NotOurs, Successor, take_over
from swarmrun.errors import SwarmRunError, TransientError

Activity = Callable[[Any, Any], Any]
Orchestrator = Callable[[Any, Any], Any]

_THREADS_FOR_ORCHESTRATIONS = 8
"""One pool serves everything: so many threads are out of reach of activities, or blocked ones would stop the
whole engine. Orchestrations take milliseconds; eight is ample."""

_REFUSED_PAUSE = 1.0
"""Seconds before an orchestration whose result could not be delivered is given back."""
_NOT_OURS_PAUSE = 0.1
"""The same, where another worker is to take it, which may be offered to this one once more. Both are choices."""


_silent = logging.Logger("swarmrun.durable.silent")
_silent.addHandler(logging.NullHandler())


def sdk_logger(name: str) -> logging.Logger:
    """A logger with a level of its own: below it the SDK would summarise every event of every replay."""
    logger = logging.getLogger(f"swarmrun.durable.{name}")
    if logger.level == logging.NOTSET:
        logger.setLevel(max(logger.getEffectiveLevel(), logging.WARNING))
    return logger


class Worker(DurableTaskSchedulerWorker):
    """The SDK only logs a result that it cannot deliver, and the item is stuck for ever. This one answers.

    An activity's result that cannot be stored or is refused becomes a failure of the activity; an orchestration's
    is given back, to be tried again.
    """

    successor: Successor | None = None
    """What goes on with histories that another program has made; None: they are replayed all the same."""

    _leaving = False
    _gives_back = False

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._at_work = 0
        self._ended = threading.Condition()

    def leave(self) -> None:
        """For its end: no further activity is begun; what is at work may finish, and its results are taken."""
        with self._ended:
            self._leaving = True

    def wait(self, seconds: float) -> bool:
        """For what is at work after `leave`. False: it takes longer.

        An engine gives what is at work to another as soon as a worker has stopped, whatever becomes of it here."""
        with self._ended:
            return self._ended.wait_for(lambda: not self._at_work, seconds)

    def give_back(self) -> None:
        """Whatever activities give from now on is not their result: they are about to be cut off."""
        self._gives_back = True

    def hush(self) -> None:
        """Before `stop`: results that nobody takes any more are no news, their work is delivered again."""
        self._logger = _silent

    def _execute_activity(self, req: pb.ActivityRequest, stub: Any, completionToken: Any) -> None:
        with self._ended:
            begins = not self._leaving
            self._at_work += begins
        if not begins:
            time.sleep(_NOT_OURS_PAUSE)
            return self._return_activity(req, stub, completionToken)
        try:
            self._work_on(req, stub, completionToken)
        finally:
            with self._ended:
                self._at_work -= 1
                self._ended.notify_all()

    def _work_on(self, req: pb.ActivityRequest, stub: Any, completionToken: Any) -> None:
        watched = _Watched(stub, refuses=lambda: self._gives_back)
        super()._execute_activity(req, watched, completionToken)
        if watched.delivered:
            return None
        if self._gives_back:
            return self._return_activity(req, stub, completionToken)
        failure = pb.TaskFailureDetails(
            errorType="ResultNotDelivered",
            errorMessage=f"activity '{req.name}' ran, but its result could not be delivered: {watched.why}",
        )
        response = pb.ActivityResponse(
            instanceId=req.orchestrationInstance.instanceId,
            taskId=req.taskId,
            failureDetails=failure,
            completionToken=completionToken,
        )
        try:
            stub.CompleteActivityTask(response)
        except Exception as exc:  # the engine is out of reach: it delivers again  # noqa: BLE001
            self._logger.warning("no answer for %s#%s: %s", req.name, req.taskId, exc)

    def _return_activity(self, req: pb.ActivityRequest, stub: Any, token: Any) -> None:
        """To be delivered to another worker at once."""
        try:
            stub.AbandonTaskActivityWorkItem(pb.AbandonActivityTaskRequest(completionToken=token))
        except Exception as exc:  # the engine notices by itself that this worker has gone  # noqa: BLE001
            self._logger.warning("%s#%s was not given back: %s", req.name, req.taskId, exc)

    def _execute_orchestrator(self, req: pb.OrchestratorRequest, stub: Any, completionToken: Any) -> None:
        watched, pause = _Watched(stub), _REFUSED_PAUSE
        try:
            if not self._take_over(req, watched, completionToken):
                super()._execute_orchestrator(req, watched, completionToken)
        except NotOurs:
            pause = _NOT_OURS_PAUSE
        if watched.delivered:
            return
        time.sleep(pause)
        try:
            stub.AbandonTaskOrchestratorWorkItem(
                pb.AbandonOrchestrationTaskRequest(completionToken=completionToken)
            )
        except Exception as exc:  # the engine is out of reach: it delivers again  # noqa: BLE001
            self._logger.warning("no answer for orchestration %s: %s", req.instanceId, exc)

    def _take_over(self, req: pb.OrchestratorRequest, watched: _Watched, token: Any) -> bool:
        """True when this dispatch is answered, or to be given back. Raises NotOurs."""
        if self.successor is None:
            return False
        try:
            response = take_over(req, watched.stub, str(token), self.successor)
            if response is None:
                return False
            watched.CompleteOrchestratorTask(response)
        except NotOurs:
            raise
        except Exception as exc:  # the engine is out of reach: it delivers again  # noqa: BLE001
            self._logger.warning("orchestration %s of another program: %s", req.instanceId, exc)
        return True


class _Watched:
    """A stub that remembers whether anything was delivered through it, and delivers nothing while it `refuses`."""

    def __init__(self, stub: Any, refuses: Callable[[], bool] = lambda: False) -> None:
        self.stub = stub
        self._refuses = refuses
        self.delivered = False
        self.why = "it could not be stored"

    def __getattr__(self, name: str) -> Callable[[Any], Any]:
        method = getattr(self.stub, name)

        def call(request: Any) -> Any:
            try:
                if self._refuses():
                    raise RuntimeError("its worker ends")
                response = method(request)
            except Exception as exc:
                self.why = helpers.get_qualified_name(type(exc)) + f": {exc}"
                raise
            self.delivered = True
            return response

        return call


class FailureProperties(ExceptionPropertiesProvider):
    """What an orchestration wants to know of a failure and cannot see in its text."""

    def get_exception_properties(self, exception: Exception) -> dict[str, Any] | None:
        if not isinstance(exception, SwarmRunError):
            return None
        retry_after = exception.retry_after if isinstance(exception, TransientError) else None
        return {
            "reason": exception.reason,
            "retryable": exception.retryable,
            "retry_after": retry_after,
            "mend": exception.mend,
        }


def guarded(name: str, activity: Activity) -> Activity:
    """The activity with failures that every engine understands.

    An exception without a message arrives as success, one that is no `Exception` (SystemExit, CancelledError)
    leaves the activity stuck: both become failures with a message.
    """

    @functools.wraps(activity)
    def run(context: Any, payload: Any) -> Any:
        try:
            return activity(context, payload)
        except Exception as exc:
            if not str(exc):
                exc.args = (f"{type(exc).__name__} without a message in activity '{name}'",)
            if not str(exc):  # its text does not come from its arguments
                raise RuntimeError(f"{type(exc).__name__} without a message in activity '{name}'") from exc
            raise
        except BaseException as exc:
            raise RuntimeError(f"activity '{name}' was ended by {type(exc).__name__} {exc}".rstrip()) from exc

    return run


def register(
    worker: Worker, orchestrators: Iterable[Orchestrator], activities: Mapping[str, Activity]
) -> Worker:
    """Orchestrators go by their function's name, activities by their key."""
    for orchestrator in orchestrators:
        worker.add_orchestrator(orchestrator)
    for name, activity in activities.items():
        worker._registry.add_named_activity(name, guarded(name, activity))  # the SDK has no public way
    return worker


def concurrency(threads: int) -> ConcurrencyOptions:
    if threads <= _THREADS_FOR_ORCHESTRATIONS:
        raise ValueError(f"a worker needs more than {_THREADS_FOR_ORCHESTRATIONS} threads, not {threads}")
    return ConcurrencyOptions(
        maximum_thread_pool_workers=threads,
        maximum_concurrent_activity_work_items=threads - _THREADS_FOR_ORCHESTRATIONS,
    )
