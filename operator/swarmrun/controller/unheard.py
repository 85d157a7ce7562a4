"""Agents that the engine has ended without a word of their own: who looks at their run tells it.

An agent tells its end itself, and the engine tells the life of a run that has started it. A run that was taken over by
another program is in a life that has started nobody: what the engine ends then (a failure of the orchestration, a
termination by hand) would be noticed at the run's deadline.
"""

from __future__ import annotations

from typing import Any, cast

from swarmrun.controller.observe import Seen
from swarmrun.controller.wanted import Mail, Said
from swarmrun.orchestration.ends import broken
from swarmrun.orchestration.stand import LiveAgent


def unheard(seen: Seen, said: Said) -> list[Mail]:
    """The mail to be sent now, as the agents would have. Marks it as said, so call it only when it will be.

    Told to a run that knows already, it changes nothing."""
    live = (seen.report.stand or {}).get("live")
    mails: list[Mail] = []
    for instance, why in {} if seen.ended else seen.broken.items():
        agent = cast(dict[str, Any], live).get(instance) if isinstance(live, dict) else None
        if not isinstance(agent, dict):
            continue  # its run has gone on
        serial = int(cast(dict[str, Any], agent).get("serial") or 0)
        word = ("ended", instance, str(serial))
        if word not in said.words:
            said.words.add(word)
            end = broken(LiveAgent(role="", serial=serial), why)
            mails.append({"kind": "ended", "agent": instance, **end})
    return mails
