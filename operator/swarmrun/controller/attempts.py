"""The attempts of one run that the engine knows, and what a new one takes over from the last."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, Protocol

from durabletask.client import OrchestrationQuery, OrchestrationStatus

from swarmrun.api.annotations import ATTEMPT
from swarmrun.api.status import SwarmRunStatus
from swarmrun.controller.observe import ENDED
from swarmrun.controller.wanted import RERUN_FIELD, Wanted, instance_of, number_of, uid_of
from swarmrun.errors import InvalidResource
from swarmrun.orchestration.inputs import RunInput
from swarmrun.orchestration.rerun import taking_over
from swarmrun.orchestration.stand import Stand
from swarmrun.report import RunReport

TAKEN_OVER: Final = ("stand", "report", "earlier", "anew")
"""Fields of an attempt's input that the one before it gives."""


class Client(Protocol):
    """The part of durabletask's client that is used here."""

    def get_all_orchestration_states(
        self, orchestration_query: OrchestrationQuery | None = None
    ) -> list[Any]: ...


def known(client: Client, uid: str) -> dict[int, Any]:
    """Number → the engine's state of that attempt, in order."""
    query = OrchestrationQuery(instance_id_prefix=f"{uid}-", fetch_inputs_and_outputs=True)
    states = {s.instance_id: s for s in client.get_all_orchestration_states(query)}
    numbers = sorted(int(i.rpartition("-")[2]) for i in states if uid_of(i) == uid)
    return {number: states[instance_of(uid, number)] for number in numbers}


def input_of(client: Client, given: RunInput, uid: str, asked: Wanted) -> RunInput:
    """What this attempt begins with, in the light of the one before it.

    Raises InvalidResource where nothing can begin from the point that is asked for.
    """
    if asked.attempt < 2:
        return given
    before = {n: s for n, s in known(client, uid).items() if n < asked.attempt}
    if not before:
        if asked.rerun_from:
            raise InvalidResource(
                "nothing is known any more of an earlier attempt, so none can be taken over",
                field=RERUN_FIELD,
                reason="EarlierAttemptGone",
                mend="remove the annotation to begin afresh; spec.ttlSecondsAfterFinished says how long work is kept",
            )
        # Of a cluster rebuilt from git, say: its result may well be published.
        return given
    number, state = max(before.items())
    given = given.model_copy(update={"anew": True})
    if not asked.rerun_from:
        return given
    if state.runtime_status not in ENDED:
        raise InvalidResource(
            f"attempt {number} has not ended, so nothing of it can be taken over",
            field=RERUN_FIELD,
            reason="AttemptAtWork",
            mend=f"set {ATTEMPT} to {number} until it has",
        )
    if state.runtime_status != OrchestrationStatus.COMPLETED or not state.serialized_output:
        raise InvalidResource(
            f"attempt {number} has left no report, so nothing of it can be taken over",
            field=RERUN_FIELD,
            reason="EarlierAttemptGone",
            mend="remove the annotation to begin afresh",
        )
    report = RunReport.model_validate_json(state.serialized_output)
    return taking_over(given, report, asked.rerun_from, RERUN_FIELD)


def awaits_plan(given: RunInput) -> bool:
    """Whether a person must approve the plan before any agent of this attempt works."""
    return given.plan_approval and not Stand.model_validate(given.stand or {}).reached("working")


def its_turn(asked: Wanted, status: SwarmRunStatus, uid: str) -> Wanted:
    """An attempt that is at work goes on to its end; a higher one that is asked for begins then. One that has begun is
    not taken back by a lower number: an annotation that was taken away would start what has run before once more."""
    if status.started_at is None or uid_of(status.run) != uid:
        return asked
    number = number_of(status.run)
    later = number < asked.attempt and status.phase.terminal
    return asked if later or number == asked.attempt else replace(asked, attempt=number, rerun_from="")
