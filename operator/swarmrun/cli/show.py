"""Prints what commands found: tables, resources, the end of a run."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from swarmrun.cli.options import Output

if TYPE_CHECKING:
    from swarmrun.api.run import SwarmRun
    from swarmrun.api.swarmclass import SwarmClass
    from swarmrun.cli.summary import Source


def data(value: Any, output: Output) -> None:
    """JSON or YAML of plain values."""
    if output is Output.JSON:
        print(json.dumps(value, indent=2, ensure_ascii=False))
    else:
        from swarmrun.api.load import to_yaml

        print(to_yaml(value), end="")


def resource(run: SwarmRun, output: Output) -> None:
    from swarmrun.api.load import plain

    data(plain(run), output)


def resources(made: Sequence[SwarmRun | SwarmClass], output: Output) -> None:
    """Documents of one file; as JSON a `List`, since a JSON text holds one value."""
    from swarmrun.api.load import plain, to_yaml

    if output is Output.JSON:
        return data({"apiVersion": "v1", "kind": "List", "items": [plain(one) for one in made]}, output)
    return print("---\n".join(to_yaml(plain(one)) for one in made), end="")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Plain columns, as kubectl prints them: what a script may cut."""
    from swarmrun.api.printable import printable

    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    for row in [columns, *rows]:
        print(
            "   ".join(printable(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def end(run: SwarmRun, models: Source, *, color: bool) -> None:
    """The final table, the verdict, and what to type next."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from swarmrun.api.printable import one_line
    from swarmrun.api.status import SwarmRunStatus
    from swarmrun.cli.summary import next_commands, rows, verdict
    from swarmrun.cli.typed import typed

    status = run.status or SwarmRunStatus()
    terminal = sys.stdout.isatty()
    # A file or a CI log has no width: rows stay on one line each up to a width that is read well.
    console = Console(no_color=not color, width=None if terminal else 140, highlight=False)
    shown = Table(box=SIMPLE, show_edge=False, pad_edge=False, header_style="dim")
    shown.add_column("what", no_wrap=True)
    shown.add_column("outcome", overflow="fold")
    shown.add_column("source", no_wrap=True)
    for row in rows(status, models):
        style = "red" if row.bad else ""
        shown.add_row(
            Text(one_line(row.what)), Text(one_line(row.outcome), style=style), Text(row.source, style="dim")
        )
    console.print(shown)
    console.print(Text(one_line(typed(f"{run.metadata.name}: {verdict(status)}")), style="bold"))
    for command in next_commands(run, status):
        console.print(Text(f"  {typed(command)}"), soft_wrap=True)
