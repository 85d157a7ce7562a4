"""An agent that means harm, in a Pod: what it tries gives it nothing, takes nothing else down, and is told.

Beside it are a sandbox of its own run and one of another run, which go on working.
"""

from __future__ import annotations

import asyncio
import subprocess
import textwrap
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import Any

import pytest

from swarmrun.artifacts.store import open_store
from swarmrun.errors import GitError, SandboxLost, SwarmRunError, ToolRejected
from swarmrun.git.repo import RunRepo
from swarmrun.kube.options import RunPlace
from swarmrun.sandbox.kubernetes import manifest
from swarmrun.sandbox.tokens import token, token_sha256

pytestmark = pytest.mark.cluster

KEY = b"k" * 32  # as conftest gives it to the provider


class Origin:
    """A repository for sandboxes to begin with, and the brain that takes their bundles in."""

    def __init__(self, directory: Any) -> None:
        self.path = directory / "origin"
        self.path.mkdir()
        self.git("init", "-q", "-b", "main")
        self.brain = RunRepo(directory / "brain.git", open_store((directory / "artifacts").as_uri()), "")
        self.brain.init()

    def git(self, *words: str) -> str:
        line = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *words]
        return subprocess.run(line, cwd=self.path, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, files: dict[str, str]) -> str:
        for name, text in files.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_text(text)
        self.git("add", "-A", "-f")
        self.git("commit", "-q", "-m", "base")
        self.git("bundle", "create", "-q", str(self.path / ".git/all"), "main")
        head = self.git("rev-parse", "HEAD")
        self.brain.add_bundle((self.path / ".git/all").read_bytes(), commit=head)
        self.brain.record(head)
        return head

    async def given(self, box: Any, files: dict[str, str]) -> str:
        base = self.commit(files)
        await box.load((self.path / ".git/all").read_bytes(), commit=base, branch="work")
        return base

    def taken(self, point: Any, base: str) -> dict[str, tuple[str, bytes]]:
        """What the brain has of a checkpoint: mode and content by name."""
        self.brain.add_bundle(point.bundle, commit=point.commit, requires=[base])
        rows = self.brain.list_tree(point.commit)
        return {row.path: (row.mode, self.brain.read(point.commit, row.path)) for row in rows}


@pytest.fixture
def origin(tmp_path) -> Origin:
    return Origin(tmp_path)


async def with_bystanders(cluster: Any, **spec: Any) -> tuple[Any, list[Any]]:
    """The hostile one, one of its run, one of another run."""
    other = cluster.place
    provider = cluster.provider()
    cluster.place = RunPlace(cluster.namespace, "other", "other")
    stranger = cluster.provider()
    cluster.place = other
    boxes = await asyncio.gather(
        cluster.ready(provider, cluster.spec(**spec)),
        cluster.ready(provider, cluster.spec("run-beside-a1-g1")),
        cluster.ready(stranger, replace(cluster.spec("other-task-a1-g1"), run="other")),
    )
    return boxes[0], list(boxes[1:])


async def all_work(boxes: list[Any]) -> None:
    for box in boxes:
        assert (await box.exec("echo fine", timeout_s=30)).stdout == "fine\n"


async def pod_log(cluster: Any, box: Any) -> str:
    """As kubectl logs prints it."""
    host = box.address.rpartition(":")[0]
    (name,) = [p["metadata"]["name"] for p in await cluster.pods() if p["status"].get("podIP") == host]
    return (await cluster.api.read(f"{cluster.core}/pods/{name}/log")).body.decode()


# ------------------------------------------------------------ git

