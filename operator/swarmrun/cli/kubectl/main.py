"""`kubectl-swarm`, which kubectl calls as `kubectl swarm`. Exit codes are those of `swarmrun` (cli/main.py); `wait`
ends with the run's own.

Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import os
import sys

# Help stays plain text: rich would cost a third of the time that help may take.
os.environ.setdefault("TYPER_USE_RICH", "0")

import typer

from swarmrun.cli.failures import report, wants_json
from swarmrun.cli.kubectl import act, logs, look
from swarmrun.cli.kubectl.options import Context, Kubeconfig, Namespace, Operator, Options

app = typer.Typer(
    name="kubectl swarm",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for room in (look, logs, act):
    room.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"kubectl-swarm {version('swarmrun')}")
        raise typer.Exit


@app.callback()
def swarm(
    ctx: typer.Context,
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = "",
    operator: Operator = "",
    version: bool = typer.Option(
        False, "--version", help="Print the version.", callback=_version, is_eager=True
    ),
) -> None:
    """Watch and steer SwarmRuns of a cluster. Words to a run become annotations of its resource."""
    ctx.obj = Options(namespace, context, kubeconfig, operator)


def run(arguments: list[str] | None = None) -> None:
    """The console entry; never returns."""
    arguments = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        code = app(arguments, prog_name="kubectl swarm", standalone_mode=False)
        # A reader that is gone is met here, not at the interpreter's end.
        sys.stdout.flush()
    except BaseException as exc:  # noqa: BLE001 — also Ctrl-C; what is unknown is raised on
        sys.exit(report(exc, as_json=wants_json(arguments)))
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    run()
