"""Gauges that are read off what this process holds, when they are asked for."""

from __future__ import annotations

import time
from collections import Counter

from swarmrun.api.status import Phase
from swarmrun.controller.attend import Attendants
from swarmrun.controller.sweep import Sweep
from swarmrun.durable.engine import EmbeddedEngine
from swarmrun.observability.metrics import ACTIVITIES_RUNNING, Live


def watched(engine: EmbeddedEngine) -> Live:
    """What waits. The managed service does not tell: there the metric is absent."""

    def depth() -> dict[str, float]:
        running = next(s.value for m in ACTIVITIES_RUNNING.collect() for s in m.samples)
        waiting = engine.outstanding()
        return {**waiting, "activity": max(0.0, waiting["activity"] - running)}

    return Live(
        "swarmrun_queue_depth",
        "What waits in the embedded engine, by kind: activities that nobody carries out yet, orchestrations with "
        "news to look at (those being looked at included). Absent with the managed service, which does not tell.",
        depth,
        "kind",
    )


def shown(attendants: Attendants, sweep: Sweep) -> tuple[Live, Live, Live]:
    """Of the controller that holds the lease; absent elsewhere."""

    def phases() -> dict[str, float]:
        found = Counter(a.memory.status.phase for a in list(attendants.attended.values()))
        return {phase.value: float(found[phase]) for phase in Phase}

    return (
        Live("swarmrun_runs", "SwarmRuns by the phase of their last written status.", phases, "phase"),
        Live(
            "swarmrun_sweep_age_seconds",
            "Since a sweep last ended well, which asks engine and API server for everything; one a minute is due.",
            lambda: {"": time.monotonic() - sweep.done_at},
        ),
        Live(
            "swarmrun_watch_deaf",
            "1 while the watch has missed a change that a list shows (its liveness probe fails then), else 0.",
            lambda: {"": float(bool(sweep.deaf))},
        ),
    )
