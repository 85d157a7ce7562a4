"""Spans by OpenTelemetry, off until `set_up` finds an endpoint; then sent by OTLP over HTTP.

One run is one trace, whoever works on it. Its id comes from the run's instance id (`ids`), so do the ids of the
spans whose end another process sees than their begin: the run's own, and one for each task. Nothing here raises
into the work that is traced, and no span holds contents: no prompt, no arguments, no output, no error's message.

The providers are our own, not OpenTelemetry's global ones: a library that traces into those stays out.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
)

from swarmrun.errors import InvalidResource, SwarmRunError
from swarmrun.observability import ids

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

Attributes = Mapping[str, str | int | float | bool]

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
SCOPE = "swarmrun"
BRAIN, SANDBOX = "swarmrun-operator", "swarmrun-sandbox"
"""Services: what is done inside a sandbox is told by it and written here, as its own."""


@dataclass(frozen=True)
class _Providers:
    brain: TracerProvider
    sandbox: TracerProvider


_providers: _Providers | None = None
_off = trace.NoOpTracer()
_given: ContextVar[tuple[int, int] | None] = ContextVar("swarmrun_span_ids", default=None)
"""Trace and span id of the one span that is made next."""


def set_up(*, instance: str) -> None:
    """Where the environment names an endpoint. `instance` tells the processes of one service apart.

    The environment is the process's: the exporter reads its other variables itself. Raises InvalidResource
    `MissingExtra` where the libraries are not installed.
    """
    env = os.environ
    if not any(env.get(name) for name in ENDPOINTS) or env.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    if importlib.util.find_spec("opentelemetry.sdk") is None:
        raise InvalidResource(
            f"{ENDPOINTS[0]} is set, but OpenTelemetry's SDK is not installed",
            mend="pip install 'swarmrun[telemetry]'",
            reason="MissingExtra",
        )
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    # Endpoint, headers, certificates, compression and time-outs are in OTEL_EXPORTER_OTLP_*.
    service = env.get("OTEL_SERVICE_NAME") or BRAIN
    export_to(BatchSpanProcessor(OTLPSpanExporter()), instance=instance, service=service)


def export_to(processor: SpanProcessor, *, instance: str, service: str = BRAIN) -> None:
    """Begins to trace into a processor."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            given = _given.get()
            return given[0] if given else super().generate_trace_id()

        def generate_span_id(self) -> int:
            given = _given.get()
            return given[1] if given else super().generate_span_id()

    def provider(service: str) -> TracerProvider:
        # Over what the environment says (OTEL_RESOURCE_ATTRIBUTES).
        resource = Resource.create(
            {
                "service.name": service,
                "service.version": version("swarmrun"),
                "service.instance.id": instance,
            }
        )
        made = TracerProvider(resource=resource, id_generator=Ids(), shutdown_on_exit=False)
        made.add_span_processor(processor)
        return made

    global _providers
    _providers = _Providers(provider(service), provider(SANDBOX))


def shut_down() -> None:
    """Sends what is left."""
    global _providers
    if _providers is not None:
        _providers.brain.shutdown()
        _providers = None


def on() -> bool:
    return _providers is not None


def _tracer(service: str = BRAIN) -> Tracer:
    if _providers is None:
        return _off
    return (_providers.brain if service == BRAIN else _providers.sandbox).get_tracer(SCOPE)


# ---------------------------------------------------------------- spans


def agent(task: str) -> str:
    """The `what` of the span of everything that agents did for a task (or as `plan`, `fix-1`, …)."""
    return f"agent:{task}"


def within(run: str, what: str = "") -> Context:
    """The place of a span that belongs to the run, or to `what` in it."""
    if _providers is None:
        return Context()
    parent = SpanContext(
        ids.trace_id(run), ids.span_id(run, what), is_remote=True, trace_flags=TraceFlags(_sampled(run))
    )
    return trace.set_span_in_context(NonRecordingSpan(parent), Context())


def _sampled(run: str) -> int:
    """As the sampler decides for the run's own span, which is written last: it decides by the trace's id."""
    assert _providers is not None
    decided = _providers.brain.sampler.should_sample(None, ids.trace_id(run), "run").decision
    return TraceFlags.SAMPLED if decided.is_sampled() else TraceFlags.DEFAULT


@contextmanager
def span(
    name: str,
    attributes: Attributes,
    *,
    context: Context | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
) -> Iterator[Span]:
    """A span of what is done inside of it; by default below the one at work. An exception marks it as failed."""
    with _tracer().start_as_current_span(
        name,
        context,
        kind,
        attributes,
        # Messages may quote what must not leave: the kind of error is enough.
        record_exception=False,
        set_status_on_exception=False,
    ) as it:
        try:
            yield it
        except BaseException as exc:
            failed(it, exc.reason if isinstance(exc, SwarmRunError) else type(exc).__name__)
            raise


def failed(it: Span, reason: str) -> None:
    it.set_attribute("error.type", reason)
    it.set_status(Status(StatusCode.ERROR, reason))


def ended(
    name: str,
    run: str,
    what: str = "",
    *,
    start: datetime,
    end: datetime,
    attributes: Attributes,
    error: str = "",
) -> None:
    """Writes the run's own span, or the one for `what` in it, whose id is derived: written twice, it is the same."""
    token = _given.set((ids.trace_id(run), ids.span_id(run, what)))
    try:
        it = _tracer().start_span(
            name, within(run) if what else Context(), attributes=attributes, start_time=_nanoseconds(start)
        )
    finally:
        _given.reset(token)
    if error:
        failed(it, error)
    it.end(_nanoseconds(end))


def elsewhere(name: str, attributes: Attributes, *, start_ns: int, seconds: float) -> None:
    """A sandbox's part of the call at work, as it was told."""
    it = _tracer(SANDBOX).start_span(name, None, SpanKind.SERVER, attributes, start_time=start_ns)
    it.end(start_ns + round(seconds * 1e9))


def traceparent(it: Span) -> str:
    """The header of W3C Trace Context; empty while nothing is traced."""
    context = it.get_span_context()
    if not context.is_valid:
        return ""
    flags = context.trace_flags & TraceFlags.SAMPLED
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags:02x}"


def _nanoseconds(time: datetime) -> int:
    return round(time.timestamp() * 1e9)
