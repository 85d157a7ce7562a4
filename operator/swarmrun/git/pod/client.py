"""`ports.RepositoryAccess` by a git Pod, which is made when it is first needed and again when it is lost.

Nothing here waits for the Pod: until it serves, every call raises RemoteUnavailable `GitPodStarting` (`GitPodWaiting`
where the cluster says what it waits for), which the orchestration answers with a durable timer.
"""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import httpx

from swarmrun.errors import (
    Conflict,
    InvalidResource,
    NotFound,
    PermissionDenied,
    RemoteUnavailable,
)
from swarmrun.git.pod import wire
from swarmrun.git.pod.manifest import PORT, GitOptions, git_name, git_pod, git_policy
from swarmrun.git.repo import RunRepo
from swarmrun.kube.api import NO_ACCOUNT, KubeApi
from swarmrun.kube.loss import read_events, read_pod
from swarmrun.kube.mends import mend_of
from swarmrun.kube.options import NetworkOptions, RunPlace
from swarmrun.kube.pods import Pods
from swarmrun.ports import Published, PullRequest, RemoteState

Json = dict[str, Any]

EARLY, STARTING = 0.3, 1.0
"""Seconds after which a Pod that is starting is asked again: one that was made a moment ago, and later."""
YOUNG = 5.0
"""Seconds in which most Pods have started, or are told why they do not. A choice."""
LONGEST = 3600.0
"""Seconds that one operation may take: a fetch and a push have 1800 each (git/remote.py)."""

_KEEPALIVE = [
    # A Pod that was deleted says nothing more, not even that it is gone.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        [
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
        ]
        if hasattr(socket, "TCP_KEEPIDLE")
        else []
    ),
]


class GitPodWire:
    """Calls to a git server at an address; errors are those of the server."""

    def __init__(self, url: str, token: str) -> None:
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(socket_options=_KEEPALIVE),
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(LONGEST, connect=5),
            trust_env=False,
        )

    def call(self, op: str, args: Json, payload: bytes = b"") -> tuple[Json, bytes]:
        """Raises RemoteUnavailable `GitPodGone`, and what the server raised."""
        try:
            answer = self._http.post(f"/v1/{op}", content=wire.pack(args, payload))
            head, rest = wire.unpack(answer.content)
        except (httpx.HTTPError, ValueError) as exc:
            raise RemoteUnavailable(
                f"the git Pod is gone: {type(exc).__name__} at {op}",
                reason="GitPodGone",
                retry_after=STARTING,
            ) from exc
        if answer.status_code == 401:
            # Its address was given to another Pod.
            raise RemoteUnavailable(
                "another Pod answers at the git Pod's address", reason="GitPodGone", retry_after=STARTING
            )
        if "error" in head:
            raise wire.raised(head["error"])
        return head, rest

    def close(self) -> None:
        self._http.close()


