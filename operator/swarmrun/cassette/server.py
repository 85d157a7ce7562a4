"""The cassette behind real HTTP: `/v1/chat/completions`, `/v1/responses`, `/v1/models`, `/cassette/requests`.

    with CassetteServer("demo.yaml", port=0) as server:
        ...  # endpoint: server.url

A request that does not fit is answered 400 `cassette_mismatch`, saying what was expected and what came, and is
printed to standard error. Every request is counted under its key before it is answered; with a log file the
counts outlive the process, so a test can tell whether a stored reply was paid for twice.

From the standard library: a thread a connection is enough for the agents of one machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from swarmrun.cassette.format import Call, Cassette, Entry, Fault, load
from swarmrun.cassette.render import Said, chat, chat_events, responses, responses_events
from swarmrun.cassette.request import Api, Asked, mismatches, read_request
from swarmrun.errors import Conflict, InvalidResource, NotFound

_MAX_BODY = 64 << 20
"""Bytes of a request. A choice; a context window of a million tokens is about 4 MB."""
_PATIENCE = 240.0
"""Seconds that an answer waits for what it comes `after`: below the 300 s after which a silent call is given up."""


class CassetteServer:
    """Answers from a cassette in threads of this process until closed. Loopback unless `host` says otherwise."""

    def __init__(
        self,
        cassette: str | Path | Cassette,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        log: str | Path | None = None,
        quiet: bool = False,
    ) -> None:
        """`log`: JSON lines, one a request, appended. Raises InvalidResource, NotFound, Conflict (port in use)."""
        self.cassette = cassette if isinstance(cassette, Cassette) else load(cassette)
        self.mismatches: list[str] = []
        self.closed = False
        self._quiet = quiet
        self._lock = threading.Lock()
        self._asked = threading.Condition(self._lock)
        self.patience = _PATIENCE
        self._outcomes: dict[str, Counter[str]] = {}
        self._log = _Log(Path(log)) if log is not None else None
        for key, outcome in self._log.earlier() if self._log else ():
            self._outcomes.setdefault(key, Counter())[outcome] += 1
        handler = type("Handler", (_Handler,), {"cassette": self})
        try:
            self._http = QuietServer((host, port), handler)
        except OSError as exc:
            raise Conflict(
                f"cannot listen on {host}:{port}: {exc}", mend="use another port, or 0 for any"
            ) from exc
        self._host = host
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        return f"http://{self._host}:{self._http.server_address[1]}"

    @property
    def url(self) -> str:
        """The base address for a client, `/v1` included."""
        return f"{self.address}/v1"

    def __enter__(self) -> CassetteServer:
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, name="cassette", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._close()

    def serve_forever(self) -> None:
        """Until interrupted, in this thread."""
        try:
            self._http.serve_forever()
        finally:
            self._close()

    def _close(self) -> None:
        self._http.server_close()
        # Under the lock: a request still in its thread must not write to a descriptor that is another file by now.
        with self._lock:
            self.closed = True
            self._asked.notify_all()
            if self._log:
                self._log.close()
                self._log = None

    def requests(self) -> dict[str, dict[str, int]]:
        """How often each `run/role/task/attempt/turn` was asked, by outcome: `answered` (what a real server would
        have charged), a fault's name, `mismatch`."""
        with self._lock:
            return {key: dict(counts) for key, counts in sorted(self._outcomes.items())}

    # ------------------------------------------------------------ deciding

    def decide(self, asked: Asked) -> tuple[Entry, Fault | None]:
        """The entry and its due fault, counted. Raises InvalidResource for what does not fit."""
        try:
            entry = self.cassette.find(asked.key)
            faults = mismatches(entry.expect, asked)
            if faults:
                raise InvalidResource(f"{entry.describe()}: " + "; ".join(faults))
        except (NotFound, InvalidResource) as exc:
            self._count(asked, "mismatch")
            raise InvalidResource(self._mismatch(asked, exc.message)) from exc
        with self._lock:
            before = self._outcomes.setdefault(_key(asked), Counter())
            fault = _due(entry.faults, sum(before.values()) - before["mismatch"])
            self._note(asked, fault.label if fault else "answered")
        return entry, fault

    def hold_back(self, entry: Entry, asked: Asked) -> None:
        """Until what the entry comes after has been asked. Raises InvalidResource when that takes too long."""
        if not entry.after:
            return
        key = f"{asked.key['run'] or '-'}/{entry.after}"
        with self._asked:
            if self._asked.wait_for(lambda: self.closed or key in self._outcomes, self.patience):
                return
        raise InvalidResource(
            self._mismatch(asked, f"{entry.describe()}: {entry.after} was not asked in {self.patience:g} s")
        )

    def _mismatch(self, asked: Asked, problem: str) -> str:
        message = f"cassette_mismatch: {asked.label()}: {problem}"
        self.mismatches.append(message)
        if not self._quiet:
            print(message, file=sys.stderr, flush=True)
        return message

    def _count(self, asked: Asked, outcome: str) -> None:
        with self._lock:
            self._note(asked, outcome)

    def _note(self, asked: Asked, outcome: str) -> None:
        self._outcomes.setdefault(_key(asked), Counter())[outcome] += 1
        self._asked.notify_all()
        if self._log:
            self._log.write({**asked.key, "key": _key(asked), "outcome": outcome})


def _key(asked: Asked) -> str:
    sample = asked.key["sample"]
    return asked.label() + (f"/{sample}" if sample else "")


def _due(faults: list[Fault], earlier: int) -> Fault | None:
    for fault in faults:
        if earlier < fault.times:
            return fault
        earlier -= fault.times
    return None


