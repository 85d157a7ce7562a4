"""The remote of a run: looked at, fetched from, pushed to. One place touches it.

Only the schemes that were allowed are spoken (`GIT_ALLOW_PROTOCOL`), redirects are not followed, hooks are off.
"""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha1
from pathlib import Path

from swarmrun.errors import GitError, InvalidResource, NotFound, PermissionDenied
from swarmrun.git import urls
from swarmrun.git.command import Output, checked_sha, disk, git
from swarmrun.git.credentials import Credential, UserGit, access
from swarmrun.git.intake import TOLERATED
from swarmrun.git.objects import EMPTY_TREE, Objects
from swarmrun.git.remote_errors import translate
from swarmrun.git.repo import RunRepo
from swarmrun.ports import RemoteState

# The first commit of an empty remote. Fixed, so that every attempt on every machine makes the same one.
_FIRST_AUTHOR, _FIRST_DATE, _FIRST_MESSAGE = (
    "SwarmRun <swarmrun@localhost>",
    946_684_800,
    "Empty first commit\n",
)
_FIRST_BODY = (
    f"tree {EMPTY_TREE}\nauthor {_FIRST_AUTHOR} {_FIRST_DATE} +0000\n"
    f"committer {_FIRST_AUTHOR} {_FIRST_DATE} +0000\n\n{_FIRST_MESSAGE}"
).encode()
FIRST_COMMIT = sha1(b"commit %d\0" % len(_FIRST_BODY) + _FIRST_BODY).hexdigest()
"""The id of that commit."""

_PROBE = "refs/heads/swarmrun-preflight-probe"


