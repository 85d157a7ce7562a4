"""The one place where git is started.

Every call runs without the system's and the user's configuration (unless `user_config`), without hooks, prompts,
redirects, background maintenance, submodule recursion or `ext::` transports, in a process group of its own that is
killed as a whole when time is up or the output runs over its cap. Messages carry no secrets.
"""

from __future__ import annotations

import errno
import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from swarmrun.errors import GitError, InvalidResource, StorageUnavailable

# Settings that hold for every call; `-c` wins over the repository's and the user's files.
_SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.quotePath": "false",
    "core.askPass": "",
    "protocol.ext.allow": "never",
    "http.followRedirects": "false",
    # A transfer slower than 1 kB/s for a minute is dead (arbitrary; the whole call has a time-out besides).
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "60",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    "push.recurseSubmodules": "no",
    "push.gpgSign": "false",
    "push.followTags": "false",
    "push.default": "nothing",
    "commit.gpgSign": "false",
    "advice.pushUpdateRejected": "false",
    # Bigger blobs are streamed instead of held in memory.
    "core.bigFileThreshold": "16m",
}
# What git may take from this process's environment even when the user's own configuration is left out.
_KEPT = (
    "PATH", "TMPDIR", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
)  # fmt: skip
# Of the user's environment, what would send git to another repository, config or program than the one named.
_DROPPED = re.compile(
    r"GIT_(DIR|WORK_TREE|INDEX_FILE|OBJECT_DIRECTORY|ALTERNATE_OBJECT_DIRECTORIES|COMMON_DIR|NAMESPACE|PREFIX"
    r"|CONFIG|CONFIG_PARAMETERS|CONFIG_COUNT|CONFIG_KEY_\d+|CONFIG_VALUE_\d+|EXTERNAL_DIFF|PAGER|EDITOR"
    r"|SEQUENCE_EDITOR|TRACE\w*|CURL_VERBOSE|GRAFT_FILE|SHALLOW_FILE|REPLACE_REF_BASE|QUARANTINE_PATH"
    r"|CEILING_DIRECTORIES|AUTHOR_\w+|COMMITTER_\w+|TEMPLATE_DIR|DEFAULT_HASH|REDIRECT_\w+)"
)
_URL_SECRET = re.compile(r"(?<=://)[^/@\s'\"]+@")
_HEADER_SECRET = re.compile(r"(?i)(authorization:\s*(?:basic|bearer|token)?\s*)\S+")
# Output is what git tells a program; more than this is a mistake or an attack (arbitrary).
DEFAULT_CAP = 256 * 1024 * 1024
_STDERR_CAP = 256 * 1024
_CHUNK = 1 << 16
# How long a silent pipe is waited for before looking whether git is still there, in seconds.
_TICK = 0.05


@dataclass(frozen=True)
class Output:
    """What one git command gave."""

    code: int
    stdout: bytes
    stderr: str
    """Secrets removed."""
    cut: bool = False
    """True when `stdout` was cut at the cap (only with `cut_ok`)."""

    @property
    def text(self) -> str:
        """`stdout` without the final newline; bytes that are not UTF-8 survive as surrogates."""
        return self.stdout.decode("utf-8", "surrogateescape").removesuffix("\n")


def git(
    *args: str | os.PathLike[str],
    cwd: Path | None = None,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    config: Mapping[str, str] | None = None,
    user_config: bool = False,
    secrets: Sequence[str] = (),
    ok: Sequence[int] = (0,),
    timeout: float = 120,
    cap: int = DEFAULT_CAP,
    cut_ok: bool = False,
) -> Output:
    """Runs `git args…` and returns its output when the exit code is in `ok`.

    `cwd` is a repository (bare or not); without one the command must not need it. `env` is added last; `config`
    becomes `-c` settings. `secrets` are removed from everything that leaves this function. `timeout` in seconds,
    `cap` in bytes of standard output; `cut_ok` returns what fits instead of raising.

    Raises GitError (`output` is what git printed; reason `TimedOut` when time was up), StorageUnavailable (disk
    full).
    """
    name = str(args[0])
    settings = [f for key, value in {**_SETTINGS, **(config or {})}.items() for f in ("-c", f"{key}={value}")]
    try:
        process = subprocess.Popen(
            ["git", "--no-pager", "--no-optional-locks", *settings, *(os.fspath(a) for a in args)],
            cwd=cwd,
            env=environment(user_config=user_config) | dict(env or {}),
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Also detaches from the terminal, so that ssh and credential helpers cannot prompt on it.
            start_new_session=True,
        )
    except FileNotFoundError as exc:
        if cwd is not None and not cwd.is_dir():
            raise GitError(f"git {name}: no such directory: {cwd}") from exc
        raise GitError("git is not installed", mend="install git 2.38 or newer") from exc
    out, err = _Sink(cap), _Sink(_STDERR_CAP)
    done = False
    with process:
        try:
            done = _exchange(process, out, err, stdin or b"", time.monotonic() + timeout)
        finally:
            # Out of time, over the cap, or interrupted: nothing may go on writing.
            if process.returncode is None:
                _kill_group(process.pid)
    code = process.wait()
    stderr = scrub(bytes(err.data).decode("utf-8", "replace"), secrets).strip()
    if not done:
        raise GitError(f"git {name} did not end within {timeout:g} s", output=stderr, reason="TimedOut")
    if out.over:
        if cut_ok:
            return Output(0, bytes(out.data), stderr, cut=True)
        raise GitError(f"git {name} printed more than {cap} bytes", output=stderr)
    if code not in ok:
        if "No space left on device" in stderr or "Disk quota exceeded" in stderr:
            raise StorageUnavailable(
                f"git {name}: the disk that holds {cwd or 'the temporary directory'} is full",
                mend="free space there and resume",
                reason="DiskFull",
            )
        last = next((line for line in reversed(stderr.splitlines()) if line.strip()), "")
        raise GitError(f"git {name} failed with exit code {code}: {last}", output=stderr)
    return Output(code, bytes(out.data), stderr)


