"""The result reaches the remote: one branch, task branches where asked, a pull request; and texts are kept."""

from __future__ import annotations

from swarmrun.activities.merging import message
from swarmrun.activities.pull_request_body import body
from swarmrun.activities.world import AUTHOR, RunWorld
from swarmrun.api.base import legible
from swarmrun.errors import PermanentError, SwarmRunError
from swarmrun.git import trailers
from swarmrun.report import RunReport
from swarmrun.steps import Evidence, PublishDone, PublishResult, Saved, SaveReport


def save_evidence(world: RunWorld, given: Evidence) -> Saved:
    return Saved(artifact=world.store.put(f"evidence/{given.name}.md", legible(given.text).encode()))


def save_report(world: RunWorld, given: SaveReport) -> Saved:
    return Saved(artifact=world.put("report.json", given.report))


def publish(world: RunWorld, given: PublishResult) -> PublishDone:
    """Raises PublishRefused, PermissionDenied, RemoteUnavailable. Published once, however often it is called."""
    snapshot, repo = world.snapshot, world.repo
    repo.ensure(given.commit)
    tip = marked(world, given.commit, given.partial)
    base = given.base_commit
    done = world.access.publish(tip, branch=snapshot.branch, base_branch=given.base_branch, base_commit=base)
    text = f"published as {done.branch}"
    if done.beside:
        text += f": {snapshot.branch} holds somebody else's commits"
    for task, head in given.tasks.items():
        repo.ensure(head)
        try:
            world.access.publish(head, branch=snapshot.task_branch(task), base_commit=base)
        except PermanentError as exc:  # the result is there
            text += f"; no task branch for {task}: {exc}"
    pull_request = ""
    if snapshot.publish.pull_request.enabled:
        pull_request, problem = _pull_request(world, given, done.branch)
        text += f"; {problem}" if problem else f"; pull request {pull_request}"
    return PublishDone(
        branch=done.branch, commit=done.commit, beside=done.beside, pull_request=pull_request, message=text
    )


def marked(world: RunWorld, commit: str, partial: str = "") -> str:
    """The commit itself when it carries this run's trailers (ours all do), else one on top that does. A partial
    result's last commit says so, and a whole one's does not."""
    repo, snapshot = world.repo, world.snapshot
    marks = trailers.parse(repo.message(commit))
    if marks.get(trailers.SPEC_HASH) == snapshot.spec_hash and marks.get(trailers.PARTIAL, "") == partial:
        return commit
    text = message(world, f"SwarmRun {snapshot.name}{', in part' if partial else ''}")
    tip = repo.commit_tree(
        repo.tree_of(commit),
        [commit],
        trailers.add(text, {trailers.PARTIAL: partial}) if partial else text,
        AUTHOR,
        world.date("publish"),
    )
    repo.record(tip, commit)
    return tip


def _pull_request(world: RunWorld, given: PublishResult, branch: str) -> tuple[str, str]:
    """The URL, or why there is none: the branch is published already, a refused pull request loses nothing."""
    report = RunReport.model_validate(world.get(given.report))
    title = world.snapshot.publish.pull_request.title or _title(world.snapshot.goal)
    try:
        made = world.access.open_pull_request(
            head=branch, base=given.base_branch, title=title, body=body(report, world.snapshot)
        )
    except SwarmRunError as exc:
        if exc.retryable:
            raise
        return "", f"no pull request: {exc}"
    return made.url, ""


def _title(goal: str) -> str:
    first = goal.strip().splitlines()[0].strip()
    return first if len(first) <= 72 else first[:71] + "…"