CONFIG = """
mark="touch $HOME/owned-by-"
for hook in post-checkout pre-push pre-commit post-index-change reference-transaction fsmonitor-watchman; do
  printf '#!/bin/sh\\n%s%s\\n' "$mark" "$hook" > .git/hooks/$hook; chmod +x .git/hooks/$hook
done
git config core.fsmonitor "${mark}fsmonitor; true"
git config core.sshCommand "${mark}ssh; false"
git config core.hooksPath "$PWD/.git/hooks"
git config core.alternateRefsCommand "${mark}alternates; true"
git config filter.evil.clean "${mark}clean; cat"
git config filter.evil.smudge "${mark}smudge; cat"
git config diff.evil.textconv "${mark}textconv; cat"
git config diff.external "${mark}external; true"
git config uploadpack.packObjectsHook "${mark}packobjects"
git config gpg.program "${mark}gpg"
git config include.path "$PWD/included"
cp .git/config $HOME/.gitconfig
printf '[core]\\n\\tpager = touch /sandbox/home/owned-by-pager\\n' > included
printf '* filter=evil diff=evil ident working-tree-encoding=UTF-16\\n' > .gitattributes
echo '/tmp' > .git/objects/info/alternates
rm -f "$HOME"/owned-by-*
"""


def test_hooks_and_settings_of_its_repository_run_neither_in_its_server_nor_in_the_brain(in_cluster, origin):
    async def scenario(cluster):
        box = await cluster.ready(cluster.provider())
        base = await origin.given(
            box, {"a.txt": "one\n", "hooks/post-checkout": "#!/bin/sh\ntouch /sandbox/x\n"}
        )
        await box.exec("mkdir -p .git/hooks;" + CONFIG)
        point = await box.checkpoint(since=base)
        files = origin.taken(point, base)
        assert files["a.txt"] == ("100644", b"one\n")
        await box.list()
        await box.search("one")
        await box.load(origin.brain.bundle(point.commit), commit=point.commit, branch="work")
        marks = (await box.exec("ls /sandbox/home /sandbox | grep -e owned -e '^x$'")).stdout
        assert marks == ""

    in_cluster(scenario)


def test_links_bring_in_their_text_and_never_what_they_point_to(in_cluster, origin):
    async def scenario(cluster):
        box = await cluster.ready(cluster.provider())
        base = await origin.given(box, {"a.txt": "one\n"})
        targets = (
            "/etc/passwd",
            "/proc/self/environ",
            "/proc/1/environ",
            "../../../etc/shadow",
            "/sandbox/server",
        )
        made = " && ".join(f"ln -s {target} link{n}" for n, target in enumerate(targets))
        assert (await box.exec(made)).exit_code == 0
        files = origin.taken(await box.checkpoint(since=base), base)
        for n, target in enumerate(targets):
            assert files[f"link{n}"] == ("120000", target.encode())
            with pytest.raises(ToolRejected):
                await box.read(f"link{n}")
            with pytest.raises(ToolRejected):
                await box.write(f"link{n}/x", b"")

    in_cluster(scenario)


SWAP = """
mkdir -p d; echo inside > d/f
python3 - <<'END' &
import os
while True:
    os.rename("d", "real"); os.symlink("/sandbox/home", "d"); os.unlink("d"); os.rename("real", "d")
END
echo outside > $HOME/f
"""


def test_a_directory_swapped_for_a_link_meanwhile_is_not_followed(in_cluster, origin):
    async def scenario(cluster):
        box = await cluster.ready(cluster.provider())
        await origin.given(box, {"a.txt": "one\n"})
        await box.exec(SWAP, timeout_s=20)
        seen = set()
        for n in range(300):
            try:
                await box.write("d/new", str(n).encode())
                seen.add(await box.read("d/f"))
            except SwarmRunError:
                continue
        assert seen <= {b"inside\n"}
        assert (await box.exec("cat $HOME/f; ls $HOME/new")).stdout.startswith("outside\nls: cannot access")

    in_cluster(scenario)


REFUSED = ("--",)
"""What fsck takes for an option. The rest is data: nothing here asks a submodule's address."""


