"""Ids, switches, and a sandbox that tells nonsense."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from swarmrun.api.status import AgentStatus, Phase
from swarmrun.controller.traced import run_ended
from swarmrun.errors import SandboxLost
from swarmrun.observability import calls, ids, tracing
from swarmrun.report import AgentRecord, RunReport


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    it = InMemorySpanExporter()
    tracing.export_to(SimpleSpanProcessor(it), instance="test")
    yield it
    tracing.shut_down()


def test_ids_are_the_same_everywhere_and_differ_between_runs() -> None:
    program = "from swarmrun.observability import ids; print(ids.trace_id('r-1'), ids.span_id('r-1'))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(ids.trace_id("r-1")), str(ids.span_id("r-1"))]
    found = {ids.span_id("r-1"), ids.span_id("r-2"), ids.span_id("r-1", "agent:a"), ids.span_id("r-1", "x")}
    assert len(found) == 4
    assert ids.trace_id("r-1") < 1 << 128
    assert ids.span_id("r-1") < 1 << 64


def test_nothing_is_traced_without_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tracing.ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    tracing.set_up(instance="x")
    assert not tracing.on()
    with tracing.span("x", {}, context=tracing.within("r")) as span:
        assert tracing.traceparent(span) == ""
    with calls.traced("exec", "s") as call:
        assert call.headers == {}
        call.answered("sandboxd;dur=1")


def test_an_endpoint_may_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    tracing.set_up(instance="x")
    assert not tracing.on()


def test_an_end_that_is_seen_twice_gives_the_same_spans(exporter: InMemorySpanExporter) -> None:
    start, end = datetime(2030, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, 1, tzinfo=UTC)
    report = RunReport(
        run="r-1",
        name="shop",
        started_at=start,
        finished_at=end,
        phase=Phase.FAILED,
        reason="BudgetExceeded",
        agents=[AgentRecord(status=AgentStatus(task="a"), started_at=start)],
    )
    run_ended(report)
    run_ended(report)
    spans = exporter.get_finished_spans()
    assert len({(s.context.trace_id, s.context.span_id, s.start_time, s.end_time) for s in spans}) == 2
    agent, root = spans[:2]
    assert agent.parent is not None
    assert agent.parent.span_id == root.context.span_id == ids.span_id("r-1")
    assert root.parent is None
    assert root.attributes is not None
    assert root.attributes["error.type"] == "BudgetExceeded"


def test_a_run_that_never_began_has_no_span(exporter: InMemorySpanExporter) -> None:
    run_ended(RunReport(run="r-1", name="shop", phase=Phase.FAILED, reason="InvalidResource"))
    assert not exporter.get_finished_spans()


def test_an_error_s_message_is_not_told(exporter: InMemorySpanExporter) -> None:
    with pytest.raises(SandboxLost), tracing.span("x", {}, context=tracing.within("r-1")):
        raise SandboxLost("the tool said: hunter2", reason="OOMKilled")
    (span,) = exporter.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["error.type"] == "OOMKilled"
    assert "hunter2" not in span.to_json()


@pytest.mark.parametrize(
    "said", ["", "sandboxd", "sandboxd;dur=-1", "sandboxd;dur=1e9", "sandboxd;dur=" + "9" * 400, "x;dur=1"]
)
def test_a_sandbox_that_tells_nonsense_gets_no_span(exporter: InMemorySpanExporter, said: str) -> None:
    with calls.traced("exec", "s") as call:
        call.answered(said)
    assert [s.name for s in exporter.get_finished_spans()] == ["sandbox exec"]


def test_a_sandbox_that_exaggerates_is_cut_to_the_call(exporter: InMemorySpanExporter) -> None:
    with calls.traced("exec", "s") as call:
        call.answered("sandboxd;dur=999999999")
    inner, outer = exporter.get_finished_spans()
    assert inner.start_time is not None
    assert inner.end_time is not None
    assert outer.start_time is not None
    assert outer.end_time is not None
    assert outer.start_time <= inner.start_time <= inner.end_time <= outer.end_time


def test_a_run_that_is_not_sampled_is_not_sampled_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The root is written last, and decides first."""
    exporter = InMemorySpanExporter()
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    tracing.export_to(SimpleSpanProcessor(exporter), instance="test")
    bound = TraceIdRatioBased.get_bound_for_rate(0.5)
    now = datetime.now(UTC)
    for number in range(20):
        run = f"r-{number}"
        exporter.clear()
        with tracing.span("step", {}, context=tracing.within(run)), calls.traced("exec", "s") as call:
            call.answered("sandboxd;dur=0.001")
        run_ended(RunReport(run=run, name="x", started_at=now, finished_at=now))
        kept = ids.trace_id(run) & TraceIdRatioBased.TRACE_ID_LIMIT < bound
        assert len(exporter.get_finished_spans()) == (4 if kept else 0)
    tracing.shut_down()
