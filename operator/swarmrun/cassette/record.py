"""A proxy that forwards to a real server and writes what it said as a cassette, without secrets.

Answers are passed on piece by piece as they come; when one is whole, the file is written anew, so that an
interrupted recording is complete up to there. What a server refused before it answered (429, 5xx) is recorded
as a fault of the entry. Requests are not recorded: they hold the repository.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx

from swarmrun.cassette.request import Api, Asked, read_request
from swarmrun.cassette.server import QuietServer
from swarmrun.errors import Conflict, InvalidResource
from swarmrun.observability.secrets import scrub

# Hop-by-hop headers (RFC 9110, 7.6.1), and those that httpx sets itself.
_NOT_FORWARDED = {
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "accept-encoding",
    "keep-alive",
    "te",
}
_SECRET_HEADERS = (
    "authorization",
    "api-key",
    "x-api-key",
    "cookie",
    "ocp-apim-subscription-key",
    "x-goog-api-key",
)
_TIMEOUT = httpx.Timeout(300, connect=20)
"""As the client's own, see models/client.py."""


class RecordingProxy:
    """Listens on loopback, forwards to `upstream`, writes `out`. A context manager; `url` is the endpoint to use."""

    def __init__(self, upstream: str, out: str | Path, *, host: str = "127.0.0.1", port: int = 0) -> None:
        """`upstream`: a base address (`https://…/v1`). Raises InvalidResource, Conflict (port, or `out` exists)."""
        parts = urllib.parse.urlsplit(upstream)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidResource(f"upstream {upstream!r} is no http address", field="upstream")
        self.out = Path(out)
        if self.out.exists():
            raise Conflict(f"{self.out} exists", mend="name another file, or remove it")
        self.upstream = upstream.rstrip("/")
        self._host = host
        self._lock = threading.Lock()
        self._entries: dict[tuple[str, ...], dict[str, Any]] = {}
        self._model = "recorded"
        self.http = httpx.Client(timeout=_TIMEOUT, follow_redirects=False)
        try:
            self._server = QuietServer((host, port), type("Handler", (_Handler,), {"proxy": self}))
        except OSError as exc:
            raise Conflict(
                f"cannot listen on {host}:{port}: {exc}", mend="use another port, or 0 for any"
            ) from exc

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._server.server_address[1]}/v1"

    def __enter__(self) -> RecordingProxy:
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="recorder", daemon=True
        ).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self.http.close()

    def serve_forever(self) -> None:
        try:
            self._server.serve_forever()
        finally:
            self._server.server_close()
            self.http.close()

    # ------------------------------------------------------------ writing

    def fault(self, asked: Asked, status: int, retry_after: str | None) -> None:
        row: dict[str, Any] = {"status": status}
        if retry_after and retry_after.replace(".", "", 1).isdigit():
            row["retry_after"] = float(retry_after)
        with self._lock:
            self._entry(asked).setdefault("faults", []).append(row)

    def answer(self, asked: Asked, spoken: dict[str, Any], secrets: tuple[str, ...]) -> None:
        with self._lock:
            entry = self._entry(asked)
            self._model = spoken.pop("model", None) or self._model
            # The last answer to a key stands: what came before it was thrown away and asked again.
            faults = entry.pop("faults", None)
            for field in ("reasoning", "text", "calls", "usage"):
                entry.pop(field, None)
            entry.update({"faults": faults} if faults else {})
            entry.update({k: _scrubbed(v, secrets) for k, v in spoken.items() if v})
            self._write()

    def _entry(self, asked: Asked) -> dict[str, Any]:
        names = ("role", "task", "attempt", "turn", "sample")
        key = tuple(asked.key[name] for name in names)
        if key not in self._entries:
            numbers = ("attempt", "turn", "sample")
            entry: dict[str, Any] = {
                n: int(v) if n in numbers and v.isdigit() else v for n, v in zip(names, key, strict=True) if v
            }
            entry.setdefault("role", "*")
            entry.setdefault("turn", "*")
            if asked.tools:
                entry["expect"] = {"tools": list(asked.tools)}
            self._entries[key] = entry
        return self._entries[key]

    def _write(self) -> None:
        from ruamel.yaml import YAML

        yaml = YAML()
        yaml.width = 110
        answered = [e for e in self._entries.values() if "text" in e or "calls" in e]
        order = sorted(answered, key=_order)
        partial = self.out.with_name(self.out.name + ".part")
        with partial.open("w", encoding="utf-8") as file:
            yaml.dump({"model": self._model, "entries": _literal(order)}, file)
        os.replace(partial, self.out)


