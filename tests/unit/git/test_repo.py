from __future__ import annotations

import shutil
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha1

import pytest

from swarmrun.errors import GitError, InvalidResource, NotFound
from swarmrun.git import bundles
from swarmrun.git.objects import EMPTY_TREE
from swarmrun.git.repo import RunRepo

AUTHOR = "Swarm <swarm@example.invalid>"


@pytest.fixture
def base(work, repo):
    """A first commit that the brain holds and has recorded."""
    sha = work.commit({"a.py": "one\n", "dir/b.py": "two\n"})
    repo.add_bundle(work.bundle("HEAD"), commit=sha)
    repo.record(sha)
    return sha


def elsewhere(tmp_path, store) -> RunRepo:
    other = RunRepo(tmp_path / "other.git", store, "runs/r1")
    other.init()
    return other


def test_a_sandbox_bundle_is_taken_in_and_can_be_read(repo, work, base):
    head = work.commit({"a.py": "three\n"})
    repo.add_bundle(work.bundle("HEAD", f"^{base}"), commit=head, requires=[base])
    assert repo.read(head, "a.py") == b"three\n"
    assert repo.changed_files(base, head) == ["a.py"]
    assert repo.holds(head)


def test_taking_the_same_bundle_in_twice_changes_nothing(repo, work, base):
    head = work.commit({"a.py": "three\n"})
    data = work.bundle("HEAD", f"^{base}")
    repo.add_bundle(data, commit=head, requires=[base])
    repo.add_bundle(data, commit=head, requires=[base])
    assert repo.parents(head) == [base]


def test_another_machine_ensures_a_long_chain_from_the_artifacts_alone(repo, work, base, store, tmp_path):
    last = base
    for number in range(12):
        head = work.commit({f"file{number}": str(number)})
        repo.keep_bundle(work.bundle("HEAD", f"^{last}"), commit=head, since=[last])
        last = head
    other = elsewhere(tmp_path, store)
    other.ensure(last)
    assert len(other.list_tree(last)) == 14
    other.ensure(last)


def test_a_deleted_cache_is_rebuilt(repo, work, base):
    head = work.commit({"a.py": "three\n"})
    repo.add_bundle(work.bundle("HEAD", f"^{base}"), commit=head, requires=[base])
    repo.record(head, base)
    shutil.rmtree(repo.path)
    repo.ensure(head)
    assert repo.read(head, "a.py") == b"three\n"


def test_a_merge_commit_is_ensured_through_both_of_its_parents_bundles(repo, work, base, store, tmp_path):
    left = repo.commit_tree(repo.with_files(base, {"left": b"l"}), [base], "left", AUTHOR, 1)
    right = repo.commit_tree(repo.with_files(base, {"right": b"r"}), [base], "right", AUTHOR, 2)
    merged = repo.commit_tree(repo.with_files(left, {"right": b"r"}), [left, right], "merge", AUTHOR, 3)
    repo.record(left, base)
    repo.record(merged, left)
    other = elsewhere(tmp_path, store)
    other.ensure(merged)
    assert other.is_ancestor(right, merged)
    # Never recorded itself, but in the history of what is held.
    other.ensure(right)


def test_a_commit_nobody_recorded_is_not_found(repo):
    with pytest.raises(NotFound, match="neither in"):
        repo.ensure("a" * 40)


