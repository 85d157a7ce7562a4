"""What is counted, in a registry of our own. docs/metrics.md is the table of it.

Labels have few values: no run, task or resource is named. Steps run at least once, so things are counted where they
are really done; each help text says what a repeated step adds. Counters begin at 0 with the process, as Prometheus
expects.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

# ---------------------------------------------------------------- runs (controller)

RUNS_FINISHED = Counter(
    "swarmrun_runs_finished",
    "Runs that ended, by phase and reason. Counted when the status that says so was written; a controller that dies "
    "between writing and counting loses one.",
    ["phase", "reason"],
    registry=REGISTRY,
)
MERGES = Counter(
    "swarmrun_merges",
    "Branches merged or parked, by the most expensive step that was needed. Counted once, with the status.",
    ["how"],
    registry=REGISTRY,
)
JUDGE_SCORE = Histogram(
    "swarmrun_judge_score",
    "Scores (0 to 100) of the judge's rounds. Counted once, with the status.",
    buckets=range(10, 101, 10),
    registry=REGISTRY,
)
RECONCILE = Histogram(
    "swarmrun_reconcile_latency_seconds",
    "From a change seen (of the resource or its run) until the status that shows it was written; writes of one "
    "resource are 2 s apart at least.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
    registry=REGISTRY,
)

# ---------------------------------------------------------------- agents (workers)

TURNS = Counter(
    "swarmrun_turns",
    "Model turns of agents whose reply was new, by role. A replayed turn returns its stored reply and is not counted.",
    ["role"],
    registry=REGISTRY,
)
TOOL_CALLS = Counter(
    "swarmrun_tool_calls",
    "Tool calls carried out, by tool; ok false: the model was told an error. Calls that run again in a replaced "
    "sandbox count again.",
    ["tool", "ok"],
    registry=REGISTRY,
)
MODEL_CALLS = Counter(
    "swarmrun_model_calls",
    "Requests to models, by tier and outcome (ok, or the error's reason). Every request counts, tries again too.",
    ["tier", "outcome"],
    registry=REGISTRY,
)
TOKENS = Counter(
    "swarmrun_tokens",
    "Tokens paid for, by tier and kind: input (not from the cache), cached, output. A stored reply costs nothing; one "
    "whose worker died before it was stored is paid, and counted, again.",
    ["tier", "kind"],
    registry=REGISTRY,
)
COST = Counter(
    "swarmrun_cost_usd",
    "US dollars for the same tokens, by tier, as far as the model's price is known.",
    ["tier"],
    registry=REGISTRY,
)
SANDBOXES_STARTED = Counter(
    "swarmrun_sandboxes_started",
    "Sandboxes first seen ready by this process. Another worker that meets the same one counts it, too.",
    ["isolation"],
    registry=REGISTRY,
)
SANDBOXES_LOST = Counter(
    "swarmrun_sandboxes_lost",
    "Sandboxes lost (replaced from the last checkpoint) or refused (they will never start), by reason; each once a "
    "process.",
    ["end", "reason"],
    registry=REGISTRY,
)

# ---------------------------------------------------------------- steps and the API server

ACTIVITIES_RUNNING = Gauge(
    "swarmrun_activities_running",
    "Activities that this process is carrying out now: what workers are scaled by.",
    registry=REGISTRY,
)
ACTIVITY_SECONDS = Histogram(
    "swarmrun_activity_duration_seconds",
    "Activities by step and outcome: ok, retry (failed, and a retry may help), failed. Every execution counts.",
    ["step", "outcome"],
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800),
    registry=REGISTRY,
)
KUBERNETES_REQUESTS = Counter(
    "swarmrun_kubernetes_requests",
    "Requests to the API server by verb, resource and code (0: no answer), without Kopf's own lists and watches (a "
    "few for each resource kind in five minutes).",
    ["verb", "resource", "code"],
    registry=REGISTRY,
)


class Words:
    """Label values that come from outside of this code's lists, kept few: CamelCase words, `most` different ones."""

    def __init__(self, most: int = 60) -> None:
        self._most = most
        self._known: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, word: str) -> str:
        if not re.fullmatch(r"[A-Z][A-Za-z0-9]{1,39}", word):
            return "Other"
        with self._lock:
            if word not in self._known and len(self._known) >= self._most:
                return "Other"
            self._known.add(word)
            return word


reason = Words()
"""Reasons come from our errors, but also from the API server and the kubelet."""


class Live(Collector):
    """Gauges read when they are asked for. `read` gives a value for each value of `label` (or for "" without one),
    nothing where there is nothing to say; what it raises leaves the metric out."""

    def __init__(
        self, name: str, help: str, read: Callable[[], Mapping[str, float]], label: str = ""
    ) -> None:
        self._name, self._help, self._read, self._label = name, help, read, label
        REGISTRY.register(self)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return [self._family()]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = self._family()
        try:
            values = self._read()
        except Exception:  # a scrape must not fail as a whole  # noqa: BLE001
            values = {}
        for value, number in values.items():
            family.add_metric([value] if self._label else [], number)
        return [family]

    def close(self) -> None:
        REGISTRY.unregister(self)

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(self._name, self._help, labels=[self._label] if self._label else [])
