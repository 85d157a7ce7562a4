"""The read interface over HTTP. Only GET, only what belongs to the one run that a path names.

| path below `/v1/namespaces/<namespace>/swarmruns/<name>` | gives |
| --- | --- |
| `/transcript?task=&attempt=&after=&wait=` | JSON: `entries` (see `transcript.py`), `more`, `ended`, `kept` |
| `/diff?task=&stat=` | text: a patch, or its summary |
| `/artifacts/<key>` | a stored artifact of the kinds in `ARTIFACTS`, as it is |

`run=<n>` names an earlier attempt of the run. Without it the turns of a task that a rerun kept are those of the attempt
that did it, and `kept` is its number. `after` is `<time> <id>` of the last entry that is known, `wait` seconds
(at most `LONGEST_WAIT`) until there is one beyond it. An error is JSON: `{"error": {"reason", "message", "mend"}}`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from aiohttp import web

from swarmrun.agents.log import kept_and_gone
from swarmrun.api.reading import SERVED, TOKEN, VERSION, label
from swarmrun.controller.reading import transcript
from swarmrun.controller.reading.access import Gate
from swarmrun.controller.reading.diffs import Diffs
from swarmrun.controller.reading.runs import ReadRun, ReadRuns
from swarmrun.errors import (
    Conflict,
    InvalidResource,
    NotFound,
    PermissionDenied,
    SwarmRunError,
    TransientError,
)
from swarmrun.kube.api import KubeApi

ARTIFACTS = re.compile(
    r"(plans|gates|evidence|summaries|setup|merges)/.+|report\.json|first-plan\.json|prefix\.md"
    r"|turns/.+/(opening|reply|answer|call-\d+|finish-[^/]+)\.json"
)
"""Keys that are given out. Not: bundles (`diff` reads them), the snapshot (it holds the class), what tools keep."""
LARGEST = 16 * 1024**2
"""Bytes of one artifact (arbitrary)."""
LONGEST_WAIT = 30.0
LOOK_SECONDS = 1.0
"""Between two looks at the store while somebody waits. A choice."""
THREADS = 4
"""Reads of store and git at once; whoever comes then waits. A choice."""

log = logging.getLogger("swarmrun.reading")

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ReadServer:
    """On one event loop. `artifacts` is the store's URL, `place` a directory for repositories."""

    def __init__(self, api: KubeApi, artifacts: str, place: Path) -> None:
        self._gate = Gate(api)
        self._runs = ReadRuns(api, artifacts)
        self._diffs = Diffs(place)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="read")
        self._runner: web.AppRunner | None = None

    async def start(self, port: int, host: str = "") -> int:
        """Listens (all addresses by default) and returns the port. Raises InvalidResource where it is taken."""
        app = web.Application(middlewares=[_answered])
        run = f"/v{VERSION}/namespaces/{{namespace}}/swarmruns/{{name}}"
        app.router.add_get(f"{run}/transcript", self._transcript)
        app.router.add_get(f"{run}/diff", self._diff)
        app.router.add_get(f"{run}/artifacts/{{key:.+}}", self._artifact)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host or None, port)
        try:
            await site.start()
        except OSError as exc:
            await self.close()
            raise InvalidResource(
                f"the read interface cannot listen on port {port}: {exc.strerror or exc}",
                mend="set SWARMRUN_READ_PORT to another, or to 0 to do without",
            ) from exc
        return self._runner.addresses[0][1]

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        self._threads.shutdown(wait=False, cancel_futures=True)

    # ------------------------------------------------------------ what is given

    async def _transcript(self, request: web.Request) -> web.Response:
        run, asked = await self._opened(request), request.query
        task, attempt = asked.get("task", ""), _number(asked, "attempt")
        after = _place(asked.get("after", ""))
        ends = time.monotonic() + min(LONGEST_WAIT, _number(asked, "wait") or 0)
        kept = 0
        if task and "run" not in asked:
            run, kept = await self._blocking(lambda: self._worked_in(run, task))
        while True:
            places = await self._blocking(
                lambda: transcript.entries(run.store, task=task, attempt=attempt, after=after)
            )
            if places or run.status.phase.terminal or time.monotonic() >= ends:
                break
            await asyncio.sleep(LOOK_SECONDS)
        now, more = places[: transcript.MOST], len(places) > transcript.MOST
        found = await self._blocking(lambda: list(transcript.shown(run.store, now)))
        said = {"entries": found, "more": more, "ended": run.status.phase.terminal}
        return web.json_response(said | ({"kept": kept} if kept else {}))

    async def _diff(self, request: web.Request) -> web.Response:
        run, asked = await self._opened(request), request.query
        stat = asked.get("stat", "") in ("1", "true")
        return web.Response(
            text=await self._blocking(lambda: self._diffs.diff(run, asked.get("task", ""), stat=stat))
        )

    async def _artifact(self, request: web.Request) -> web.Response:
        key = request.match_info["key"]
        if any(part in ("", ".", "..") for part in key.split("/")):
            raise InvalidResource(f"{key[:200]!r} is no key of an artifact")
        run = await self._opened(request)
        if not ARTIFACTS.fullmatch(key):
            raise NotFound(f"no artifact {key[:200]!r} is given out")
        data = await self._blocking(lambda: run.store.get(key))
        if len(data) > LARGEST:
            raise InvalidResource(f"artifact {key} has {len(data)} bytes, {LARGEST} are given out")
        return web.Response(body=data, content_type="application/octet-stream")

    # ------------------------------------------------------------

    async def _opened(self, request: web.Request) -> ReadRun:
        """The run that is named; who may not see it learns nothing of it."""
        namespace, name = label(request.match_info["namespace"]), label(request.match_info["name"])
        who = await self._gate.check(request.headers.get(TOKEN, ""), namespace, name)
        if who:
            log.info("%s reads %s/%s", who, namespace, name)
        return await self._runs.find(namespace, name, _number(request.query, "run"))

    def _worked_in(self, run: ReadRun, task: str) -> tuple[ReadRun, int]:
        """The attempt that did the task, and its number where that is an earlier one. Raises NotFound when its
        turns are gone."""
        agent = next((a for a in run.status.agents if a.task == task), None)
        first = run.instance.endswith("-1")
        if first or agent is None or not agent.turns or transcript.entries(run.store, task=task):
            return run, 0
        for earlier in self._runs.earlier(run):
            if transcript.entries(earlier.store, task=task):
                return earlier, int(earlier.instance.rpartition("-")[2])
        raise kept_and_gone(run.name, task)

    async def _blocking(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _number(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name, "")
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise InvalidResource(f"{name} is {text[:80]!r}, which is no number", field=name)
    return int(text)


def _place(text: str) -> transcript.Place:
    when, _, key = text.partition(" ")
    try:
        place = (float(when or 0), key)
    except ValueError:
        place = (math.nan, "")
    if not math.isfinite(place[0]):
        raise InvalidResource(f"after is {text[:80]!r}, which is no place in a transcript", field="after")
    return place


_STATUS: tuple[tuple[type[SwarmRunError], int], ...] = (
    (InvalidResource, 400),
    (PermissionDenied, 403),
    (NotFound, 404),
    (Conflict, 409),
    (TransientError, 503),
)


@web.middleware
async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every answer says that it is ours; errors are told as the command line tells them."""
    try:
        answer = await handler(request)
    except SwarmRunError as exc:
        status = next((code for kind, code in _STATUS if isinstance(exc, kind)), 500)
        status = 401 if exc.reason == "Unauthenticated" else status
        error = {"reason": exc.reason, "message": exc.message, "mend": exc.mend}
        answer = web.json_response({"error": error}, status=status)
    except web.HTTPException as exc:
        error = {
            "reason": type(exc).__name__.removeprefix("HTTP"),
            "message": f"{request.method}: {exc.reason}",
        }
        answer = web.json_response({"error": error}, status=exc.status)
    answer.headers[SERVED] = VERSION
    # Text of agents: a browser must take none of it for a page.
    answer.headers["X-Content-Type-Options"] = "nosniff"
    return answer
