"""What keeps a run waiting, as its status says it."""

from __future__ import annotations

from dataclasses import dataclass

from swarmrun.orchestration.perform import waiting
from swarmrun.steps import AMEND, ENSURE, PREFLIGHT, PUBLISH, SAMPLE, Failed

WAITS_FOR = {SAMPLE.name: "model", AMEND.name: "model", PREFLIGHT.name: "remote", PUBLISH.name: "remote"}
"""Whom the run itself waits for when such a step is tried again; agents say so on their own line."""
POD = "pod"
"""Waited for: a Pod of the run that does not start. The reason is then the Pod's own."""


@dataclass(frozen=True)
class Wait:
    message: str
    on: str
    """`model`, `remote`, `pod`, or nobody in particular."""
    reason: str


def of_step(step: str, pause: float, failed: Failed) -> Wait:
    on = POD if step == ENSURE.name or failed.reason == "GitPodWaiting" else WAITS_FOR.get(step, "")
    return Wait(waiting(step, pause, failed), on, failed.reason)
