from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from swarmrun.errors import GitError, InvalidResource, NotFound, PermissionDenied, RemoteUnavailable
from swarmrun.git import urls
from swarmrun.git.credentials import AskpassFile, Token
from swarmrun.git.remote import FIRST_COMMIT, Remote, check_branch

LOCAL = ("https", "ssh", "http", "file")


@pytest.fixture
def filled(work, bare):
    """The remote with one commit on main."""
    sha = work.commit({"a": "1"})
    work.git("push", "-q", str(bare), "main")
    return sha


def local(bare, **options) -> Remote:
    return Remote(str(bare), schemes=LOCAL, **options)


class Server:
    """Answers every request the same way and remembers what it was asked."""

    def __init__(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.seen: list[tuple[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.seen.append((self.path, self.headers.get("Authorization", "")))
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


@pytest.fixture
def serve() -> Iterator[type[Server] | object]:
    made: list[Server] = []

    def make(*args, **kwargs) -> Server:
        made.append(Server(*args, **kwargs))
        return made[-1]

    yield make
    for server in made:
        server.http.shutdown()
        server.http.server_close()


# ---------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("url", "scheme", "host", "path"),
    [
        ("https://github.com/o/r.git", "https", "github.com", "o/r"),
        ("https://user@dev.azure.com/org/p/_git/r", "https", "dev.azure.com", "org/p/_git/r"),
        ("git@github.com:o/r.git", "ssh", "github.com", "o/r"),
        ("ssh://git@host.example:2222/o/r", "ssh", "host.example", "o/r"),
        ("http://127.0.0.1:3000/o/r/", "http", "127.0.0.1", "o/r"),
        ("file:///srv/x%20y.git", "file", "", "/srv/x y.git"),
    ],
)
def test_addresses_are_taken_apart(url, scheme, host, path):
    found = urls.parse(url)
    assert (found.scheme, found.host, found.path) == (scheme, host, path)


@pytest.mark.parametrize(
    "url",
    [
        "", "-oProxyCommand=touch x", "--upload-pack=x", "ext::sh -c id", "fd::1", "git://h/x", "ftp://h/x", "https://h",
        "https://h/", "https://-evil/x", "ssh://-oProxyCommand=x/y", "https://h/x\nfoo", "https://h:99999/x",
        "https://h/x?y=1", "file://other/x", "file:///", "just-a-name",
        # What one program takes for this host and the next for another.
        "https://evil\\@h/x", "https://h\\@evil/x", "https://evil%2f@h%2f/x", "https://h%2eevil/x", "https://h#@evil/x",
        "https://h?@evil/x", "https://ｈ．example/x", "https://h。example/x", "https://hést/x", "ssh://h\t.evil/x",
        "https://h evil/x", "https://[h]/x", "evil.example:h://h/x",
        "ssh://evil%2f@h/x", "ssh://git%20-oProxyCommand=x@h/x",
    ],
)  # fmt: skip
def test_an_address_that_could_do_something_else_is_refused(url):
    with pytest.raises(InvalidResource):
        urls.parse(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example%2f@h.example/o/r",
        "https://evil.example%3f@h.example/o/r",
        "https://evil.example%23@h.example/o/r",
        "https://evil.example%5c@h.example/o/r",
        "https://evil%40x.example%2fy@h.example/o/r",
        "https://me%40company.example@h.example/o/r",
    ],
)
def test_who_reads_an_address_again_finds_the_same_host(url):
    """The git Pod is given the address by the operator and reads it anew: the credential goes where that points."""
    first = urls.parse(url)
    again = urls.parse(str(first))
    assert (first.host, again.host, again.user, again.path) == ("h.example", "h.example", first.user, "o/r")
    assert str(again) == str(first)


def test_a_password_in_the_address_is_used_but_never_shown(serve):
    server = serve(401, {"WWW-Authenticate": 'Basic realm="x"'})
    remote = Remote(server.url.replace("://", "://ann:s3cr3t@") + "/o/r", schemes=("http",))
    with pytest.raises(PermissionDenied) as caught:
        remote.preflight()
    assert "s3cr3t" not in f"{caught.value} {remote.url!r} {remote.url} {caught.value.__cause__}"
    assert any(auth.startswith("Basic ") for _, auth in server.seen)


@pytest.mark.parametrize("url", ["http://127.0.0.1/o/r", "/tmp/x", "file:///tmp/x"])
def test_plain_http_and_local_paths_need_to_be_allowed(url):
    with pytest.raises(PermissionDenied, match="not allowed"):
        Remote(url)


def test_a_token_does_not_go_with_ssh():
    with pytest.raises(InvalidResource, match="https"):
        Remote("git@github.com:o/r.git", credential=Token("t"))


@pytest.mark.parametrize("token", ["", "a\nb", "a b"])
def test_a_token_with_white_space_is_refused_at_once(token):
    with pytest.raises(InvalidResource):
        Token(token)


@pytest.mark.parametrize("name", ["", "a..b", "-x/..", "a b", "x.lock", "a~1", "a\0b"])
def test_what_cannot_be_a_branch_is_refused(name):
    with pytest.raises(InvalidResource):
        check_branch(name)


# ---------------------------------------------------------------- preflight


def test_preflight_resolves_the_default_branch_and_tries_to_push(bare, filled):
    found = local(bare).preflight()
    assert (found.base_commit, found.branch, found.default_branch) == (filled, "main", "main")
    assert (found.empty, found.push) == (False, "ok")
    found.require_push()
    assert list(local(bare).heads()) == ["main"]


def test_an_empty_remote_is_fine_and_gets_the_same_first_commit_everywhere(bare, repo):
    found = local(bare).preflight()
    assert (found.empty, found.branch, found.base_commit) == (True, "main", FIRST_COMMIT)
    assert local(bare).preflight("trunk").branch == "trunk"
    local(bare).fetch(repo, found.base_commit)
    assert repo.list_tree(FIRST_COMMIT) == []
    assert repo.holds(FIRST_COMMIT)


def test_a_missing_branch_names_the_near_ones(bare, filled):
    with pytest.raises(NotFound, match="main") as caught:
        local(bare).preflight("mian")
    assert caught.value.reason == "BranchNotFound"


def test_a_remote_without_default_branch_takes_its_only_one(bare, work, filled):
    subprocess.run(["git", "symbolic-ref", "HEAD", "refs/heads/gone"], cwd=bare, check=True)
    assert local(bare).preflight().branch == "main"
    work.git("push", "-q", str(bare), "main:second")
    with pytest.raises(NotFound, match="default branch"):
        local(bare).preflight()


def test_no_such_repository_is_its_own_error(tmp_path):
    with pytest.raises(NotFound, match="no such repository"):
        local(tmp_path / "nothing").preflight()


def test_a_sha256_repository_is_refused_in_words(tmp_path, make_work):
    path = tmp_path / "new"
    subprocess.run(["git", "init", "-q", "--object-format=sha256", str(path)], check=True)
    env = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a",
    }
    subprocess.run(
        ["git", "commit", "-q", "--allow-empty", "-m", "x"], cwd=path, env={**os.environ, **env}, check=True
    )
    with pytest.raises(GitError, match="SHA"):
        local(path).preflight()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_local_repository_that_cannot_be_written_is_found_at_preflight(bare, filled):
    (bare / "objects").chmod(0o500)
    found = local(bare).preflight()
    (bare / "objects").chmod(0o700)
    with pytest.raises(PermissionDenied):
        found.require_push()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, PermissionDenied),
        (403, PermissionDenied),
        (404, NotFound),
        (429, RemoteUnavailable),
        (503, RemoteUnavailable),
    ],
)
def test_what_an_http_host_says_is_translated(serve, status, error):
    with pytest.raises(error):
        Remote(serve(status).url + "/o/r", credential=Token("t0ken"), schemes=("http",)).preflight()


