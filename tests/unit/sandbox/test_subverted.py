"""A server that an agent put in the place of ours: whatever it answers, the brain's time and memory are bounded, and
what comes of it is an error of ours."""

from __future__ import annotations

import asyncio
import copy
import gzip
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from swarmrun.errors import SandboxLost, SwarmRunError, ToolRejected
from swarmrun.sandbox import answers
from swarmrun.sandbox.client import SandboxClient

HEAD = b"HTTP/1.1 200 OK\r\nX-Sandboxd-Protocol: 1\r\nX-Boot-Id: b\r\n"
COMMIT = "a" * 40
RUNNING = {"process": "p1", "exit_code": None, "stdout": "", "omitted": 0, "output_file": "", "seconds": 0.1}
ENDED = RUNNING | {"exit_code": 0}
PIECE = b" " * 65536

CALLS: dict[str, Callable[[SandboxClient], Awaitable[Any]]] = {
    "health": lambda box: box.health(timeout_s=5),
    "exec": lambda box: box.exec("true", timeout_s=1),
    "background": lambda box: box.exec("true", background=True),
    "poll": lambda box: box.poll("p1"),
    "kill": lambda box: box.kill("p1"),
    "read": lambda box: box.read("f", max_bytes=1000),
    "write": lambda box: box.write("f", b"1"),
    "delete": lambda box: box.delete("f"),
    "move": lambda box: box.move("f", "g"),
    "list": lambda box: box.list(),
    "search": lambda box: box.search("x"),
    "load": lambda box: box.load(b"", commit=COMMIT, branch="b"),
    "checkpoint": lambda box: box.checkpoint(since=COMMIT),
}
HONEST: dict[str, dict[str, Any]] = {
    "exec": ENDED,
    "background": RUNNING,
    "poll": ENDED,
    "kill": ENDED,
    "list": {"rows": ["a", "b"], "total": 2},
    "search": {"rows": ["a:1: x"], "total": 1},
    "checkpoint": {"commit": COMMIT, "tree": COMMIT, "changed": False},
}


class Fake:
    """Answers each request by `answer(connection, number of the request)`; counts what it could send."""

    def __init__(self, answer: Callable[[Fake, socket.socket], None]) -> None:
        self.requests = 0
        self.sent = 0
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            connection.settimeout(20)
            try:
                while lines.readline():
                    length = 0
                    while (line := lines.readline().lower()) not in (b"\r\n", b""):
                        if line.startswith(b"content-length:"):
                            length = int(line.split(b":")[1])
                    lines.read(length)
                    self.requests += 1
                    self._answer(self, connection)
            except OSError:
                return

    def send(self, connection: socket.socket, data: bytes) -> None:
        connection.sendall(data)
        self.sent += len(data)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def subverted() -> Iterator[Callable[..., Any]]:
    """Runs a scenario with a client of a fake server; returns the server."""
    made: list[Fake] = []

    def run(
        answer: Callable[[Fake, socket.socket], None], scenario: Callable[[SandboxClient], Awaitable[Any]]
    ) -> Fake:
        fake = Fake(answer)
        made.append(fake)

        async def go() -> None:
            client = SandboxClient("s", "t", url=fake.url)
            try:
                await scenario(client)
            finally:
                await client.close()

        asyncio.run(go())
        return fake

    yield run
    for fake in made:
        fake.close()


def whole(body: bytes, extra: bytes = b"") -> Callable[[Fake, socket.socket], None]:
    head = HEAD + extra + b"Content-Length: %d\r\n\r\n" % len(body)
    return lambda fake, connection: fake.send(connection, head + body)


def endless(first: bytes, extra: bytes = b"Content-Length: 99999999999\r\n") -> Callable[..., None]:
    def answer(fake: Fake, connection: socket.socket) -> None:
        fake.send(connection, HEAD + extra + b"\r\n" + first)
        while True:
            fake.send(connection, PIECE)

    return answer


@pytest.mark.parametrize("op", CALLS)
def test_an_endless_answer_is_cut_off_long_before_the_memory_is(subverted, op):
    async def scenario(box):
        with pytest.raises(SandboxLost, match=r"more than \d+ bytes") as caught:
            await CALLS[op](box)
        assert caught.value.reason == "ForeignAnswer"

    # What is in buffers on the way counts as sent.
    assert subverted(endless(b""), scenario).sent < answers.MAX_HEAD + 24 * 1024**2


@pytest.mark.parametrize("op", ["exec", "read", "write"])
def test_an_endless_payload_is_cut_off(subverted, op):
    async def scenario(box):
        with pytest.raises(SandboxLost, match=r"more than \d+ bytes"):
            await CALLS[op](box)

    first = json.dumps(HONEST.get(op, {})).encode() + b"\n"
    assert subverted(endless(first), scenario).sent < 24 * 1024**2


def test_a_bundle_over_the_cap_is_cut_off(subverted, monkeypatch):
    monkeypatch.setattr(answers, "MAX_BUNDLE", 1_000_000)

    async def scenario(box):
        with pytest.raises(SandboxLost, match="more than 1000000 bytes"):
            await box.checkpoint(since=COMMIT)

    first = json.dumps(HONEST["checkpoint"]).encode() + b"\n"
    assert subverted(endless(first), scenario).sent < 24 * 1024**2