def test_threads_and_processes_may_ensure_the_same_commit_at_once(repo, work, base, store, tmp_path):
    last = base
    for number in range(4):
        head = work.commit({f"file{number}": str(number)})
        repo.keep_bundle(work.bundle("HEAD", f"^{last}"), commit=head, since=[last])
        last = head
    path = tmp_path / "shared.git"
    code = (
        "import sys; from pathlib import Path; from swarmrun.artifacts.store import open_store\n"
        "from swarmrun.git.repo import RunRepo\n"
        "RunRepo(Path(sys.argv[1]), open_store(sys.argv[2]), 'runs/r1').ensure(sys.argv[3])"
    )
    url = (tmp_path / "artifacts").as_uri()
    others = [subprocess.Popen([sys.executable, "-c", code, str(path), url, last]) for _ in range(2)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: RunRepo(path, store, "runs/r1").ensure(last), range(8)))
    assert [p.wait(60) for p in others] == [0, 0]
    done = subprocess.run(["git", "fsck", "--strict"], cwd=path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


_ENSURE = """
import sys
from pathlib import Path
from swarmrun.artifacts.store import open_store
from swarmrun.git.repo import RunRepo
print("go", flush=True)
RunRepo(Path(sys.argv[1]), open_store(sys.argv[2]), "runs/r1").ensure(sys.argv[3])
"""


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.1])
def test_a_cache_whose_maker_was_killed_is_completed_by_the_next(repo, work, base, store, tmp_path, delay):
    last = base
    for number in range(4):
        head = work.commit({f"file{number}": str(number)})
        repo.keep_bundle(work.bundle("HEAD", f"^{last}"), commit=head, since=[last])
        last = head
    path = tmp_path / "killed.git"
    url = (tmp_path / "artifacts").as_uri()
    command = [sys.executable, "-c", _ENSURE, str(path), url, last]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as victim:
        assert victim.stdout
        victim.stdout.readline()
        time.sleep(delay)
        victim.kill()
    again = RunRepo(path, store, "runs/r1")
    again.ensure(last)
    assert len(again.list_tree(last)) == 6
    assert (
        subprocess.run(["git", "fsck", "--strict"], cwd=path, capture_output=True, check=False).returncode
        == 0
    )


def test_a_sandbox_cannot_replace_what_is_recorded(repo, work, base, store, tmp_path):
    forged = bundles.build(b"PACK garbage", head=base, ref="refs/x", requires=[])
    repo.keep_bundle(forged, commit=base)
    other = elsewhere(tmp_path, store)
    other.ensure(base)
    assert other.read(base, "a.py") == b"one\n"


def test_a_bad_record_is_dropped_so_that_a_good_one_can_take_its_place(repo, work, base):
    head = work.commit({"a.py": "three\n"})
    repo.keep_bundle(bundles.build(b"PACK garbage", head=head, ref="refs/x", requires=[base]), commit=head)
    with pytest.raises(GitError) as caught:
        repo.ensure(head)
    assert caught.value.reason == "BundleRefused"
    repo.keep_bundle(work.bundle("HEAD", f"^{base}"), commit=head, since=[base])
    repo.ensure(head)
    assert repo.read(head, "a.py") == b"three\n"


def test_a_bundle_of_another_commit_than_claimed_is_refused(repo, work, base):
    head = work.commit({"a.py": "three\n"})
    other = work.commit({"a.py": "four\n"})
    with pytest.raises(GitError, match="that was claimed") as caught:
        repo.add_bundle(work.bundle("HEAD", f"^{base}"), commit=head, requires=[base])
    assert caught.value.reason == "BundleRefused"
    assert not repo.holds(other)


@pytest.mark.parametrize("name", [".git", ".GIT", "..", ".", "git~1", "a/b", ".git "])
def test_a_tree_with_a_path_that_escapes_is_refused_and_leaves_nothing_behind(repo, work, base, name):
    blob = work.git("hash-object", "-w", "--stdin", stdin=b"evil")
    body = b"100644 " + name.encode() + b"\0" + bytes.fromhex(blob)
    tree = work.git("hash-object", "-t", "tree", "-w", "--stdin", "--literally", stdin=body)
    head = work.raw_commit(tree, base)
    work.git("update-ref", "refs/heads/evil", head)
    data = work.bundle("evil", f"^{base}")
    with pytest.raises(GitError) as caught:
        repo.add_bundle(data, commit=head, requires=[base])
    assert caught.value.reason == "BundleRefused"
    with pytest.raises(NotFound):
        repo.list_tree(head)
    assert not list(repo.path.glob("incoming-*"))