def test_a_redirect_is_not_followed_and_the_token_goes_nowhere_else(serve):
    stranger = serve(401, {"WWW-Authenticate": 'Basic realm="x"'})
    host = serve(302, {"Location": stranger.url + "/o/r/info/refs?service=git-upload-pack"})
    with pytest.raises(GitError, match="redirect") as caught:
        Remote(host.url + "/o/r", credential=Token("t0ken"), schemes=("http",)).preflight()
    assert caught.value.reason == "Redirected"
    assert stranger.seen == []


def test_a_host_that_is_down_can_be_retried(serve):
    server = serve(200)
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(RemoteUnavailable) as caught:
        Remote(server.url + "/o/r", schemes=("http",)).preflight()
    assert caught.value.retryable


def test_an_askpass_program_is_asked(serve, tmp_path):
    server = serve(401, {"WWW-Authenticate": 'Basic realm="x"'})
    program = tmp_path / "ask"
    program.write_text(f"#!/bin/sh\necho \"$1\" >> '{tmp_path}/asked'\necho word\n")
    program.chmod(0o755)
    with pytest.raises(PermissionDenied):
        Remote(server.url + "/o/r", credential=AskpassFile(program), schemes=("http",)).preflight()
    assert "Username" in (tmp_path / "asked").read_text()


