"""What an operator shows of itself while it works against a real API server."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

NAME = "url-shortener"
Metrics = dict[str, list[tuple[dict[str, str], float]]]


def scraped(port: int) -> Metrics:
    found: Metrics = {}
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).raise_for_status().text
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def total(metrics: Metrics, name: str, **labels: str) -> float:
    return sum(value for told, value in metrics.get(name, []) if labels.items() <= told.items())


def test_a_run_is_seen_in_metrics_and_logs(
    kubectl: Any, make_operator: Callable[..., Any], demo: Callable[..., list[dict[str, Any]]]
) -> None:
    operator = make_operator(SWARMRUN_LOG_FORMAT="json")
    port = operator.metrics_port
    kubectl.apply(*demo(plan={"approval": True}))
    operator.start()
    kubectl.until(lambda: kubectl.reason(NAME) == "AwaitingPlanApproval")
    waiting = scraped(port)
    assert total(waiting, "swarmrun_runs", phase="AwaitingApproval") == 1
    assert total(waiting, "swarmrun_queue_depth", kind="activity") == 0
    assert total(waiting, "swarmrun_watch_deaf") == 0
    plan = kubectl.status(NAME)["plan"]["hash"]
    kubectl("annotate", "swr", NAME, f"swarmrun.dev/approve-plan={plan}")
    kubectl.finished(NAME)
    ended = scraped(port)
    assert total(ended, "swarmrun_runs", phase="Succeeded") == 1
    assert total(ended, "swarmrun_runs", phase="AwaitingApproval") == 0
    assert total(ended, "swarmrun_runs_finished_total", phase="Succeeded", reason="Published") == 1
    assert total(ended, "swarmrun_activities_running") == 0
    status = kubectl.status(NAME)
    assert total(ended, "swarmrun_merges_total") == len(status["merges"])
    assert total(ended, "swarmrun_judge_score_count") == len(status["judgements"])
    for tier in status["usage"]["tiers"]:
        assert total(ended, "swarmrun_tokens_total", tier=tier["tier"], kind="output") == tier["output"]
        assert total(ended, "swarmrun_tokens_total", tier=tier["tier"]) == tier["input"] + tier["output"]
    assert total(ended, "swarmrun_kubernetes_requests_total", verb="patch", resource="swarmruns/status") > 3
    assert total(ended, "swarmrun_kubernetes_requests_total", verb="create", resource="events") > 3
    assert total(ended, "swarmrun_reconcile_latency_seconds_count") > 3
    turns = total(ended, "swarmrun_turns_total")
    requests = total(ended, "swarmrun_kubernetes_requests_total")
    print(f"{requests:.0f} API requests, {turns:.0f} turns: {requests / turns:.2f} a turn")
    assert operator.end(signal.SIGTERM) == 0
    lines = [json.loads(line) for line in operator.log.read_text().splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    ours = [line for line in lines if line.get("name") == NAME]
    assert all(line["namespace"] == kubectl.namespace for line in ours)
