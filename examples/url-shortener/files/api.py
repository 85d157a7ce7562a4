"""The HTTP API, as a WSGI application."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from shortener.formats import valid_code
from shortener.storage import Storage

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
MAX_BODY = 10_000


def make_app(storage: Storage, base: str) -> App:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "/")
        if (method, path) == ("POST", "/links"):
            status, headers, body = _add(storage, base, environ)
        elif method == "GET" and valid_code(path[1:]):
            status, headers, body = _follow(storage, path[1:])
        else:
            status, headers, body = "404 Not Found", [], {"error": "not found"}
        data = json.dumps(body).encode()
        start_response(
            status,
            [*headers, ("Content-Type", "application/json"), ("Content-Length", str(len(data)))],
        )
        return [data]

    return app


Answer = tuple[str, list[tuple[str, str]], dict[str, Any]]


def _add(storage: Storage, base: str, environ: dict[str, Any]) -> Answer:
    try:
        length = min(int(environ.get("CONTENT_LENGTH") or 0), MAX_BODY)
        asked = json.loads(environ["wsgi.input"].read(length) or b"{}")
        link = storage.add(str(asked["url"]), asked.get("code"))
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        return "400 Bad Request", [], {"error": str(exc)}
    return "201 Created", [], {"code": link.code, "short": link.short_url(base)}


def _follow(storage: Storage, code: str) -> Answer:
    try:
        link = storage.hit(code)
    except KeyError:
        return "404 Not Found", [], {"error": "not found"}
    return "302 Found", [("Location", link.url)], {"url": link.url}