def test_a_misleading_gitmodules_is_refused_and_an_honest_one_stays_data(repo, work, base):
    evil = work.commit(
        {".gitmodules": '[submodule "x"]\n\tpath = x\n\turl = --upload-pack=touch /tmp/owned\n'}
    )
    with pytest.raises(GitError, match="refused"):
        repo.add_bundle(work.bundle("HEAD", f"^{base}"), commit=evil, requires=[base])
    work.git("reset", "-q", "--hard", base)
    honest = '[submodule "x"]\n\tpath = x\n\turl = ext::sh -c "touch owned"\n'.replace(
        "ext::sh -c", "https://h.invalid/"
    )
    work.commit({".gitmodules": honest})
    work.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},x")
    work.git("commit", "-q", "-m", "submodule")
    head = work.git("rev-parse", "HEAD")
    repo.add_bundle(work.bundle("HEAD", f"^{base}"), commit=head, requires=[base])
    assert repo.list_tree(head)[-1].mode == "160000"


def test_a_bundle_that_lacks_objects_is_refused(repo, work, base):
    middle = work.commit({"middle": "m"})
    head = work.commit({"head": "h"})
    data = work.bundle("HEAD", f"^{middle}")
    forged = bundles.build(bundles.parse(data).pack, head=head, ref="refs/x", requires=[base])
    with pytest.raises(GitError) as caught:
        repo.add_bundle(forged, commit=head, requires=[base])
    assert caught.value.reason == "BundleRefused"
    assert not repo.holds(head)


def test_a_file_over_the_cap_is_refused(repo, work, base, monkeypatch):
    from swarmrun.git import intake

    monkeypatch.setattr(intake, "MAX_BLOB", 1000)
    head = work.commit({"big": b"\0" * 5000})
    with pytest.raises(GitError, match="5000 bytes"):
        repo.add_bundle(work.bundle("HEAD", f"^{base}"), commit=head, requires=[base])


@pytest.mark.parametrize("cut", [0, 10, 60, -30])
def test_a_damaged_bundle_is_refused(repo, work, base, cut):
    head = work.commit({"a.py": "three\n" * 100})
    data = work.bundle("HEAD", f"^{base}")
    with pytest.raises(GitError) as caught:
        repo.add_bundle(data[:cut], commit=head, requires=[base])
    assert caught.value.reason == "BundleRefused"


def test_a_bundle_whose_head_is_a_tag_or_a_blob_is_refused(repo, work, base):
    content = b"just a file"
    sha = sha1(b"blob %d\0" % len(content) + content).hexdigest()
    body = (
        b"PACK"
        + (2).to_bytes(4, "big")
        + (1).to_bytes(4, "big")
        + bytes([0x30 | len(content)])
        + zlib.compress(content)
    )
    data = bundles.build(body + sha1(body).digest(), head=sha, ref="refs/x", requires=[base])
    with pytest.raises(GitError) as caught:
        repo.add_bundle(data, commit=sha, requires=[base])
    assert caught.value.reason == "BundleRefused"


def _pack(*objects: bytes, count: int | None = None) -> bytes:
    body = b"PACK" + (2).to_bytes(4, "big") + (count or len(objects)).to_bytes(4, "big") + b"".join(objects)
    return body + sha1(body).digest()


def _header(kind: int, size: int) -> bytes:
    """Of an object in a pack: gitformat-pack(5)."""
    first, size = kind << 4 | size & 15, size >> 4
    out = []
    while size:
        out.append(first | 0x80)
        first, size = size & 127, size >> 7
    return bytes([*out, first])


def _varint(size: int) -> bytes:
    out = b""
    while size > 127:
        out, size = out + bytes([size & 127 | 128]), size >> 7
    return out + bytes([size])


@pytest.mark.parametrize("many", [False, True])
def test_a_few_bytes_that_ask_for_gigabytes_are_refused(repo, work, base, many):
    """A delta of 100 kB whose result has 4 GB: each instruction copies the same 64 kB again."""
    blob = b"x" * 65536
    delta = _varint(len(blob)) + _varint(65536 * 65536) + b"\x80" * 65536
    first = _header(3, len(blob)) + zlib.compress(blob)
    bomb = _header(7, len(delta)) + sha1(b"blob 65536\0" + blob).digest() + zlib.compress(delta)
    others = [_header(3, 3) + zlib.compress(b"%03d" % n) for n in range(150 if many else 0)]
    head = work.commit({"a.py": "three\n"})
    data = bundles.build(_pack(first, bomb, *others), head=head, ref="refs/x", requires=[base])
    with pytest.raises(GitError, match="emory") as caught:
        repo.add_bundle(data, commit=head, requires=[base])
    assert caught.value.reason == "BundleRefused"
    assert not list(repo.path.glob("incoming-*"))
    assert repo.read(base, "a.py") == b"one\n"


