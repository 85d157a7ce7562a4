"""What the controller counts: the difference of two statuses, once the second was written."""

from __future__ import annotations

from swarmrun.api.status import SwarmRunStatus
from swarmrun.observability import metrics


def count(before: SwarmRunStatus, after: SwarmRunStatus) -> None:
    """Another attempt counts anew: its status names another run."""
    same = before.run == after.run
    if after.phase.terminal and not (same and before.phase.terminal):
        ready = after.condition("Ready")
        metrics.RUNS_FINISHED.labels(after.phase.value, metrics.reason(ready.reason if ready else "")).inc()
    merged = {(m.task, m.how, m.commit) for m in before.merges} if same else set()
    for merge in after.merges:
        if (merge.task, merge.how, merge.commit) not in merged:
            metrics.MERGES.labels(merge.how.value).inc()
    judged = {j.round for j in before.judgements} if same else set()
    for judgement in after.judgements:
        if judgement.round not in judged:
            metrics.JUDGE_SCORE.observe(judgement.score)
