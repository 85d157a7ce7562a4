"""As much of HTTP/1.1 as one trusted client needs: keep-alive, Content-Length, POST.

One event loop serves all connections and workers are started beforehand: the server must still answer when
the sandbox may not start another thread or process.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import sys
import time
import traceback
from typing import Any, Awaitable, Callable, Dict, Optional, Tuple

from . import PROTOCOL
from .failures import Failure, from_os_error

MAX_HEAD = 64 * 1024
MAX_BODY = 2 * 1024**3
"""2 GiB: a bundle of the largest repository that one would give to agents."""

Handler = Callable[[str, Dict[str, Any], bytes], Awaitable[Tuple[Dict[str, Any], bytes]]]

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?:-|$)")
"""W3C Trace Context. Its values are not needed here: that there is one says that the caller wants the timing."""

_STATUS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    413: "Too Large",
    500: "Error",
}


class Wire:
    """Reads requests, checks the token, calls `handle(op, arguments, payload)`."""

    def __init__(self, token_sha256: str, boot_id: str, handle: Handler) -> None:
        self._token_sha256 = token_sha256
        self._boot_id = boot_id
        self._handle = handle

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # The client went away, or it does not speak HTTP.
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        length = headers.get("content-length", "0")
        if not self._known(headers.get("authorization", "")):
            # Before the body is read: a stranger must not fill the memory.
            await self._answer(writer, 401, _error("unauthorized", "wrong or missing token"))
            return False
        if len(words) != 3 or not length.isdigit() or "transfer-encoding" in headers:
            await self._answer(writer, 400, _error("rejected", "not a request that this server understands"))
            return False
        if int(length) > MAX_BODY:
            await self._answer(writer, 413, _error("rejected", f"a body may have {MAX_BODY} bytes"))
            return False
        body = await reader.readexactly(int(length))
        began = time.perf_counter()
        status, answer, payload = await self._call(words[0], words[1], body)
        traced = _TRACEPARENT.match(headers.get("traceparent", "")) is not None
        took = time.perf_counter() - began if traced else None
        await self._answer(writer, status, answer, payload, took=took)
        return headers.get("connection", "").lower() != "close"

    async def _call(self, method: str, path: str, body: bytes) -> Tuple[int, Dict[str, Any], bytes]:
        if method != "POST" or not path.startswith("/v1/"):
            return 404, _error("unknown-op", f"no such thing: {method} {path}"), b""
        op = path[len("/v1/") :]
        end = body.find(b"\n")
        head, payload = (body, b"") if end < 0 else (body[:end], body[end + 1 :])
        try:
            arguments = json.loads(head or b"{}")
        except ValueError as exc:
            return 400, _error("rejected", f"the first line must be JSON: {exc}"), b""
        if not isinstance(arguments, dict):
            return 400, _error("rejected", "the first line must be a JSON object"), b""
        try:
            answer, out = await self._handle(op, arguments, payload)
        except Failure as exc:
            return (404 if exc.code == "unknown-op" else 400), _error(exc.code, exc.message), b""
        except OSError as exc:
            failure = from_os_error(exc, op)
            return 400, _error(failure.code, failure.message), b""
        except (KeyError, TypeError, ValueError) as exc:
            return 400, _error("rejected", f"{op}: bad arguments: {type(exc).__name__}: {exc}"), b""
        except Exception as exc:  # noqa: BLE001  (one bad call must not end the server)
            traceback.print_exc(file=sys.stderr)
            return 500, _error("failed", f"{op}: {type(exc).__name__}: {exc}"), b""
        return 200, answer, out

    def _known(self, authorization: str) -> bool:
        scheme, _, token = authorization.partition(" ")
        digest = hashlib.sha256(token.encode("latin-1")).hexdigest()
        return scheme.lower() == "bearer" and token != "" and hmac.compare_digest(digest, self._token_sha256)

    async def _answer(
        self,
        writer: asyncio.StreamWriter,
        status: int,
        answer: Dict[str, Any],
        payload: bytes = b"",
        *,
        took: Optional[float] = None,
    ) -> None:
        line = json.dumps(answer).encode() + b"\n"
        head = (
            f"HTTP/1.1 {status} {_STATUS.get(status, 'Error')}\r\n"
            f"X-Sandboxd-Protocol: {PROTOCOL}\r\nX-Boot-Id: {self._boot_id}\r\n"
            f"Content-Length: {len(line) + len(payload)}\r\n"
        )
        if took is not None:
            # W3C Server Timing, milliseconds. Whoever traces writes our span: there is no way out from here.
            head += f"Server-Timing: sandboxd;dur={took * 1000:.3f}\r\n"
        head += "\r\n"
        writer.write(head.encode("latin-1") + line)
        if payload:
            writer.write(payload)
        await writer.drain()


def _error(code: str, message: str) -> Dict[str, Any]:
    return {"error": {"code": code, "message": message}}
