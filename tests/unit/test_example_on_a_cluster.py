"""The first example as a kustomization, and its git server. (A cluster sees the whole of it: tests/e2e/cluster.)"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

EXAMPLE = Path(__file__).parents[2] / "examples" / "url-shortener"


def test_every_file_of_the_recording_is_in_its_config_map() -> None:
    made = yaml.safe_load((EXAMPLE / "kustomization.yaml").read_text())["configMapGenerator"]
    (files,) = [it["files"] for it in made if it["name"] == "recording-files"]
    assert sorted(files) == sorted(f"files/{path.name}" for path in (EXAMPLE / "files").iterdir())


def test_nothing_is_patched_that_the_local_run_does_not_have() -> None:
    kustomization = yaml.safe_load((EXAMPLE / "kustomization.yaml").read_text())
    resources = {r["kind"]: r for r in yaml.safe_load_all((EXAMPLE / "run.yaml").read_text())}
    for patch in kustomization["patches"]:
        for operation in yaml.safe_load(patch["patch"]):
            value = resources[patch["target"]["kind"]]
            *above, last = operation["path"].strip("/").split("/")
            for key in above:
                value = value[key]
            assert (last in value) == (operation["op"] == "replace"), operation


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = [
        sys.executable,
        str(EXAMPLE / "cluster/git_server.py"),
        str(tmp_path / "repositories"),
        str(port),
    ]
    with subprocess.Popen(program, stderr=subprocess.DEVNULL) as process:
        try:
            ends = time.monotonic() + 20
            while socket.socket().connect_ex(("127.0.0.1", port)):
                assert time.monotonic() < ends
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def git(*words: str, ok: int = 0) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "http.postBuffer=100000"]
    done = subprocess.run(["git", *who, *words], capture_output=True, text=True)
    assert done.returncode == ok, done.stderr
    return done.stdout


def test_the_git_server_takes_a_push_in_pieces_and_gives_it_back(server: str, tmp_path: Path) -> None:
    work = tmp_path / "work"
    git("init", "-q", "-b", "main", str(work))
    (work / "data").write_bytes(os.urandom(300_000))  # more than goes out at once
    git("-C", str(work), "add", "-A")
    git("-C", str(work), "commit", "-q", "-m", "first")
    git("-C", str(work), "push", "-q", f"{server}/demo.git", "main")
    git("clone", "-q", f"{server}/demo.git", str(tmp_path / "back"))
    assert (tmp_path / "back/data").read_bytes() == (work / "data").read_bytes()
    reflog = git("-C", str(tmp_path / "repositories/demo.git"), "reflog", "show", "main")
    assert len(reflog.splitlines()) == 1
    git("ls-remote", f"{server}/no/such.git", ok=128)
