"""`cancel`, `suspend`, `resume`, `rerun`, `approve`, `reject`, `delete`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from swarmrun.cli.options import Home, Namespace, Output, OutputOption, RunName, where
from swarmrun.cli.typed import named, typed

if TYPE_CHECKING:
    from swarmrun.local.directory import RunDirectory


class What(StrEnum):
    PLAN = "plan"
    PUBLISH = "publish"


WhatArgument = Annotated[
    What, typer.Argument(metavar="plan|publish", help="What is decided.", show_default=False)
]


def register(app: typer.Typer) -> None:
    for command in (cancel, suspend, resume, rerun, approve, reject, delete):
        app.command(command.__name__)(command)


def cancel(
    ctx: typer.Context,
    name: RunName,
    namespace: Namespace = "",
    home: Home = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """End a run for good; every branch is kept."""
    place = where(ctx, home, namespace)
    directory = place.runs.get(name, place.namespace)
    place.runs.send(directory, "cancel")
    _done(directory, f"{name}: cancelled", output)


def suspend(
    ctx: typer.Context,
    name: RunName,
    namespace: Namespace = "",
    home: Home = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Stop agents at their next turn; `resume` goes on."""
    place = where(ctx, home, namespace)
    directory = place.runs.get(name, place.namespace)
    place.runs.send(directory, "suspend")
    _done(directory, f"{name}: suspended; `swarmrun resume {named(name, place.namespace)}` goes on", output)


def resume(
    ctx: typer.Context,
    name: RunName,
    namespace: Namespace = "",
    home: Home = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Go on with a run that was suspended, interrupted or killed. No stored model reply is paid again."""
    from swarmrun.cli.start import attend

    place = where(ctx, home, namespace)
    runs = place.runs
    directory = runs.get(name, place.namespace)
    run = directory.resource()
    if run.spec.suspend and not (run.status and run.status.phase.terminal):
        runs.send(directory, "resume")
    attend(ctx, runs, directory, output)


def rerun(
    ctx: typer.Context,
    name: RunName,
    point: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="plan|work|task/ID|judge|publish",
            help="Keep what the last attempt made up to there. Without it, nothing is kept.",
            show_default=False,
        ),
    ] = "",
    namespace: Namespace = "",
    home: Home = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Run an ended run again: all of it, or from a phase or task on."""
    from swarmrun.cli.start import attend
    from swarmrun.local.rerun import begin

    place = where(ctx, home, namespace)
    directory = place.runs.get(name, place.namespace)
    begin(directory, point)
    attend(ctx, place.runs, directory, output)


def approve(
    ctx: typer.Context,
    name: RunName,
    what: WhatArgument,
    namespace: Namespace = "",
    home: Home = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Let a waiting run go on with its plan, or publish its result."""
    _decide(ctx, name, what, "approve", namespace, home, output)


def reject(
    ctx: typer.Context,
    name: RunName,
    what: WhatArgument,
    reason: Annotated[str, typer.Option(help="Why; the run ends with it.")] = "",
    namespace: Namespace = "",
    home: Home = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Refuse a waiting run's plan or result: it ends Failed, `PlanRejected` or `PublishRejected`."""
    _decide(ctx, name, what, "reject", namespace, home, output, reason=reason)


def _decide(
    ctx: typer.Context,
    name: str,
    what: What,
    kind: str,
    namespace: str,
    home: str,
    output: Output,
    **data: str,
) -> None:
    place = where(ctx, home, namespace)
    runs = place.runs
    directory = runs.get(name, place.namespace)
    runs.send(directory, kind, what=what.value, **data)
    told = f"{name}: {what.value} {'approved' if kind == 'approve' else 'rejected'}"
    if not directory.busy():
        told += f"\n  nobody works on it now: swarmrun resume {named(name, place.namespace)}"
    _done(directory, told, output)


def _done(directory: RunDirectory, told: str, output: Output) -> None:
    """What was done in words, or the resource as it is now."""
    from swarmrun.cli import show

    if output is Output.TEXT:
        typer.echo(typed(told))
    else:
        show.resource(directory.resource(), output)


def delete(
    ctx: typer.Context,
    name: RunName,
    force: Annotated[bool, typer.Option("--force", help="Also when its state cannot be read.")] = False,
    namespace: Namespace = "",
    home: Home = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Remove a run's state from this machine. Published branches stay."""
    place = where(ctx, home, namespace)
    place.runs.delete(name, place.namespace, force=force)
    if output is Output.TEXT:  # else there is no resource any more to be printed
        typer.echo(f"{name}: deleted")