@pytest.mark.parametrize(
    "url", ["ext::sh -c id", "--upload-pack=id", "file:///etc", "ssh://-oProxyCommand=id/x"]
)
def test_a_submodule_s_address_is_never_followed(in_cluster, origin, url):
    async def scenario(cluster):
        box = await cluster.ready(cluster.provider())
        base = await origin.given(box, {"a.txt": "one\n"})
        modules = f'[submodule "x"]\n\tpath = x\n\turl = {url}\n'
        await box.write(".gitmodules", modules.encode())
        await box.exec(f"git update-index --add --cacheinfo 160000,{'1' * 40},x; mkdir x")
        point = await box.checkpoint(since=base)
        with pytest.raises(GitError) if url.startswith(REFUSED) else nullcontext() as refused:
            assert origin.taken(point, base)[".gitmodules"][1] == modules.encode()  # data like any other
        assert refused is None or refused.value.reason == "BundleRefused"

    in_cluster(scenario)


def test_odd_names_many_files_and_deep_directories_are_data(in_cluster, origin):
    async def scenario(cluster):
        box = await cluster.ready(cluster.provider(), cluster.spec(memory_mb=1024, disk_mb=2048))
        base = await origin.given(box, {"a.txt": "one\n"})
        make = r"""
        import os
        names = [b"-rf", b"--help", b"a\nb", b"\x1b]0;owned\x07", b"caf\xe9", b"Case", b"case", b"q\"'", b"$(id)"]
        for name in names:
            open(name, "wb").write(b"x")
        deep = "/".join(["d"] * 300)
        os.makedirs(deep); open(deep + "/f", "w").write("x")
        os.makedirs("many")
        for n in range(100_000):
            open(f"many/{n}", "w").close()
        """
        await box.write("make.py", textwrap.dedent(make).encode())
        assert (await box.exec("python3 make.py", timeout_s=200)).exit_code == 0
        point = await box.checkpoint(since=base)
        origin.brain.add_bundle(point.bundle, commit=point.commit, requires=[base])
        found = {row.path for row in origin.brain.list_tree(point.commit)}
        assert len(found) == 100_000 + 12
        assert {"-rf", "Case", "case", "a\nb", "many/99999", "/".join(["d"] * 300) + "/f"} <= found
        rows, total = await box.list(max_entries=500, depth=9)
        assert total > 100_000
        assert len(rows) <= 500

    in_cluster(scenario)


def test_a_huge_file_is_refused_by_name_and_costs_nothing(in_cluster, origin):
    async def scenario(cluster):
        box = await cluster.ready(cluster.provider())
        base = await origin.given(box, {"a.txt": "one\n"})
        await box.exec("truncate -s 50G sparse.bin")
        with pytest.raises(ToolRejected, match=r"too large .*sparse\.bin \(51200 MB\)"):
            await box.checkpoint(since=base)
        with pytest.raises(ToolRejected, match="bytes"):
            await box.read("sparse.bin")
        await box.exec("rm sparse.bin; echo two > a.txt")
        assert origin.taken(await box.checkpoint(since=base), base)["a.txt"][1] == b"two\n"

    in_cluster(scenario)


def test_more_than_the_brain_takes_in_one_turn_is_refused_and_told(in_cluster, origin):
    async def scenario(cluster):
        box = await cluster.ready(cluster.provider(), cluster.spec(memory_mb=1024, disk_mb=2048))
        base = await origin.given(box, {"a.txt": "one\n"})
        await box.exec("for n in 1 2; do head -c 70M /dev/urandom > $n.bin; done", timeout_s=60)
        with pytest.raises(ToolRejected, match=r"has 1\d\d MB packed, 120 are taken"):
            await box.checkpoint(since=base)
        await box.exec("rm *.bin; echo two > a.txt")
        assert origin.taken(await box.checkpoint(since=base), base)["a.txt"][1] == b"two\n"

    in_cluster(scenario)


# ------------------------------------------------------------ the machine

RUIN = """
rm -rf --no-preserve-root / 2>/dev/null
rm -rf /sandbox/repo /sandbox/server /sandbox/git /sandbox/home /sandbox/tmp /tmp/* 2>/dev/null
kill -9 1; kill -STOP 1; kill -9 -1
"""


