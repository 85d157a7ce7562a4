"""`doctor`: what is missing or wrong on this machine, each with its mend."""

from __future__ import annotations

from typing import Annotated

import typer

from swarmrun.cli.options import Home, Output, OutputOption, where


def register(app: typer.Typer) -> None:
    app.command("doctor")(doctor)


def doctor(
    ctx: typer.Context,
    probe: Annotated[
        bool, typer.Option("--probe", help="Also ask the models a few small, paid questions.")
    ] = False,
    file: Annotated[
        str, typer.Option("--file", "-f", help="Probe the models of this file's SwarmClass.")
    ] = "",
    model: Annotated[str, typer.Option("--model", help="Model to probe.")] = "",
    endpoint: Annotated[str, typer.Option("--endpoint", help="Its URL.")] = "",
    home: Home = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Say what is missing or wrong on this machine, each with its mend. Exit 1 when something required is."""
    from swarmrun.api.printable import printable
    from swarmrun.cli import findings, show
    from swarmrun.cli.typed import typed
    from swarmrun.findings import line

    place = where(ctx, home)
    found = findings.machine(place.home)
    if probe:
        found += findings.models(file, model, endpoint)
    if output is not Output.TEXT:
        show.data([vars(f) for f in found], output)
    else:
        for finding in found:
            typer.echo(printable(typed(line(finding))))
    if any(f.level == "problem" for f in found):
        raise typer.Exit(1)
