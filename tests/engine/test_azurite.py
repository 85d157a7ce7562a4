"""Artifacts in Azure's blob storage, as its emulator has it.

    npm install azurite@3.35.0
    npx azurite-blob --disableTelemetry --skipApiVersionCheck --inMemoryPersistence --blobPort 10000

then `SWARMRUN_TEST_AZURITE=http://127.0.0.1:10000 pytest tests/engine/test_azurite.py`; without the variable the
tests start `azurite-blob` themselves where it is on the PATH, and skip where it is not.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate

import pytest

from swarmrun.artifacts.store import Artifacts, open_store
from swarmrun.errors import NotFound, PermissionDenied

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Of every Azurite; Microsoft documents it."""


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address."""
    if given := os.environ.get("SWARMRUN_TEST_AZURITE", ""):
        yield given.rstrip("/")
        return
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("no azurite-blob on the PATH; or set SWARMRUN_TEST_AZURITE")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    how = ["--disableTelemetry", "--silent", "--skipApiVersionCheck", "--blobPort", str(port)]
    process = subprocess.Popen([program, *how, "--location", str(tmp_path_factory.mktemp("azurite"))])
    ends = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < ends
            time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(20)


@pytest.fixture
def environment(azurite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": KEY,
        "AZURE_STORAGE_ENDPOINT": f"{azurite}/{ACCOUNT}",
        "AZURE_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def container(azurite: str, environment: None) -> str:
    name = f"runs-{os.urandom(4).hex()}"
    make_container(azurite, name)
    return name


@pytest.fixture
def store(container: str) -> Artifacts:
    return open_store(f"az://{container}/team/runs/one")


def make_container(azurite: str, name: str) -> None:
    """By Shared Key, as the service's reference describes it: nothing that is used otherwise makes containers."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2023-11-03"}
    canonical = "\n".join(f"{k}:{v}" for k, v in sorted(headers.items()))
    # The emulator's account stands in the path once more.
    signed = "PUT" + "\n" * 12 + f"{canonical}\n/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    digest = hmac.new(base64.b64decode(KEY), signed.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
    asked = urllib.request.Request(
        f"{azurite}/{ACCOUNT}/{name}?restype=container", method="PUT", headers=headers
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked) as answer:
        assert answer.status == 201


def test_what_was_put_is_got_listed_and_deleted(store: Artifacts) -> None:
    store.put("turns/coder/t1/1/0001", b"one")
    store.put("turns/coder/t1/1/0001", b"two")
    store.put("turns/coder/t10/1/0001", b"ten")
    store.put("empty", b"")
    assert store.get("turns/coder/t1/1/0001") == b"two"
    assert store.get("empty") == b""
    assert store.exists("empty")
    assert not store.exists("turns/coder/t1")
    assert store.list("turns/coder/t1") == ["turns/coder/t1/1/0001"]
    assert len(store.list("")) == 3
    store.delete("turns/coder/t1")
    store.delete("turns/coder/t1")
    assert store.list("turns") == ["turns/coder/t10/1/0001"]
    with pytest.raises(NotFound, match="no artifact 'turns/coder/t1/1/0001'"):
        store.get("turns/coder/t1/1/0001")


def test_the_first_writer_wins_among_many(store: Artifacts) -> None:
    assert store.put_new("reply", b"first") == b"first"
    assert store.put_new("reply", b"second") == b"first"
    gate = threading.Barrier(8)

    def write(number: int) -> bytes:
        gate.wait()
        return store.put_new("race", bytes([number]) * 50_000)

    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(write, range(8)))
    assert set(seen) == {store.get("race")}


def test_a_large_bundle_and_many_keys_come_back_whole(store: Artifacts) -> None:
    large = os.urandom(1 << 20) * 40
    store.put_new("bundles/large", large)
    assert store.get("bundles/large") == large
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: store.put(f"many/{n:05}", b"x"), range(200)))
    assert store.list("many") == [f"many/{n:05}" for n in range(200)]


def test_runs_in_one_container_do_not_see_each_other(container: str, store: Artifacts) -> None:
    store.put("a", b"1")
    other = open_store(f"az://{container}/team/runs/one-more")
    assert other.list("") == []
    assert not other.exists("a")


def test_a_container_that_is_not_there_is_named_with_its_mend(environment: None) -> None:
    store = open_store("az://nowhere/runs")
    for call in (lambda: store.put("a", b""), lambda: store.put_new("a", b""), lambda: store.list("")):
        with pytest.raises(NotFound, match="there is no az://nowhere/runs") as caught:
            call()
        assert caught.value.reason == "ContainerNotFound"
        assert "make the container" in caught.value.mend


def test_a_wrong_key_is_a_right_that_is_missing(container: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", base64.b64encode(b"k" * 64).decode())
    with pytest.raises(PermissionDenied) as caught:
        open_store(f"az://{container}/runs").put("a", b"")
    assert "right" in caught.value.mend
    assert "k" * 20 not in str(caught.value)
