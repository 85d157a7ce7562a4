"""`list`, `tree`, `describe`, `diff`, `artifact`, `wait`."""

from __future__ import annotations

import re
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swarmrun.cli.kubectl.options import Context, Kubeconfig, Namespace, Operator, Options, in_cluster
from swarmrun.cli.look import ErrorsOption, TaskName
from swarmrun.cli.options import Output, OutputOption, RunName
from swarmrun.cli.typed import named, typed

if TYPE_CHECKING:
    from swarmrun.cli.kubectl.cluster import Cluster

LOOK_SECONDS = 1.0
"""Between two looks at a run that is waited for. A choice."""


def register(app: typer.Typer) -> None:
    app.command("list")(list_runs)
    for command in (tree, describe, diff, artifact, wait):
        app.command(command.__name__)(command)


def list_runs(
    ctx: typer.Context,
    everywhere: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of all namespaces.")] = False,
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Show the runs of a namespace."""
    from swarmrun.cli import show

    async def work(cluster: Cluster) -> tuple[str, list[dict[str, Any]]]:
        return cluster.namespace, await cluster.bodies(everywhere=everywhere)

    where, bodies = in_cluster(ctx, Options(namespace, context, kubeconfig), work)
    if output is not Output.TEXT:
        return show.data({"apiVersion": "v1", "kind": "List", "items": bodies}, output)
    if not bodies:
        there = "" if everywhere else f" in namespace {where}"
        return typer.echo(f"no runs{there}; start one with kubectl apply --server-side -f FILE", err=True)
    head = ["NAME", "PHASE", "PROGRESS", "SCORE", "REASON", "AGE", "BRANCH"]
    rows = [([body["metadata"]["namespace"]] if everywhere else []) + _row(body) for body in bodies]
    return show.table(["NAMESPACE", *head] if everywhere else head, rows)


def _row(body: dict[str, Any]) -> list[str]:
    """From the resource as it is: one that this program cannot read does not hide the others."""
    from swarmrun.cli.summary import duration

    meta, status = body["metadata"], body.get("status") or {}
    ready = next((c for c in status.get("conditions", []) if c.get("type") == "Ready"), {})
    made = datetime.fromisoformat(meta["creationTimestamp"])
    score = status.get("score")
    return [
        meta["name"],
        status.get("phase") or "-",
        status.get("progress") or "-",
        "-" if score is None else str(score),
        ready.get("reason") or "-",
        duration(max(0, int((datetime.now(UTC) - made).total_seconds()))),
        (status.get("result") or {}).get("branch") or "-",
    ]


def tree(
    ctx: typer.Context,
    name: RunName,
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Draw a run: its plan's DAG, each agent's phase and Pod."""
    from swarmrun.api.printable import printable
    from swarmrun.api.status import SwarmRunStatus
    from swarmrun.cli import show
    from swarmrun.cli.kubectl.cluster import explained, parsed
    from swarmrun.cli.kubectl.pods import RunPod, run_pods
    from swarmrun.cli.kubectl.tree import run_tree
    from swarmrun.errors import PermissionDenied

    async def work(cluster: Cluster) -> tuple[dict[str, Any], list[RunPod]]:
        body = await cluster.body(name)
        if output is not Output.TEXT:
            return body, []
        status = parsed(body).status or SwarmRunStatus()
        try:
            return body, await run_pods(cluster.api, cluster.namespace, status)
        except PermissionDenied as exc:
            typer.echo(f"note: without Pods: {explained(exc)}", err=True)
            return body, []

    body, pods = in_cluster(ctx, Options(namespace, context, kubeconfig), work)
    if output is not Output.TEXT:
        return show.data(body, output)
    return typer.echo(printable(run_tree(parsed(body), pods)))


def describe(
    ctx: typer.Context,
    name: RunName,
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Tell a run as a story: conditions, plan, agents, merges, gates, judgements, result."""
    from swarmrun.api.printable import printable
    from swarmrun.cli import show
    from swarmrun.cli.kubectl.cluster import parsed
    from swarmrun.cli.story import story

    body = in_cluster(ctx, Options(namespace, context, kubeconfig), lambda cluster: cluster.body(name))
    if output is not Output.TEXT:
        return show.data(body, output)
    run = parsed(body)
    ended = run.status is not None and run.status.phase.terminal
    return typer.echo(printable(typed(story(run, "ended" if ended else "working"))))


def diff(
    ctx: typer.Context,
    name: RunName,
    task: TaskName = "",
    stat: Annotated[bool, typer.Option("--stat", help="Files and counts only.")] = False,
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = "",
    operator: Operator = "",
    output: ErrorsOption = Output.TEXT,
) -> None:
    """Show what a run (or one TASK of it) changed, from the run's own repository, by the operator's read interface."""
    from swarmrun.api.printable import printable
    from swarmrun.cli.summary import git_diff
    from swarmrun.errors import SwarmRunError

    async def work(cluster: Cluster) -> str:
        run = await cluster.run(name)
        try:
            return await cluster.reader.diff(name, task, stat=stat)
        except SwarmRunError as exc:
            result = run.status.result if run.status else None
            if not task and result is not None and result.branch:
                # It is published: git alone shows it.
                typer.echo(f"the published branch: {git_diff(run.spec.repository.url, result)}", err=True)
            raise exc

    text = in_cluster(ctx, Options(namespace, context, kubeconfig, operator), work)
    # Piped, a patch must stay what it is.
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)


def artifact(
    ctx: typer.Context,
    name: RunName,
    key: Annotated[
        str, typer.Argument(metavar="KEY", help="As status and architecture name it.", show_default=False)
    ],
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = "",
    operator: Operator = "",
    output: ErrorsOption = Output.TEXT,
) -> None:
    """Print something that the run stored: a plan, what gates printed, evidence, an answer of the judge."""
    data = in_cluster(
        ctx,
        Options(namespace, context, kubeconfig, operator),
        lambda cluster: cluster.reader.artifact(name, key),
    )
    sys.stdout.buffer.write(data)


def wait(
    ctx: typer.Context,
    name: RunName,
    timeout: Annotated[str, typer.Option("--timeout", help="How long, as 45s or 1h30m.")] = "1h",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only how it ended.")] = False,
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = "",
    output: ErrorsOption = Output.TEXT,
) -> None:
    """Wait until a run has ended, telling what happens. The exit code is the run's: 0, 1, 3 cancelled, 4 budget."""
    import asyncio

    from swarmrun.api.printable import one_line
    from swarmrun.api.status import SwarmRunStatus
    from swarmrun.cli.events import events
    from swarmrun.cli.summary import exit_code, verdict
    from swarmrun.errors import RemoteUnavailable

    patience = patience_of(timeout)

    async def work(cluster: Cluster) -> SwarmRunStatus:
        before: SwarmRunStatus | None = None
        ends = time.monotonic() + patience
        while True:
            try:
                status = (await cluster.run(name)).status or SwarmRunStatus()
            except RemoteUnavailable as exc:
                typer.echo(f"note: {exc}", err=True)
                status = before or SwarmRunStatus()
            if not quiet and before != status:
                for line in events(before, status):
                    print(f"{datetime.now():%H:%M:%S} {line}", flush=True)
            before = status
            if status.phase.terminal:
                return status
            if time.monotonic() >= ends:
                raise RemoteUnavailable(
                    f"{name} has not ended within {timeout}: {verdict(status)}",
                    mend=f"swarmrun describe {named(name, cluster.namespace)}",
                    reason="TimedOut",
                )
            await asyncio.sleep(LOOK_SECONDS)

    status = in_cluster(ctx, Options(namespace, context, kubeconfig), work)
    print(one_line(f"{name}: {verdict(status)}"))
    raise typer.Exit(exit_code(status))


def patience_of(text: str) -> int:
    """Seconds. Raises InvalidResource."""
    from swarmrun.api.base import seconds
    from swarmrun.errors import InvalidResource

    if not re.fullmatch(r"(?=\d)(\d{1,6}h)?(\d{1,6}m)?(\d{1,6}s)?", text):
        raise InvalidResource(
            f"--timeout {text!r} is no duration", mend="as 45s, 30m or 1h30m", field="--timeout"
        )
    return seconds(text)
