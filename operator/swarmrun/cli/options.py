"""Options that several commands share, and where they may stand: before the command or after it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarmrun.cli.typed import remember

if TYPE_CHECKING:
    from swarmrun.local.runs import Runs


class Output(StrEnum):
    TEXT = "text"
    JSON = "json"
    YAML = "yaml"


Namespace = Annotated[
    str, typer.Option("--namespace", "-n", help="Namespace of the run.  [default: default]")
]
Home = Annotated[str, typer.Option("--home", help="State of all runs.  [default: $SWARMRUN_HOME]")]
OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="How to print, errors too.", case_sensitive=False)
]
RunName = Annotated[str, typer.Argument(metavar="NAME", help="The run's name.", show_default=False)]


@dataclass
class Globals:
    """What stood before the command."""

    home: str = ""
    namespace: str = ""
    color: bool = True


@dataclass(frozen=True)
class Where:
    """Home and namespace that count: the command's own option, else the global one, else the default."""

    home: Path
    namespace: str

    @property
    def runs(self) -> Runs:
        from swarmrun.local.runs import Runs

        return Runs(self.home)


def given_namespace(ctx: typer.Context, namespace: str = "") -> str:
    """The namespace that was written somewhere on the command line; empty when none was."""
    return namespace or (ctx.find_object(Globals) or Globals()).namespace


def where(ctx: typer.Context, home: str = "", namespace: str = "") -> Where:
    from swarmrun.settings import settings

    given = ctx.find_object(Globals) or Globals()
    chosen = home or given.home
    remember(chosen, given_namespace(ctx, namespace))
    return Where(
        home=Path(chosen).expanduser().absolute() if chosen else settings().home,
        namespace=given_namespace(ctx, namespace) or "default",
    )


def color(ctx: typer.Context) -> bool:
    return (ctx.find_object(Globals) or Globals()).color
