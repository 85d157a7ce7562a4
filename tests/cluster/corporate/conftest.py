"""A company's network in the test's process, which must run where Pods find the forge: a host behind a private CA,
and a proxy that decides about domains."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest


def certificates(where: Path, name: str) -> tuple[str, Path, Path]:
    """A fresh CA (its certificate as text), and certificate and key that it gave to the host `name`."""

    def openssl(*words: str) -> None:
        done = subprocess.run(["openssl", *words], cwd=where, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(
        "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=Example CA", "-days", "2"
    )
    openssl("req", *key, "-keyout", "host.key", "-out", "host.csr", "-subj", f"/CN={name}")
    (where / "names").write_text(f"subjectAltName=DNS:{name}\n")
    signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    openssl("x509", "-req", "-in", "host.csr", "-out", "host.crt", *signed)
    return (where / "ca.crt").read_text(), where / "host.crt", where / "host.key"


class _Server:
    """One thread a connection; `close` ends the listening."""

    def __init__(self, host: str) -> None:
        self._listener = socket.create_server((host, 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                taken, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._guarded, args=(taken,), daemon=True).start()

    def _guarded(self, taken: socket.socket) -> None:
        with suppress(OSError, ValueError), taken:
            self.serve(taken)

    def serve(self, taken: socket.socket) -> None:
        raise NotImplementedError

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # one who waits for a connection would still get one
        self._listener.close()


class TlsFront(_Server):
    """TLS in front of a plain server."""

    def __init__(self, host: str, to: tuple[str, int], certificate: Path, key: Path) -> None:
        self._to = to
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        super().__init__(host)

    def serve(self, taken: socket.socket) -> None:
        with self._context.wrap_socket(taken, server_side=True) as inner:
            between(inner, socket.create_connection(self._to))


class Proxy(_Server):
    """Takes `CONNECT name:port` for the names that it knows, refuses others; `asked` is what it was asked for."""

    def __init__(self, host: str, known: dict[str, tuple[str, int]]) -> None:
        self._known = known
        self.asked: list[str] = []
        super().__init__(host)

    def serve(self, taken: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            if not (got := taken.recv(1)):
                return
            head += got
        verb, name, _ = head.split(b"\r\n")[0].decode().split(" ")
        self.asked.append(f"{verb} {name}")
        if verb != "CONNECT" or name not in self._known:
            taken.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return
        taken.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        between(taken, socket.create_connection(self._known[name]))


def between(one: socket.socket, other: socket.socket) -> None:
    """Copies both ways until both sides have ended."""

    def copy(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    with other:
        back = threading.Thread(target=copy, args=(other, one), daemon=True)
        back.start()
        copy(one, other)
        back.join()


NAME = "git.corp.example"
"""Resolved by nobody but the proxy."""


class Company:
    name = NAME

    def __init__(self, host: str, forge_port: int, where: Path) -> None:
        self.host = host
        self.ca, certificate, key = certificates(where, NAME)
        self.front = TlsFront(host, (host, forge_port), certificate, key)
        self.proxy = Proxy(host, {f"{NAME}:443": (host, self.front.port)})
        self.proxy_url = f"http://{host}:{self.proxy.port}"

    def url(self, plain: str) -> str:
        """The address of a repository of the forge, as the company has it."""
        return f"https://{NAME}/" + plain.split("/", 3)[3]

    def close(self) -> None:
        self.front.close()
        self.proxy.close()

    async def trusted(self, cluster: Any, name: str = "corporate-ca") -> str:
        body = {"metadata": {"name": name}, "data": {"ca.crt": self.ca}}
        await cluster.api.create(f"{cluster.core}/configmaps", body)
        return name


@pytest.fixture
def company(forge: tuple[str, str], tmp_path: Path) -> Iterator[Company]:
    url = httpx.URL(forge[0])
    try:
        socket.create_server((url.host, 0)).close()
    except OSError:
        pytest.skip(f"this process does not run at {url.host}, where Pods find the forge")
    it = Company(url.host, url.port or 80, tmp_path)
    yield it
    it.close()
