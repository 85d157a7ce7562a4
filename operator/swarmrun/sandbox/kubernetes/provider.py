"""`ports.SandboxProvider` over the Kubernetes API: one Pod a sandbox, in the run's namespace.

Nothing here waits for a Pod: `ensure` makes it and says `Starting`, and is asked again. A Pod that failed stays
where it is until it is released, so its cause can be read; one that was deleted by somebody is known as lost by
the process that made it. (Another process would make it again under the same name, which is sound: whoever asks
`ensure` loads the commit afterwards.)
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from swarmrun.errors import (
    Conflict,
    InvalidResource,
    NotFound,
    PermissionDenied,
    RemoteUnavailable,
    SandboxLost,
    SandboxRefused,
    SwarmRunError,
    ToolRejected,
)
from swarmrun.kube import names
from swarmrun.kube.api import NO_ACCOUNT, KubeApi
from swarmrun.kube.loss import PodState, read_events, read_pod
from swarmrun.kube.mends import with_mend
from swarmrun.kube.options import NetworkOptions, PodOptions, RunPlace
from swarmrun.kube.pods import Pods
from swarmrun.ports import SandboxSpec, SandboxState
from swarmrun.sandbox.client import SandboxClient
from swarmrun.sandbox.kubernetes import enforcement, manifest, surroundings
from swarmrun.sandbox.kubernetes.pod_sandbox import PodSandbox
from swarmrun.sandbox.tokens import token, token_sha256

HEALTH_SECONDS = 1.0
"""For one look at a server that has just started."""
ENFORCED_WITHIN = 20.0
"""Seconds from the first look until policies must hold. On the test cluster it takes 1.0–1.5; large clusters with
many policies need more. Arbitrary."""
SETTLED_AFTER = 5.0
"""Seconds after which a sandbox with open egress counts as fenced though the API server answers: its real address may
be a public one, which is granted then. Until that time an answer means that the policy does not hold yet. A choice."""
SILENT_FOR = 10.0
"""Seconds after which a sandbox that was ready and does not answer is lost though its Pod runs (arbitrary)."""
CAUSE_WITHIN = 3.0
"""Seconds that the kubelet is given to tell why a sandbox is silent; it takes about 1."""
ENDED_WITHIN = 15.0
"""The same where the other side closed the connection: something has ended, and a busy node tells late. A choice."""
TRIED_WITHIN = 60.0
"""Seconds from the first one until a network trial must have come to its end: a node that is busy with starting Pods
gives it little of a core (arbitrary)."""
ANSWERS_WITHIN = 60.0
"""Seconds from a container's start until its server must answer the brain (arbitrary)."""
EVENTS_AFTER = 2.5
"""Seconds after its making from which a Pod that has not started is asked for its Events: earlier there are none
that matter (a missing volume source is told after 3), and most Pods run by then. Not so of a Pod that waits for its
volume: what is wrong with a claim is told at once."""
EVENTS_APART = 1.0
"""Seconds between two questions for Events. A choice."""


@dataclass
class _Seen:
    """What this process knows of one sandbox."""

    since: float = field(default_factory=time.monotonic)
    """When its container was first seen running."""
    fenced: str = ""
    """`open` or `closed`: with what network the trial went well; empty: not yet."""
    closed_since: float | None = None
    """When what was granted for set-up was first seen taken away."""
    silent_since: float | None = None
    """When a sandbox that was ready first did not answer `ensure`."""
    client: PodSandbox | None = None


