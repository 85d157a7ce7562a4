"""Where orchestrations live: `embedded` in a file of this machine, `dts` in the Azure Durable Task Scheduler.

Both speak through the same client and worker (`durabletask-azuremanaged`), so orchestrations and activities
cannot tell them apart.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import durabletask.internal.orchestrator_service_pb2 as pb
from durabletask.azuremanaged.client import DurableTaskSchedulerClient
from durabletask.payload import PayloadStore

from swarmrun.durable.backend import DurableBackend, stop_the_process
from swarmrun.durable.backend_store import Synchronous
from swarmrun.durable.channel import CHANNEL_OPTIONS, LocalChannel, LocalError, SocketServer, resolved, target
from swarmrun.durable.converter import Converter
from swarmrun.durable.deadline import Deadline
from swarmrun.durable.takeover import Successor
from swarmrun.durable.worker import (
    Activity,
    FailureProperties,
    Orchestrator,
    Worker,
    concurrency,
    register,
    sdk_logger,
)
from swarmrun.errors import EngineError, NotFound

THREADS = 64
"""Of a worker, for orchestrations and activities together."""

_TASKHUB = "default"
_AFTER_CANCEL = 5.0
"""Seconds for what was cancelled to end (arbitrary)."""

log = logging.getLogger("swarmrun.durable")


class Engine(Protocol):
    """What the rest of the brain needs of an engine."""

    def client(self) -> DurableTaskSchedulerClient:
        """Starts, asks, raises events, purges. One may be shared by all threads."""
        ...

    def start_worker(
        self,
        orchestrators: Iterable[Orchestrator],
        activities: Mapping[str, Activity],
        *,
        threads: int = THREADS,
        successor: Successor | None = None,
    ) -> Worker:
        """Starts doing work in this process. Orchestrators are generator functions `(ctx, input)` known by their
        name, activities plain functions `(ctx, input)` known by their key. Work that nobody registered fails.
        `successor` goes on with what another program has begun."""
        ...

    def close(self) -> None:
        """Ends workers and connections. Idempotent."""
        ...


class EmbeddedEngine:
    """Durable in one SQLite file, at most one process at a time.

    `path`: the file; made when missing, mode 0600. `socket`: where `serve` listens, by default beside the file.
    `payloads`: only wanted where results are many megabytes. `synchronous`: see `backend_store`. `grace`: seconds
    after which the work of a lost worker process is given to another. `on_fatal`: called with the error when
    state cannot be written, e.g. to restore a terminal; it must end the process, as the default does (exit 70).
    """

    def __init__(
        self,
        path: Path,
        *,
        socket: Path | None = None,
        payloads: PayloadStore | None = None,
        synchronous: Synchronous = "FULL",
        grace: float = 5.0,
        on_fatal: Callable[[EngineError], None] = stop_the_process,
    ) -> None:
        self._path = path
        self._socket = socket or path.with_name(path.name + ".sock")
        self._payloads = payloads
        self._synchronous: Synchronous = synchronous
        self._grace = grace
        self._on_fatal = on_fatal
        self._backend: DurableBackend | None = None
        self._server: SocketServer | None = None
        self._workers: list[Worker] = []

    def open(self) -> Self:
        """Takes the file and everything in it up again.

        Raises Conflict (another process has it), EngineError (newer version, damaged), StorageUnavailable.
        """
        if self._backend is None:
            self._backend = DurableBackend(
                self._path, synchronous=self._synchronous, grace=self._grace, on_fatal=self._on_fatal
            )
        return self

    @property
    def _opened(self) -> DurableBackend:
        if self._backend is None:
            raise EngineError(f"engine {self._path} is not open", mend="call open() first")
        return self._backend

    def client(self) -> DurableTaskSchedulerClient:
        return _client("in-process", self._payloads, channel=LocalChannel(self._opened))

    def start_worker(
        self,
        orchestrators: Iterable[Orchestrator],
        activities: Mapping[str, Activity],
        *,
        threads: int = THREADS,
        successor: Successor | None = None,
    ) -> Worker:
        channel = LocalChannel(self._opened)
        _close_at_exit(self)
        worker = _worker("in-process", self._payloads, threads, channel=channel)
        worker.successor = successor
        register(worker, orchestrators, activities).start()
        self._workers.append(worker)
        return worker

    def serve(self) -> Path:
        """Lets other processes of this user in, by `connect`; returns the socket's path. Idempotent."""
        if self._server is None:
            self._server = SocketServer(self._opened, self._socket)
        return self._socket

    def outstanding(self) -> dict[str, int]:
        """Activities and orchestrations that wait or are worked on, by kind."""
        return self._opened.outstanding()

    def history(self, instance_id: str) -> list[pb.HistoryEvent]:
        """The recorded events of an instance's present (or last) life. Raises NotFound."""
        request = pb.StreamInstanceHistoryRequest(instanceId=instance_id)
        stream = LocalChannel(self._opened).unary_stream("/StreamInstanceHistory")(request)
        try:
            return [event for chunk in stream for event in chunk.events]
        except LocalError as exc:
            raise NotFound(f"no orchestration '{instance_id}' in {self._path}") from exc

    def close(self, *, cancel: Callable[[], None] | None = None, wait: float = 5.0) -> None:
        """Leaves the file as a kill would, only tidier: what is at work is delivered again after the next open.

        `cancel` is called once no result is taken any more, to end what activities are doing: `Bridge.close`
        (called earlier, it would be recorded as their failure). They get `wait` seconds; threads of those that go
        on keep the interpreter from exiting: `os._exit` then.
        """
        stopping = _begin_to_stop(self._workers)
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._backend is not None:
            self._backend.stop()
            self._backend = None
        if cancel is not None:
            cancel()
        _await_stop(stopping, wait)

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class DtsEngine:
    """The Azure Durable Task Scheduler (or its emulator) at `endpoint`, with an Entra credential.

    `credential` None: `DefaultAzureCredential` of azure-identity (extra `azure`) for https endpoints, anonymous
    for plain http ones (the emulator).
    """

    def __init__(
        self,
        endpoint: str,
        taskhub: str = _TASKHUB,
        credential: Any = None,
        *,
        payloads: PayloadStore | None = None,
    ) -> None:
        self._endpoint = resolved(endpoint)
        self._payloads = payloads
        secure = not endpoint.lower().startswith(("http://", "unix:"))
        self._how: dict[str, Any] = {
            "taskhub": taskhub,
            "token_credential": credential or (_default_credential() if secure else None),
            "secure_channel": secure,
        }
        self._workers: list[Worker] = []
        self._clients: list[DurableTaskSchedulerClient] = []

    def client(self) -> DurableTaskSchedulerClient:
        client = _client(self._endpoint, self._payloads, **self._how)
        self._clients.append(client)
        return client

    def start_worker(
        self,
        orchestrators: Iterable[Orchestrator],
        activities: Mapping[str, Activity],
        *,
        threads: int = THREADS,
        successor: Successor | None = None,
    ) -> Worker:
        _close_at_exit(self)
        worker = _worker(self._endpoint, self._payloads, threads, **self._how)
        worker.successor = successor
        register(worker, orchestrators, activities).start()
        self._workers.append(worker)
        return worker

    def close(self, *, cancel: Callable[[], None] | None = None, wait: float = 30.0) -> None:
        """Waits up to `wait` seconds for activities in progress; what is not done then is given back, to be
        delivered to another worker, and `cancel` is called to end it here."""
        for worker in self._workers:
            worker.leave()
        self._wait(wait)
        for worker in self._workers:
            worker.give_back()
        if cancel is not None:
            cancel()
        self._wait(_AFTER_CANCEL)
        _await_stop(_begin_to_stop(self._workers), _AFTER_CANCEL)
        for client in self._clients:
            client.close()
        self._clients.clear()

    def _wait(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        if not all(worker.wait(max(0.0, ends - time.monotonic())) for worker in self._workers) and seconds:
            log.info("activities are still running after %.0f s", seconds)


def connect(socket: Path) -> DurableTaskSchedulerClient:
    """A client of the engine that another process of this user serves at `socket`. The caller closes it.

    Raises NotFound when no engine serves there.
    """
    return _client(target(socket), None)


def _client(
    address: str,
    payloads: PayloadStore | None,
    *,
    channel: Any = None,
    taskhub: str = _TASKHUB,
    token_credential: Any = None,
    secure_channel: bool = False,
) -> DurableTaskSchedulerClient:
    return DurableTaskSchedulerClient(
        host_address=address,
        taskhub=taskhub,
        token_credential=token_credential,
        secure_channel=secure_channel,
        channel=channel,
        channel_options=CHANNEL_OPTIONS,
        # Inside the process there is nothing on the way that could be lost.
        interceptors=None if channel is not None else [Deadline()],
        payload_store=payloads,
        data_converter=Converter(),
        logger=sdk_logger("client"),
    )


def _worker(
    address: str,
    payloads: PayloadStore | None,
    threads: int,
    *,
    channel: Any = None,
    taskhub: str = _TASKHUB,
    token_credential: Any = None,
    secure_channel: bool = False,
) -> Worker:
    return Worker(
        host_address=address,
        taskhub=taskhub,
        token_credential=token_credential,
        secure_channel=secure_channel,
        channel=channel,
        channel_options=CHANNEL_OPTIONS,
        concurrency_options=concurrency(threads),
        payload_store=payloads,
        data_converter=Converter(),
        logger=sdk_logger("worker"),
        exception_properties_provider=FailureProperties(),
    )


def _default_credential() -> Any:
    try:
        from azure.identity import DefaultAzureCredential  # type: ignore[import-not-found]
    except ImportError as exc:
        raise EngineError(
            "the engine 'dts' needs azure-identity",
            mend="pip install 'swarmrun[azure]'",
            reason="MissingExtra",
        ) from exc
    return DefaultAzureCredential()


_working: weakref.WeakSet[EmbeddedEngine | DtsEngine] = weakref.WeakSet()


def _close_at_exit(engine: EmbeddedEngine | DtsEngine) -> None:
    """A main thread that dies of an error must not leave the process hanging in the SDK's worker threads.

    They are no daemons: the interpreter waits for them before any `atexit` function runs, in a hook that
    concurrent.futures registered with `threading`. Hooks run last one first, so ours comes before it; there
    is no public way to be called that early.
    """
    if not _working:
        import concurrent.futures.thread  # noqa: F401  # its hook has to be registered before ours

        register_hook = getattr(threading, "_register_atexit")  # noqa: B009
        if not _hooked:
            register_hook(_close_all)
            _hooked.append(True)
    _working.add(engine)


_hooked: list[bool] = []


def _close_all() -> None:
    for engine in list(_working):
        engine.close(wait=0)


def _begin_to_stop(workers: list[Worker]) -> list[threading.Thread]:
    """The SDK's stop() waits without limit, so it runs beside."""
    stopping = [threading.Thread(target=worker.stop, daemon=True) for worker in workers]
    for worker in workers:
        worker.leave()
        worker.hush()
    for thread in stopping:
        thread.start()
    workers.clear()
    return stopping


def _await_stop(stopping: list[threading.Thread], wait: float) -> None:
    for thread in stopping:
        thread.join(wait)
        if thread.is_alive() and wait:
            log.info("activities are still running after %.0f s", wait)