def test_what_is_packed_is_not_unpacked(subverted):
    bomb = gzip.compress(b" " * 50_000_000)

    async def scenario(box):
        with pytest.raises(SandboxLost, match="something else than JSON"):
            await box.read("f")

    subverted(whole(bomb, b"Content-Encoding: gzip\r\n"), scenario)


def test_an_answer_byte_by_byte_ends_with_patience(subverted):
    def answer(fake: Fake, connection: socket.socket) -> None:
        fake.send(connection, HEAD + b"Content-Length: 999\r\n\r\n")
        while True:
            fake.send(connection, b" ")
            time.sleep(0.02)

    async def scenario(box):
        with pytest.raises(SandboxLost, match="did not answer"):
            await box.health(timeout_s=0.3)

    subverted(answer, scenario)


@pytest.mark.parametrize("line", [b"HTTP/1.1 100 Continue\r\n\r\n", b"X-More: " + b"x" * 8000 + b"\r\n"])
def test_a_head_without_end_ends(subverted, line):
    def answer(fake: Fake, connection: socket.socket) -> None:
        fake.send(connection, b"" if line.startswith(b"HTTP") else HEAD)
        while True:
            fake.send(connection, line)

    async def scenario(box):
        with pytest.raises(SandboxLost):
            await box.health(timeout_s=0.5)

    subverted(answer, scenario)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 1_000_000,
        b'{"a":' * 300_000,
        b'{"seconds": ' + b"9" * 100_000 + b"}",
        b'{"seconds": NaN}',
        b"\xff\xfe{}",
        b"null",
        b"7",
        b'"text"',
        b"[]",
        b"",
    ],
    ids=lambda body: body[:12].decode("latin-1"),
)
def test_json_that_is_a_trap_is_no_answer(subverted, body):
    async def scenario(box):
        for call in CALLS.values():
            with pytest.raises(SandboxLost) as caught:
                await call(box)
            assert caught.value.reason == "ForeignAnswer"

    subverted(whole(body + b"\n"), scenario)


WRONG = [
    None,
    True,
    -1,
    0.5,
    1e300,
    10**30,
    "x",
    "x" * 500_000,
    "\ud800",
    "\x1b]0;x\x07\0",
    [],
    [1],
    [[]],
    {},
    {"a": 1},
]


@pytest.mark.parametrize("op", HONEST)
def test_a_value_of_another_kind_is_an_error_of_ours_or_harmless(subverted, op):
    """Every value of every answer in turn is replaced by what it must not be, or left out."""
    honest = HONEST[op]
    bodies = [{k: v for k, v in honest.items() if k != name} for name in honest]
    for name in honest:
        for wrong in WRONG:
            bodies.append(copy.deepcopy(honest) | {name: wrong})
    for error in (
        None,
        7,
        "x",
        [],
        {},
        {"code": [], "message": {}},
        {"code": "rejected", "message": "m" * 500_000},
    ):
        bodies.append({"error": error})
    pending = [json.dumps(body).encode() + b"\n" for body in bodies]

    def answer(fake: Fake, connection: socket.socket) -> None:
        body = pending[0]
        fake.send(connection, HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    async def scenario(box):
        while pending:
            try:
                result = await asyncio.wait_for(CALLS[op](box), 5)
                told = repr(result)
            except SwarmRunError as exc:
                told = exc.message
            assert len(told) < 600_000
            told.encode()  # no lone surrogate goes on into a store or a request
            pending.pop(0)

    subverted(answer, scenario)


def test_a_command_that_never_ends_is_asked_after_at_a_walk(subverted):
    async def scenario(box):
        result = await box.exec("true", timeout_s=1)
        assert result.timed_out

    fake = subverted(whole(json.dumps(RUNNING).encode() + b"\n"), scenario)
    assert fake.requests < 10


def test_a_redirect_leads_nowhere(subverted):
    elsewhere = Fake(whole(b"{}\n"))

    def answer(fake: Fake, connection: socket.socket) -> None:
        where = elsewhere.url.encode()
        fake.send(
            connection,
            b"HTTP/1.1 307 Temporary Redirect\r\nX-Sandboxd-Protocol: 1\r\nLocation: "
            + where
            + b"/v1/health\r\nContent-Length: 0\r\n\r\n",
        )

    async def scenario(box):
        with pytest.raises(SandboxLost):
            await box.health()

    subverted(answer, scenario)
    assert elsewhere.requests == 0
    elsewhere.close()


def test_a_refusal_s_text_is_short(subverted):
    body = json.dumps({"error": {"code": "rejected", "message": "m" * 1_000_000}}).encode() + b"\n"

    async def scenario(box):
        with pytest.raises(ToolRejected) as caught:
            await box.read("f")
        assert len(caught.value.message) <= answers.MAX_MESSAGE

    subverted(whole(body), scenario)