class GitPodAccess:
    """`repo` is the run's. `run` waits for a coroutine on the loop that `api` belongs to; `token` is derived from
    the master key by the caller."""

    def __init__(
        self,
        api: KubeApi,
        place: RunPlace,
        options: GitOptions,
        network: NetworkOptions,
        repo: RunRepo,
        token: str,
        run: Callable[[Coroutine[Any, Any, str]], str],
        pods: Pods | None = None,
    ) -> None:
        self._api = api
        self._pods = pods
        self._place = place
        self._options = options
        self._network = network
        self._repo = repo
        self._token = token
        self._run = run
        self._wire: GitPodWire | None = None
        self._made_at = self._events_at = float("-inf")
        """When this process made the Pod; from when on its Events may be asked for again."""
        self._lock = threading.Lock()

    # ------------------------------------------------------------ protocol

    def preflight(self, branch: str) -> RemoteState:
        return RemoteState(**self._call("preflight", {"branch": branch})[0])

    def check_pull_requests(self) -> None:
        self._call("check_pull_requests", {})

    def find_published(self, branch: str, spec_hash: str) -> Published:
        return Published(**self._call("find_published", {"branch": branch, "spec_hash": spec_hash})[0])

    def fetch(self, commit: str, *, branch: str) -> None:
        self._repo.init()
        if not self._repo.holds(commit):
            _, bundle = self._call("fetch", {"commit": commit, "branch": branch})
            self._repo.add_history(bundle, commit=commit)

    def publish(self, commit: str, *, branch: str, base_branch: str = "", base_commit: str = "") -> Published:
        self._repo.ensure(commit)
        since = [base_commit] if base_commit and self._repo.is_ancestor(base_commit, commit) else []
        args: Json = {
            "commit": commit,
            "branch": branch,
            "make_base": base_branch,
            "base_branch": base_branch,
        }
        try:
            return self._publish(args, since)
        except NotFound as exc:
            if not since or exc.reason != "BaseNotHeld":
                raise
            return self._publish(args, [])

    def open_pull_request(self, *, head: str, base: str, title: str, body: str) -> PullRequest:
        args = {"head": head, "base": base, "title": title, "body": body}
        return PullRequest(**self._call("open_pull_request", args)[0])

    def close(self) -> None:
        with self._lock:
            if self._wire is not None:
                self._wire.close()
                self._wire = None

    # ------------------------------------------------------------

    def _publish(self, args: Json, since: list[str]) -> Published:
        for commit in since:
            self._repo.ensure(commit)
        bundle = self._repo.bundle(args["commit"], since)
        return Published(**self._call("publish", args | {"since": since}, bundle)[0])

    def _call(self, op: str, args: Json, payload: bytes = b"") -> tuple[Json, bytes]:
        with self._lock:
            if self._wire is None:
                address = self._run(self._ensure())
                self._wire = GitPodWire(f"http://{address}", self._token)
            it = self._wire
        try:
            return it.call(op, args, payload)
        except RemoteUnavailable as exc:
            if exc.reason == "GitPodGone":
                self._forget(it)
            raise
        except PermissionDenied as exc:
            if exc.reason == "SecretMissing":
                # Whether a Secret that comes later may be mounted is asked of the API server with a new Pod.
                self._forget(it)
                self._run(self._remove())
            raise

    def _forget(self, it: GitPodWire) -> None:
        with self._lock:
            if self._wire is it:
                self._wire = None
        it.close()

    async def _remove(self) -> str:
        name = git_name(self._place)
        await self._api.delete(f"/api/v1/namespaces/{self._place.namespace}/pods/{name}")
        return name

    async def _ensure(self) -> str:
        """`host:port` of the Pod that serves. Raises RemoteUnavailable, PermissionDenied, InvalidResource."""
        core, name = f"/api/v1/namespaces/{self._place.namespace}", git_name(self._place)
        try:
            if self._pods:
                pod = await self._pods.get(self._place.namespace, name)
            else:
                pod = await self._api.get(f"{core}/pods/{name}")
        except NotFound:
            await self._create(core)
            self._made_at = time.monotonic()
            raise self._starting(f"git Pod {name} was made") from None
        state = read_pod(pod)
        if state.phase == "Running":
            if not (pod["status"].get("containerStatuses") or [{}])[0].get("ready"):
                raise self._starting(f"git Pod {name} starts its server")
            return f"[{state.ip}]:{PORT}" if ":" in state.ip else f"{state.ip}:{PORT}"
        if state.phase == "Starting" and state.look_at_events and time.monotonic() > self._events_at:
            self._events_at = time.monotonic() + STARTING
            found = await self._api.get(f"{core}/events", fieldSelector=f"involvedObject.name={name}")
            state = read_events(found.get("items") or [], pod) or state
        if state.phase == "Refused":
            # Removed, so that a mended image or class gets a fresh one.
            await self._api.delete(f"{core}/pods/{name}")
            raise InvalidResource(f"git {state.message}", mend=mend_of(state.reason), reason=state.reason)
        if state.phase == "Lost":
            await self._api.delete(f"{core}/pods/{name}")
            raise RemoteUnavailable(
                f"git {state.message}; it is made again", reason="GitPodLost", retry_after=STARTING
            )
        raise self._starting(f"git Pod {name}: {state.reason} {state.message}".rstrip(), told=state.tells)

    def _starting(self, what: str, *, told: bool = False) -> RemoteUnavailable:
        """`told`: the cluster says why it takes its time."""
        young = time.monotonic() - self._made_at < YOUNG
        reason = "GitPodWaiting" if told else "GitPodStarting"
        return RemoteUnavailable(what, reason=reason, retry_after=EARLY if young else STARTING)

    async def _create(self, core: str) -> None:
        policies = f"/apis/networking.k8s.io/v1/namespaces/{self._place.namespace}/networkpolicies"
        hashed = hashlib.sha256(self._token.encode()).hexdigest()
        for path, body in (
            (policies, git_policy(self._place, self._options, self._network)),
            (f"{core}/pods", git_pod(self._place, self._options, token_sha256=hashed)),
        ):
            try:
                made = await self._api.create(path, body)
                if self._pods and path.endswith("/pods"):
                    self._pods.made(made)
            except Conflict:
                continue  # made by a call before this one, or by another worker
            except NotFound as exc:
                raise PermissionDenied(exc.message, reason="NamespaceNotFound") from exc
            except (PermissionDenied, InvalidResource) as exc:
                if exc.reason == NO_ACCOUNT and not self._options.pods.service_account:
                    # Of a namespace that was made a moment ago; its `default` comes by itself.
                    raise self._starting(exc.message, told=True) from exc
                exc.mend = exc.mend or mend_of(exc.reason)
                raise
