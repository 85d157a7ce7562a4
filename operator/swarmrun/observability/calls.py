"""Calls into a sandbox, traced: the brain's side as it sees it, and the sandbox's side as the sandbox tells it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from opentelemetry.trace import SpanKind

from swarmrun.observability import tracing

_TIMING = re.compile(r"sandboxd;dur=([0-9]{1,9}(?:\.[0-9]{1,6})?)(?:[,;]|$)")


@dataclass
class TracedCall:
    op: str
    headers: dict[str, str] = field(default_factory=dict[str, str])
    """To be sent with the request; empty while nothing is traced."""
    _attributes: dict[str, str] = field(default_factory=dict[str, str])
    _began: int = field(default_factory=time.time_ns)

    def answered(self, server_timing: str) -> None:
        """Writes the sandbox's span from the answer's `Server-Timing`, in the middle of the call: the way there and
        back are taken for equal. A sandbox is not trusted: what does not fit into the call is cut to it."""
        told = _TIMING.match(server_timing)
        if not self.headers or told is None:
            return
        whole = max(0, time.time_ns() - self._began)
        took = min(whole, round(float(told[1]) * 1e6))
        start = self._began + (whole - took) // 2
        tracing.elsewhere(f"sandboxd {self.op}", self._attributes, start_ns=start, seconds=took / 1e9)


@contextmanager
def traced(op: str, sandbox: str) -> Iterator[TracedCall]:
    """Around one request. Nothing is done while nothing is traced."""
    if not tracing.on():
        yield TracedCall(op)
        return
    attributes = {"swarmrun.sandbox": sandbox, "swarmrun.op": op}
    with tracing.span(f"sandbox {op}", attributes, kind=SpanKind.CLIENT) as span:
        parent = tracing.traceparent(span)
        yield TracedCall(op, {"traceparent": parent} if parent else {}, attributes)
