"""`logs`: agents' turns, from their Pods while these live, else from what the operator stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from swarmrun.cli.kubectl.options import Context, Kubeconfig, Namespace, Operator, Options, in_cluster
from swarmrun.cli.look import ErrorsOption, TaskName
from swarmrun.cli.options import Output, RunName

if TYPE_CHECKING:
    from swarmrun.cli.kubectl.cluster import Cluster


def register(app: typer.Typer) -> None:
    app.command("logs")(logs)


def logs(
    ctx: typer.Context,
    name: RunName,
    task: TaskName = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    stored: Annotated[
        bool, typer.Option("--stored", help="What the operator stored, also while Pods live.")
    ] = False,
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = "",
    operator: Operator = "",
    output: ErrorsOption = Output.TEXT,
) -> None:
    """Print agents' turns: what they said, called and got back; with TASK, of that one.

    While a sandbox's Pod lives its log is read, with your own rights. What is gone is read from the operator, or it is
    said why it cannot be.
    """
    from swarmrun.cli.kubectl.telling import Telling

    async def work(cluster: Cluster) -> None:
        telling = Telling(cluster, name, task)
        await (telling.follow(stored=stored) if follow else telling.once(stored=stored))

    in_cluster(ctx, Options(namespace, context, kubeconfig, operator), work)
