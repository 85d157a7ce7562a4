"""How a run or an agent goes on when the program that worked on it is another than this one.

Its history is left behind and it begins a new life, under the same id, from where it stands: what it said of
itself at its last dispatch. Every step is idempotent, so one that had ended since then is asked for again and gives
what it gave. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic import ValidationError

from swarmrun.orchestration.agent import NAME as AGENT
from swarmrun.orchestration.inputs import AgentInput, RunInput
from swarmrun.orchestration.mail import EVENT
from swarmrun.orchestration.program import program
from swarmrun.orchestration.run import NAME as RUN
from swarmrun.orchestration.stand import Stand
from swarmrun.orchestration.unreadable import ending_agent, ending_run
from swarmrun.report import RunReport

Dump = dict[str, Any]


@dataclass(frozen=True)
class Successor:
    """What the worker asks (`durable.takeover`)."""

    program: Callable[[], str] = program
    wanted: Callable[[], bool] = lambda: True
    """Whether this program is the one that is to work on all runs now; while it is not, it leaves them alone."""

    def knows(self, name: str, given: Any) -> bool:
        """Whether a history that begins with this input was decided by this program."""
        return name not in (RUN, AGENT) or _dump(given).get("program") == self.program()

    def continued(self, given: Any, status: Any, broken: Mapping[str, str]) -> Dump:
        """What the next life begins with. `status`: what it said last; `broken`: sub-orchestrations that the
        engine says have failed, with its words. Where that cannot be read, with its end (`unreadable.py`)."""
        report = _dump(status)
        stand = _dump(report.pop("stand", None))
        if not stand:
            # It has not said anything yet: nothing of it was begun.
            return {**_dump(given), "program": self.program()}
        mine = {"program": self.program()}
        if "brief" in _dump(given):
            try:
                AgentInput.model_validate(agent := {**_dump(given), **stand, **mine})
            except ValidationError as exc:
                return {**ending_agent(_dump(given), stand, exc), **mine}
            return agent
        live = _dump(stand.get("live"))
        stand["broken"] = {instance: why for instance, why in broken.items() if instance in live}
        going_on = {**_dump(given), **mine, "stand": stand, "report": report}
        try:
            RunInput.model_validate(going_on)
            Stand.model_validate(stand)
            RunReport.model_validate({"run": "", "name": "", **report})
        except ValidationError as exc:
            return {**ending_run(_dump(given), stand, report, exc), **mine}
        return going_on

    def carries(self, event: str, data: Any, next_input: Dump) -> bool:
        """Whether a word from outside is said to the next life, too. All are, in their order, also those that were
        heard: the last one counts. Ends of agents are left out once they are known."""
        mail = _dump(data)
        if event.casefold() != EVENT or mail.get("kind") != "ended":
            return True
        return mail.get("agent") in _dump(_dump(next_input.get("stand")).get("live"))


def _dump(value: Any) -> Dump:
    return dict(cast(Dump, value)) if isinstance(value, dict) else {}