def _order(entry: dict[str, Any]) -> tuple[str, str, int, int]:
    numbers = (entry.get("attempt"), entry.get("turn"))
    attempt, turn = (value if isinstance(value, int) else 0 for value in numbers)
    return str(entry["role"]), str(entry.get("task", "")), attempt, turn


def _scrubbed(value: Any, secrets: tuple[str, ...]) -> Any:
    if isinstance(value, str):
        return scrub(value, secrets)
    if isinstance(value, dict):
        return {k: _scrubbed(v, secrets) for k, v in value.items()}
    if isinstance(value, list):
        return [_scrubbed(v, secrets) for v in value]
    return value


def _literal(value: Any) -> Any:
    """Texts of several lines as YAML blocks: files stay readable."""
    from ruamel.yaml.scalarstring import LiteralScalarString

    if isinstance(value, str):
        plain = (
            "\n" in value
            and "\t" not in value
            and not any(line != line.rstrip() for line in value.split("\n"))
        )
        return LiteralScalarString(value) if plain else value
    if isinstance(value, dict):
        return {k: _literal(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_literal(v) for v in value]
    return value


# ---------------------------------------------------------------- reading what was said


def read_stream(api: Api, data: bytes) -> dict[str, Any] | None:
    """What an event stream said (model, reasoning, text, calls, usage); None when it did not end."""
    events = [
        line[5:].strip() for line in data.decode("utf-8", "replace").splitlines() if line.startswith("data:")
    ]
    chunks = [chunk for chunk in map(_json, events) if chunk is not None]
    if api == "responses":
        done = next(
            (c for c in chunks if c.get("type") in ("response.completed", "response.incomplete")), None
        )
        return None if done is None else read_whole(api, done["response"])
    return _joined(chunks)


def _joined(chunks: list[dict[str, Any]]) -> dict[str, Any] | None:
    text, reasoning, finished = "", "", False
    calls: dict[int, dict[str, Any]] = {}
    usage: dict[str, Any] = {}
    model = ""
    for chunk in chunks:
        model = chunk.get("model") or model
        usage = chunk.get("usage") or usage
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            text += delta.get("content") or ""
            reasoning += delta.get("reasoning_content") or delta.get("reasoning") or ""
            finished = finished or bool(choice.get("finish_reason"))
            for piece in delta.get("tool_calls") or ():
                call = calls.setdefault(piece.get("index") or 0, {"id": "", "name": "", "arguments": ""})
                function = piece.get("function") or {}
                call["id"] = piece.get("id") or call["id"]
                call["name"] = call["name"] or function.get("name") or ""
                call["arguments"] += function.get("arguments") or ""
    if not finished:
        return None
    return _spoken(model, reasoning, text, list(calls.values()), _chat_usage(usage))


def read_whole(api: Api, body: dict[str, Any]) -> dict[str, Any] | None:
    """What an answer in one piece said."""
    if api == "chat":
        message = (body.get("choices") or [{}])[0].get("message") or {}
        calls = [{"id": c.get("id"), **(c.get("function") or {})} for c in message.get("tool_calls") or ()]
        reasoning = message.get("reasoning_content") or ""
        usage = _chat_usage(body.get("usage") or {})
        return _spoken(body.get("model", ""), reasoning, message.get("content") or "", calls, usage)
    text, reasoning, calls = "", "", []
    for item in body.get("output") or ():
        if item.get("type") == "message":
            text += "".join(part.get("text") or "" for part in item.get("content") or ())
        elif item.get("type") == "reasoning":
            reasoning += "".join(part.get("text") or "" for part in item.get("summary") or ())
        elif item.get("type") == "function_call":
            calls.append(
                {"id": item.get("call_id"), "name": item.get("name"), "arguments": item.get("arguments")}
            )
    u = body.get("usage") or {}
    usage = _usage(
        u.get("input_tokens"),
        u.get("input_tokens_details"),
        u.get("output_tokens"),
        u.get("output_tokens_details"),
    )
    return _spoken(body.get("model", ""), reasoning, text, calls, usage)


def _spoken(
    model: str, reasoning: str, text: str, calls: list[dict[str, Any]], usage: dict[str, int]
) -> dict[str, Any]:
    said = [
        {
            "name": c.get("name") or "",
            "arguments": _json(c.get("arguments") or "{}", keep=True),
            "id": c.get("id"),
        }
        for c in calls
    ]
    return {"model": model, "reasoning": reasoning, "text": text, "calls": said, "usage": usage}


def _chat_usage(usage: dict[str, Any]) -> dict[str, int]:
    return _usage(
        usage.get("prompt_tokens"),
        usage.get("prompt_tokens_details"),
        usage.get("completion_tokens"),
        usage.get("completion_tokens_details"),
    )


def _usage(given: Any, given_details: Any, taken: Any, taken_details: Any) -> dict[str, int]:
    if not isinstance(given, int) or not isinstance(taken, int):
        return {}
    details: dict[str, Any] = {**(given_details or {}), **(taken_details or {})}
    names = {"cached": "cached_tokens", "cache_write": "cache_write_tokens", "reasoning": "reasoning_tokens"}
    return {"input": given, "output": taken} | {k: details[v] for k, v in names.items() if details.get(v)}


def _json(text: Any, *, keep: bool = False) -> Any:
    """A JSON object, else None (or, with `keep`, the text as it was: broken arguments are worth recording)."""
    try:
        value = json.loads(text)
    except (ValueError, TypeError):
        value = None
    if isinstance(value, dict):
        return value
    return str(text) if keep else None


# ---------------------------------------------------------------- HTTP


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy: RecordingProxy

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._forward(b"")

    def do_POST(self) -> None:
        self._forward(self.rfile.read(int(self.headers.get("content-length") or 0)))

    def _forward(self, body: bytes) -> None:
        path = self.path.removeprefix("/v1")
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _NOT_FORWARDED}
        try:
            with self.proxy.http.stream(
                self.command, self.proxy.upstream + path, headers=headers, content=body
            ) as answer:
                data = self._pass_on(answer)
        except httpx.HTTPError as exc:
            print(f"upstream: {type(exc).__name__}: {scrub(str(exc))}", file=sys.stderr, flush=True)
            self.close_connection = True
            return
        self._record(path.split("?", 1)[0], body, answer, data)

    def _pass_on(self, answer: httpx.Response) -> bytes:
        self.send_response(answer.status_code)
        for name, value in answer.headers.items():
            if name.lower() not in (*_NOT_FORWARDED, "content-encoding", "server", "date", "set-cookie"):
                self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        taken: list[bytes] = []
        for piece in _not_empty(answer.iter_bytes()):
            taken.append(piece)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")
        return b"".join(taken)

    def _record(self, path: str, body: bytes, answer: httpx.Response, data: bytes) -> None:
        kinds: dict[str, Api] = {"/chat/completions": "chat", "/responses": "responses"}
        sent = _json(body)
        if path not in kinds or sent is None:
            return
        api = kinds[path]
        asked = read_request(api, {k.lower(): v for k, v in self.headers.items()}, sent, len(body))
        if answer.status_code == 429 or answer.status_code >= 500:
            self.proxy.fault(asked, answer.status_code, answer.headers.get("retry-after"))
        elif answer.status_code == 200:
            whole = _json(data)
            spoken = read_whole(api, whole) if whole is not None else read_stream(api, data)
            if spoken is not None:
                self.proxy.answer(asked, spoken, tuple(self._secrets()))

    def _secrets(self) -> Iterator[str]:
        for name in _SECRET_HEADERS:
            for value in self.headers.get_all(name) or ():
                yield value.split(" ", 1)[-1]


def _not_empty(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """A chunk of no bytes would end the stream."""
    return (piece for piece in pieces if piece)
