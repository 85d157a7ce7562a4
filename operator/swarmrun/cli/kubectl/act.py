"""`approve`, `reject`, `cancel`, `suspend`, `resume`, `rerun`: written as annotations, and what came of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from swarmrun.cli.act import What, WhatArgument
from swarmrun.cli.kubectl.look import LOOK_SECONDS, patience_of
from swarmrun.cli.kubectl.options import Context, Kubeconfig, Namespace, Options, in_cluster
from swarmrun.cli.options import Output, OutputOption, RunName
from swarmrun.cli.typed import named, typed

if TYPE_CHECKING:
    from swarmrun.api.run import SwarmRun
    from swarmrun.cli.kubectl.cluster import Cluster
    from swarmrun.cli.kubectl.verbs import Word

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Until the run has taken it in.")]
Timeout = Annotated[str, typer.Option("--timeout", help="How long, as 45s or 2m.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Without asking; a terminal is asked otherwise.")]


def register(app: typer.Typer) -> None:
    for command in (approve, reject, cancel, suspend, resume, rerun):
        app.command(command.__name__)(command)


def approve(
    ctx: typer.Context,
    name: RunName,
    what: WhatArgument,
    yes: Yes = False,
    wait: Wait = True,
    timeout: Timeout = "30s",
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Let a waiting run go on with the plan, or publish the commit, that is shown. It is a right of its own."""
    from swarmrun.cli.kubectl import verbs

    def word(run: SwarmRun) -> Word:
        made = verbs.approve(run, what)
        _ask(run, what, yes)
        return made

    _say(ctx, Options(namespace, context, kubeconfig), name, word, wait, timeout, output)


def reject(
    ctx: typer.Context,
    name: RunName,
    what: WhatArgument,
    why: Annotated[str, typer.Option("--reason", help="Why; the run ends with it.")] = "",
    wait: Wait = True,
    timeout: Timeout = "30s",
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Refuse a waiting run's plan or result: it ends Failed, `PlanRejected` or `PublishRejected`."""
    from swarmrun.cli.kubectl import verbs

    options = Options(namespace, context, kubeconfig)
    _say(ctx, options, name, lambda run: verbs.reject(run, what, why), wait, timeout, output)


def cancel(
    ctx: typer.Context,
    name: RunName,
    why: Annotated[str, typer.Option("--reason", help="Why; stands on the resource.")] = "",
    wait: Wait = True,
    timeout: Timeout = "1m",
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """End a run; every branch is kept."""
    from swarmrun.cli.kubectl import verbs

    options = Options(namespace, context, kubeconfig)
    _say(ctx, options, name, lambda run: verbs.cancel(run, why), wait, timeout, output)


def suspend(
    ctx: typer.Context,
    name: RunName,
    wait: Wait = True,
    timeout: Timeout = "30s",
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Stop agents at their next turn; `resume` goes on."""
    from swarmrun.cli.kubectl import verbs

    options = Options(namespace, context, kubeconfig)
    _say(ctx, options, name, lambda run: verbs.suspend(run, datetime.now(UTC)), wait, timeout, output)


def resume(
    ctx: typer.Context,
    name: RunName,
    wait: Wait = True,
    timeout: Timeout = "30s",
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Go on with a run that was suspended."""
    from swarmrun.cli.kubectl import verbs

    options = Options(namespace, context, kubeconfig)
    _say(ctx, options, name, lambda run: verbs.resume(run, datetime.now(UTC)), wait, timeout, output)


def rerun(
    ctx: typer.Context,
    name: RunName,
    start: Annotated[
        str,
        typer.Option("--from", metavar="plan|work|judge|publish|task/ID", help="Where it begins again."),
    ] = "plan",
    wait: Wait = True,
    timeout: Timeout = "30s",
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Start the next attempt of a run that has ended, from a phase or a task of the last one."""
    from swarmrun.cli.kubectl import verbs

    options = Options(namespace, context, kubeconfig)
    _say(ctx, options, name, lambda run: verbs.rerun(run, start), wait, timeout, output)


# ------------------------------------------------------------


def _ask(run: SwarmRun, what: What, yes: bool) -> None:
    """Shows what is approved; a person is asked."""
    from swarmrun.api.printable import printable
    from swarmrun.cli.kubectl import verbs

    typer.echo(printable(typed(verbs.question(run, what))), err=True)
    if not yes and sys.stdin.isatty():
        typer.confirm(f"approve the {what.value} of {run.metadata.name}?", abort=True, err=True)


def _say(
    ctx: typer.Context,
    options: Options,
    name: str,
    word: Callable[[SwarmRun], Word],
    wait: bool,
    timeout: str,
    output: Output,
) -> None:
    from swarmrun.cli import show
    from swarmrun.cli.summary import verdict

    patience = patience_of(timeout)

    async def work(cluster: Cluster) -> SwarmRun:
        run = await cluster.run(name)
        said = word(run)
        run = await cluster.annotate(run, said.annotations)
        if output is Output.TEXT:
            typer.echo(typed(f"{name}: {said.told}"))
        return await _heard(cluster, run, said, patience) if wait else run

    run = in_cluster(ctx, options, work)
    if output is not Output.TEXT:
        show.resource(run, output)
    elif wait and run.status is not None:
        typer.echo(f"  {verdict(run.status)}")


async def _heard(cluster: Cluster, run: SwarmRun, said: Word, patience: int) -> SwarmRun:
    import asyncio

    from swarmrun.api.status import SwarmRunStatus
    from swarmrun.errors import RemoteUnavailable

    ends = time.monotonic() + patience
    while not said.heard(run.status or SwarmRunStatus()):
        if time.monotonic() >= ends:
            raise RemoteUnavailable(
                f"it stands on the resource, but the run has not taken it in within {patience} s",
                mend=f"swarmrun wait {named(run.metadata.name, cluster.namespace)}; does the operator run?",
                reason="NotHeard",
            )
        await asyncio.sleep(LOOK_SECONDS / 2)
        run = await cluster.run(run.metadata.name)
    return run
