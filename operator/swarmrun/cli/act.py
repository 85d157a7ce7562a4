"""`cancel`, `suspend`, `resume`, `approve`, `reject`, `delete`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from swarmrun.cli.options import Home, Namespace, Output, OutputOption, RunName, where
from swarmrun.cli.typed import named, typed


class What(StrEnum):
    PLAN = "plan"
    PUBLISH = "publish"


WhatArgument = Annotated[
    What, typer.Argument(metavar="plan|publish", help="What is decided.", show_default=False)
]


def register(app: typer.Typer) -> None:
    for command in (cancel, suspend, resume, approve, reject, delete):
        app.command(command.__name__)(command)


def cancel(ctx: typer.Context, name: RunName, namespace: Namespace = "", home: Home = "") -> None:
    """End a run for good; every branch is kept."""
    place = where(ctx, home, namespace)
    place.runs.send(place.runs.get(name, place.namespace), "cancel")
    typer.echo(f"{name}: cancelled")


def suspend(ctx: typer.Context, name: RunName, namespace: Namespace = "", home: Home = "") -> None:
    """Stop agents at their next turn; `resume` goes on."""
    place = where(ctx, home, namespace)
    place.runs.send(place.runs.get(name, place.namespace), "suspend")
    typer.echo(typed(f"{name}: suspended; `swarmrun resume {named(name, place.namespace)}` goes on"))


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


def approve(
    ctx: typer.Context, name: RunName, what: WhatArgument, namespace: Namespace = "", home: Home = ""
) -> None:
    """Let a waiting run go on with its plan, or publish its result."""
    _decide(ctx, name, what, "approve", namespace, home)


def reject(
    ctx: typer.Context,
    name: RunName,
    what: WhatArgument,
    reason: Annotated[str, typer.Option(help="Why; the run ends with it.")] = "",
    namespace: Namespace = "",
    home: Home = "",
) -> None:
    """Refuse a waiting run's plan or result: it ends Failed, `PlanRejected` or `PublishRejected`."""
    _decide(ctx, name, what, "reject", namespace, home, reason=reason)


def _decide(
    ctx: typer.Context, name: str, what: What, kind: str, namespace: str, home: str, **data: str
) -> None:
    place = where(ctx, home, namespace)
    runs = place.runs
    directory = runs.get(name, place.namespace)
    runs.send(directory, kind, what=what.value, **data)
    typer.echo(f"{name}: {what.value} {'approved' if kind == 'approve' else 'rejected'}")
    if not directory.busy():
        typer.echo(typed(f"  nobody works on it now: swarmrun resume {named(name, place.namespace)}"))


def delete(
    ctx: typer.Context,
    name: RunName,
    force: Annotated[bool, typer.Option("--force", help="Also when its state cannot be read.")] = False,
    namespace: Namespace = "",
    home: Home = "",
) -> None:
    """Remove a run's state from this machine. Published branches stay."""
    place = where(ctx, home, namespace)
    place.runs.delete(name, place.namespace, force=force)
    typer.echo(f"{name}: deleted")
