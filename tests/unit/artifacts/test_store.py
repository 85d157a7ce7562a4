from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from swarmrun.artifacts.store import open_store
from swarmrun.errors import InvalidResource, NotFound, StorageUnavailable


@pytest.fixture(params=["file", "memory"])
def store(request, tmp_path):
    return open_store((tmp_path / "store").as_uri() if request.param == "file" else "memory://")


def test_what_was_put_is_got_listed_and_deleted(store):
    assert store.put("turns/coder/t1/1/0001", b"one") == "turns/coder/t1/1/0001"
    store.put("turns/coder/t1/1/0001", b"two")
    store.put("turns/coder/t10/1/0001", b"ten")
    assert store.get("turns/coder/t1/1/0001") == b"two"
    assert store.exists("turns/coder/t1/1/0001")
    assert not store.exists("turns/coder/t1/1")
    assert store.list("turns/coder/t1") == ["turns/coder/t1/1/0001"]
    assert len(store.list("")) == 2
    store.delete("turns/coder/t1")
    store.delete("turns/coder/t1")
    assert store.list("") == ["turns/coder/t10/1/0001"]
    store.delete("turns/coder/t10/1/0001")
    assert store.list("") == []


def test_a_key_that_is_not_there_is_not_found(store):
    store.put("a/b", b"")
    for key in ("nope", "a", "a/b2"):
        with pytest.raises(NotFound, match=key):
            store.get(key)


def test_the_first_writer_wins(store):
    assert store.put_new("reply", b"first") == b"first"
    assert store.put_new("reply", b"second") == b"first"
    assert store.get("reply") == b"first"


def test_of_many_who_write_at_once_all_see_the_same_winner(store):
    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(lambda n: store.put_new("reply", bytes([n]) * 50_000), range(24)))
    assert len(set(seen)) == 1


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/abs",
        "a//b",
        "../x",
        "a/../b",
        "a/.",
        "a b",
        "a\\b",
        "a\0b",
        "ü",
        "a#1",
        "%2e%2e/x",
        "x" * 201,
        "a/" * 470 + "b",
    ],
)
def test_a_key_that_could_leave_the_store_is_refused(store, key):
    for call in (
        store.get,
        store.exists,
        store.delete,
        lambda k: store.put(k, b""),
        lambda k: store.put_new(k, b""),
    ):
        with pytest.raises(InvalidResource):
            call(key)


@pytest.mark.parametrize(
    "url", ["", "/tmp/x", "ftp://x/y", "file://host/x", "file:///", "s3://", "gs://bucket"]
)
def test_a_url_that_names_no_store_is_refused(url):
    with pytest.raises(InvalidResource):
        open_store(url)


def test_a_directory_with_odd_characters_in_its_name_works(tmp_path):
    path = tmp_path / "ein Ordner #1 50%"
    open_store(path.as_uri()).put("k", b"v")
    assert (path / "k").read_bytes() == b"v"


def test_a_place_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageUnavailable, match="file/store"):
        open_store((tmp_path / "file" / "store").as_uri())


def test_objects_stores_are_opened_without_asking_them(monkeypatch):
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    assert open_store("s3://bucket/runs").place == "s3://bucket/runs"
    assert open_store("az://container/runs").place == "az://container/runs"
    assert open_store("azure://container/runs").place == "azure://container/runs"


def test_a_store_that_does_not_answer_is_unavailable_and_shows_no_key(monkeypatch):
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
    with pytest.raises(StorageUnavailable, match="s3://bucket") as caught:
        open_store("s3://bucket/runs").get("a")
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.retryable


_WRITER = """
import sys
from swarmrun.artifacts.store import open_store
store = open_store(sys.argv[1])
number = 0
while True:
    store.put(f"k/{number % 3}", bytes([number % 256]) * 300_000)
    store.put_new(f"n/{number}", bytes([number % 256]) * 300_000)
    number += 1
    print(number, flush=True)
"""


def test_a_killed_writer_leaves_whole_values_only(tmp_path):
    url = (tmp_path / "store").as_uri()
    for delay in (0.0, 0.004, 0.013):
        with subprocess.Popen([sys.executable, "-c", _WRITER, url], stdout=subprocess.PIPE) as writer:
            assert writer.stdout
            acknowledged = 0
            while acknowledged < 3:
                acknowledged = int(writer.stdout.readline())
            time.sleep(delay)
            os.kill(writer.pid, signal.SIGKILL)
            rest = writer.stdout.read().split()
            acknowledged = int(rest[-1]) if rest else acknowledged
        store = open_store(url)
        for key in store.list(""):
            data = store.get(key)
            assert len(data) == 300_000
            assert len(set(data)) == 1
        assert {f"n/{n}" for n in range(acknowledged)} <= set(store.list("n"))
        store.delete("n")


_FULL = """
import subprocess, sys
place = sys.argv[1]
if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", place]).returncode:
    sys.exit(77)
from swarmrun.artifacts.store import open_store
from swarmrun.errors import StorageUnavailable
store = open_store("file://" + place)
store.put("small", b"kept")
try:
    store.put("big", b"x" * 1_000_000)
except StorageUnavailable as exc:
    assert exc.reason == "DiskFull" and place in str(exc), exc
else:
    sys.exit("a full disk was not noticed")
assert store.list("") == ["small"] and store.get("small") == b"kept"
store.put("small", b"again")
"""


def test_a_full_disk_is_named_and_loses_nothing(tmp_path):
    command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", _FULL, str(tmp_path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"no file system of our own here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
