"""From activities, which are plain functions on worker threads, to coroutines on one shared event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from swarmrun.errors import TransientError

T = TypeVar("T")


class Bridge:
    """One event loop in a daemon thread. Clients and sandboxes bound to it are shared by all activities."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="swarmrun-loop", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Waits for the coroutine's result or raises what it raised.

        A cancelled one raises TransientError: the cancellation's own exceptions have no message, which an
        engine takes for success, or pass every `except Exception`, which leaves the activity stuck.
        """
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("Bridge.run called on its own loop: await the coroutine instead")
        name = getattr(coroutine, "__qualname__", "a coroutine")
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError as exc:  # the loop is closed
            coroutine.close()
            raise TransientError(f"{name} was not started: the event loop has ended") from exc
        try:
            return future.result()
        except (asyncio.CancelledError, concurrent.futures.CancelledError) as exc:
            raise TransientError(f"{name} was cancelled") from exc

    def close(self) -> None:
        """Cancels what still runs and ends the loop."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._cancel_all(), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    async def _cancel_all(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        # One that refuses to end must not keep the process.
        if tasks:
            await asyncio.wait(tasks, timeout=5)
        await asyncio.get_running_loop().shutdown_asyncgens()
