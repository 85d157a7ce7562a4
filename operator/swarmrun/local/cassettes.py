"""`cassette:FILE` endpoints of a run, served over real HTTP for as long as it works."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def served(endpoints: Sequence[str], log: Path) -> Iterator[dict[str, str]]:
    """`cassette:/path` → base URL on loopback. `log` counts requests across processes: a fault that was
    due once does not come again after a resume."""
    if not endpoints:
        yield {}
        return
    from swarmrun.cassette.server import CassetteServer

    def _server(endpoint: str, log: Path) -> CassetteServer:
        return CassetteServer(endpoint.removeprefix("cassette:"), log=log)

    with ExitStack() as stack:
        yield {e: stack.enter_context(_server(e, log)).url for e in endpoints}
