"""What both programs do around their commands: how typer is set up, `--version`, and the exit code of every end.

Nothing heavy is imported before a command runs: `swarmrun --help` answers within 250 ms.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

# Help stays plain text: rich would cost a third of the time that help may take.
os.environ.setdefault("TYPER_USE_RICH", "0")

import typer

from swarmrun.cli.failures import report, wants_json


def program(name: str, *, completion: bool = True) -> typer.Typer:
    """An empty program; rooms register their commands with it."""
    return typer.Typer(
        name=name,
        no_args_is_help=True,
        add_completion=completion,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def tell_version(ctx: typer.Context, wanted: bool) -> None:
    """The callback of `--version`."""
    if wanted:
        from importlib.metadata import version

        typer.echo(f"{ctx.command.name} {version('swarmrun')}")
        raise typer.Exit


def run(app: typer.Typer, name: str, arguments: list[str] | None) -> NoReturn:
    """Parses, runs, and turns every error into a sentence and an exit code. Without arguments there is help."""
    arguments = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        code = app(arguments, prog_name=name, standalone_mode=False)
        # A reader that is gone is met here, not at the interpreter's end.
        sys.stdout.flush()
    except BaseException as exc:  # noqa: BLE001 — also Ctrl-C; what is unknown is raised on
        sys.exit(report(exc, as_json=wants_json(arguments)))
    sys.exit(code if isinstance(code, int) else 0)