class _Log:
    """JSON lines that survive a kill: one write each, appended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)

    def earlier(self) -> Iterator[tuple[str, str]]:
        for line in self._path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(
                ValueError, KeyError
            ):  # the last line of a killed process may be cut off
                row = json.loads(line)
                yield row["key"], row["outcome"]

    def write(self, row: dict[str, str]) -> None:
        os.write(self._fd, (json.dumps(row) + "\n").encode())

    def close(self) -> None:
        os.close(self._fd)


# ---------------------------------------------------------------- HTTP


class QuietServer(ThreadingHTTPServer):
    """A thread a connection; clients that hang up are nobody's news."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Small writes would wait 40 ms for an acknowledgement each.
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024
    cassette: CassetteServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.split("?", 1)[0].rstrip("/")
        if path == "/v1/models":
            model = {
                "id": self.cassette.cassette.model,
                "object": "model",
                "created": 0,
                "owned_by": "cassette",
            }
            self._json(200, {"object": "list", "data": [model]})
        elif path == "/cassette/requests":
            self._json(200, self.cassette.requests())
        else:
            self._error(404, "not_found", f"no {path or '/'} here")

    def do_POST(self) -> None:
        raw = self._body()
        if raw is None:
            return
        if self.cassette.closed:  # connections that are kept alive outlive the listening socket
            self.close_connection = True
            return
        path = self.path.split("?", 1)[0].rstrip("/")
        kinds: dict[str, Api] = {"/v1/chat/completions": "chat", "/v1/responses": "responses"}
        if path not in kinds:
            self._error(404, "not_found", f"no {path} here; there are {', '.join(kinds)}")
            return
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            self._error(400, "invalid_json", "the request's body is not a JSON object")
            return
        asked = read_request(kinds[path], {k.lower(): v for k, v in self.headers.items()}, body, len(raw))
        try:
            entry, fault = self.cassette.decide(asked)
            if fault is None:
                self.cassette.hold_back(entry, asked)
        except InvalidResource as exc:
            self._error(400, "cassette_mismatch", exc.message)
            return
        self._play(asked, entry, fault)

    def _body(self) -> bytes | None:
        length = int(self.headers.get("content-length") or 0)
        if length > _MAX_BODY:
            self.close_connection = True
            self._error(413, "too_large", f"a request of {length} bytes")
            return None
        return self.rfile.read(length)

    # ------------------------------------------------------------ answering

    def _play(self, asked: Asked, entry: Entry, fault: Fault | None) -> None:
        if fault and fault.status is not None:
            wait = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
            code = fault.code or ("rate_limit_exceeded" if fault.status == 429 else "planted")
            self._error(fault.status, code, fault.message, wait)
            return
        if entry.delay:
            time.sleep(entry.delay)
        said = _said(self.cassette.cassette.model, asked, entry, fault)
        cuts = fault is not None and fault.cuts
        if asked.stream or cuts:
            events = (
                chat_events(said, usage=asked.usage)
                if asked.api == "chat"
                else responses_events(said, encrypted=asked.encrypted)
            )
            self._stream(_cut(list(events), said, fault) if fault and cuts else events, whole=not cuts)
        else:
            self._json(200, chat(said) if asked.api == "chat" else responses(said, encrypted=asked.encrypted))

    def _stream(self, events: Iterable[bytes], *, whole: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for data in events:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        if whole:
            self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()
        if not whole:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    def _json(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def _error(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        error = {"message": message, "type": code, "code": code, "param": None}
        self._json(status, {"error": error}, headers)


def _said(model: str, asked: Asked, entry: Entry, fault: Fault | None) -> Said:
    turn = asked.key["turn"] or "0"
    empty = fault is not None and fault.empty
    calls = [] if empty else [_call(call, turn, index) for index, call in enumerate(entry.calls)]
    text = "" if empty else entry.content
    if entry.usage is not None:
        usage = entry.usage.model_dump()
    else:
        spoken = len(text) + len(entry.reasoning) + sum(len(name) + len(given) for _, name, given in calls)
        usage = {
            "input": asked.length // 4,
            "cached": 0,
            "cache_write": 0,
            "output": max(1, spoken // 4),
            "reasoning": len(entry.reasoning) // 4,
        }
    return Said(
        model=model,
        seed=_key(asked),
        text=text,
        reasoning="" if empty else entry.reasoning,
        calls=calls,
        usage=usage,
        finish=(fault.finish or "") if fault else "",
    )


def _call(call: Call, turn: str, index: int) -> tuple[str | int, str, str]:
    given = (
        call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments, ensure_ascii=False)
    )
    return (f"call_{turn}_{index}" if call.id is None else call.id), call.name, given


def _cut(events: list[bytes], said: Said, fault: Fault) -> list[bytes]:
    """The beginning of a stream. `mid_call` breaks off in the first piece of the first call's arguments."""
    if fault.cut_after_bytes is not None:
        return [b"".join(events)[: fault.cut_after_bytes] or b"\n"]
    marks = (b'"arguments": "', b"arguments.delta") if said.calls else (b'"content": "', b"output_text.delta")
    marked = [index for index, data in enumerate(events) if any(mark in data for mark in marks)]
    # On chat the first piece with these words only opens the call or the message.
    if marked and marks[0] in events[marked[0]] and marks[1] not in events[marked[0]]:
        marked = marked[1:]
    at = marked[0] if marked else len(events) // 2
    return [*events[:at], events[at][: len(events[at]) // 2]]