def environment(*, user_config: bool) -> dict[str, str]:
    """The variables git runs with. The user's own: everything but what redirects git; else next to nothing."""
    if user_config:
        result = {k: v for k, v in os.environ.items() if not _DROPPED.fullmatch(k)}
    else:
        result = {k: os.environ[k] for k in _KEPT if k in os.environ}
        result |= {"HOME": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
        result["GIT_SSH_COMMAND"] = "ssh -F /dev/null -o BatchMode=yes"
    return result | {
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": result.get("GIT_ASKPASS", "") if user_config else "",
        "SSH_ASKPASS_REQUIRE": "never",
        "GCM_INTERACTIVE": "never",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_DEFAULT_REF_FORMAT": "files",
        "GIT_DEFAULT_HASH": "sha1",
    }


def scrub(text: str, secrets: Sequence[str] = ()) -> str:
    """`text` without the given secrets, without credentials in URLs and in authorization headers."""
    for secret in sorted((s for s in secrets if s), key=len, reverse=True):
        text = text.replace(secret, "***")
    return _HEADER_SECRET.sub(r"\1***", _URL_SECRET.sub("***@", text))


@contextmanager
def disk(place: Path) -> Iterator[None]:
    """Translates what the file system raises while `place` is written to into StorageUnavailable."""
    try:
        yield
    except OSError as exc:
        full = exc.errno in (errno.ENOSPC, errno.EDQUOT)
        raise StorageUnavailable(
            f"cannot write in {place}: {exc.strerror or exc}",
            mend="free space there and resume" if full else "check that the directory can be written",
            reason="DiskFull" if full else "",
        ) from exc


def checked_sha(value: str) -> str:
    """A full object name. Raises InvalidResource: everything else would be a revision expression or an option."""
    if not re.fullmatch(r"[0-9a-f]{40}", value):
        raise InvalidResource(f"{value[:80]!r} is not a full commit id (40 hexadecimal digits)")
    return value


class _Sink:
    """Collects one stream up to a cap; the rest is dropped."""

    def __init__(self, cap: int) -> None:
        self.data = bytearray()
        self.over = False
        self._cap = cap

    def take(self, chunk: bytes) -> None:
        room = self._cap - len(self.data)
        self.data += chunk[:room]
        self.over = self.over or len(chunk) > room


def _exchange(
    process: subprocess.Popen[bytes], out: _Sink, err: _Sink, stdin: bytes, deadline: float
) -> bool:
    """Feeds and drains the pipes until git has ended; False when time was up. Ends early when `out` is over.

    (`Popen.communicate` knows no cap, `Popen.wait(timeout)` sleeps up to 50 ms after the end.)
    """
    assert process.stdout
    assert process.stderr
    rest = memoryview(stdin)
    with selectors.DefaultSelector() as pipes:
        pipes.register(process.stdout, selectors.EVENT_READ, out)
        pipes.register(process.stderr, selectors.EVENT_READ, err)
        feed = process.stdin
        if feed:
            os.set_blocking(feed.fileno(), False)
            pipes.register(feed, selectors.EVENT_WRITE)
        while pipes.get_map() and not out.over:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            # Asked before the pipes are: what git printed in its last moment is then in them already.
            ended = process.poll() is not None
            ready = pipes.select(0 if ended else min(left, _TICK))
            if not ready and ended:
                break  # a helper that outlives git on purpose (an ssh master, a credential cache) holds a pipe
            for key, _ in ready:
                if feed and key.fileobj is feed:
                    try:
                        rest = rest[os.write(key.fd, rest[:_CHUNK]) :] if rest else rest
                    except BrokenPipeError:  # git had enough; its exit code tells
                        rest = rest[:0]
                    if not rest:
                        pipes.unregister(feed)
                        feed.close()
                elif chunk := os.read(key.fd, _CHUNK):
                    key.data.take(chunk)
                else:
                    pipes.unregister(key.fileobj)
    if out.over:
        return True
    try:
        process.wait(max(0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return False
    return True


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
