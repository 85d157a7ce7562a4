"""Every step by name, as plain functions of plain data that never raise: a failure is a value."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from swarmrun import steps
from swarmrun.activities import (
    adopting,
    finish,
    gates,
    judging,
    merging,
    planning,
    preflight,
    publishing,
    sandboxes,
    turns,
)
from swarmrun.activities.observed import Observed
from swarmrun.activities.world import RunWorld, Worlds
from swarmrun.errors import BadModelOutput, SandboxLost, SwarmRunError, TransientError
from swarmrun.observability.previews import preview
from swarmrun.observability.secrets import held
from swarmrun.ports import Usage
from swarmrun.steps import Failed

log = logging.getLogger("swarmrun.activities")

Activity = Callable[[Any, Any], dict[str, Any]]
Body = Callable[[RunWorld, Any], BaseModel]

BODIES: Mapping[str, tuple[type[steps.RunRef], Body]] = {
    steps.ADOPT.name: (steps.Adopt, adopting.adopt),
    steps.PREFLIGHT.name: (steps.Look, preflight.preflight),
    steps.ENSURE.name: (steps.Ensure, sandboxes.ensure),
    steps.PREPARE.name: (steps.Prepare, sandboxes.prepare),
    steps.RELEASE.name: (steps.Release, sandboxes.release),
    steps.BASELINE.name: (steps.Baseline, gates.baseline),
    steps.GIVEN_PLAN.name: (steps.RunRef, planning.given_plan),
    steps.SCAFFOLD.name: (steps.Scaffold, planning.scaffold),
    steps.AMEND.name: (steps.Amend, planning.amend),
    steps.EVIDENCE.name: (steps.Evidence, publishing.save_evidence),
    steps.MODEL_TURN.name: (steps.Turn, turns.model_turn),
    steps.TOOL_CALL.name: (steps.Call, turns.tool_call),
    steps.CHECKPOINT.name: (steps.TakeCheckpoint, turns.checkpoint),
    steps.FINISH.name: (steps.Finish, finish.finish),
    steps.ORDER.name: (steps.Order, merging.order),
    steps.MERGE.name: (steps.Merge, merging.merge),
    steps.BATCH_GATES.name: (steps.BatchGates, gates.batch_gates),
    steps.GATES.name: (steps.RunGates, gates.run_gates),
    steps.SAMPLE.name: (steps.Sample, judging.sample),
    steps.TALLY.name: (steps.Tally, judging.tally),
    steps.SAVE_REPORT.name: (steps.SaveReport, publishing.save_report),
    steps.PUBLISH.name: (steps.PublishResult, publishing.publish),
}


PAYS = {steps.SAMPLE.name: "judge", steps.AMEND.name: "planner"}
"""Steps that ask a model and whose input names no role."""


def activities(worlds: Worlds) -> dict[str, Activity]:
    """What a worker registers. Raises KeyError at once when a step has no body."""
    return {name: _activity(name, worlds, *BODIES[name]) for name in steps.STEPS}


def _activity(name: str, worlds: Worlds, model: type[steps.RunRef], body: Body) -> Activity:
    def run(_context: Any, given: Any) -> dict[str, Any]:
        world = None
        with Observed(name) as it:
            try:
                wanted = model.model_validate(given)
                with worlds(wanted.run) as world:
                    it.begin(world, wanted)
                    return it.ok(body(world, wanted))
            except SwarmRunError as exc:
                return it.failed(failed(exc, world, PAYS.get(name) or given.get("role", "")))
            except ValidationError as exc:
                log.exception("step %s", name)
                return it.failed(_bug(name, f"its input does not fit: {exc}"))
            except Exception as exc:
                log.exception("step %s", name)
                return it.failed(_bug(name, f"{type(exc).__name__}: {exc}"))

    return run


def failed(exc: SwarmRunError, world: RunWorld | None = None, payer: str = "") -> Failed:
    """An error as the value an orchestration decides on. `payer`: the role whose model was asked."""
    usage = None
    if isinstance(exc, BadModelOutput) and isinstance(exc.usage, Usage) and world is not None and payer:
        usage = world.usage(payer, exc.usage)
    return Failed(
        reason=exc.reason,
        # It may quote what a command printed.
        message=preview(exc.message, held(os.environ)),
        mend=exc.mend,
        # A useless answer is a failed turn: asked again, the model may do better.
        retryable=exc.retryable or isinstance(exc, BadModelOutput),
        retry_after=exc.retry_after if isinstance(exc, TransientError) else None,
        kind=type(exc).__name__,
        usage=usage,
        lost=isinstance(exc, SandboxLost),
    )


def _bug(name: str, what: str) -> Failed:
    return Failed(
        reason="InternalError",
        message=preview(f"step {name}: {what}", held(os.environ)),
        mend="this is a bug of swarmrun: please report it with the log",
    )
