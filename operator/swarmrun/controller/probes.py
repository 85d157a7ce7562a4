"""What the controller answers to the kubelet, from the moment it begins.

| path | |
| --- | --- |
| `/healthz` | fails where a restart may help: the watch is deaf, or nothing was compared for long |
| `/readyz` | fails while it does not work on resources: no lease, no watch yet, no engine; no restart would help |

Both tell more as JSON (`/healthz`) or in words (`/readyz`).
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from aiohttp import web

from swarmrun.controller import volume
from swarmrun.controller.answering import Answering
from swarmrun.controller.settings import OperatorSettings
from swarmrun.controller.sweep import Sweep


class Probes:
    """On the controller's event loop."""

    def __init__(self, settings: OperatorSettings, answering: Answering) -> None:
        self._settings = settings
        self._answering = answering
        self.leads = not settings.lease
        """Another controller may hold the lease."""
        self.watches = asyncio.Event()
        self.sweep: Sweep | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/readyz", self._ready)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        await web.TCPSite(self._runner, "0.0.0.0", self._settings.probe_port).start()

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    # ------------------------------------------------------------

    def waits_for(self) -> str:
        """Why it does not work on resources; empty when it does."""
        if not self.leads:
            return f"another controller holds the lease {self._settings.lease}"
        if self._answering.silence is not None:
            return str(self._answering.silence)
        return "" if self.watches.is_set() else "it begins to watch"

    def ails(self) -> str:
        """What a restart may mend; empty when nothing is known of."""
        if self.sweep is None:
            return ""
        if self.sweep.deaf:
            return self.sweep.deaf
        age = round(time.monotonic() - self.sweep.heard_at)
        # Of no use: the API server does not answer it, or it hangs.
        return f"no sweep has ended well for {age} s" if age > self._settings.stale else ""

    async def _health(self, _: web.Request) -> web.Response:
        ails, sweep = self.ails(), self.sweep
        said: dict[str, Any] = {
            "watch": ails or "hears",
            "sweep": round(time.monotonic() - sweep.done_at) if sweep else 0,
            "compared": round(time.monotonic() - sweep.heard_at) if sweep else 0,
            "volume": await asyncio.to_thread(volume.look, self._settings.state),
            "waits": self.waits_for(),
        }
        return web.json_response(said, status=500 if ails else 200)

    async def _ready(self, _: web.Request) -> web.Response:
        waits = self.waits_for()
        return web.Response(text=f"{waits or 'ready'}\n", status=503 if waits else 200)
