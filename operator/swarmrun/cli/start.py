"""`run` and `plan`."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from swarmrun.cli.failures import Interrupted
from swarmrun.cli.options import Home, Namespace, Output, OutputOption, color, given_namespace, where
from swarmrun.cli.typed import named, typed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from swarmrun.api.run import SwarmRun
    from swarmrun.cli.compose import Composed
    from swarmrun.local.directory import RunDirectory
    from swarmrun.local.runs import Runs

File = Annotated[
    str, typer.Option("--file", "-f", help="YAML with a SwarmRun, and its SwarmClass; - is stdin.")
]
Goal = Annotated[str, typer.Option("--goal", help="What is to be done.")]
Repository = Annotated[str, typer.Option("--repository", help="Path or URL of the git repository.")]
Branch = Annotated[str, typer.Option("--branch", help="Base branch.  [default: the repository's]")]
Name = Annotated[str, typer.Option("--name", help="The run's name.  [default: from file or goal]")]
Model = Annotated[str, typer.Option("--model", help="Model for every role.  [default: $OPENAI_MODEL]")]
Endpoint = Annotated[
    str,
    typer.Option("--endpoint", help="OpenAI-compatible URL, or cassette:FILE.  [default: $OPENAI_BASE_URL]"),
]
Mode = Annotated[str, typer.Option("--mode", help="Auto, Solo or Swarm.")]
Parallelism = Annotated[int | None, typer.Option("--parallelism", help="Agents at work at once.", min=1)]
Tokens = Annotated[int | None, typer.Option("--budget-tokens", help="Ceiling of tokens.", min=1000)]
Cost = Annotated[str, typer.Option("--budget-cost", help="Ceiling in US dollars, e.g. 2.50.")]
Duration = Annotated[str, typer.Option("--budget-duration", help="Ceiling of wall time, e.g. 1h30m.")]
Unsafe = Annotated[
    bool,
    typer.Option("--unsafe-no-sandbox", help="Run agents without isolation where there is no bubblewrap."),
]


def register(app: typer.Typer) -> None:
    app.command("run")(run)
    app.command("plan")(plan)


def run(
    ctx: typer.Context,
    file: File = "",
    goal: Goal = "",
    repository: Repository = "",
    branch: Branch = "",
    name: Name = "",
    model: Model = "",
    endpoint: Endpoint = "",
    mode: Mode = "",
    publish_branch: Annotated[str, typer.Option(help="Branch that receives the result.")] = "",
    pull_request: Annotated[bool, typer.Option("--pull-request", help="Open a pull request.")] = False,
    parallelism: Parallelism = None,
    budget_tokens: Tokens = None,
    budget_cost: Cost = "",
    budget_duration: Duration = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resources and stop.")] = False,
    unsafe_no_sandbox: Unsafe = False,
    no_guards: Annotated[bool, typer.Option("--no-guards", hidden=True)] = False,
    namespace: Namespace = "",
    home: Home = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Run a goal on a repository, from plan to published branch. The same run again attaches to it."""
    from swarmrun.cli.compose import Asked, compose

    asked = Asked(
        file=file,
        goal=goal,
        repository=repository,
        branch=branch,
        name=name,
        namespace=given_namespace(ctx, namespace),
        model=model,
        endpoint=endpoint,
        mode=mode,
        publish_branch=publish_branch,
        pull_request=pull_request,
        parallelism=parallelism,
        budget_tokens=budget_tokens,
        budget_cost=budget_cost,
        budget_duration=budget_duration,
    )
    composed = compose(asked, note=_note)
    if dry_run:
        _dry_run(composed, output)
        return
    runs = where(ctx, home).runs
    directory = runs.start(
        composed.run,
        composed.cls,
        source_dir=composed.source_dir,
        guards=not no_guards,
        unsafe_no_sandbox=unsafe_no_sandbox,
    )
    attend(ctx, runs, directory, output)