# ---------------------------------------------------------------- fetch


def test_a_commit_is_fetched_with_its_history_and_recorded_for_another_machine(
    bare, work, filled, repo, store, tmp_path
):
    from swarmrun.git.repo import RunRepo

    head = work.commit({"b": "2"})
    work.git("push", "-q", str(bare), "main")
    local(bare).fetch(repo, head)
    local(bare).fetch(repo, head)
    repo.record(head)
    other = RunRepo(tmp_path / "other.git", store, "runs/r1")
    other.ensure(head)
    assert other.is_ancestor(filled, head)


def test_the_pinned_commit_is_fetched_though_the_branch_moved_on(bare, work, filled, repo):
    work.commit({"b": "2"})
    work.git("push", "-q", str(bare), "main")
    local(bare).fetch(repo, filled, branch="main")
    assert [e.path for e in repo.list_tree(filled)] == ["a"]


def test_a_host_that_gives_no_commits_by_id_is_asked_for_the_branch(bare, work, filled, repo, monkeypatch):
    work.commit({"b": "2"})
    work.git("push", "-q", str(bare), "main")
    remote = local(bare)
    honest = remote._fetch

    def old_host(repo, what):
        if not what.startswith("refs/"):
            raise GitError("no", output="error: Server does not allow request for unadvertised object")
        honest(repo, what)

    monkeypatch.setattr(remote, "_fetch", old_host)
    remote.fetch(repo, filled, branch="main")
    assert repo.holds(filled)


def test_a_commit_that_is_gone_is_not_found(bare, filled, repo):
    with pytest.raises(NotFound, match="no longer holds"):
        local(bare).fetch(repo, "c" * 40, branch="main")
    assert not repo.holds("c" * 40)


def test_a_shallow_clone_says_how_to_mend_it(bare, work, filled, repo, tmp_path):
    work.commit({"b": "2"})
    work.git("push", "-q", str(bare), "main")
    clone = tmp_path / "shallow"
    subprocess.run(["git", "clone", "-q", "--depth=1", bare.as_uri(), str(clone)], check=True)
    remote = local(clone)
    with pytest.raises(GitError, match="unshallow"):
        remote.fetch(repo, remote.preflight().base_commit, branch="main")


def test_hooks_and_settings_of_the_user_do_not_run(bare, work, filled, repo, tmp_path, monkeypatch):
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("pre-push", "reference-transaction", "post-checkout"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran'\n")
        (hooks / name).chmod(0o755)
    config = tmp_path / "gitconfig"
    config.write_text(
        f"[core]\n\thooksPath = {hooks}\n\tfsmonitor = touch {tmp_path}/ran\n[gc]\n\tauto = 1\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    local(bare).fetch(repo, filled)
    assert local(bare).preflight().push == "ok"
    assert not (tmp_path / "ran").exists()
