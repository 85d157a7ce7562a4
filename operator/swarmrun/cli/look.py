"""`list`, `describe`, `get`, `logs`, `diff`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swarmrun.cli.options import Home, Namespace, Output, OutputOption, RunName, given_namespace, where
from swarmrun.cli.typed import typed

if TYPE_CHECKING:
    from swarmrun.local.directory import RunDirectory
    from swarmrun.local.runs import Listed

TaskName = Annotated[str, typer.Argument(metavar="[TASK]", help="One task only.", show_default=False)]

ErrorsOption = Annotated[
    Output,
    typer.Option("--output", "-o", help="How errors are printed; the rest is text.", case_sensitive=False),
]
"""Read by `main`, from the raw arguments."""


def register(app: typer.Typer) -> None:
    app.command("list")(list_runs)
    for command in (describe, get, logs, diff):
        app.command(command.__name__)(command)


def list_runs(
    ctx: typer.Context, namespace: Namespace = "", home: Home = "", output: OutputOption = Output.TEXT
) -> None:
    """Show all runs of this machine."""
    from swarmrun.api.load import plain
    from swarmrun.api.printable import one_line
    from swarmrun.cli import show
    from swarmrun.errors import SwarmRunError

    place = where(ctx, home, namespace)
    only = given_namespace(ctx, namespace)
    rows: list[list[str]] = []
    items: list[Any] = []
    for directory in place.runs.list(only):
        namespaces = [directory.namespace] if not only else []
        try:
            found = place.runs.describe(directory)
            rows.append([*namespaces, *_row(found)])
            items.append(plain(found.run))
        except SwarmRunError as exc:
            # One damaged file does not hide the other runs.
            rows.append([*namespaces, directory.name, "unreadable", *["-"] * 5])
            mend = f"\n  mend: {exc.mend}" if exc.mend else ""
            typer.echo(typed(f"note: {one_line(exc.message)}{mend}"), err=True)
    if output is not Output.TEXT:
        return show.data({"apiVersion": "v1", "kind": "List", "items": items}, output)
    if not rows:
        typer.echo(typed("no runs; start one with `swarmrun run -f FILE`"), err=True)
        return None
    head = [
        *(["NAMESPACE"] if not only else []),
        "NAME",
        "PHASE",
        "PROGRESS",
        "SCORE",
        "REASON",
        "AGE",
        "BRANCH",
    ]
    return show.table(head, rows)


def _row(found: Listed) -> list[str]:
    from swarmrun.api.status import SwarmRunStatus

    status = found.run.status or SwarmRunStatus()
    ready = status.condition("Ready")
    return [
        found.directory.name,
        status.phase.value + ("" if found.state != "stopped" else " (stopped)"),
        status.progress or "-",
        "-" if status.score is None else str(status.score),
        ready.reason if ready else "-",
        _age(found.directory),
        status.result.branch if status.result and status.result.branch else "-",
    ]


def _age(directory: RunDirectory) -> str:
    from swarmrun.cli.summary import duration

    return duration(max(0, int(time.time() - directory.file().created_at.timestamp())))


def describe(
    ctx: typer.Context,
    name: RunName,
    namespace: Namespace = "",
    home: Home = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Tell a run as a story: conditions, plan, agents, merges, gates, judgements, result."""
    from swarmrun.api.printable import printable
    from swarmrun.cli import show
    from swarmrun.cli.story import story

    place = where(ctx, home, namespace)
    found = place.runs.describe(place.runs.get(name, place.namespace))
    if output is not Output.TEXT:
        return show.resource(found.run, output)
    return typer.echo(printable(typed(story(found.run, found.state))))


def get(
    ctx: typer.Context,
    name: RunName,
    namespace: Namespace = "",
    home: Home = "",
    output: OutputOption = Output.YAML,
) -> None:
    """Print the resource with its status."""
    from swarmrun.cli import show

    place = where(ctx, home, namespace)
    run = place.runs.get(name, place.namespace).resource()
    show.resource(run, Output.YAML if output is Output.TEXT else output)


def logs(
    ctx: typer.Context,
    name: RunName,
    task: TaskName = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    namespace: Namespace = "",
    home: Home = "",
    output: ErrorsOption = Output.TEXT,
) -> None:
    """Print a run's events; with TASK, that agent's turns: what it said, called and got back."""
    from swarmrun.agents.log import kept_from
    from swarmrun.api.printable import printable
    from swarmrun.cli.transcript import event_lines, known_task, task_lines, worked_in

    place = where(ctx, home, namespace)
    directory = place.runs.get(name, place.namespace)
    if task:
        task = known_task(directory, task)
    seen, kept = 0, 0
    while True:
        busy = directory.busy()
        if task:
            attempt = worked_in(directory, task)
            if attempt != directory.attempt() and attempt != kept:
                kept = attempt
                typer.echo(f"note: {kept_from(task, kept)}", err=True)
            lines = task_lines(directory, task, attempt)
        else:
            lines = event_lines(directory)
        for line in lines[seen:]:
            typer.echo(printable(line))
        seen = max(seen, len(lines))
        if not follow or not busy:
            return
        time.sleep(0.3)


def diff(
    ctx: typer.Context,
    name: RunName,
    task: TaskName = "",
    stat: Annotated[bool, typer.Option("--stat", help="Files and counts only.")] = False,
    namespace: Namespace = "",
    home: Home = "",
    output: ErrorsOption = Output.TEXT,
) -> None:
    """Show what a run (or one TASK of it) changed, from the run's own repository."""
    from swarmrun.cli.changes import show_diff

    place = where(ctx, home, namespace)
    directory = place.runs.get(name, place.namespace)
    show_diff(directory, task, stat=stat)
