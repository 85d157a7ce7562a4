"""Agents' turns on their sandbox's standard output, so that `kubectl logs` shows them with the reader's own rights.

Best effort: a step neither fails nor waits long for want of a reader, and what stands there is no evidence: it went
through the sandbox. The transcript that counts is in the artifacts.
"""

from __future__ import annotations

import logging

from swarmrun.activities.records import StoredReply, StoredResult
from swarmrun.activities.world import RunWorld
from swarmrun.agents.log import call_lines, turn_lines
from swarmrun.errors import SwarmRunError
from swarmrun.ports import ToolCall
from swarmrun.steps import AgentRef, BoxRef

log = logging.getLogger("swarmrun.activities")


def say_turn(world: RunWorld, box: BoxRef | None, agent: AgentRef, turn: int, reply: StoredReply) -> None:
    if box is not None and world.provider.logged:
        _say(world, box, turn_lines(agent.role, agent.task, agent.attempt, turn, reply.model_dump()))


def say_result(world: RunWorld, box: BoxRef | None, call: ToolCall, result: StoredResult) -> None:
    if box is not None and world.provider.logged:
        told = call_lines({"name": call.name, "arguments": call.arguments}, {"text": result.text})
        _say(world, box, told)


def _say(world: RunWorld, box: BoxRef, lines: list[str]) -> None:
    try:
        world.run(world.box(box).say(lines))
    except SwarmRunError as exc:
        log.debug("sandbox %s: nothing was said: %s", box.id, exc)