def test_a_directory_of_millions_and_a_pack_of_millions_are_refused(repo, work, base, monkeypatch):
    blob = work.git("hash-object", "-w", "--stdin", stdin=b"x")
    row = bytes.fromhex(blob)
    body = b"".join(b"100644 %d\0" % n + row for n in range(100_000, 700_000))
    tree = work.git("hash-object", "-t", "tree", "-w", "--stdin", stdin=body)
    head = work.raw_commit(tree, base)
    work.git("update-ref", "refs/heads/wide", head)
    with pytest.raises(GitError, match=r"tree \w+ has \d+ bytes"):
        repo.add_bundle(work.bundle("wide", f"^{base}"), commit=head, requires=[base])
    claim = bundles.build(_pack(b"", count=2**31), head=head, ref="refs/x", requires=[base])
    with pytest.raises(GitError, match="2147483648 objects"):
        repo.add_bundle(claim, commit=head, requires=[base])


def test_many_objects_arrive_as_one_pack(repo, work, base):
    head = work.commit({f"many/{n}": str(n) for n in range(150)})
    repo.add_bundle(work.bundle("HEAD", f"^{base}"), commit=head, requires=[base])
    assert len(repo.list_tree(head)) == 152
    assert list(repo.path.glob("objects/pack/*.idx"))


def test_old_commits_with_harmless_slips_are_taken_in(repo, work):
    blob = work.git("hash-object", "-w", "--stdin", stdin=b"x")
    inner = work.git("mktree", stdin=f"100644 blob {blob}\tf\n".encode())
    body = b"040000 d\0" + bytes.fromhex(inner)  # zero-padded mode, as early hosting software wrote it
    tree = work.git("hash-object", "-t", "tree", "-w", "--stdin", "--literally", stdin=body)
    head = work.raw_commit(tree)
    work.git("update-ref", "refs/heads/old", head)
    repo.add_bundle(work.bundle("old"), commit=head)
    assert repo.list_tree(head)[0].path == "d/f"


def test_a_bundle_for_a_sandbox_is_loaded_by_plain_git(repo, work, base, make_work):
    head = repo.commit_tree(repo.with_files(base, {"new.py": b"x\n"}), [base], "more", AUTHOR, 5)
    sandbox = make_work("sandbox")
    for sha, since in ((base, ()), (head, (base,))):
        (sandbox.path / ".git" / "in.bundle").write_bytes(repo.bundle(sha, since))
        sandbox.git("fetch", "-q", ".git/in.bundle", f"refs/swarm/commits/{sha}:refs/heads/b{len(since)}")
    assert sandbox.git("show", f"{head}:new.py") == "x"


def test_a_bundle_of_what_the_receiver_has_already_is_empty_but_valid(
    repo, work, base, store, tmp_path, make_work
):
    head = repo.commit_tree(repo.with_files(base, {"new.py": b"x\n"}), [base], "more", AUTHOR, 5)
    sandbox = make_work("sandbox")
    (sandbox.path / ".git" / "in.bundle").write_bytes(repo.bundle(head))
    sandbox.git("fetch", "-q", ".git/in.bundle", f"refs/swarm/commits/{head}:refs/heads/x")
    (sandbox.path / ".git" / "in.bundle").write_bytes(repo.bundle(base, [head]))
    sandbox.git("fetch", "-q", ".git/in.bundle", f"refs/swarm/commits/{base}:refs/heads/y")
    repo.record(head)
    store.delete(f"runs/r1/bundles/{base}")
    repo.record(base, head)
    other = elsewhere(tmp_path, store)
    other.ensure(base)
    assert other.list_tree(base)


