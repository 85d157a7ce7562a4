"""`/metrics` of one process, in a thread of its own: it answers while everything else is busy."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import start_http_server

from swarmrun.errors import Conflict
from swarmrun.observability.metrics import REGISTRY


def serve(port: int, address: str = "0.0.0.0") -> Callable[[], None]:
    """Returns what ends it. Port 0: not at all. Raises Conflict where the port is taken."""
    if not port:
        return lambda: None
    try:
        server, thread = start_http_server(port, address, REGISTRY)
    except OSError as exc:
        raise Conflict(
            f"port {port} for metrics cannot be had: {exc.strerror}",
            mend="set SWARMRUN_METRICS_PORT to another, or to 0 for none",
        ) from exc

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return end