class Remote:
    """`url` as the user wrote it. `schemes` are those allowed; add `http` and `file` on one's own machine only.

    `kind` is the host's, as `pull_requests.for_remote` has it. `timeout` in seconds is for one transfer; small
    questions get at most 60 s of it.
    Raises InvalidResource (address, or a credential that does not fit), PermissionDenied (scheme not allowed).
    """

    def __init__(
        self,
        url: str,
        *,
        credential: Credential | None = None,
        schemes: Collection[str] = ("https", "ssh"),
        kind: str | None = None,
        timeout: float = 1800,
    ) -> None:
        self.url = urls.parse(url)
        if self.url.scheme not in schemes:
            raise PermissionDenied(
                f"repository {self.url}: {self.url.scheme} addresses are not allowed here",
                mend=f"use {' or '.join(sorted(schemes))}, or allow the scheme in the class",
                reason="SchemeNotAllowed",
            )
        self._access = access(self.url, credential or UserGit())
        # The user's own insteadOf rules may turn one allowed scheme into another.
        self._protocols = ":".join(sorted(schemes)) if self._access.user_config else self.url.scheme
        self._kind = kind
        self._timeout = timeout

    # ------------------------------------------------------------ looking

    def heads(self) -> dict[str, str]:
        """Branches and their tips. Raises NotFound (no such repository), PermissionDenied, RemoteUnavailable."""
        return self._refs()[0]

    def preflight(self, branch: str = "") -> RemoteState:
        """Resolves the base branch and tries whether pushing is allowed; changes nothing on the remote.

        The probe is a dry-run push: the host checks the credential's right to write before it takes data. With a
        token the host's REST interface is asked too, where it tells (GitHub, GitLab, Gitea; Gitea lets a reader's
        dry run through). What a host checks only on arrival (protected branches, policies) is found when
        publishing. For a local path the directory's permissions are checked.

        Raises NotFound (no such repository or branch), PermissionDenied, RemoteUnavailable.
        """
        heads, default = self._refs()
        if not heads:
            chosen = branch or default or "main"
            return RemoteState(FIRST_COMMIT, chosen, default, True, self._try_push())
        # Old hosts name no default branch when HEAD points nowhere; a single branch needs no name.
        chosen = branch or default or (next(iter(heads)) if len(heads) == 1 else "")
        if chosen not in heads:
            near = difflib.get_close_matches(chosen, heads, n=3) or sorted(heads)[:5]
            raise NotFound(
                f"no branch {chosen!r} in {self.url}" if chosen else f"{self.url} names no default branch",
                mend=f"set spec.repository.branch; there are: {', '.join(near)}",
                reason="BranchNotFound",
            )
        return RemoteState(heads[chosen], chosen, default, False, self._try_push())

    def history(self, branch: str, *, depth: int = 1) -> list[tuple[str, str, str]]:
        """The newest commits of a branch as (id, committer `Name <email>`, message), newest first.

        Fetched without files where the host allows. Raises NotFound when the branch is not there.
        """
        with scratch() as repo:
            self._git(
                "fetch", "--quiet", "--no-tags", "--filter=tree:0", f"--depth={depth}", self.url.git,
                f"refs/heads/{branch}:refs/heads/seen", cwd=repo.path, doing="read",
            )  # fmt: skip
            form = "--format=%H%x00%cn <%ce>%x00%B%x01"
            listed = git("log", f"--max-count={depth}", form, "refs/heads/seen", cwd=repo.path)
            rows = [row.lstrip("\n").split("\0") for row in listed.text.split("\1")]
            return [(row[0], row[1], row[2]) for row in rows if len(row) == 3]

    # ------------------------------------------------------------ transfer

    def fetch(self, repo: RunRepo, commit: str, *, branch: str = "") -> None:
        """Brings `commit` with its history into `repo` and marks it as held. Idempotent.

        Hosts that do not hand out commits by id are asked for `branch`. Raises NotFound when it is not there.
        """
        repo.init()
        if repo.holds(checked_sha(commit)):
            return
        if commit == FIRST_COMMIT:
            repo.commit_tree(EMPTY_TREE, [], _FIRST_MESSAGE, _FIRST_AUTHOR, _FIRST_DATE)
            return
        try:
            self._fetch(repo, commit)
        except GitError as exc:
            if not branch or not any(s in exc.output for s in ("not our ref", "unadvertised object")):
                raise
            self._fetch(repo, f"refs/heads/{branch}")
        try:
            repo.tree_of(commit)
        except NotFound as exc:
            raise NotFound(f"{self.url} no longer holds commit {commit}", reason="CommitGone") from exc
        try:
            # git takes a commit of a shallow clone without a word; its parents are missing then.
            git("rev-list", "--count", commit, cwd=repo.path, timeout=self._timeout)
        except GitError as exc:
            raise GitError(
                f"{self.url} is a shallow clone: its history is cut off",
                output=exc.output,
                mend="git fetch --unshallow there",
                reason="Shallow",
            ) from exc
        repo.hold(commit)

    def push(
        self, repo: Objects, commit: str, branch: str, *, expect: str | None, dry_run: bool = False
    ) -> Output:
        """`git push --porcelain` of one commit to one branch that stands at `expect` (None: does not exist).

        Exit codes 0 and 1 are returned, for the caller to read; all else raises.
        """
        target = branch if branch.startswith("refs/") else f"refs/heads/{branch}"
        return self._git(
            "push", "--porcelain", "--no-verify", *(["--dry-run"] if dry_run else []),
            f"--force-with-lease={target}:{expect or ''}", self.url.git, f"{commit}:{target}",
            cwd=repo.path, doing="push to", ok=(0, 1), timeout=self._timeout,
        )  # fmt: skip

    # ------------------------------------------------------------

    def _refs(self) -> tuple[dict[str, str], str]:
        found = self._git("ls-remote", "--symref", self.url.git, "HEAD", "refs/heads/*", doing="read")
        heads: dict[str, str] = {}
        default = ""
        for line in found.text.splitlines():
            value, _, name = line.partition("\t")
            if value.startswith("ref: refs/heads/") and name == "HEAD":
                default = value.removeprefix("ref: refs/heads/")
            elif name.startswith("refs/heads/"):
                heads[name.removeprefix("refs/heads/")] = value
        if any(len(sha) != 40 for sha in heads.values()):
            raise GitError(
                f"{self.url} names its objects by SHA-256", mend="only SHA-1 repositories are supported"
            )
        return heads, default if default in heads or not heads else ""

    def _try_push(self) -> str:
        if self.url.scheme == "file":
            objects = next(
                (d for d in (Path(self.url.path, p) for p in (".git/objects", "objects")) if d.is_dir()), None
            )
            if objects and not os.access(objects, os.W_OK):
                return f"{objects} cannot be written"
        with scratch() as repo:
            commit = repo.commit_tree(EMPTY_TREE, [], _FIRST_MESSAGE, _FIRST_AUTHOR, _FIRST_DATE)
            try:
                done = self.push(repo, commit, _PROBE, expect=None, dry_run=True)
            except (PermissionDenied, NotFound) as exc:
                # Reading worked a moment ago: a host that hides the write side says "not found".
                return exc.message
            if done.code:
                return done.stderr or done.text
        return "ok" if self._host_lets_write() else f"{self.url} lets the token's owner read only"

    def _host_lets_write(self) -> bool:
        if not self._access.secrets or self.url.scheme not in ("https", "http"):
            return True
        # Not at the top: httpx is slow to import and most uses of a remote do without.
        from swarmrun.git.pull_requests.factory import for_remote
        from swarmrun.git.pull_requests.gitea import Gitea

        token = self._access.secrets[0]
        try:
            host = for_remote(str(self.url), token, self._kind, allow_http=True)
        except InvalidResource:
            # A host of one's own: asked as Gitea, the one whose dry run says too little. Others do not answer.
            host = Gitea(self.url.origin, self.url.path, token)
        return host.may_push()

    def _fetch(self, repo: RunRepo, what: str) -> None:
        self._git(
            "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", self.url.git, what,
            cwd=repo.path, doing="fetch from", timeout=self._timeout,
            config={"fetch.fsckObjects": "true"} | {f"fetch.fsck.{name}": to for name, to in TOLERATED.items()},
        )  # fmt: skip

    def _git(
        self,
        *args: str,
        doing: str,
        cwd: Path | None = None,
        ok: tuple[int, ...] = (0,),
        timeout: float | None = None,
        config: Mapping[str, str] | None = None,
    ) -> Output:
        try:
            return git(
                *args,
                # Outside of any repository by default, so that none's settings count.
                cwd=cwd or Path(tempfile.gettempdir()),
                env={
                    "GIT_ALLOW_PROTOCOL": self._protocols,
                    "GIT_CEILING_DIRECTORIES": "/",
                    **self._access.env,
                },
                config={**self._access.config, **(config or {})},
                user_config=self._access.user_config,
                secrets=self._access.secrets,
                ok=ok,
                timeout=timeout or min(60, self._timeout),
            )
        except GitError as exc:
            raise translate(exc, str(self.url), doing) from exc


@contextmanager
def scratch() -> Iterator[Objects]:
    """An empty bare repository that goes away."""
    with tempfile.TemporaryDirectory(prefix="swarmrun-git-") as folder:
        path = Path(folder, "scratch.git")
        with disk(path):
            git("init", "--quiet", "--bare", "--template=", "--initial-branch=none", str(path))
        yield Objects(path)


def check_branch(name: str) -> str:
    """Returns `name`. Raises InvalidResource when it cannot be a branch (git-check-ref-format)."""
    try:
        git("check-ref-format", f"refs/heads/{name}")
    except (GitError, ValueError) as exc:  # ValueError: a NUL in it
        raise InvalidResource(
            f"{name!r} cannot be a branch name", mend="see git help check-ref-format"
        ) from exc
    return name
