"""`swarmrun`: parses, and turns every error into a sentence and an exit code.

| exit code | meaning |
| --- | --- |
| 0 | succeeded |
| 1 | failed or incomplete |
| 2 | usage, or an invalid resource |
| 3 | cancelled |
| 4 | a budget is used up |
| 130 | interrupted; the run can be resumed |

Nothing heavy is imported before a command runs: `swarmrun --help` answers within 250 ms.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

# Help stays plain text: rich would cost a third of the time that help may take.
os.environ.setdefault("TYPER_USE_RICH", "0")

import typer

from swarmrun.cli import act, doctor, look, models, remerge, start, tools
from swarmrun.cli.failures import report, wants_json
from swarmrun.cli.options import Globals

app = typer.Typer(
    name="swarmrun",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for room in (start, look, act, remerge, doctor, models, tools):
    room.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"swarmrun {version('swarmrun')}")
        raise typer.Exit


@app.callback()
def swarmrun(
    ctx: typer.Context,
    home: Annotated[str, typer.Option("--home", help="State of all runs.  [default: $SWARMRUN_HOME]")] = "",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Namespace of runs.")] = "",
    no_color: Annotated[bool, typer.Option("--no-color", help="Plain text.", envvar="NO_COLOR")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """A swarm of coding agents works on one git repository; what comes out can be believed."""
    ctx.obj = Globals(home=home, namespace=namespace, color=not no_color)


def run(arguments: list[str] | None = None) -> None:
    """The console entry; never returns."""
    arguments = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        code = app(arguments, prog_name="swarmrun", standalone_mode=False)
        # A reader that is gone is met here, not at the interpreter's end.
        sys.stdout.flush()
    except BaseException as exc:  # noqa: BLE001 — also Ctrl-C; what is unknown is raised on
        sys.exit(report(exc, as_json=wants_json(arguments)))
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    run()
