"""Agents' turns of one run, printed from two sources: Pods' logs, and the operator's read interface."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

from swarmrun.agents.log import kept_from, task_of
from swarmrun.api.printable import printable
from swarmrun.api.status import AgentPhase, SwarmRunStatus
from swarmrun.cli.kubectl.cluster import Cluster, explained
from swarmrun.cli.kubectl.pods import INTEGRATION, RunPod, of_task, run_pods
from swarmrun.cli.kubectl.reader import WAIT
from swarmrun.errors import InvalidResource, NotFound, PermissionDenied, RemoteUnavailable, SwarmRunError
from swarmrun.git.spans import known_task

LOOK_SECONDS = 1.0
"""Between two looks at the run's Pods. A choice."""
OVERLAP = 2.0
"""Seconds that are asked for again: a store counts whole seconds, and two of one second have no order."""
CONTAINER = "sandbox"
_OVER = (AgentPhase.MERGED, AgentPhase.PARKED, AgentPhase.FAILED, AgentPhase.SKIPPED, AgentPhase.CANCELLED)


class Telling:
    """`task` empty: all agents, each line with its task before it."""

    def __init__(self, cluster: Cluster, run: str, task: str) -> None:
        self._cluster, self._run, self._task = cluster, run, task
        self._told: set[str] = set()
        """Ids of stored entries that were printed."""
        self._after = ""

    async def once(self, *, stored: bool) -> None:
        """Raises what keeps all of it from being read; what keeps a part is a note."""
        status = await self._status()
        speaking = [] if stored else [pod for pod in await self._noted_pods(status) if pod.speaks]
        for pod in speaking:
            await self._read(pod, follow=False)
        await self._rest(status, speaking, needed=not speaking)

    async def follow(self, *, stored: bool) -> None:
        status = await self._status()
        if not stored:
            pods, why = await self._pods(status)
            if why is None:
                return await self._follow_pods(status, pods)
            _note(f"{_explained(why)}; following what the operator stores")
        return await self._follow_stored()

    async def _rest(self, status: SwarmRunStatus, speaking: list[RunPod], *, needed: bool) -> None:
        """What was stored of agents that have worked and whose sandboxes are not among `speaking`."""
        read = {a.task for a in status.agents if of_task(speaking, a.task, status)}
        worked = [a for a in status.agents if a.turns and (not self._task or a.task == self._task)]
        if not needed and all(a.task in read for a in worked):
            return
        try:
            async for entry in self._entries():
                if entry["task"] not in read:
                    self._entry(entry)
        except SwarmRunError as exc:
            if needed:
                raise
            _note(f"agents whose Pods are gone are left out: {_explained(exc)}")

    # ------------------------------------------------------------ Pods

    async def _follow_pods(self, status: SwarmRunStatus, pods: list[RunPod]) -> None:
        """Each Pod's log as it grows, of new Pods too, until run or task has ended."""
        streams: dict[str, asyncio.Task[None]] = {}
        seen: dict[str, RunPod] = {}
        await self._rest(status, [pod for pod in pods if pod.speaks], needed=self._ended(status))
        try:
            while True:
                for pod in pods:
                    if pod.speaks and pod.name not in streams:
                        seen[pod.name] = pod
                        streams[pod.name] = asyncio.create_task(self._read(pod, follow=True))
                if self._ended(status):
                    break
                await asyncio.sleep(LOOK_SECONDS)
                status = await self._status()
                pods = await self._noted_pods(status)
            await asyncio.gather(*streams.values())
            # Of a Pod that came and went between two looks.
            await self._rest(status, list(seen.values()), needed=False)
        finally:
            for stream in streams.values():
                stream.cancel()

    async def _read(self, pod: RunPod, *, follow: bool) -> None:
        """One Pod's log. In the integration sandbox several agents work after each other."""
        path = f"/api/v1/namespaces/{self._cluster.namespace}/pods/{pod.name}/log"
        query = {"container": CONTAINER} | ({"follow": "true"} if follow else {})
        now = pod.task
        try:
            async for line in self._cluster.api.lines(path, **query):
                if pod.task == INTEGRATION:
                    now = task_of(line) or now
                if not self._task or now == self._task:
                    self._print(now, line)
        except (NotFound, InvalidResource):
            return  # it has gone, or its container has not begun, since it was listed
        except RemoteUnavailable as exc:
            _note(f"the log of Pod {pod.name} breaks off: {exc}")

    async def _pods(self, status: SwarmRunStatus) -> tuple[list[RunPod], SwarmRunError | None]:
        """Sandboxes in question, or why they cannot be seen."""
        try:
            pods = await run_pods(self._cluster.api, self._cluster.namespace, status)
            pods = [pod for pod in pods if pod.task]
            if pods:
                await self._may_read(pods[0])
        except (PermissionDenied, RemoteUnavailable) as exc:
            return [], exc
        return (of_task(pods, self._task, status) if self._task else pods), None

    async def _noted_pods(self, status: SwarmRunStatus) -> list[RunPod]:
        pods, why = await self._pods(status)
        if why is not None:
            _note(f"Pods cannot be read: {_explained(why)}")
        return pods

    async def _may_read(self, pod: RunPod) -> None:
        """Raises PermissionDenied: Pods may be listed, and their logs not."""
        path = f"/api/v1/namespaces/{self._cluster.namespace}/pods/{pod.name}/log"
        answer = await self._cluster.api.read(path, container=CONTAINER, limitBytes="1")
        if answer.status == 403:
            from swarmrun.kube.api import refusal

            raise refusal(403, answer.body.decode("utf-8", "replace"), f"GET {path}")

    # ------------------------------------------------------------ what was stored

    async def _entries(self) -> AsyncIterator[dict[str, Any]]:
        """New ones, page by page."""
        while True:
            page = await self._cluster.reader.transcript(self._run, task=self._task, after=self._after)
            if (kept := page.get("kept", 0)) and not self._told:
                _note(kept_from(self._task, kept))
            for entry in page["entries"]:
                self._after = f"{entry['time']} {entry['id']}"
                yield entry
            if not page["more"]:
                return

    async def _follow_stored(self) -> None:
        async for entry in self._entries():
            self._entry(entry)
        while True:
            # First wait for something beyond, then look a little back: see OVERLAP.
            page = await self._cluster.reader.transcript(
                self._run, task=self._task, after=self._after, wait=WAIT
            )
            when, _, key = self._after.partition(" ")
            self._after = f"{max(0.0, float(when or 0) - OVERLAP)} " if key else self._after
            async for entry in self._entries():
                self._entry(entry)
            if page["ended"] and not page["entries"]:
                return

    def _entry(self, entry: dict[str, Any]) -> None:
        if entry["id"] not in self._told:
            self._told.add(entry["id"])
            for line in entry["lines"]:
                self._print(entry["task"], line)

    # ------------------------------------------------------------

    async def _status(self) -> SwarmRunStatus:
        status = (await self._cluster.run(self._run)).status or SwarmRunStatus()
        if self._task:
            known_task(status, self._task, self._run)
        return status

    def _ended(self, status: SwarmRunStatus) -> bool:
        agent = next((a for a in status.agents if a.task == self._task), None)
        return status.phase.terminal or (agent is not None and agent.phase in _OVER)

    def _print(self, task: str, line: str) -> None:
        before = "" if self._task else f"[{task}] "
        print(before + printable(line), flush=True)


def _explained(exc: SwarmRunError) -> SwarmRunError:
    return explained(exc) if isinstance(exc, PermissionDenied) else exc


def _note(text: str) -> None:
    print(f"note: {printable(text)}", file=sys.stderr, flush=True)
