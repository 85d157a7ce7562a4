"""What is counted, and how it is asked for."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from swarmrun.api.status import Condition, Judgement, MergeHow, MergeStatus, Phase, SwarmRunStatus
from swarmrun.controller.counted import count
from swarmrun.durable.engine import EmbeddedEngine
from swarmrun.errors import Conflict
from swarmrun.kube.api import asked
from swarmrun.observability import exposition, metrics

SAMPLE = metrics.REGISTRY.get_sample_value


def value(name: str, **labels: str) -> float:
    return SAMPLE(name, labels) or 0.0


def status(phase: Phase, run: str = "r-1", reason: str = "Published", **more: Any) -> SwarmRunStatus:
    ready = Condition(type="Ready", status="True", reason=reason, last_transition_time=datetime.now(UTC))
    return SwarmRunStatus(run=run, phase=phase, conditions=[ready], **more)


def test_an_end_is_counted_when_it_is_first_shown_and_again_for_another_attempt() -> None:
    labels = {"phase": "Succeeded", "reason": "Published"}
    before = value("swarmrun_runs_finished_total", **labels)
    running, ended = status(Phase.RUNNING), status(Phase.SUCCEEDED)
    count(running, ended)
    count(ended, ended.model_copy(update={"observed_generation": 2}))
    assert value("swarmrun_runs_finished_total", **labels) == before + 1
    count(ended, status(Phase.SUCCEEDED, run="r-2"))
    assert value("swarmrun_runs_finished_total", **labels) == before + 2


def test_merges_and_scores_are_counted_once_each() -> None:
    clean = MergeStatus(task="a", how=MergeHow.CLEAN, commit="c")
    parked = MergeStatus(task="b", how=MergeHow.PARKED)
    first = status(Phase.RUNNING, merges=[clean], judgements=[Judgement(round=0, score=43)])
    second = status(
        Phase.RUNNING, merges=[clean, parked], judgements=[*first.judgements, Judgement(round=1, score=90)]
    )
    names = ("Clean", "Parked")
    before = [value("swarmrun_merges_total", how=n) for n in names]
    scores, total = value("swarmrun_judge_score_count"), value("swarmrun_judge_score_sum")
    count(status(Phase.RUNNING), first)
    count(first, second)
    count(second, second)
    assert [value("swarmrun_merges_total", how=n) for n in names] == [n + 1 for n in before]
    assert value("swarmrun_judge_score_count") == scores + 2
    assert value("swarmrun_judge_score_sum") == total + 43 + 90


def test_a_label_takes_few_words_and_no_text() -> None:
    words = metrics.Words(most=3)
    assert [words(w) for w in ("OOMKilled", "Evicted", "DiskFull", "Another", "Evicted")] == [
        "OOMKilled",
        "Evicted",
        "DiskFull",
        "Other",
        "Evicted",
    ]
    for text in ("", "no word at all", "sk-abcdefgh0123456789", "X" * 60):
        assert words(text) == "Other"


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        (("GET", "/api/v1/namespaces/n/pods/p", {}), ("get", "pods")),
        (("GET", "/api/v1/namespaces/n/events", {"fieldSelector": "x"}), ("list", "events")),
        (("GET", "/apis/swarmrun.dev/v1alpha1/swarmruns", {"limit": "200"}), ("list", "swarmruns")),
        (("GET", "/apis/swarmrun.dev/v1alpha1/swarmruns", {"watch": "true"}), ("watch", "swarmruns")),
        (
            ("PATCH", "/apis/swarmrun.dev/v1alpha1/namespaces/n/swarmruns/x/status", {}),
            ("patch", "swarmruns/status"),
        ),
        (("POST", "/api/v1/namespaces/n/pods", {}), ("create", "pods")),
        (
            ("PUT", "/apis/coordination.k8s.io/v1/namespaces/n/leases/l", {}),
            ("update", "leases"),
        ),
        (("DELETE", "/api/v1/namespaces/n/pods/p", {}), ("delete", "pods")),
        (("DELETE", "/api/v1/namespaces/n/pods", {"labelSelector": "a=b"}), ("deletecollection", "pods")),
        (("GET", "/api/v1/namespaces/n", {}), ("get", "namespaces")),
        (("GET", "/version", {}), ("list", "other")),
    ],
)
def test_a_request_is_counted_as_rbac_names_it(request_: Any, named: tuple[str, str]) -> None:
    assert asked(*request_) == named


def test_a_gauge_that_cannot_be_read_leaves_the_others_alone() -> None:
    def broken() -> dict[str, float]:
        raise RuntimeError("the engine is closed")

    gauges = [
        metrics.Live("swarmrun_test_broken", "x", broken),
        metrics.Live("swarmrun_test_plain", "x", lambda: {"": 3.0}),
        metrics.Live("swarmrun_test_kinds", "x", lambda: {"a": 1.0, "b": 2.0}, "kind"),
    ]
    try:
        assert SAMPLE("swarmrun_test_broken") is None
        assert SAMPLE("swarmrun_test_plain") == 3
        assert SAMPLE("swarmrun_test_kinds", {"kind": "b"}) == 2
    finally:
        for gauge in gauges:
            gauge.close()


def test_metrics_are_served_and_every_one_of_ours_has_a_help_text() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    end = exposition.serve(port, "127.0.0.1")
    try:
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
        with pytest.raises(Conflict, match=str(port)):
            exposition.serve(port, "127.0.0.1")
    finally:
        end()
    families = {f.name: f for f in text_string_to_metric_families(text)}
    assert {"swarmrun_activities_running", "swarmrun_tokens", "process_resident_memory_bytes"} <= set(
        families
    )
    for name, family in families.items():
        assert name.startswith(("swarmrun_", "process_"))
        assert family.documentation


def test_the_table_in_the_docs_names_every_metric_and_no_other() -> None:
    from pathlib import Path

    page = (Path(__file__).parents[3] / "docs/metrics.md").read_text()
    rows = {
        line.split("`")[1].partition("{")[0] for line in page.splitlines() if line.startswith("| `swarmrun_")
    }
    live = {"swarmrun_queue_depth", "swarmrun_runs", "swarmrun_sweep_age_seconds", "swarmrun_watch_deaf"}
    names = {
        f"{m.name}_total" if m.type == "counter" else m.name
        for m in metrics.REGISTRY.collect()
        if m.name.startswith("swarmrun_")
    }
    assert rows == names | live


def test_the_embedded_engine_tells_what_waits(tmp_path: Any) -> None:
    def asks(ctx: Any, given: Any) -> Any:
        yield ctx.call_activity("nobody", input=given)

    with EmbeddedEngine(tmp_path / "engine.db", synchronous="OFF") as engine:
        client = engine.client()
        client.schedule_new_orchestration("asks", instance_id="i")
        assert engine.outstanding() == {"activity": 0, "orchestration": 1}