def plan(
    ctx: typer.Context,
    file: File = "",
    goal: Goal = "",
    repository: Repository = "",
    branch: Branch = "",
    name: Name = "",
    model: Model = "",
    endpoint: Endpoint = "",
    unsafe_no_sandbox: Unsafe = False,
    namespace: Namespace = "",
    home: Home = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Plan only: print tasks as a DAG, and contracts. The run then waits for `approve NAME plan`."""
    from swarmrun.cli.compose import Asked, compose

    asked = Asked(
        file=file,
        goal=goal,
        repository=repository,
        branch=branch,
        name=name,
        namespace=given_namespace(ctx, namespace),
        model=model,
        endpoint=endpoint,
        plan_approval=True,
    )
    composed = compose(asked, note=_note)
    runs = where(ctx, home).runs
    directory = runs.start(
        composed.run, composed.cls, source_dir=composed.source_dir, unsafe_no_sandbox=unsafe_no_sandbox
    )
    _until_planned(ctx, runs, directory, output)


def _note(text: str) -> None:
    typer.echo(typed(f"note: {text}"), err=True)


def _dry_run(composed: Composed, output: Output) -> None:
    """What would be started, after every check that needs no network; `run -f` of it is the same run."""
    from swarmrun.api.resolve import resolve
    from swarmrun.cli import show
    from swarmrun.local.paths import absolute_class, absolute_run

    run = absolute_run(composed.run, composed.source_dir)
    cls = absolute_class(composed.cls, composed.source_dir)
    resolve(run, cls, instance=run.metadata.name, own_machine=True)
    show.resources([cls, run], output)


class _Planned(Exception):
    """The plan is there: enough was seen."""


def _until_planned(ctx: typer.Context, runs: Runs, directory: RunDirectory, output: Output) -> None:
    from swarmrun.api.printable import printable
    from swarmrun.cli import show
    from swarmrun.cli.dag import plan_text
    from swarmrun.cli.summary import exit_code, verdict
    from swarmrun.cli.watch import Watcher

    watcher = Watcher(directory, color=color(ctx), out=sys.stderr)

    def until_planned(now: SwarmRun) -> None:
        watcher(now)
        if now.status and now.status.plan and now.status.phase.value == "AwaitingApproval":
            raise _Planned

    try:
        with watcher.live(), interruptible(directory):
            runs.work(directory, until_planned)
    except _Planned:
        pass
    status = directory.status()
    if status.plan is None:
        typer.echo(printable(f"{directory.name}: {verdict(status)}"), err=True)
        raise typer.Exit(exit_code(status) or 1)
    if output is not Output.TEXT:
        show.data(status.plan.dump(), output)
        return
    typer.echo(printable(plan_text(status.plan)))
    if not status.phase.terminal:
        name = named(directory.name, directory.namespace)
        approve = f"swarmrun approve {name} plan && swarmrun resume {name}"
        typer.echo(typed(f"\ngo on with:  {approve}\nthrow away:  swarmrun delete {name}"))


def attend(ctx: typer.Context, runs: Runs, directory: RunDirectory, output: Output) -> None:
    """Works on a run, or follows who does; prints its end; exits with its code."""
    from swarmrun.cli import show
    from swarmrun.cli.summary import exit_code, models_source
    from swarmrun.cli.watch import Watcher

    before = directory.status()
    if before.phase.terminal:
        again = f"`swarmrun delete {named(directory.name, directory.namespace)}` to run it again"
        _note(f"run {directory.name} had ended before; {again}")
    # Whoever asked for JSON gets nothing else on standard output.
    watcher = Watcher(directory, color=color(ctx), out=sys.stdout if output is Output.TEXT else sys.stderr)
    with watcher.live(), interruptible(directory):
        done = runs.work(directory, watcher)
    assert done.status
    if output is Output.TEXT:
        show.end(done, models_source(directory.snapshot()), color=color(ctx))
    else:
        show.resource(done, output)
    raise typer.Exit(exit_code(done.status))


@contextmanager
def interruptible(directory: RunDirectory) -> Iterator[None]:
    """Ctrl-C and SIGTERM stop this process, not the run: it says how to resume."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    earlier = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt as exc:
        raise Interrupted(f"swarmrun resume {named(directory.name, directory.namespace)}") from exc
    finally:
        signal.signal(signal.SIGTERM, earlier)
