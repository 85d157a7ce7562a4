"""The server in a git Pod: `python -m swarmrun.git.pod.server`. It knows one remote, and nobody can name another.

| variable | meaning |
| --- | --- |
| `SWARMRUN_TOKEN_SHA256` | SHA-256 of the brain's token, in hex |
| `SWARMRUN_GIT_URL`, `SWARMRUN_GIT_SCHEMES` | the remote, and the schemes that are allowed (comma separated) |
| `SWARMRUN_GIT_SECRET` | the mounted Secret's name, for messages; empty: anonymous |
| `SWARMRUN_CA` | certificates to trust besides the image's; written with them to `SSL_CERT_FILE` at the start |
| `SWARMRUN_GIT_PROVIDER`, `SWARMRUN_GIT_DRAFT` | kind of host; `true`: pull requests are drafts |
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any

from swarmrun.errors import InvalidResource, NotFound, StorageUnavailable, SwarmRunError
from swarmrun.git import urls
from swarmrun.git.credentials import Credential
from swarmrun.git.direct import DirectAccess
from swarmrun.git.pod import certificates, secret, wire
from swarmrun.git.pull_requests.factory import for_remote
from swarmrun.git.remote import Remote
from swarmrun.git.repo import RunRepo
from swarmrun.ports import PullRequests

Json = dict[str, Any]
Answer = tuple[Json, bytes]


@dataclass(frozen=True)
class Settings:
    token_sha256: str
    url: str
    schemes: tuple[str, ...]
    secret: str
    provider: str
    draft: bool
    mounted: Path
    """Directory of the Secret."""
    state: Path
    """Directory for the repository; may be empty at any start."""

    @classmethod
    def read(cls, env: dict[str, str], mounted: Path, state: Path) -> Settings:
        """Raises InvalidResource."""
        hashed = env.get("SWARMRUN_TOKEN_SHA256", "").lower()
        if len(hashed) != 64 or hashed == hashlib.sha256(b"").hexdigest():
            raise InvalidResource("SWARMRUN_TOKEN_SHA256 is not the SHA-256 of a token")
        return cls(
            token_sha256=hashed,
            url=env["SWARMRUN_GIT_URL"],
            schemes=tuple(env.get("SWARMRUN_GIT_SCHEMES", "https,ssh").split(",")),
            secret=env.get("SWARMRUN_GIT_SECRET", ""),
            provider=env.get("SWARMRUN_GIT_PROVIDER", ""),
            draft=env.get("SWARMRUN_GIT_DRAFT") == "true",
            mounted=mounted,
            state=state,
        )


class _NoStore:
    """The repository here is all there is: nothing is recorded beside it."""

    def put(self, key: str, data: bytes) -> str:
        raise StorageUnavailable("a git Pod keeps no artifacts")

    def put_new(self, key: str, data: bytes) -> bytes:
        raise StorageUnavailable("a git Pod keeps no artifacts")

    def get(self, key: str) -> bytes:
        raise NotFound(f"no artifact {key}")

    def exists(self, key: str) -> bool:
        return False

    def list(self, prefix: str) -> Sequence[str]:
        return ()

    def delete(self, prefix: str) -> None:
        return None


class Operations:
    """What the brain may ask for, one method each: arguments and a bundle in, values and a bundle out."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._repo = RunRepo(settings.state / "repo.git", _NoStore(), "")
        self._access = DirectAccess(self._repo, self._remote, self._pull_requests, asyncio.run)
        # Policies looked at the Secret as it was when this Pod was made. One that appears later was looked at by none.
        self._late = bool(settings.secret) and not secret.is_there(settings.mounted)

    def preflight(self, args: Json, _: bytes) -> Answer:
        return asdict(self._access.preflight(args["branch"])), b""

    def check_pull_requests(self, args: Json, _: bytes) -> Answer:
        self._access.check_pull_requests()
        return {}, b""

    def find_published(self, args: Json, _: bytes) -> Answer:
        return asdict(self._access.find_published(args["branch"], args["spec_hash"])), b""

    def fetch(self, args: Json, _: bytes) -> Answer:
        self._access.fetch(args["commit"], branch=args["branch"])
        return {}, self._repo.bundle(args["commit"])

    def publish(self, args: Json, bundle: bytes) -> Answer:
        """`since` are the commits that the bundle builds on; what this Pod does not hold of them it fetches.
        Raises NotFound `BaseNotHeld` where it cannot."""
        self._repo.init()
        for commit in args["since"]:
            try:
                self._access.fetch(commit, branch=args["base_branch"])
            except NotFound as exc:
                raise NotFound(f"{exc.message}", mend="send the whole history", reason="BaseNotHeld") from exc
        self._repo.add_history(bundle, commit=args["commit"], requires=args["since"])
        done = self._access.publish(
            args["commit"], branch=args["branch"], base_branch=args["make_base"], base_commit=""
        )
        return asdict(done), b""

    def open_pull_request(self, args: Json, _: bytes) -> Answer:
        wanted = {name: args[name] for name in ("head", "base", "title", "body")}
        return asdict(self._access.open_pull_request(**wanted)), b""

    def health(self, args: Json, _: bytes) -> Answer:
        return {}, b""

    # ------------------------------------------------------------

    def _remote(self) -> Remote:
        """Anew each time: a Secret whose keys were mended is found by the next call."""
        it = self._settings
        found = self._credential()
        return Remote(it.url, credential=found, schemes=it.schemes, kind=it.provider or None)

    def _credential(self) -> Credential:
        it = self._settings
        if self._late:
            raise secret.missing(it.secret)
        return secret.credential(it.mounted, it.secret, urls.parse(it.url))

    def _pull_requests(self) -> PullRequests:
        it = self._settings
        self._credential()  # the host must be allowed here too
        token = secret.api_token(it.mounted, it.secret)
        plain = "http" in it.schemes
        return for_remote(it.url, token, it.provider or None, draft=it.draft, allow_http=plain)