class KubernetesProvider:
    """The sandboxes of one run. `master_key` gives each its token; `network` says who the brain is; by `pods` it
    looks at a Pod without asking for it."""

    isolation = "pod"
    logged = True

    def __init__(
        self,
        api: KubeApi,
        place: RunPlace,
        master_key: bytes,
        options: PodOptions,
        network: NetworkOptions,
        pods: Pods | None = None,
    ) -> None:
        self._api = api
        self._pods = pods
        self._place = place
        self._master_key = master_key
        self._options = options
        self._network = network
        self._core = f"/api/v1/namespaces/{place.namespace}"
        self._made: dict[str, float] = {}
        self._events_at: dict[str, float] = {}
        """From when on Events of a sandbox's Pod may be asked for again."""
        self._once: set[str] = set()
        self._seen: dict[str, _Seen] = {}

    # ------------------------------------------------------------ protocol

    async def ensure(self, spec: SandboxSpec) -> SandboxState:
        """Raises RemoteUnavailable when the API server does not answer."""
        found = await self._ensure(spec)
        if found.phase == "Refused":
            return replace(found, message=with_mend(found.message, found.reason))
        return found

    async def _ensure(self, spec: SandboxSpec) -> SandboxState:
        try:
            state = await self._look(spec.id)
        except NotFound:
            if spec.id in self._made or spec.setup == "done":
                return SandboxState("Lost", "Deleted", f"the Pod of sandbox {spec.id} was deleted")
            return await self._create(spec)
        if state.phase != "Running":
            return SandboxState(state.phase, state.reason, state.message, tells=state.tells)
        return await self._usable(spec, state)

    async def connect(self, sandbox_id: str) -> SandboxClient:
        seen = self._seen.get(sandbox_id)
        if seen is not None and seen.client is not None and seen.client.usable():
            return seen.client
        state = await self._look(sandbox_id, missing_is_lost=True)
        if state.phase != "Running":
            raise SandboxLost(state.message or f"sandbox {sandbox_id} does not run", reason=state.reason)
        return self._client(sandbox_id, state.ip)

    async def release(self, sandbox_id: str) -> None:
        seen = self._seen.pop(sandbox_id, None)
        if seen is not None and seen.client is not None and seen.client.usable():
            await seen.client.close()
        await self._api.delete(self._path(sandbox_id))
        self._made.pop(sandbox_id, None)
        self._events_at.pop(sandbox_id, None)

    async def release_run(self, run: str) -> None:
        """Deletes the run's Pods, its git Pod too (which is made again where it is still needed)."""
        for sandbox_id in list(self._seen):
            seen = self._seen.pop(sandbox_id)
            if seen.client is not None and seen.client.usable():
                await seen.client.close()
        place = RunPlace(self._place.namespace, run, self._place.name)
        await self._api.delete(f"{self._core}/pods", labelSelector=names.selector(place))
        self._made.clear()
        self._events_at.clear()

    # ------------------------------------------------------------ making

    async def _create(self, spec: SandboxSpec) -> SandboxState:
        """The fence stands before the Pod does."""
        networking = f"/apis/networking.k8s.io/v1/namespaces/{self._place.namespace}/networkpolicies"
        hashed = token_sha256(token(self._master_key, spec.id))
        try:
            for policy in manifest.sandbox_policies(self._place, spec, self._network):
                await self._make_once(networking, policy)
            if manifest.carries_server(spec, self._options):
                await self._make_once(f"{self._core}/configmaps", manifest.server_files(self._place))
            pod = manifest.sandbox_pod(self._place, spec, self._options, self._network, token_sha256=hashed)
            made = await self._make(f"{self._core}/pods", pod)
            if made and self._pods:
                self._pods.made(made)
        except (PermissionDenied, InvalidResource, NotFound) as exc:
            if exc.reason == NO_ACCOUNT and not self._options.service_account:
                # Of a namespace that was made a moment ago; its `default` comes by itself.
                return SandboxState("Starting", "ServiceAccountPending", exc.message, tells=True)
            # The API server's own words; NotFound is the namespace.
            reason = exc.reason if not isinstance(exc, NotFound) else "NamespaceNotFound"
            return SandboxState("Refused", reason or "PodInvalid", exc.message)
        self._made[spec.id] = time.monotonic()
        return SandboxState("Starting", "Created")

    async def _make_once(self, path: str, body: dict[str, Any]) -> None:
        name = body["metadata"]["name"]
        if name not in self._once:
            await self._make(path, body)
            self._once.add(name)

    async def _make(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """None where a call before this one has made it, whose answer was lost."""
        try:
            return await self._api.create(path, body)
        except Conflict:
            return None

    # ------------------------------------------------------------ looking

    async def _look(self, sandbox_id: str, *, missing_is_lost: bool = False) -> PodState:
        """Raises NotFound where there is no Pod."""
        name = names.pod_name(self._place, sandbox_id)
        try:
            if self._pods:
                pod = await self._pods.get(self._place.namespace, name)
            else:
                pod = await self._api.get(self._path(sandbox_id))
        except NotFound:
            if missing_is_lost:
                return PodState("Lost", "Deleted", f"Pod {name} of sandbox {sandbox_id} is gone")
            raise
        state = read_pod(pod)
        now = time.monotonic()
        young = now - self._made.get(sandbox_id, -EVENTS_AFTER) < EVENTS_AFTER and not state.tells
        asked = now < self._events_at.get(sandbox_id, 0.0)
        if state.look_at_events and not (state.phase == "Starting" and (young or asked)):
            self._events_at[sandbox_id] = now + EVENTS_APART
            about = [name, manifest.claim_name(name)] if self._options.storage_class else [name]
            for involved in about:
                found = await self._api.get(
                    f"{self._core}/events", fieldSelector=f"involvedObject.name={involved}"
                )
                if verdict := read_events(found.get("items") or [], pod):
                    return verdict
        return state

    async def _usable(self, spec: SandboxSpec, state: PodState) -> SandboxState:
        """A running Pod whose server answers us, and from which nothing answers that must not."""
        seen = self._seen.setdefault(spec.id, _Seen())
        client = self._client(spec.id, state.ip)
        try:
            await client.health(timeout_s=HEALTH_SECONDS)
            seen.silent_since = None
            is_open = state.labels.get(names.EGRESS) == manifest.FOR_SETUP
            if is_open and spec.setup == "done":
                return await self._seal(spec, client)
            network = "open" if is_open else "closed"
            if seen.fenced != network:
                verdict = await self._fenced(spec, client, seen, is_open=is_open)
                if verdict is not None:
                    return verdict
                seen.fenced = network
        except SandboxRefused as exc:
            return SandboxState("Refused", "ProtocolMismatch", str(exc))
        except SandboxLost as exc:
            now = await self._look(spec.id, missing_is_lost=True)
            if now.phase != "Running":
                return SandboxState(now.phase, now.reason, now.message)
            seen.silent_since = seen.silent_since or time.monotonic()
            silent = time.monotonic() - seen.silent_since
            if seen.fenced and silent > SILENT_FOR:
                return SandboxState("Lost", "NotAnswering", str(exc))
            if seen.fenced or time.monotonic() - seen.since < ANSWERS_WITHIN:
                # Of one that was ready, too: its end may not be told yet, or it is only busy.
                return SandboxState("Starting", "NotAnswering", str(exc))
            return SandboxState(
                "Refused",
                "SandboxNotReachable",
                f"{exc}: its Pod runs at {state.ip}, but the operator cannot reach port {manifest.PORT}; "
                "does another NetworkPolicy stand in between?",
            )
        return SandboxState("Ready", open=is_open)

    async def _seal(self, spec: SandboxSpec, client: SandboxClient) -> SandboxState:
        """Takes away what was granted for set-up; asked again, the sandbox is tried before it is Ready.

        What set-up left running ends first: a connection that stands outlives the policy that allowed it. Cut off
        anywhere, it is simply done again: the label alone says how far it came.
        """
        proxy = surroundings.proxy_variables(surroundings.proxy_of(spec, self._network))
        try:
            await client.seal(forget=list(proxy))
            closed = await self._api.merge(
                self._path(spec.id), {"metadata": {"labels": {names.EGRESS: None}}}
            )
            if self._pods:
                self._pods.made(closed)
        except NotFound:
            return SandboxState("Lost", "Deleted", f"the Pod of sandbox {spec.id} was deleted")
        except ToolRejected as exc:
            return SandboxState("Refused", "SetupStillRuns", f"sandbox {spec.id}: {exc}")
        except (PermissionDenied, InvalidResource) as exc:
            return SandboxState("Refused", exc.reason, exc.message)
        return SandboxState("Starting", "NetworkClosing", "what was granted for set-up is being closed")

    async def _fenced(
        self, spec: SandboxSpec, client: SandboxClient, seen: _Seen, *, is_open: bool
    ) -> SandboxState | None:
        """None when nothing forbidden answers."""
        if self._network.waive_enforcement:
            return None
        addresses = [*self._network.forbidden, *self._neighbour(spec.id)]
        # With open egress a public address of the API server is granted like any other.
        granted = spec.egress and self._network.proxy is None
        since = seen.since
        if spec.setup_only and not is_open:
            addresses += enforcement.closed_again(spec, self._network)
            granted = False
            since = seen.closed_since = seen.closed_since or time.monotonic()
        waited = time.monotonic() - since
        result = await client.exec(enforcement.command(addresses), timeout_s=10)
        found = enforcement.answered(result)
        if found is None:
            why = f"the network trial did not run in sandbox {spec.id}: {result.stdout.strip()[-300:]}"
            if result.exit_code is None:
                await client.kill(result.process)
                if waited < TRIED_WITHIN:
                    return SandboxState("Starting", "NetworkTrialSlow", why)
            return SandboxState("Refused", "NetworkTrialFailed", why)
        only_api_server = not set(found) & set(addresses)
        if not found or (granted and only_api_server and waited > SETTLED_AFTER):
            return None
        said = f"{', '.join(found)} can be reached from sandbox {spec.id}"
        if waited < ENFORCED_WITHIN:
            return SandboxState("Starting", "NetworkPolicyPending", said)
        return SandboxState(
            "Refused",
            "NetworkPolicyNotEnforced",
            f"{said}, {waited:.0f} s after it should have been closed: this cluster does not enforce "
            "NetworkPolicy, or another policy of the namespace allows it (policies add up; mend that, or set "
            "spec.pods.waiveNetworkPolicy of the class)",
        )

    def _neighbour(self, sandbox_id: str) -> list[str]:
        """Another sandbox of the run that is known to answer."""
        for other, seen in self._seen.items():
            if other != sandbox_id and seen.fenced and seen.client is not None:
                return [seen.client.address]
        return []

    # ------------------------------------------------------------ clients

    def _client(self, sandbox_id: str, ip: str) -> PodSandbox:
        seen = self._seen.setdefault(sandbox_id, _Seen())
        host = f"[{ip}]" if ":" in ip else ip
        address = f"{host}:{manifest.PORT}"
        if seen.client is None or seen.client.address != address or not seen.client.usable():
            boot_id = seen.client.boot_id if seen.client is not None else ""
            secret = token(self._master_key, sandbox_id)
            seen.client = PodSandbox(self, sandbox_id, secret, address, boot_id)
        return seen.client

    async def why_lost(self, sandbox_id: str, exc: SandboxLost) -> SandboxLost:
        """The cause that stands on the Pod, else what was seen."""
        closed = isinstance(exc.__cause__, (httpx.NetworkError, httpx.RemoteProtocolError))
        ends = time.monotonic() + (ENDED_WITHIN if closed else CAUSE_WITHIN)
        while True:
            try:
                state = await self._look(sandbox_id, missing_is_lost=True)
            except SwarmRunError:
                return exc
            if state.phase in ("Lost", "Refused"):
                return SandboxLost(state.message, reason=state.reason)
            if time.monotonic() > ends:
                return SandboxLost(f"{exc.message}; its Pod is there: {state.phase}", reason="NotAnswering")
            await asyncio.sleep(0.5)

    async def believed(self, sandbox_id: str, *, refused: bool, whole: bool = False) -> None:
        """Raises SandboxLost when the Pod has gone, or is going and its server `refused`.

        A server may outlive its volume for a moment: of a Pod that was deleted by force the kubelet ends the container
        later than others take the volume away. Files are missing then that nobody deleted. What the watch told last
        is looked at; `whole`: of all files something was said, and where that is not enough the API server is asked.
        Raises RemoteUnavailable where it does not answer then.
        """
        name = names.pod_name(self._place, sandbox_id)
        try:
            pod = await self._heard(sandbox_id, name, refused=refused, whole=whole)
        except NotFound:
            raise SandboxLost(f"Pod {name} of sandbox {sandbox_id} is gone", reason="Deleted") from None
        except SwarmRunError:
            if whole:
                raise
            return
        state = read_pod(pod)
        if refused and state.phase == "Lost":
            raise SandboxLost(state.message, reason=state.reason)

    async def _heard(self, sandbox_id: str, name: str, *, refused: bool, whole: bool) -> dict[str, Any]:
        if self._pods is not None and not (refused and whole):
            try:
                return self._pods.heard(self._place.namespace, name)
            except RemoteUnavailable:
                if not whole:
                    raise
            except NotFound:
                pass  # a watch that was dropped on the way has never shown it: only the API server knows
        return await self._api.get(self._path(sandbox_id))

    def _path(self, sandbox_id: str) -> str:
        return f"{self._core}/pods/{names.pod_name(self._place, sandbox_id)}"
