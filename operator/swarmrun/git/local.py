"""The user's own work tree, for `--repository .` and `swarmrun diff`. Runs with the user's own git configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from swarmrun.errors import GitError, NotFound
from swarmrun.git.command import git
from swarmrun.git.objects import Objects
from swarmrun.git.remote_errors import translate


@dataclass(frozen=True)
class WorkTree:
    root: Path
    url: str
    """`file://` address of the repository: what a run fetches from and publishes to."""
    branch: str
    """The branch that is checked out; empty on a detached HEAD."""
    head: str
    """Its commit; empty before the first one."""
    dirty: bool
    """Whether there is work that is not committed: a run does not see it."""
    origin: str
    """Address of the remote `origin`, empty when there is none. May hold a password: scrub before showing."""


def open_work_tree(path: Path) -> WorkTree:
    """The work tree (or bare repository) that holds `path`. Raises NotFound, PermissionDenied (owner)."""
    if not path.exists():
        raise NotFound(f"no such directory: {path}")
    where = path if path.is_dir() else path.parent
    if _ask(where, "rev-parse", "--is-bare-repository") == "true":
        root = Path(_ask(where, "rev-parse", "--absolute-git-dir"))
        dirty = False
    else:
        root = Path(_ask(where, "rev-parse", "--show-toplevel"))
        dirty = bool(_ask(root, "status", "--porcelain", "--ignore-submodules=dirty"))
    return WorkTree(
        root=root,
        url=root.as_uri(),
        branch=_ask(root, "symbolic-ref", "--quiet", "--short", "HEAD", ok=(0, 1)),
        head=_ask(root, "rev-parse", "--quiet", "--verify", "HEAD^{commit}", ok=(0, 1)),
        dirty=dirty,
        origin=_ask(root, "config", "--get", "remote.origin.url", ok=(0, 1)),
    )


def resolve(path: Path, revision: str) -> str:
    """The commit a name stands for in the repository at `path`. Raises NotFound."""
    found = _ask(
        path, "rev-parse", "--quiet", "--verify", "--end-of-options", f"{revision}^{{commit}}", ok=(0, 1)
    )
    if not found:
        raise NotFound(f"no branch or commit {revision!r} in {path}")
    return found.splitlines()[-1]


def diff(path: Path, base: str, head: str, *, color: bool = False, stat: bool = False) -> str:
    """What `head` adds since it left `base`, in the repository at `path`; both are branches or commits.

    Raises NotFound (unknown name, nothing in common).
    """
    repository = Objects(Path(_ask(path, "rev-parse", "--absolute-git-dir")))
    ours, theirs = resolve(path, base), resolve(path, head)
    return repository.diff(repository.merge_base(ours, theirs), theirs, color=color, stat=stat)


def _ask(path: Path, *args: str, ok: tuple[int, ...] = (0,)) -> str:
    try:
        return git(*args, cwd=path, user_config=True, ok=ok).text
    except GitError as exc:
        if "not a git repository" in exc.output:
            raise NotFound(
                f"{path} is not in a git repository", mend="git init, or name another path"
            ) from exc
        raise translate(exc, str(path), "read") from exc