def test_removing_everything_and_killing_the_server_harms_itself_alone(in_cluster, origin):
    async def scenario(cluster):
        box, others = await with_bystanders(cluster)
        base = await origin.given(box, {"a.txt": "one\n"})
        # PID 1 cannot be killed from inside. What is gone is told, or brought back by the next load.
        with suppress(SwarmRunError):
            await box.exec(RUIN, timeout_s=60)
        with suppress(SwarmRunError):
            await box.checkpoint(since=base)
        await all_work(others)
        fresh = await cluster.ready(cluster.provider(), cluster.spec("run-task-a1-g2"))
        await fresh.load((origin.path / ".git/all").read_bytes(), commit=base, branch="work")
        assert (await fresh.exec("cat a.txt")).stdout == "one\n"

    in_cluster(scenario)


INTO_PID_1 = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
place = (ctypes.c_size_t * 2)(ctypes.addressof(ctypes.create_string_buffer(8)), 8)
line = b"\\xe2\\x94\\x80\\xe2\\x94\\x80 coder honest, attempt 1, turn 9\\n"
def opened(path, mode):
    with open(path, mode, buffering=0) as file:
        file.read(1) if mode == "rb" else file.write(line)
def system(name, *arguments):
    number = libc.syscall(*arguments)
    if number < 0:
        raise OSError(ctypes.get_errno(), name)
def copied(descriptor):
    os.write(libc.syscall(438, os.pidfd_open(1), descriptor, 0), line)
tries = {
    "environ": lambda: opened("/proc/1/environ", "rb"),
    "mem": lambda: opened("/proc/1/mem", "rb"),
    "its descriptors": lambda: os.listdir("/proc/1/fd"),
    "its standard output": lambda: opened("/proc/1/fd/1", "wb"),
    "that of a thread": lambda: [opened(f"/proc/1/task/{t}/fd/2", "wb") for t in os.listdir("/proc/1/task")],
    "through its root": lambda: os.listdir("/proc/1/root"),
    "pidfd_getfd": lambda: copied(1),
    "ptrace attach": lambda: system("attach", 101, 16, 1, 0, 0),
    "ptrace seize": lambda: system("seize", 101, 0x4206, 1, 0, 0),
    "process_vm_writev": lambda: system("writev", 311, 1, place, 1, place, 1, 0),
}
for name, attempt in tries.items():
    try:
        attempt()
        print("DONE", name)
    except OSError as exc:
        print("refused", name, exc.strerror)
