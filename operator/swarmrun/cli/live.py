"""The run as it goes, on a terminal: phases, the DAG with each agent's turn and last call, tokens, cost."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from swarmrun.api.printable import one_line, printable
from swarmrun.api.run import SwarmRun
from swarmrun.api.status import AgentPhase, AgentStatus, Phase, SwarmRunStatus
from swarmrun.cli.dag import tree
from swarmrun.cli.summary import duration

WAY = (
    Phase.PLANNING,
    Phase.RUNNING,
    Phase.MERGING,
    Phase.VERIFYING,
    Phase.JUDGING,
    Phase.FIXING,
    Phase.PUBLISHING,
)
STYLE = {
    AgentPhase.PENDING: "dim",
    AgentPhase.STARTING: "cyan",
    AgentPhase.RUNNING: "bold cyan",
    AgentPhase.FINISHED: "yellow",
    AgentPhase.MERGED: "green",
    AgentPhase.PARKED: "red",
    AgentPhase.FAILED: "red",
    AgentPhase.SKIPPED: "dim red",
    AgentPhase.CANCELLED: "dim",
}


class Screen:
    """A rich renderable that is drawn anew several times a second: the clock runs between two statuses."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self.run: SwarmRun | None = None
        self.lines: list[str] = []
        """The last events."""

    def __rich__(self) -> RenderableType:
        if self.run is None or self.run.status is None:
            return Text("starting …", style="dim")
        return view(self.run, self.run.status, self.lines, self._clock())


def view(run: SwarmRun, status: SwarmRunStatus, lines: list[str], now: datetime) -> RenderableType:
    parts: list[RenderableType] = [_headline(run, status, now), _way(status), Text("")]
    parts.append(_agents(status))
    ready = status.condition("Ready")
    if ready and ready.message and not status.phase.terminal:
        parts.append(Text(one_line(f"{ready.reason}: {ready.message}"), style="yellow"))
    parts += [Text(line, style="dim", overflow="ellipsis", no_wrap=True) for line in lines[-5:]]
    return Group(*parts)


def _headline(run: SwarmRun, status: SwarmRunStatus, now: datetime) -> Text:
    text = Text(run.metadata.name, style="bold")
    if status.started_at:
        start = status.started_at.replace(tzinfo=status.started_at.tzinfo or UTC)
        text.append(f"  {duration(max(0, int((now - start).total_seconds())))}", style="dim")
    if status.progress:
        text.append(f"  {status.progress} merged")
    text.append(f"  {status.usage.tokens:,} tokens")
    if status.usage.cost is not None:
        text.append(f"  ${status.usage.cost}")
    if status.score is not None:
        text.append(f"  score {status.score}", style="bold")
    if status.isolation == "none":
        text.append("  NOT isolated", style="bold red")
    return text


def _way(status: SwarmRunStatus) -> Text:
    """Phases in order, the present one marked."""
    shown = [*WAY]
    if status.phase in (Phase.PENDING, Phase.AWAITING_APPROVAL):
        shown = [status.phase, *shown]
    elif status.phase not in shown:
        shown = [*shown, status.phase]
    text = Text()
    for phase in shown:
        text.append(f" {phase.value} ", style="reverse bold" if phase is status.phase else "dim")
    return text


def _agents(status: SwarmRunStatus) -> Table:
    table = Table(box=None, pad_edge=False, show_header=True, header_style="dim", expand=True)
    for column, width in (("agent", None), ("phase", 9), ("turn", 4), ("tokens", 9), ("last call", None)):
        table.add_column(column, width=width, no_wrap=True, overflow="ellipsis", ratio=None if width else 1)
    known = {a.task: a for a in status.agents}

    planned = status.plan.tasks if status.plan and not status.plan.solo else []
    ids = {t.id for t in planned}
    for line in tree(planned, lambda task: task.id):
        # The label is the id alone, so it is the first word after the drawing.
        task = line.lstrip("│├└─ ").split()[0]
        _row(table, line, known.get(task))
    for agent in status.agents:
        if agent.task not in ids:
            _row(table, f"{agent.role} {agent.task}" if agent.role != agent.task else agent.task, agent)
    return table


def _row(table: Table, label: str, agent: AgentStatus | None) -> None:
    phase = agent.phase if agent else AgentPhase.PENDING
    style = STYLE[phase]
    again = f" (attempt {agent.attempts})" if agent and agent.attempts > 1 else ""
    doing = agent.last_tool if agent and phase in (AgentPhase.STARTING, AgentPhase.RUNNING) else ""
    said = doing or (agent.message if agent else "")
    table.add_row(
        Text(printable(label) + again, style=style),
        Text(phase.value, style=style),
        str(agent.turns) if agent and agent.turns else "",
        f"{agent.tokens:,}" if agent and agent.tokens else "",
        Text(one_line(said), style="dim"),
    )
