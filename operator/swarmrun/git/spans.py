"""Which two commits a run, or one task of it, lies between, by what the status says."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches

from swarmrun.api.status import MergeHow, SwarmRunStatus
from swarmrun.errors import NotFound
from swarmrun.git.objects import Objects


def span(
    repo: Objects, ensure: Callable[[str], None], status: SwarmRunStatus, task: str, *, run: str
) -> tuple[str, str]:
    """(base, head) of the run, or of `task`; both are in `repo` afterwards. `ensure` brings a recorded commit there.

    Raises NotFound: no such task, nothing was committed or changed yet.
    """
    made = status.result
    if not task:
        if made is None or not made.base_commit or not made.commit:
            raise NotFound(f"run {run} has no commit yet", mend=f"swarmrun describe {run}")
        ensure(made.base_commit)
        ensure(made.commit)
        return made.base_commit, made.commit
    task = known_task(status, task, run)
    merge = next((m for m in status.merges if m.task == task and m.commit), None)
    if merge is not None:
        ensure(merge.commit)
        return repo.parents(merge.commit)[0], merge.commit
    agent = next((a for a in status.agents if a.task == task), None)
    if agent is None or not agent.commit:
        raise NotFound(f"task {task} of run {run} has no commit yet")
    ensure(agent.commit)
    integration = (made.commit or made.base_commit) if made else ""
    if integration:
        ensure(integration)
    base = repo.merge_base(integration or agent.commit, agent.commit)
    if base != agent.commit:
        return base, agent.commit
    # Integrator and fixer work on the integration branch itself: what they made is in the result already.
    others = {m.commit for m in status.merges if m.how is not MergeHow.INTEGRATOR} | {
        a.commit for a in status.agents if a.task != task
    }
    if agent.commit in others | {made.base_commit if made else ""}:
        raise NotFound(f"task {task} of run {run} changed nothing")
    return repo.parents(agent.commit)[0], agent.commit


def known_task(status: SwarmRunStatus, task: str, run: str) -> str:
    """Raises NotFound, naming the nearest."""
    planned = status.plan.tasks if status.plan else []
    known = list(dict.fromkeys([*(t.id for t in planned), *(a.task for a in status.agents)]))
    if task in known:
        return task
    near = get_close_matches(task, known, 1)
    mend = f"did you mean {near[0]}?" if near else f"known: {', '.join(known) or 'none yet'}"
    raise NotFound(f"run {run} has no task {task!r}", mend=mend)