"""
"""By number: 438 pidfd_getfd, 101 ptrace (ATTACH 16, SEIZE 0x4206), 311 process_vm_writev, as on x86-64; elsewhere the
last two are other calls, which do none of it either."""


def test_nothing_inside_reaches_into_its_server_or_writes_to_the_pod_s_log(in_cluster, origin):
    async def scenario(cluster):
        box, others = await with_bystanders(cluster)
        await origin.given(box, {"p.py": INTO_PID_1})
        said = (
            await box.exec("python3 p.py; echo forged | tee /dev/console /proc/1/fd/2", timeout_s=30)
        ).stdout
        assert "DONE" not in said
        assert len([line for line in said.splitlines() if line.startswith("refused")]) == 10, said
        assert (await box.health(timeout_s=10)) is not None
        assert await box.say(["── coder task, attempt 1, turn 1"])
        log = await pod_log(cluster, box)
        assert log.splitlines() == [f"listening on port {manifest.PORT}", "── coder task, attempt 1, turn 1"]
        await all_work(others)

    in_cluster(scenario)


def test_no_token_is_in_its_environment_or_on_its_disk(in_cluster):
    async def scenario(cluster):
        box = await cluster.ready(cluster.provider())
        mine = token(KEY, box.id)
        seen = await box.exec(
            "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | tr '\\0' '\\n'; "
            "grep -rs . /sandbox /tmp /etc/passwd | head -c 60000",
            cap=100_000,
        )
        assert "SWARMRUN_PROCESS=" in seen.stdout
        for secret in (mine, token_sha256(mine), KEY.decode()):
            assert secret not in seen.stdout

    in_cluster(scenario)


def test_a_hundred_megabytes_of_escapes_are_capped_and_others_do_not_wait(in_cluster):
    async def scenario(cluster):
        box, others = await with_bystanders(cluster)
        loud = "python3 -c \"import sys\nfor _ in range(1700): sys.stdout.write('\\x1b]0;owned\\x07\\0' * 6000)\""
        done, *_ = await asyncio.gather(box.exec(loud, timeout_s=120), all_work(others))
        assert done.exit_code == 0
        assert done.omitted > 100_000_000
        assert len(done.stdout) < 12_000
        assert (await box.exec("du -sm /sandbox/tmp/out | cut -f1")).stdout.strip() < "70"

    in_cluster(scenario)


def test_a_fork_bomb_a_memory_bomb_and_a_full_disk_stay_in_their_pod(in_cluster):
    async def scenario(cluster):
        provider = cluster.provider()
        box, others = await with_bystanders(cluster, pids=64, disk_mb=64)
        with suppress(SwarmRunError):
            await box.exec("f() { f | f & }; f; sleep 2", timeout_s=20)
        with suppress(SwarmRunError):
            await box.exec("python3 -c 'x = bytearray(1 << 30)'", timeout_s=30)
        with suppress(SwarmRunError):
            await box.exec("dd if=/dev/zero of=$HOME/big bs=1M count=150", timeout_s=60)
        await all_work(others)
        state = await cluster.until_lost(provider, cluster.spec(pids=64, disk_mb=64))
        assert state.reason in ("DiskFull", "OOMKilled", "Killed", "ServerEnded"), state
        await all_work(others)

    in_cluster(scenario)


# ------------------------------------------------------------ lies


def test_a_forged_journal_changes_nothing_of_what_another_sandbox_finds(in_cluster, origin):
    """Gates run in a sandbox of the brain's, on what the bundle holds."""

    async def scenario(cluster):
        provider = cluster.provider()
        box = await cluster.ready(provider)
        base = await origin.given(box, {"test_a.py": "def test_a():\n    assert False\n"})
        row = '{"key": "gate/tests", "answer": {"exit_code": 0, "stdout": "1 passed", "final": true}}'
        forged = f"for f in $(find /sandbox/server -type f); do echo '{row}' > $f; done; echo done > made.txt"
        assert (await box.exec(forged)).exit_code == 0
        point = await box.checkpoint(since=base)
        assert set(origin.taken(point, base)) == {"test_a.py", "made.txt"}
        judge = await cluster.ready(provider, cluster.spec("run-integration-a1-g1"))
        await judge.load(origin.brain.bundle(point.commit), commit=point.commit, branch="integration")
        ran = await judge.exec("python3 -m pytest -q", key="gate/tests", timeout_s=60)
        assert ran.exit_code == 1
        assert "1 failed" in ran.stdout

    in_cluster(scenario)


FAKE = """
import http.server
class Liar(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        op = self.path.rsplit("/", 1)[1]
        line = b'{"exit_code": 0, "stdout": "tried\\\\n", "omitted": 0, "output_file": "", "seconds": 0}\\n'
        self.send_response(200)
        self.send_header("X-Sandboxd-Protocol", "1")
        self.send_header("X-Boot-Id", "b")
        self.send_header("Content-Length", str(len(line)) if op in ("health", "exec") else "99999999999")
        self.end_headers()
        self.wfile.write(line)
        while op not in ("health", "exec"):
            self.wfile.write(b" " * 65536)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8700), Liar).serve_forever()
"""


def test_a_server_that_was_taken_over_floods_nobody(in_cluster, origin):
    async def scenario(cluster):
        provider = cluster.provider()
        beside = await cluster.ready(provider, cluster.spec("run-beside-a1-g1"))
        # In the place of the server that images without one are given.
        files = manifest.server_files(cluster.place) | {"data": {"__main__.py": FAKE}}
        await cluster.api.create(f"{cluster.core}/configmaps", files)
        box = await cluster.ready(provider, cluster.spec(image=cluster.other_image))
        for call in (box.read("x"), box.checkpoint(since="a" * 40), box.list(), box.search("x")):
            with pytest.raises(SandboxLost) as lost:
                await call
            assert lost.value.reason == "ForeignAnswer"
        await all_work([beside])

    in_cluster(scenario)
