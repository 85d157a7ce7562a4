"""Now and then everything is looked at again: runs whose resource has gone, or has ended, are ended, and a deaf watch
is noticed.

There is no finalizer: an operator that is not there must not keep a resource or a namespace from going.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import grpc
from durabletask.client import OrchestrationQuery

from swarmrun.api.status import Phase
from swarmrun.controller.attend import Attendants
from swarmrun.controller.kube import Kube
from swarmrun.controller.left_pods import LeftPods
from swarmrun.controller.observe import ENDED
from swarmrun.controller.reconcile import Reconciler
from swarmrun.controller.wanted import uid_of
from swarmrun.errors import EngineUnreachable, PermissionDenied, SwarmRunError
from swarmrun.orchestration.mail import EVENT

SWEEP_SECONDS = 60.0
SOON_SECONDS = 5.0
"""After a resource has gone, and while its run winds down."""
DEAF_SECONDS = 60.0
"""A resource that the watch has not shown for so long was missed."""

log = logging.getLogger("swarmrun.controller")


class Sweep:
    def __init__(
        self,
        attendants: Attendants,
        reconciler: Reconciler,
        engine: Any,
        kube: Kube,
        namespaces: tuple[str, ...],
        left_pods: LeftPods | None = None,
    ) -> None:
        """`left_pods`: where sandboxes are Pods."""
        self._attendants = attendants
        self._reconciler = reconciler
        self._engine = engine
        self._kube = kube
        self._namespaces = namespaces
        self._left_pods = left_pods
        self.done_at = time.monotonic()
        """When the last sweep ended well."""
        self.heard_at = self.done_at
        """When what the API server lists was last compared with what the watch has shown."""
        self.deaf = ""
        """What the watch has missed; empty while it hears."""
        self._closed: set[str] = set()
        """Watched namespaces whose runs could not be listed last time."""
        self._late: dict[tuple[str, int], float] = {}
        """Generations that the watch has not shown yet, and since when that is known."""

    async def run(self) -> None:
        while True:
            leftover = True
            try:
                leftover = await self.once()
                self.done_at = time.monotonic()
            except EngineUnreachable as exc:
                leftover = False
                log.warning("no whole sweep: %s", exc)
            except SwarmRunError as exc:
                log.warning("no sweep: %s", exc)
            except Exception:
                log.exception("sweep")
            try:
                wait = SOON_SECONDS if leftover else SWEEP_SECONDS
                await asyncio.wait_for(self._attendants.missing.wait(), wait)
                await asyncio.sleep(1)  # several go at once, as a rule
            except TimeoutError:
                continue

    async def once(self) -> bool:
        """True while a run without a resource is winding down. Without an engine the watch is looked at all the same;
        then EngineUnreachable is raised."""
        self._attendants.missing.clear()
        attended = list(self._attendants.attended)
        # The engine first: whatever it knows now, its resource existed before the list below.
        runs: dict[str, tuple[str, bool]] = {}
        silence: EngineUnreachable | None = None
        try:
            runs = await self._ask(self._known_runs)
        except EngineUnreachable as exc:
            silence = exc
        living: dict[str, Mapping[str, Any]] = {}
        over: set[str] = set()
        closed: set[str] = set()
        for namespace in self._namespaces or ("",):
            try:
                async for body in self._kube.runs(namespace):
                    living[body["metadata"]["uid"]] = body["metadata"]
                    over.add(_over(body))
            except PermissionDenied as exc:
                # A watched namespace that was deleted takes the rights in it along; the others go on.
                if len(self._namespaces) < 2:
                    raise
                log.log(logging.DEBUG if namespace in self._closed else logging.WARNING, "%s", exc)
                closed.add(namespace)
        self._closed = closed
        if closed and closed == {*self._namespaces}:
            raise PermissionDenied("the SwarmRuns of none of the watched namespaces can be listed")
        self._hears(living, [uid for uid in attended if self._place(uid) not in closed])
        self.heard_at = time.monotonic()
        if silence is not None:
            raise silence
        winding_down = False
        for instance, (namespace, ended) in runs.items():
            if uid_of(instance) not in living and namespace not in closed:
                winding_down |= await self._ask(self._end, instance, ended)
            elif instance in over and not ended:
                # An engine that was restored from before the end would do it all once more.
                log.warning("run %s: its resource says that it has ended; telling the engine", instance)
                await self._ask(self._cancel, instance, "EndedAlready", "its SwarmRun says that it has ended")
        if self._left_pods:
            places = {i: place for i, (place, ended) in runs.items() if ended and place not in closed}
            await self._left_pods.remove(places)
        return winding_down | await self._leftovers({uid_of(instance) for instance in runs}, living)

    async def _leftovers(self, known: Collection[str], living: Collection[str]) -> bool:
        """Of resources that have gone: what attempts have stored of which the engine knows nothing (it was told of
        none, or has been lost). True while it still knows of one that was."""
        left = self._reconciler.left_behind
        for uid, attempts in list(left.items()):
            if uid in known:
                continue
            if uid not in living:
                await self._ask(self._reconciler.forget_all, uid, attempts)
            left.pop(uid, None)
        return bool(left)

    async def _ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Something of the engine. Raises EngineUnreachable."""
        self._reconciler.answering.check()
        try:
            return await self._attendants.on_thread(function, *arguments)
        except grpc.RpcError as exc:
            raise self._reconciler.answering.failed(exc) from exc

    def _place(self, uid: str) -> str:
        """Namespace of an attended resource."""
        known = self._attendants.attended.get(uid)
        return str(known.memory.body["metadata"].get("namespace", "")) if known else ""

    # ------------------------------------------------------------ runs without a resource

    def _known_runs(self) -> dict[str, tuple[str, bool]]:
        """Runs of watched namespaces: instance → its namespace, and whether it has ended."""
        states = self._engine.get_all_orchestration_states(OrchestrationQuery(fetch_inputs_and_outputs=True))
        return {
            s.instance_id: (namespace, s.runtime_status in ENDED)
            for s in states
            if uid_of(s.instance_id)
            and ((namespace := _namespace(s.serialized_input)) in self._namespaces or not self._namespaces)
        }

    def _end(self, instance: str, ended: bool) -> bool:
        if ended:
            log.info("run %s: its resource has gone; removing what it left", instance)
            self._reconciler.forget(instance)
            return False
        self._cancel(instance, "ResourceDeleted", "its SwarmRun was deleted")
        return True

    def _cancel(self, instance: str, reason: str, message: str) -> None:
        mail = {"kind": "cancel", "reason": reason, "message": message}
        self._engine.raise_orchestration_event(instance, EVENT, data=mail)

    # ------------------------------------------------------------ the watch

    def _hears(self, living: Mapping[str, Mapping[str, Any]], attended: Collection[str]) -> None:
        """Compares what the API server lists with what the watch has shown; `attended` is from before the list."""
        for uid in set(attended) - set(living):
            log.warning("the watch has not shown that a resource (%s) has gone", uid)
            self._attendants.see_run({"metadata": {"uid": uid}}, deleted=True)
        late: dict[tuple[str, int], float] = {}
        for uid, meta in living.items():
            known = self._attendants.attended.get(uid)
            generation = int(meta.get("generation", 1))
            if known is None or int(known.memory.body["metadata"].get("generation", 1)) < generation:
                late[uid, generation] = self._late.get((uid, generation), time.monotonic())
        self._late = late
        missed = [uid for (uid, _), since in late.items() if time.monotonic() - since >= DEAF_SECONDS]
        names = [f"{living[uid]['namespace']}/{living[uid]['name']}" for uid in missed[:3]]
        self.deaf = f"the watch has not shown {', '.join(names)}" if missed else ""
        if missed:
            log.error("%s", self.deaf)


def _over(body: Mapping[str, Any]) -> str:
    """The instance that a resource shows as worked on and ended; empty where it shows none."""
    status = body.get("status") or {}  # as it is: they are many, and it is large
    return str(status.get("run", "")) if status.get("phase") in _ENDED and "startedAt" in status else ""


_ENDED = frozenset(phase.value for phase in Phase if phase.terminal)


def _namespace(given: str | None) -> str:
    """Of a run, by its input; empty where that is no run's."""
    try:
        return str(json.loads(given or "{}").get("namespace", ""))
    except (ValueError, AttributeError):
        return ""
