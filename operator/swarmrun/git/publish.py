"""Pushes a run's commit to its branch, never over somebody else's work.

| the branch on the remote | what happens |
| --- | --- |
| is not there | made |
| stands at this commit | nothing: already published |
| is an ancestor of the commit | moved forward |
| stands at `expect_old`, or at an earlier attempt of this very run | replaced, with a lease on exactly that commit |
| anything else, or checked out in a local work tree | the commit goes beside it: `<branch>-2`, `-3` … |
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from swarmrun.errors import Conflict, NotFound, PublishRefused, RemoteUnavailable
from swarmrun.git import trailers
from swarmrun.git.command import Output, checked_sha
from swarmrun.git.remote import FIRST_COMMIT, Remote, check_branch
from swarmrun.git.remote_errors import words
from swarmrun.git.repo import RunRepo
from swarmrun.ports import Published

# Names tried before giving up, and tries against somebody who pushes at the same moment (both arbitrary).
_NAMES = 20
_RACES = 5
# Commits looked through for a trailer: people put a few on top of a published branch.
_DEPTH = 50


def publish(
    repo: RunRepo,
    remote: Remote,
    *,
    branch: str,
    commit: str,
    expect_old: str | None = None,
    base_branch: str = "",
) -> Published:
    """Pushes `commit` (held by `repo`) to `branch`; idempotent.

    `expect_old` is a tip this run is known to have left there. `base_branch` is made with the empty first commit
    when the remote has no branch at all: a pull request needs something to go to.

    Raises PublishRefused (in the remote's words), PermissionDenied, NotFound, RemoteUnavailable, InvalidResource.
    """
    check_branch(branch)
    repo.ensure(checked_sha(commit))
    if base_branch:
        _make_base(repo, remote, base_branch)
    for _ in range(_RACES):
        heads = remote.heads()
        # A repeated call finds its own work wherever it went the first time.
        for name in _names(branch):
            if heads.get(name) == commit:
                return Published(name, commit, beside=name != branch, already=True)
        for name in _names(branch):
            old = heads.get(name)
            if _blocked(name, heads) or (old and not _may_move(repo, remote, name, old, commit, expect_old)):
                continue
            done = remote.push(repo, commit, name, expect=old)
            if done.code == 0:
                _verify(remote, name, commit)
                return Published(name, commit, beside=name != branch, already=False)
            if "branch is currently checked out" in done.stderr + done.text:
                continue
            if _moved(done):
                break
            raise _refused(remote, name, done)
        else:
            raise Conflict(f"{branch} and {_NAMES - 1} names beside it are taken in {remote.url}")
    raise RemoteUnavailable(f"{remote.url}: somebody keeps moving {branch} while it is pushed")


def find_published(remote: Remote, branch: str, spec_hash: str) -> Published:
    """Where a run with this spec hash was published before: `branch` or a name beside it.

    Commits that people put on top are looked through. The newest one of the run decides: a branch on which that is
    marked as partial holds no result of it. Raises NotFound.
    """
    heads = remote.heads()
    for name in (name for name in _names(branch) if name in heads):
        for sha, _, message in remote.history(name, depth=_DEPTH):
            marks = trailers.parse(message)
            if marks.get(trailers.SPEC_HASH) != spec_hash:
                continue
            if trailers.PARTIAL in marks:
                break
            return Published(name, sha, beside=name != branch, already=True)
    raise NotFound(f"no commit of spec {spec_hash} on {branch} in {remote.url}")


# ------------------------------------------------------------


def _names(branch: str) -> Iterator[str]:
    yield branch
    for number in range(2, _NAMES + 1):
        yield f"{branch}-{number}"


def _blocked(name: str, heads: dict[str, str]) -> bool:
    """Whether git cannot hold this name beside the others: `a` and `a/b` cannot both be branches."""
    parts = name.split("/")
    for depth in range(1, len(parts)):
        if "/".join(parts[:depth]) in heads:
            raise PublishRefused(
                f"{name} cannot be made: there is a branch {'/'.join(parts[:depth])}",
                mend="delete or rename that branch, or set spec.publish.branch",
                reason="BranchNameTaken",
            )
    return any(head.startswith(f"{name}/") for head in heads)


def _may_move(
    repo: RunRepo, remote: Remote, name: str, old: str, commit: str, expect_old: str | None
) -> bool:
    if old == expect_old:
        return True
    try:
        if repo.is_ancestor(old, commit):
            return True
    except NotFound:
        pass  # not among our objects, so not in our history
    # An amended or rebased commit keeps its trailers, but has another committer: then it is somebody's work.
    sha, committer, message = remote.history(name)[0]
    # A partial result's last commit stands for the run as a whole, whatever task the next one's ends with.
    tasks = trailers.PARTIAL not in trailers.parse(message)
    mine = (_marks(repo.message(commit), tasks=tasks), repo.committer(commit))
    return sha == old and all(mine[0]) and (_marks(message, tasks=tasks), committer) == mine


def _marks(message: str, *, tasks: bool) -> tuple[str, str]:
    found = trailers.parse(message)
    task = found.get(trailers.TASK, "") if tasks else ""
    # The same task (or none: the run as a whole) is part of the identity.
    return trailers.without_attempt(
        found.get(trailers.RUN, "")
    ), f"{found.get(trailers.SPEC_HASH, '')} {task}".lstrip()


def _moved(done: Output) -> bool:
    """Whether the branch was moved by somebody between looking and pushing."""
    signs = r"stale info|fetch first|non-fast-forward|is at [0-9a-f]+ but expected|incorrect old value|cannot lock ref"
    return bool(re.search(signs, done.text + done.stderr))


def _refused(remote: Remote, name: str, done: Output) -> PublishRefused:
    rows = [line for line in done.text.splitlines() if line.startswith("!")]
    verdict = rows[0].rsplit("\t", 1)[-1] if rows else ""
    said = words(done.stderr)
    return PublishRefused(
        f"{remote.url} refused {name}: " + " · ".join(part for part in (verdict, said) if part),
        mend="publish to a branch that is not protected, or change the rule there",
    )


def _verify(remote: Remote, name: str, commit: str) -> None:
    now = remote.heads().get(name)
    if now != commit:
        raise PublishRefused(
            f"{remote.url} took {name} but it stands at {now or 'nothing'} instead of {commit}",
            mend="look for a hook or somebody who moved it at the same moment",
        )


def _make_base(repo: RunRepo, remote: Remote, base_branch: str) -> None:
    if remote.heads():
        return
    check_branch(base_branch)
    remote.fetch(repo, FIRST_COMMIT)
    done = remote.push(repo, FIRST_COMMIT, base_branch, expect=None)
    if done.code and not _moved(done):
        raise _refused(remote, base_branch, done)
