"""`kubectl-swarm`, which kubectl calls as `kubectl swarm`. Exit codes are those of `swarmrun` (cli/main.py); `wait`
ends with the run's own.
"""

from __future__ import annotations

from typing import NoReturn

import typer

from swarmrun.cli import entry
from swarmrun.cli.kubectl import act, logs, look
from swarmrun.cli.kubectl.options import Context, Kubeconfig, Namespace, Operator, Options

# kubectl completes its plugins' words itself.
app = entry.program("kubectl swarm", completion=False)
for room in (look, logs, act):
    room.register(app)


@app.callback()
def swarm(
    ctx: typer.Context,
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = "",
    operator: Operator = "",
    version: bool = typer.Option(
        False, "--version", help="Print the version.", callback=entry.tell_version, is_eager=True
    ),
) -> None:
    """Watch and steer SwarmRuns of a cluster. Words to a run become annotations of its resource."""
    ctx.obj = Options(namespace, context, kubeconfig, operator)


def run(arguments: list[str] | None = None) -> NoReturn:
    """The console entry."""
    entry.run(app, "kubectl swarm", arguments)


if __name__ == "__main__":
    run()
