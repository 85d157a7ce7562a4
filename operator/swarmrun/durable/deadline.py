"""No call to an engine over the wire waits for ever: one that swallows packets says neither yes nor no."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

LONGEST = 20.0
"""Seconds, tries again included. The longest one is a list of all runs with their inputs. A choice."""


class _Details(grpc.ClientCallDetails):
    """As given, with a deadline."""

    def __init__(self, given: Any, timeout: float) -> None:
        self.method = given.method
        self.timeout = timeout
        self.metadata = given.metadata
        self.credentials = given.credentials
        self.wait_for_ready = getattr(given, "wait_for_ready", None)
        self.compression = getattr(given, "compression", None)


class Deadline(grpc.UnaryUnaryClientInterceptor):  # pyright: ignore[reportMissingTypeArgument]
    """Gives a deadline to calls that have none; they fail with DEADLINE_EXCEEDED."""

    def __init__(self, seconds: float = LONGEST) -> None:
        self._seconds = seconds

    def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: Any, request: Any
    ) -> Any:
        if client_call_details.timeout is None:
            client_call_details = _Details(client_call_details, self._seconds)
        return continuation(client_call_details, request)