OPERATIONS = (
    "health",
    "preflight",
    "check_pull_requests",
    "find_published",
    "fetch",
    "publish",
    "open_pull_request",
)


class GitServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], settings: Settings) -> None:
        super().__init__(address, _Handler)
        self.settings = settings
        self.operations = Operations(settings)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 120
    """Seconds that a silent client is waited for."""
    server: GitServer

    def do_POST(self) -> None:
        if not self._known():
            # The body is not read: a stranger must not fill the memory.
            self.close_connection = True
            return self._answer(401, {"error": {"kind": "PermissionDenied", "message": "unknown token"}})
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > wire.MAX_BODY:
            self.close_connection = True
            return self._answer(413, {"error": {"kind": "GitError", "message": "the bundle is too large"}})
        body = self.rfile.read(int(length))
        op = self.path.removeprefix("/v1/")
        try:
            if op not in OPERATIONS:
                raise NotFound(f"no operation {op!r}")
            args, payload = wire.unpack(body)
            answer, out = getattr(self.server.operations, op)(args, payload)
        except SwarmRunError as exc:
            print(f"{op}: {exc.reason}: {exc.message}", flush=True)
            return self._answer(400, wire.error(exc))
        except Exception as exc:  # noqa: BLE001  (one bad call must not end the server)
            traceback.print_exc()
            told = {"kind": "GitError", "message": f"git Pod: {op}: {type(exc).__name__}: {exc}"}
            return self._answer(500, {"error": told})
        print(f"{op}: done", flush=True)
        return self._answer(200, answer, out)

    def _known(self) -> bool:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        digest = hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
        known = hmac.compare_digest(digest, self.server.settings.token_sha256)
        return scheme.lower() == "bearer" and token != "" and known

    def _answer(self, status: int, head: Json, payload: bytes = b"") -> None:
        body = wire.pack(head, payload)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """What matters is printed by `do_POST`."""


def _stop(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)  # git's own locks are in a directory that goes away


def main() -> int:
    signal.signal(signal.SIGTERM, _stop)  # PID 1 has no default for it
    try:
        settings = Settings.read(dict(os.environ), Path("/run/git-secret"), Path("/work"))
        # The volume's root is root's; what git makes must be ours.
        Path(os.environ.get("TMPDIR", "/tmp")).mkdir(exist_ok=True)
        if given := os.environ.get("SWARMRUN_CA", ""):
            certificates.join(Path(given), Path(os.environ["SSL_CERT_FILE"]))
    except (InvalidResource, KeyError) as exc:
        print(f"git Pod: {exc}", file=sys.stderr)
        return 2
    port = int(os.environ.get("SWARMRUN_PORT", "8701"))
    print(f"listening on port {port}", flush=True)
    GitServer(("", port), settings).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
