"""A model server that misbehaves over real HTTP, and how to ask it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from swarmrun.cassette.render import Said, chat_events, event, responses_events
from swarmrun.models.client import OpenAIModel
from swarmrun.models.profiles import profile_for
from swarmrun.ports import CallKey, ModelReply, ModelRequest, Profile, ToolSpec

USAGE = {"input": 100, "cached": 40, "cache_write": 0, "output": 10, "reasoning": 3}

TOOLS = (
    ToolSpec(
        "write_file",
        "Writes a file.",
        {
            "type": "object",
            "properties": {"path": {"type": "string"}, "content": {"type": "string"}},
            "required": ["path", "content"],
        },
    ),
    ToolSpec(
        "read_file",
        "Reads a file.",
        {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
    ),
)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    owner: Misbehaving

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.owner.seen.append(body)
        self.owner.headers.append({k.lower(): v for k, v in self.headers.items()})
        self.owner.paths.append(self.path)
        if not self.owner.script:
            self.whole(500, b'{"error": {"message": "the script is at its end"}}')
            return
        self.owner.script.pop(0)(self)

    def whole(self, status: int, data: bytes, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def begin(self, kind: str = "text/event-stream") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def hang_up(self) -> None:
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    @property
    def api(self) -> str:
        return "responses" if self.path.endswith("/responses") else "chat"


Behaviour = Callable[[Handler], None]


class Misbehaving:
    """Plays a script of behaviours, one a request, and keeps what it was sent."""

    def __init__(self) -> None:
        self.script: list[Behaviour] = []
        self.seen: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.released = threading.Event()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), type("H", (Handler,), {"owner": self}))
        self.http.daemon_threads = True
        self.http.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"

    def play(self, *behaviours: Behaviour) -> Misbehaving:
        self.script.extend(behaviours)
        return self

    # ------------------------------------------------------------ behaviours

    def status(self, code: int, error: Any = "no", **headers: str) -> Behaviour:
        body = error if isinstance(error, bytes) else json.dumps({"error": error}).encode()
        if isinstance(error, str):
            body = json.dumps({"error": {"message": error}}).encode()
        return lambda h: h.whole(code, body, **headers)

    def raw(self, data: bytes, kind: str = "text/event-stream") -> Behaviour:
        def play(h: Handler) -> None:
            h.begin(kind)
            h.wfile.write(data)

        return play

    def silence(self, first: bytes = b"") -> Behaviour:
        """Says something, then nothing, until the test is over."""

        def play(h: Handler) -> None:
            if first:
                h.begin()
                h.wfile.write(first)
                h.wfile.flush()
            self.released.wait(20)

        return play

    def drip(self) -> Behaviour:
        """A comment every few milliseconds, for ever: lively and useless."""

        def play(h: Handler) -> None:
            h.begin()
            while not self.released.is_set():
                h.wfile.write(b": still here\n\n")
                h.wfile.flush()
                time.sleep(0.02)

        return play

    def hang_up(self) -> Behaviour:
        return lambda h: h.hang_up()

    def says(self, **said: Any) -> Behaviour:
        """A proper answer: text, reasoning, calls [(id, name, arguments)], finish, usage."""
        given: dict[str, Any] = {"model": "served", "seed": str(len(self.script)), "usage": USAGE, **said}

        def play(h: Handler) -> None:
            whole = Said(**given)
            encrypted = "reasoning.encrypted_content" in (self.seen[-1].get("include") or ())
            h.begin()
            events = (
                chat_events(whole, usage=True)
                if h.api == "chat"
                else responses_events(whole, encrypted=encrypted)
            )
            for data in events:
                h.wfile.write(data)

        return play

    def cut(self, share: float, **said: Any) -> Behaviour:
        """A share of what comes before the finish, ended as if it were whole (no error on the connection)."""
        given: dict[str, Any] = {"model": "served", "seed": "cut", "usage": USAGE, **said}

        def play(h: Handler) -> None:
            whole = Said(**given)
            if h.api == "chat":
                events = list(chat_events(whole, usage=True))[:-3]  # finish, usage, [DONE]
            else:
                events = list(responses_events(whole, encrypted=True))[:-1]  # response.completed
            h.begin()
            h.wfile.write(b"".join(events[: max(1, int(len(events) * share))]))

        return play

    def chunks(self, *deltas: Any, finish: str | None = "stop") -> Behaviour:
        """chat only: the given deltas as they are, then a finish."""

        def play(h: Handler) -> None:
            h.begin()
            for delta, reason in [*((d, None) for d in deltas), ({}, finish)]:
                choice = {"index": 0, "delta": delta, "finish_reason": reason}
                chunk = {
                    "id": "c",
                    "object": "chat.completion.chunk",
                    "created": 0,
                    "model": "m",
                    "choices": [choice],
                }
                h.wfile.write(event(chunk))
            h.wfile.write(event("[DONE]"))

        return play


@pytest.fixture
def server() -> Iterator[Misbehaving]:
    made = Misbehaving()
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield made
    made.released.set()
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture(params=["chat", "responses"])
def profile(request: pytest.FixtureRequest) -> Profile:
    """A test with this runs against both interfaces."""
    return profile_for("some-model", {"api": request.param, "max_output": 1000})


def text(role: str, *words: str) -> dict[str, Any]:
    return {"type": "message", "role": role, "contents": [{"type": "text", "text": word} for word in words]}


def results(reply: ModelReply, word: str = "done") -> dict[str, Any]:
    contents = [{"type": "function_result", "call_id": call.call_id, "result": word} for call in reply.calls]
    return {"type": "message", "role": "tool", "contents": contents}


class Asker:
    def __init__(self) -> None:
        self.tools = TOOLS
        self.text = text
        self.results = results

    def request(self, **changes: Any) -> ModelRequest:
        given: dict[str, Any] = {
            "key": CallKey("run-1", "coder", "storage", 1, 3),
            "instructions": "Be brief.",
            "messages": [text("user", "go")],
            "tools": TOOLS,
        }
        return ModelRequest(**{**given, **changes})

    def __call__(
        self,
        server: Misbehaving | str,
        profile: Profile,
        *,
        silence_s: float = 10,
        total_s: float = 10,
        **changes: Any,
    ) -> ModelReply:
        """One turn over HTTP with a client of its own."""
        return self.turns(server, profile, self.request(**changes), silence_s=silence_s, total_s=total_s)[0]

    def turns(
        self,
        server: Misbehaving | str,
        profile: Profile,
        *asked: ModelRequest,
        silence_s: float = 10,
        total_s: float = 10,
    ) -> list[ModelReply]:
        async def go() -> list[ModelReply]:
            url = server if isinstance(server, str) else server.url
            client = OpenAIModel(profile, endpoint=url, silence_s=silence_s, total_s=total_s)
            try:
                return [await client.turn(request) for request in asked]
            finally:
                await client.close()

        return asyncio.run(go())


@pytest.fixture
def ask() -> Asker:
    return Asker()
