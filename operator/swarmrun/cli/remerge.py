"""`merge`: a branch that a run parked, by hand."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from swarmrun.cli.options import Home, Namespace, Output, OutputOption, RunName, color, where
from swarmrun.cli.typed import named, typed

if TYPE_CHECKING:
    from pathlib import Path

    from swarmrun.local.directory import RunDirectory


def register(app: typer.Typer) -> None:
    app.command("merge")(merge)


def merge(
    ctx: typer.Context,
    name: RunName,
    task: Annotated[str, typer.Argument(metavar="TASK", help="Whose branch.", show_default=False)],
    source: Annotated[
        str,
        typer.Option(
            "--from",
            help="Directory (its HEAD), branch of the remote, or commit.  "
            "[default: the remote's swarm-tasks/NAME/TASK, else as the agent left it]",
        ),
    ] = "",
    checkout: Annotated[
        str,
        typer.Option("--checkout", metavar="DIR", help="Do not merge: put the branch there, to be edited."),
    ] = "",
    despite_findings: Annotated[
        bool, typer.Option("--despite-findings", help="Also where guards or contracts object.")
    ] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Publish although other tasks are missing.")
    ] = False,
    namespace: Namespace = "",
    home: Home = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Merge a task's branch once its run has ended: a parked one, as you have edited it. Proven as in a run, then
    published. Exit 1 where it is refused: nothing is published then, and nothing lost."""
    from pathlib import Path

    from swarmrun.api.printable import printable
    from swarmrun.cli import show
    from swarmrun.cli.summary import models_source
    from swarmrun.cli.watch import Watcher
    from swarmrun.git.spans import known_task
    from swarmrun.local.remerge import Wanted
    from swarmrun.local.remerge import merge as merge_by_hand

    place = where(ctx, home, namespace)
    directory = place.runs.get(name, place.namespace)
    task = known_task(directory.status(), task, directory.name)
    if checkout:
        return _lend(directory, task, source, Path(checkout).expanduser())
    out = sys.stdout if output is Output.TEXT else sys.stderr
    wanted = Wanted(task, source, despite_findings, partial)
    watcher = Watcher(directory, out=out)
    done = merge_by_hand(directory, wanted, watcher, lambda text: print(printable(typed(text)), file=out))
    if output is not Output.TEXT:
        return show.resource(done, output)
    return show.end(done, models_source(directory.snapshot()), color=color(ctx))


def _lend(directory: RunDirectory, task: str, source: str, target: Path) -> None:
    from swarmrun.local.handed import INTEGRATION, lend

    branch = lend(directory, task, source, target)
    there = shlex.quote(str(target))
    command = f"swarmrun merge {named(directory.name, directory.namespace)} {task}"
    typer.echo(f"{target}: {directory.snapshot().task_branch(task)}, {branch.source}")
    typer.echo(f"  conflicts   git -C {there} merge {INTEGRATION}   ({INTEGRATION}: what the run has so far)")
    typer.echo(typed(f"  hand back   {command} --from {there}   (what is committed)"))
