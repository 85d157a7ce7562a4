"""Azure Blob by workload identity: what AKS's webhook puts into a Pod is all that the store needs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from swarmrun.artifacts.store import open_store


class Azure(ThreadingHTTPServer):
    """A stand-in for Entra and for Blob Storage; notes what it is asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.exchanged: list[tuple[str, dict[str, list[str]]]] = []
        self.put: list[tuple[str, str]] = []


class Handler(BaseHTTPRequestHandler):
    server: Azure
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.server.exchanged.append((self.path, parse_qs(self._body().decode())))
        self._answer(200, {"access_token": "a-token", "expires_in": 3600, "token_type": "Bearer"})

    def do_PUT(self) -> None:
        self._body()
        self.server.put.append((self.path, self.headers["authorization"]))
        self._answer(201, {})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def _answer(self, status: int, body: dict[str, object]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.send_header("etag", '"1"')
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def azure() -> Iterator[Azure]:
    with Azure() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_the_service_account_s_token_is_exchanged_for_one_of_the_store(
    azure: Azure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("of-the-service-account")
    url = f"http://127.0.0.1:{azure.server_port}"
    for name, value in {
        # The webhook's four,
        "AZURE_CLIENT_ID": "client",
        "AZURE_TENANT_ID": "tenant",
        "AZURE_FEDERATED_TOKEN_FILE": str(tmp_path / "token"),
        "AZURE_AUTHORITY_HOST": f"{url}/",
        # the one of docs/aks.md,
        "AZURE_STORAGE_ACCOUNT_NAME": "account",
        # and where the stand-in is.
        "AZURE_STORAGE_ENDPOINT": url,
        "AZURE_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    open_store("az://runs/prod").put_new("some/key", b"x")
    ((path, asked),) = azure.exchanged
    assert path == "/tenant/oauth2/v2.0/token"
    assert (asked["client_id"], asked["client_assertion"]) == (["client"], ["of-the-service-account"])
    assert asked["scope"] == ["https://storage.azure.com/.default"]
    assert azure.put == [("/runs/prod/some/key", "Bearer a-token")]
