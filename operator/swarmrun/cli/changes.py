"""What a run changed, read from its own bare repository: nothing needs to be published for that."""

from __future__ import annotations

import subprocess
import sys

from swarmrun.errors import GitError
from swarmrun.git.objects import Objects
from swarmrun.git.spans import span
from swarmrun.local.directory import RunDirectory


def show_diff(directory: RunDirectory, task: str, *, stat: bool = False) -> None:
    """Prints the diff, with git's own pager and colours on a terminal."""
    base, head = span(
        Objects(directory.repo),
        lambda commit: _at_hand(directory, commit),
        directory.status(),
        task,
        run=directory.name,
    )
    options = ["--stat"] if stat else []
    # A run's attributes and configuration come from a stranger's repository: no external diff, no textconv.
    command = [
        "git",
        "-C",
        str(directory.repo),
        "diff",
        "--no-ext-diff",
        "--no-textconv",
        *options,
        base,
        head,
    ]
    if sys.stdout.isatty():
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    else:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        sys.stdout.write(done.stdout)
    if done.returncode not in (0, -13):  # SIGPIPE: the reader had enough
        raise GitError(f"git diff {base[:12]} {head[:12]} failed: {done.stderr.strip()}", output=done.stderr)


def _at_hand(directory: RunDirectory, commit: str) -> None:
    """Agents' checkpoints are recorded, and only taken into the repository when somebody wants them."""
    looked = subprocess.run(["git", "-C", str(directory.repo), "cat-file", "-e", commit], capture_output=True)
    if looked.returncode == 0:
        return
    from swarmrun.local.repository import open_repo

    open_repo(directory).ensure(commit)
