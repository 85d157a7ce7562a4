"""The five conditions, with kstatus meaning.

| condition | True when |
| --- | --- |
| `Reconciling` | work goes on or is waited for (approval, outage, suspension) |
| `Stalled` | it ended without the result: failed, or cancelled (whoever waits for it must stop) |
| `Ready` | the result is published |
| `Succeeded` | the same; `Unknown` until the end, so that `wait --for=condition=Succeeded=false` is right |
| `Finished` | it ended, one way or the other |
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from swarmrun.api.base import clip
from swarmrun.api.status import Condition, Phase, SwarmRunStatus
from swarmrun.report import RunReport

Truth = Literal["True", "False", "Unknown"]
Kind = Literal["Ready", "Reconciling", "Stalled", "Succeeded", "Finished"]

_WAITS = {
    "plan": ("AwaitingPlanApproval", "the plan waits for an approval"),
    "publish": ("AwaitingPublishApproval", "the result waits for an approval before it is published"),
    "model": ("WaitingForModel", "the model's server refuses or does not answer; waiting"),
    "remote": ("WaitingForRemote", "the git remote does not answer; waiting"),
}


def conditions(report: RunReport, previous: SwarmRunStatus | None, now: datetime) -> list[Condition]:
    """A condition's `lastTransitionTime` moves only when its `status` does."""
    reason, message = why(report)
    truth = _truth(report.phase)
    made: list[Condition] = []
    for kind, status in truth.items():
        before = previous.condition(kind) if previous else None
        same = before is not None and before.status == status and before.last_transition_time is not None
        made.append(
            Condition(
                type=kind,
                status=status,
                reason=clip(reason, 100),
                message=clip(message),
                last_transition_time=before.last_transition_time if same and before else now,
                observed_generation=report.generation,
            )
        )
    return made


def stands_still(status: SwarmRunStatus, told: tuple[str, str] | None, now: datetime) -> SwarmRunStatus:
    """An ended run's status, `Stalled` by (reason, message) of what its resource asks for in vain. Without such a thing
    `Stalled` says again how it ended, as `Ready` does."""
    ready, before = status.condition("Ready"), status.condition("Stalled")
    if ready is None or before is None:
        return status
    truth: Truth = "True" if told else _truth(status.phase)["Stalled"]
    reason, message = told or (ready.reason, ready.message)
    after = before.model_copy(
        update={"status": truth, "reason": clip(reason, 100), "message": clip(message)}
        | ({} if truth == before.status else {"last_transition_time": now.replace(microsecond=0)})
    )
    if after == before:
        return status
    made = [after if c.type == "Stalled" else c for c in status.conditions]
    return status.model_copy(update={"conditions": made})


def why(report: RunReport) -> tuple[str, str]:
    """(reason, message): why the run is where it is."""
    if not report.phase.terminal:
        if report.suspended:
            return "Suspended", report.message or "agents stopped at their next turn; resume to go on"
        if report.waiting_for in _WAITS:
            reason, message = _WAITS[report.waiting_for]
            return reason, report.message or message
    return report.reason or report.phase.value, report.message


def _truth(phase: Phase) -> dict[Kind, Truth]:
    done, good = phase.terminal, phase is Phase.SUCCEEDED
    return {
        "Ready": "True" if good else "False",
        "Reconciling": "False" if done else "True",
        "Stalled": "True" if done and not good else "False",
        "Succeeded": ("True" if good else "False") if done else "Unknown",
        "Finished": "True" if done else "False",
    }