def test_the_same_commit_has_the_same_id_everywhere(repo, tmp_path, store):
    def make(where: RunRepo) -> str:
        tree = where.with_files(EMPTY_TREE, {"a": b"1", "d/e": b"2"})
        return where.commit_tree(tree, [], "subject\n\nbody\n", AUTHOR, 1_700_000_000)

    assert make(repo) == make(elsewhere(tmp_path, store)) == "22fcf0f0e746f09bc243abb52b1e7dab03e08b04"


def test_diff_numstat_and_changes_agree(repo, work, base):
    work.git("mv", "dir/b.py", "dir/c.py")
    head = work.commit({"a.py": "one\nmore\n", "bin": b"\0\1\2", "tab\tname ü": "x\n"})
    repo.add_bundle(work.bundle("HEAD", f"^{base}"), commit=head, requires=[base])
    assert repo.changed_files(base, head) == ["a.py", "bin", "dir/b.py", "dir/c.py", "tab\tname ü"]
    changes = {c.path: (c.status, c.old_path) for c in repo.changes(base, head)}
    assert changes["dir/c.py"] == ("R", "dir/b.py")
    counts = {c.path: (c.added, c.removed) for c in repo.numstat(base, head)}
    assert counts["a.py"] == (1, 0)
    assert counts["bin"] == (None, None)
    assert "+more" in repo.diff(base, head, paths=["a.py"])
    assert "bin" not in repo.diff(base, head, paths=["a.py"])
    assert repo.diff(base, base) == ""
    assert "[cut after 20 bytes" in repo.diff(base, head, cap=20)
    assert "a.py" in repo.diff(base, head, stat=True)


def test_a_missing_file_or_commit_is_not_found(repo, base):
    for ask in (
        lambda: repo.read(base, "nope.py"),
        lambda: repo.read(base, "dir"),
        lambda: repo.read("b" * 40, "a.py"),
        lambda: repo.diff(base, "b" * 40),
        lambda: repo.list_tree("b" * 40),
        lambda: repo.message("b" * 40),
        lambda: repo.bundle("b" * 40),
        lambda: repo.is_ancestor("b" * 40, base),
    ):
        with pytest.raises(NotFound):
            ask()


def test_an_option_is_never_taken_for_a_commit(repo, base):
    with pytest.raises(InvalidResource):
        repo.diff(base, "--output=/tmp/owned")
    with pytest.raises(InvalidResource):
        repo.ensure("HEAD")


def test_files_are_put_into_a_tree_and_modes_kept(repo, work):
    (work.path / "run.sh").write_text("#!/bin/sh\n")
    (work.path / "run.sh").chmod(0o755)
    base = work.commit({"gone": "x", "keep": "y", "was/dir": "z"})
    repo.add_bundle(work.bundle("HEAD"), commit=base)
    tree = repo.with_files(
        base, {"run.sh": b"new", "gone": None, "ü/n": b"", "was/dir": None, "was": b"file"}
    )
    entries = {e.path: e.mode for e in repo.list_tree(tree)}
    assert entries == {"keep": "100644", "run.sh": "100755", "ü/n": "100644", "was": "100644"}
    assert repo.read(tree, "run.sh") == b"new"
    assert repo.tree_of(base) == repo.with_files(base, {})


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../b", ".git/config", "a/.GIT/x", "git~1/x", "", "a//b"]
)
def test_a_path_no_checkout_should_see_is_not_written(repo, path):
    with pytest.raises(InvalidResource):
        repo.with_files(EMPTY_TREE, {path: b""})


def test_histories_are_compared(repo, work, base):
    one = repo.commit_tree(repo.with_files(base, {"1": b""}), [base], "1", AUTHOR, 1)
    two = repo.commit_tree(repo.with_files(base, {"2": b""}), [base], "2", AUTHOR, 2)
    alien = repo.commit_tree(EMPTY_TREE, [], "alien", AUTHOR, 3)
    assert repo.merge_base(one, two) == base
    assert repo.is_ancestor(base, one)
    assert not repo.is_ancestor(one, two)
    assert repo.commits(base, one) == [one]
    assert repo.committer(one) == AUTHOR
    with pytest.raises(NotFound, match="no common ancestor"):
        repo.merge_base(one, alien)
