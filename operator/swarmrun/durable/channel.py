"""Ways to a backend: a channel inside the process, and a unix socket for other processes of the same user."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import durabletask.internal.orchestrator_service_pb2_grpc as stubs
import grpc
from durabletask.grpc_options import GrpcChannelOptions, GrpcRetryPolicyOptions

from swarmrun.durable.backend import DurableBackend
from swarmrun.errors import EngineError, NotFound

CHANNEL_OPTIONS = GrpcChannelOptions(
    # Without these a history over 4 MB breaks the stream for good.
    max_receive_message_length=-1,
    max_send_message_length=-1,
    retry_policy=GrpcRetryPolicyOptions(max_attempts=5, initial_backoff_seconds=0.5, max_backoff_seconds=5),
)

_SERVER_THREADS = 256
"""Every connected worker and every waiting client holds one; threads are only made when needed."""

_LONGEST_PATH = 100
"""Unix socket paths end at 107 bytes on Linux (sun_path), 103 on macOS."""

_UNIX = "unix:"

# ---------------------------------------------------------------- inside the process


class LocalError(grpc.RpcError):
    """What a call raises when the backend aborts it; looks like a call's error over the wire."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(f"{code.name}: {details}")
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details


class _Context:
    """The part of `grpc.ServicerContext` that the backend uses."""

    def __init__(self, timeout: float | None = None) -> None:
        self._timeout = timeout
        self._active = True
        self._callbacks: list[Callable[[], None]] = []

    def is_active(self) -> bool:
        return self._active

    def time_remaining(self) -> float | None:
        return self._timeout

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self._callbacks.append(callback)
        return self._active

    def abort(self, code: grpc.StatusCode, details: str) -> None:
        raise LocalError(code, details)

    def end(self) -> None:
        if self._active:
            self._active = False
            for callback in self._callbacks:
                callback()


class _Responses:
    """A response stream that can be cancelled from another thread."""

    def __init__(self, method: Callable[[Any, Any], Iterator[Any]], request: Any) -> None:
        self._context = _Context()
        self._items = method(request, self._context)

    def __iter__(self) -> _Responses:
        return self

    def __next__(self) -> Any:
        return next(self._items)

    def cancel(self) -> None:
        self._context.end()


class LocalChannel:
    """A `grpc.Channel` without a wire: calls run on the backend in the caller's thread, nothing is serialised."""

    def __init__(self, backend: DurableBackend) -> None:
        self._backend = backend

    def unary_unary(self, method: str, *_: Any, **__: Any) -> Callable[..., Any]:
        name = method.rsplit("/", 1)[1]

        def call(request: Any, timeout: float | None = None, **_: Any) -> Any:
            return self._method(name)(request, _Context(timeout))

        return call

    def unary_stream(self, method: str, *_: Any, **__: Any) -> Callable[..., Any]:
        name = method.rsplit("/", 1)[1]

        def call(request: Any, **_: Any) -> _Responses:
            return _Responses(self._method(name), request)

        return call

    def stream_unary(self, method: str, *_: Any, **__: Any) -> Callable[..., Any]:
        """In the service's description, used by nobody."""

        def call(*_: Any, **__: Any) -> Any:
            raise LocalError(grpc.StatusCode.UNIMPLEMENTED, method)

        return call

    stream_stream = stream_unary

    def close(self) -> None:
        """Nothing is held open."""

    def _method(self, name: str) -> Callable[[Any, Any], Any]:
        if self._backend.stopped:
            raise LocalError(grpc.StatusCode.UNAVAILABLE, "the engine is closed")
        return getattr(self._backend, name)


# ---------------------------------------------------------------- for other processes of the same user


class SocketServer:
    """Serves a backend at a unix socket that only this user can connect to.

    Where the path is too long for a socket, the socket lies in a private short directory and a file at the path
    names it. What a killed process left at the path is replaced: the caller holds the engine's lock.
    """

    def __init__(self, backend: DurableBackend, path: Path) -> None:
        self.path = path
        _remove(path)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Bound in a directory nobody else can enter, and moved out with its final mode: there is no moment at
        # which another user could connect.
        near = len(os.fsencode(path)) <= _LONGEST_PATH - 16
        home = Path(tempfile.mkdtemp(prefix="." if near else "swarmrun-", dir=path.parent if near else None))
        bound = home / "s"
        self._server = grpc.server(
            ThreadPoolExecutor(_SERVER_THREADS, thread_name_prefix="swarmrun-socket"),
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
            ],
        )
        stubs.add_TaskHubSidecarServiceServicer_to_server(backend, self._server)
        try:
            self._server.add_insecure_port(f"{_UNIX}{bound}")
            self._server.start()
            os.chmod(bound, 0o600)
            if near:
                os.rename(bound, path)
                home.rmdir()
            else:
                pointer = path.with_name(f"{path.name}.{os.getpid()}")
                pointer.write_text(str(bound), encoding="utf-8")
                pointer.chmod(0o600)
                os.replace(pointer, path)
        except (OSError, RuntimeError) as exc:
            shutil.rmtree(home, ignore_errors=True)
            raise EngineError(f"cannot serve at {path}: {exc}", mend="check the directory's owner") from exc

    def close(self) -> None:
        self._server.stop(grace=None).wait()
        _remove(self.path)


def target(path: Path) -> str:
    """The gRPC target of the engine that serves at `path`. Raises NotFound when none does."""
    bound = _bound(path)
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.settimeout(5)
        probe.connect(str(bound))
    except OSError as exc:
        raise NotFound(
            f"no engine is serving at {path}", mend="start or resume the run first", reason="EngineNotRunning"
        ) from exc
    finally:
        probe.close()
    return f"{_UNIX}{bound}"


def resolved(endpoint: str) -> str:
    """The endpoint as gRPC takes it: `unix:PATH` may name the file that stands for a socket of too long a path."""
    if not endpoint.lower().startswith(_UNIX):
        return endpoint
    return f"{_UNIX}{_bound(Path(endpoint[len(_UNIX) :]))}"


def _bound(path: Path) -> Path:
    """Where the socket really is: the path itself, or what the file there names."""
    try:
        if stat.S_ISREG(path.lstat().st_mode):
            return Path(path.read_text(encoding="utf-8").strip())
    except OSError:
        pass  # told by connecting
    return path


def _remove(path: Path) -> None:
    bound = _bound(path)
    if bound != path and bound.name == "s" and bound.parent.name.startswith("swarmrun-"):
        shutil.rmtree(bound.parent, ignore_errors=True)
    path.unlink(missing_ok=True)
