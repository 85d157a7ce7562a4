"""The chart's part of metrics, logs and traces."""

from __future__ import annotations

from typing import Any

import helm_python
import pytest
from rendering import DTS, SETS, env, files, merged, of_kind, pods, rendered

TEAM = {"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}


def operators(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [d["spec"]["template"] for d in of_kind(documents, "Deployment")]


def scrapers(documents: list[dict[str, Any]]) -> list[Any]:
    """Who may connect to the port of the metrics."""
    (policy,) = [p for p in of_kind(documents, "NetworkPolicy") if p["metadata"]["name"] == "swarmrun"]
    return [
        rule["from"]
        for rule in policy["spec"]["ingress"]
        if {"port": 8081, "protocol": "TCP"} in rule["ports"]
    ]


@pytest.mark.parametrize("name", SETS)
def test_every_pod_shows_its_metrics_and_logs_json(name: str) -> None:
    for pod in operators(rendered(SETS[name])):
        (container,) = pod["spec"]["containers"]
        assert {"name": "metrics", "containerPort": 8081} in container["ports"]
        told = env(pod)
        assert (told["SWARMRUN_METRICS_PORT"], told["SWARMRUN_LOG_FORMAT"]) == ("8081", "json")
        assert not [n for n in told if n.startswith("OTEL_")]


def test_nobody_may_ask_for_metrics_unless_named() -> None:
    assert scrapers(rendered()) == []
    assert scrapers(rendered({"metrics": {"from": [TEAM]}})) == [[TEAM]]
    off = rendered({"metrics": {"from": [TEAM], "enabled": False}})
    assert scrapers(off) == []
    (pod,) = operators(off)
    assert "metrics" not in [p["name"] for p in pod["spec"]["containers"][0]["ports"]]
    assert env(pod)["SWARMRUN_METRICS_PORT"] == "0"


def test_a_pod_monitor_scrapes_a_port_that_prometheus_reaches() -> None:
    documents = rendered({"podMonitor": {"enabled": True}, "metrics": {"from": [TEAM]}})
    (monitor,) = of_kind(documents, "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in [
        p["name"] for p in pods(documents)["swarmrun"]["spec"]["containers"][0]["ports"]
    ]
    assert scrapers(documents) == [[TEAM]]
    # Where Prometheus is, the chart cannot know.
    assert scrapers(rendered({"podMonitor": {"enabled": True}})) == [[{"namespaceSelector": {}}]]
    with pytest.raises(helm_python.HelmError, match=r"metrics\.enabled"):
        files({"podMonitor": {"enabled": True}, "metrics": {"enabled": False}})


def test_traces_go_where_the_values_say_with_headers_from_a_secret() -> None:
    tracing = {"endpoint": "http://collector.monitoring:4318", "headersSecret": "otlp"}
    for pod in operators(rendered(merged(DTS, {"tracing": tracing}))):
        told = {e["name"]: e for e in pod["spec"]["containers"][0]["env"]}
        assert told["OTEL_EXPORTER_OTLP_ENDPOINT"]["value"] == "http://collector.monitoring:4318"
        secret = told["OTEL_EXPORTER_OTLP_HEADERS"]["valueFrom"]["secretKeyRef"]
        assert secret == {"name": "otlp", "key": "headers"}


@pytest.mark.parametrize(
    ("values", "words"),
    [({"logFormat": "xml"}, "logFormat"), ({"tracing": {"endpoint": "collector:4318"}}, "tracing.endpoint")],
)
def test_what_cannot_work_is_refused_by_name(values: dict[str, Any], words: str) -> None:
    with pytest.raises(helm_python.HelmError) as refused:
        files(values)
    assert words in str(refused.value).replace("/", ".")
