"""A task's branch goes out to a human's hands, and is found again when it comes back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from swarmrun.api.resolve import Snapshot
from swarmrun.errors import Conflict, GitError, NotFound
from swarmrun.git import urls
from swarmrun.git.command import git
from swarmrun.git.local import open_work_tree, resolve
from swarmrun.git.remote import Remote
from swarmrun.git.repo import RunRepo
from swarmrun.local.directory import RunDirectory
from swarmrun.local.repository import open_repo
from swarmrun.local.world import remote_of

INTEGRATION = "integration"
"""Branch of a checkout: what the run has merged so far."""


@dataclass(frozen=True)
class Branch:
    """A task's head, held by the run's repository, and where it was found."""

    commit: str
    source: str
    """For people: `branch swarm-tasks/demo/api of https://…`."""


def find(
    repo: RunRepo, remote: Callable[[], Remote], snapshot: Snapshot, task: str, own: str, given: str = ""
) -> Branch:
    """The branch to be merged for a task.

    `given` is a directory (its HEAD), a branch of the remote, or a commit of the run. Without it the remote's
    branch of the task counts, else `own`: the head that the task's agent left, empty when there is none.
    Raises NotFound, Conflict (the directory holds what is not committed), and what the remote raises.
    """
    if given and Path(given).expanduser().is_dir():
        return _of_directory(repo, Path(given).expanduser())
    there, name = remote(), given or snapshot.task_branch(task)
    heads = there.heads()
    if name in heads:
        there.fetch(repo, heads[name], branch=name)
        return Branch(heads[name], f"branch {name} of {there.url}")
    if given:
        return _of_run(repo, given, there)
    if own:
        repo.ensure(own)
        return Branch(own, "its agent's own branch")
    raise NotFound(
        f"task {task} has no branch: its agent left no commit, and {there.url} has no {name}",
        mend="--from DIR, or --from BRANCH of the remote",
    )


def _of_directory(repo: RunRepo, directory: Path) -> Branch:
    tree = open_work_tree(directory)
    if not tree.head:
        raise NotFound(f"{tree.root} has no commit yet")
    # Files that git was never told of may well be what a test run left behind.
    open_ = git("status", "--porcelain", "--untracked-files=no", cwd=directory, user_config=True).text
    if tree.dirty and open_:
        raise Conflict(
            f"{tree.root} has changes that are not committed: {open_.splitlines()[0].strip()} …",
            mend=f"git -C {tree.root} commit -a, then again",
            reason="Uncommitted",
        )
    Remote(tree.url, schemes=("file",)).fetch(repo, tree.head)
    return Branch(tree.head, f"{tree.branch or 'HEAD'} of {tree.root}")


def _of_run(repo: RunRepo, given: str, remote: Remote) -> Branch:
    try:
        if len(given) == 40:
            repo.ensure(given)
        commit = resolve(repo.path, given)
        repo.ensure(commit)
    except (NotFound, GitError) as exc:
        raise NotFound(
            f"{given!r} is no directory, no branch of {remote.url} and no commit of this run",
            mend="--from DIR takes the HEAD of a clone of yours",
        ) from exc
    return Branch(commit, f"commit {commit[:12]} of the run")


def lend(directory: RunDirectory, task: str, given: str, target: Path) -> Branch:
    """A clone in `target`, on the task's branch, beside it `integration`; `origin` is the run's repository.

    Raises what `find` raises, NotFound when nothing was merged yet, and Conflict when `target` exists.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Conflict(f"{target} exists", mend="name a directory that is not there yet")
    snapshot, status, repo = directory.snapshot(), directory.status(), open_repo(directory)
    if status.result is None or not status.result.commit:
        raise NotFound(f"run {directory.name} has no commit yet")
    own = next((a.commit for a in status.agents if a.task == task), "")
    branch = find(repo, lambda: remote_of(snapshot), snapshot, task, own, given)
    repo.ensure(status.result.commit)
    target.mkdir(parents=True, exist_ok=True)
    git("init", "--quiet", "--template=", f"--initial-branch={snapshot.task_branch(task)}", cwd=target)
    git("remote", "add", "origin", urls.parse(snapshot.repository.url).git, cwd=target)
    wanted = {"refs/swarm/branch": branch.commit, f"refs/heads/{INTEGRATION}": status.result.commit}
    git(
        "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", str(repo.path),
        *(f"refs/swarm/commits/{commit}:{ref}" for ref, commit in wanted.items()),
        cwd=target,
    )  # fmt: skip
    # The user's own configuration counts where files are written: line endings, large file storage.
    git("reset", "--quiet", "--hard", "refs/swarm/branch", cwd=target, user_config=True)
    git("update-ref", "-d", "refs/swarm/branch", cwd=target)
    return branch
