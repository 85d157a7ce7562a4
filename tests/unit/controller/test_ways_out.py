"""Proxies and certificate authorities of the house, as the chart's values bring them into the process: what goes
out goes through them, what is inside of the cluster does not. A real proxy, real TLS, one process a way."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import kopf
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from swarmrun.controller.trust import READERS, roots, trust

HELPERS = Path(__file__).parents[3] / "charts/swarmrun/templates/_helpers.tpl"
SCRIPT = Path(__file__).parent / "ways_out.py"


class Server:
    """Answers everything with 200 and notes what it was asked; a proxy is asked for whole addresses."""

    def __init__(self, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                asked.append(f"{self.command} {self.path}")
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = b'{"seen": true}'
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                # An object store's answer has these.
                self.send_header("ETag", '"1"')
                self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_CONNECT = answer

            def log_message(self, *_: Any) -> None: ...

        self.asked = asked
        self._http = ThreadingHTTPServer((host, 0), Handler)
        if tls:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        self.port = self._http.server_address[1]
        self.url = f"http{'s' if tls else ''}://{'localhost' if tls else host}:{self.port}"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def start(**how: Any) -> Server:
        made.append(Server(**how))
        return made[-1]

    yield start
    for server in made:
        server.close()


def go(way: str, url: str, **env: str) -> str:
    clean = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and k not in READERS}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), way, url],
        env={**clean, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout + done.stderr


def no_proxy(api_server: str) -> str:
    """What the chart always spares, with the API server's address as the kubelet puts it in."""
    (always,) = re.findall(r"\$always := list (.*) }}", HELPERS.read_text())
    return ",".join(re.findall(r'"([^"]+)"', always)).replace("$(KUBERNETES_SERVICE_HOST)", api_server)


def proxied(proxy: Server, spared: str = "") -> dict[str, str]:
    env = {"HTTP_PROXY": proxy.url, "HTTPS_PROXY": proxy.url, "NO_PROXY": spared}
    return env | {name.lower(): value for name, value in env.items()}


# ---------------------------------------------------------------- proxies


@pytest.mark.parametrize("way", ["models", "artifacts"])
def test_what_is_outside_is_reached_through_the_proxy_alone(way: str, serve: Callable[..., Server]) -> None:
    proxy = serve()
    # A name that nobody can resolve: only a proxy gets anywhere.
    go(way, "http://outside.invalid", **proxied(proxy, no_proxy("10.0.0.1")))
    assert any("outside.invalid" in line for line in proxy.asked)
    proxy.asked.clear()
    go(way, "https://outside.invalid", **proxied(proxy, no_proxy("10.0.0.1")))
    assert "CONNECT outside.invalid:443" in proxy.asked


def test_the_api_server_is_not_asked_through_the_proxy(serve: Callable[..., Server]) -> None:
    proxy, api = serve(), serve(host="127.0.0.2")
    assert "seen" in go("api", api.url, **proxied(proxy, no_proxy("127.0.0.2")))
    assert (proxy.asked, api.asked) == ([], ["GET /version"])
    # Without what the chart adds it would be.
    go("api", api.url, **proxied(proxy))
    assert proxy.asked
    # Kopf's own connections look at no proxy at all.
    assert kopf.OperatorSettings().networking.trust_env is False


def test_models_inside_of_the_cluster_are_not_asked_through_the_proxy(serve: Callable[..., Server]) -> None:
    proxy = serve()
    for address in ("http://models.team-a.svc:1/v1", "http://models.team-a.svc.cluster.local:1/v1"):
        go("models", address, **proxied(proxy, no_proxy("10.0.0.1")))
    assert proxy.asked == []
    go("models", "http://models.team-a.svc:1/v1", **proxied(proxy))
    assert proxy.asked


def test_no_environment_sends_a_sandbox_s_calls_through_a_proxy(serve: Callable[..., Server]) -> None:
    proxy, sandbox = serve(), serve(host="127.0.0.2")
    go("sandbox", sandbox.url, **proxied(proxy))
    assert (proxy.asked, sandbox.asked) == ([], ["POST /v1/health"])


# ---------------------------------------------------------------- certificate authorities


@pytest.fixture
def house(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    """The house's authority as a PEM file, and a server's context with a certificate of it for localhost."""
    now = datetime.now(UTC)

    def name(what: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, what)])

    def builder(subject: str, key: Any) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("House"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
        )

    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = (
        builder("House", root_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(root_key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(True, False, False, False, False, True, True, False, False), critical=True
        )
        .sign(root_key, hashes.SHA256())
    )
    leaf = (
        builder("localhost", key)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False
        )
        .sign(root_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (tmp_path / "house.pem").write_bytes(root.public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "server.pem").write_bytes(private + leaf.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    return tmp_path / "house.pem", context


@pytest.mark.parametrize("way", ["models", "artifacts"])
def test_the_house_s_authority_is_trusted_where_it_is_given(
    way: str, house: tuple[Path, ssl.SSLContext], serve: Callable[..., Server]
) -> None:
    bundle, context = house
    server = serve(tls=context)
    go(way, server.url)
    assert server.asked == []
    go(way, server.url, SWARMRUN_CA_BUNDLE=str(bundle))
    assert server.asked


def test_the_image_s_own_authorities_are_trusted_as_well(house: tuple[Path, ssl.SSLContext]) -> None:
    env = {"SWARMRUN_CA_BUNDLE": str(house[0])}
    trust(env)
    assert len({env[name] for name in READERS}) == 1
    joined = Path(env["SSL_CERT_FILE"]).read_text()
    assert roots() in joined
    assert house[0].read_text() in joined
    assert len(ssl.create_default_context(cafile=env["SSL_CERT_FILE"]).get_ca_certs()) > 50
    unset: dict[str, str] = {}
    trust(unset)
    assert unset == {}


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_bundle_that_holds_nothing_ends_the_process_with_its_name(
    content: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "ca.crt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SystemExit, match=f"{path} holds no certificates"):
        trust({"SWARMRUN_CA_BUNDLE": str(path)})
