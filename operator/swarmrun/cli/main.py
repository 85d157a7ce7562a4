"""`swarmrun`, and what its exit codes mean.

| exit code | meaning |
| --- | --- |
| 0 | succeeded |
| 1 | failed or incomplete |
| 2 | usage, or an invalid resource |
| 3 | cancelled |
| 4 | a budget is used up |
| 130 | interrupted; the run can be resumed |
"""

from __future__ import annotations

from typing import Annotated, NoReturn

import typer

from swarmrun.cli import act, doctor, entry, look, models, remerge, start, tools
from swarmrun.cli.options import Globals

app = entry.program("swarmrun")
for room in (start, look, act, remerge, doctor, models, tools):
    room.register(app)


@app.callback()
def swarmrun(
    ctx: typer.Context,
    home: Annotated[str, typer.Option("--home", help="State of all runs.  [default: $SWARMRUN_HOME]")] = "",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Namespace of runs.")] = "",
    no_color: Annotated[bool, typer.Option("--no-color", help="Plain text.", envvar="NO_COLOR")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=entry.tell_version, is_eager=True)
    ] = False,
) -> None:
    """A swarm of coding agents works on one git repository; what comes out can be believed."""
    ctx.obj = Globals(home=home, namespace=namespace, color=not no_color)


def run(arguments: list[str] | None = None) -> NoReturn:
    """The console entry."""
    entry.run(app, "swarmrun", arguments)


if __name__ == "__main__":
    run()
