"""`mergetool` and `verify`: the merging and planning rooms, usable without a run."""

from __future__ import annotations

from typing import Annotated

import typer

from swarmrun.cli.options import Output, OutputOption


def register(app: typer.Typer) -> None:
    app.command("mergetool")(mergetool)
    app.command("verify")(verify)


def mergetool(
    base: Annotated[str, typer.Argument(metavar="BASE", show_default=False)],
    ours: Annotated[str, typer.Argument(metavar="OURS", show_default=False)],
    theirs: Annotated[str, typer.Argument(metavar="THEIRS", show_default=False)],
    out: Annotated[str, typer.Argument(metavar="OUT", show_default=False)],
    path: Annotated[
        str, typer.Option("--path", help="The file's name in the repository: tells its language.")
    ],
    output: OutputOption = Output.TEXT,
) -> None:
    """Merge three files as a git merge driver. Exit 0 resolved and guarded, 1 conflicts left in OUT, 2 usage."""
    from dataclasses import asdict
    from pathlib import Path

    from swarmrun.api.printable import printable
    from swarmrun.cli import show
    from swarmrun.merging import mergetool as merging

    done = merging.run(path, Path(base), Path(ours), Path(theirs), Path(out))
    if output is not Output.TEXT:
        show.data(asdict(done) | {"exit_code": done.exit_code}, output)
    else:
        how = f"resolved by {done.how}" if done.resolved else f"{done.conflicts} conflicts left"
        # git shows a merge driver's standard error.
        typer.echo(f"{done.path}: {how}: {done.note}", err=True)
        for finding in done.findings:
            typer.echo(printable(f"  {finding.severity}: {finding.message}"), err=True)
    raise typer.Exit(done.exit_code)


def verify(
    contracts: Annotated[
        str, typer.Option("--contracts", help="YAML: a SwarmRun with a plan, or a plan itself.")
    ],
    base: Annotated[str, typer.Option("--base", help="Revision: tell what differs from it only.")] = "",
    directory: Annotated[str, typer.Option("--directory", "-C", help="Work tree to check.")] = ".",
    output: OutputOption = Output.TEXT,
) -> None:
    """Check a work tree against contracts by reading its code. Exit 0 kept, 1 broken."""
    from swarmrun.cli.verifying import verify_tree

    raise typer.Exit(verify_tree(contracts, base, directory, output))
