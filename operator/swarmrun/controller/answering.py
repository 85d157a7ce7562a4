"""Whether the engine answers, and what its silence is told as. Found by whoever asks it; while it does not answer
it is asked by one only, so that however many runs there are, each is told within seconds.

```
a look fails ──► silent ──► every resource is woken and told ──► asked now and then ──► answers ──► all are woken
```
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import grpc

from swarmrun.controller.settings import OperatorSettings
from swarmrun.durable.channel import LocalError
from swarmrun.errors import EngineUnreachable, SwarmRunError

AGAIN_SECONDS = 5.0
"""Between two questions to one that is silent. A choice."""
SETTLES_SECONDS = 0.5
"""From being found silent to the next question. A choice."""
BEGINS_SECONDS = 5.0
"""That its first answer may take before the resources are told of it. A choice: less than a person wonders."""

SILENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
"""Codes that say nothing of the call that met them: every other one would meet them, too."""

log = logging.getLogger("swarmrun.operator")


class Answering:
    """One thread at a time changes it, any reads it. `place` names the engine, `mend` what to look at."""

    def __init__(self, place: str = "the durable engine", mend: str = "") -> None:
        self.place, self._mend = place, mend
        self.silence: EngineUnreachable | None = None
        """None while it answers."""
        self._all_know: EngineUnreachable | None = None
        """What everybody was woken for."""
        self._first: asyncio.Task[bool] | None = None
        self._news = asyncio.Event()
        """Something is to be told of."""
        self._loop: asyncio.AbstractEventLoop | None = None
        """Of `begin` and `keep`."""

    @staticmethod
    def of(settings: OperatorSettings) -> Answering:
        if settings.engine == "embedded":
            return Answering(
                f"the durable engine in {settings.identity} (embedded)", "see the log of the operator's Pod"
            )
        return Answering(
            f"the durable engine {settings.dts_endpoint}, task hub {settings.dts_taskhub},",
            "check engine.dts of the chart, the identity's role on the task hub and the scheduler's IP allow list; "
            "nothing is lost, and runs go on by themselves",
        )

    def check(self) -> None:
        """Raises EngineUnreachable while it is known not to answer."""
        if self.silence is not None:
            raise self.silence

    def failed(self, exc: grpc.RpcError) -> EngineUnreachable:
        """What a call met, as it is told. Where it is met by every call, nobody else asks meanwhile."""
        code = exc.code() if isinstance(exc, (grpc.Call, LocalError)) else None
        told = self._told(code.name if code else type(exc).__name__)
        if code in SILENT:
            self._silent(told)
        return told

    async def begin(self, ask: Callable[[], Any]) -> None:
        """Asks it for the first time: returns when it has answered, or when the resources should be told."""
        self._loop = asyncio.get_running_loop()
        self._first = asyncio.create_task(self._asked(ask))
        done, _ = await asyncio.wait([self._first], timeout=BEGINS_SECONDS)
        if not done:
            self._silent(self._told(f"no answer for {BEGINS_SECONDS:g} s"))
        self._all_know = self.silence

    async def keep(self, ask: Callable[[], Any], wake: Callable[[], None]) -> None:
        """For ever, after `begin`: asks it now and then, and wakes everybody when it falls silent or answers again.
        `ask` blocks."""
        assert self._first is not None
        answers = await self._first
        while True:
            if answers:
                self.silence = None
            self._tell(wake)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), AGAIN_SECONDS)
            self._tell(wake)
            if self.silence is not None:
                # It may answer this question and no other: all would be woken for each in turn.
                await asyncio.sleep(SETTLES_SECONDS)
            answers = await self._asked(ask)

    # ------------------------------------------------------------

    async def _asked(self, ask: Callable[[], Any]) -> bool:
        try:
            await asyncio.to_thread(ask)
        except grpc.RpcError as exc:
            self._silent(self.failed(exc))
        except SwarmRunError as exc:
            self._silent(self._told(exc.message))
        except Exception as exc:  # whatever a credential raises  # noqa: BLE001
            self._silent(self._told(f"{type(exc).__name__}: {str(exc).strip()[:200]}"))
        else:
            return True
        return False

    def _told(self, why: str) -> EngineUnreachable:
        return EngineUnreachable(f"{self.place} does not answer: {why}", mend=self._mend)

    def _silent(self, told: EngineUnreachable) -> None:
        if self.silence is None:
            log.warning("%s", told)
        if str(self.silence) != str(told):
            self.silence = told
        if self._loop is not None and not self._loop.is_closed() and not self._is_known():
            self._loop.call_soon_threadsafe(self._news.set)

    def _is_known(self) -> bool:
        return (self.silence is None) == (self._all_know is None)

    def _tell(self, wake: Callable[[], None]) -> None:
        self._news.clear()
        if not self._is_known():
            if self.silence is None:
                log.info("%s answers again", self.place)
            self._all_know = self.silence
            wake()
