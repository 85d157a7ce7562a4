"""What a run changed, read from its own bare repository: nothing needs to be published for that."""

from __future__ import annotations

import subprocess
import sys
from difflib import get_close_matches

from swarmrun.api.status import MergeHow, SwarmRunStatus
from swarmrun.errors import GitError, NotFound
from swarmrun.local.directory import RunDirectory


def show_diff(directory: RunDirectory, task: str, *, stat: bool = False) -> None:
    """Prints the diff, with git's own pager and colours on a terminal."""
    base, head = span(directory, task)
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


def span(directory: RunDirectory, task: str) -> tuple[str, str]:
    """(base, head) commits of the run, or of one task of it. Raises NotFound."""
    status = directory.status()
    if not task:
        result = status.result
        if result is None or not result.base_commit or not result.commit:
            raise NotFound(
                f"run {directory.name} has no commit yet", mend=f"swarmrun describe {directory.name}"
            )
        return result.base_commit, result.commit
    task = known_task(status, task, directory.name)
    merge = next((m for m in status.merges if m.task == task and m.commit), None)
    if merge is not None:
        return f"{merge.commit}^1", merge.commit
    agent = next((a for a in status.agents if a.task == task), None)
    if agent is None or not agent.commit:
        raise NotFound(f"task {task} of run {directory.name} has no commit yet")
    made = status.result
    integration = (made.commit or made.base_commit) if made else ""
    _at_hand(directory, agent.commit)
    base = _merge_base(directory, integration or agent.commit, agent.commit)
    if base != agent.commit:
        return base, agent.commit
    # Integrator and fixer work on the integration branch itself: what they made is in the result already.
    others = {m.commit for m in status.merges if m.how is not MergeHow.INTEGRATOR} | {
        a.commit for a in status.agents if a.task != task
    }
    if agent.commit in others | {made.base_commit if made else ""}:
        raise NotFound(f"task {task} of run {directory.name} changed nothing")
    return f"{agent.commit}^1", agent.commit


def known_task(status: SwarmRunStatus, task: str, run: str) -> str:
    """Raises NotFound, naming the nearest."""
    planned = status.plan.tasks if status.plan else []
    known = list(dict.fromkeys([*(t.id for t in planned), *(a.task for a in status.agents)]))
    if task in known:
        return task
    near = get_close_matches(task, known, 1)
    mend = f"did you mean {near[0]}?" if near else f"known: {', '.join(known) or 'none yet'}"
    raise NotFound(f"run {run} has no task {task!r}", mend=mend)


def _at_hand(directory: RunDirectory, commit: str) -> None:
    """Agents' checkpoints are recorded, and only taken into the repository when somebody wants them."""
    looked = subprocess.run(["git", "-C", str(directory.repo), "cat-file", "-e", commit], capture_output=True)
    if looked.returncode == 0:
        return
    from swarmrun.local.repository import open_repo

    open_repo(directory).ensure(commit)


def _merge_base(directory: RunDirectory, one: str, other: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(directory.repo), "merge-base", one, other], capture_output=True, text=True
    )
    if done.returncode:
        raise GitError(f"no common ancestor of {one[:12]} and {other[:12]}", output=done.stderr)
    return done.stdout.strip()
