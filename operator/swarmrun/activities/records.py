"""What is stored of each agent's turns; the first writer wins, so a step that runs again finds what there was.

turns/<role>/<task>/<attempt>/<turn>/reply.json     the model's reply, and the news it was asked with
turns/<role>/<task>/<attempt>/<turn>/call-<n>.json  what the model is told of its n-th call
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from pydantic import BaseModel, Field

from swarmrun.activities.world import RunWorld, as_bytes
from swarmrun.agents.transcript import ResultRecord, TurnRecord
from swarmrun.api.base import legible, legible_data
from swarmrun.errors import NotFound
from swarmrun.ports import CallKey, ModelReply, ToolCall
from swarmrun.steps import AgentRef, UsageRecord

NOT_RUN = "Not run: another call of this turn ended it. Call it again if it is still needed."


class StoredReply(BaseModel):
    messages: list[dict[str, Any]]
    text: str = ""
    calls: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])
    usage: UsageRecord
    news: list[str] = Field(default_factory=list[str])
    """As codes: what the orchestration gave."""
    told: list[str] = Field(default_factory=list[str])
    """As texts: what the model read."""
    notes: list[str] = Field(default_factory=list[str])
    input_tokens: int = 0

    def tool_calls(self) -> list[ToolCall]:
        return [ToolCall(**c) for c in self.calls]

    def call(self, index: int) -> ToolCall:
        for call in self.tool_calls():
            if call.index == index:
                return call
        raise NotFound(f"the reply has no call {index}")


class StoredResult(BaseModel):
    call_id: str
    name: str
    text: str
    ok: bool = True
    changed: bool = False
    preview: str = ""
    repeated: int = 1


def key_of(agent: AgentRef, turn: int) -> CallKey:
    return CallKey(run=agent.run, role=agent.role, task=agent.task, attempt=agent.attempt, turn=turn)


def stored_reply(world: RunWorld, key: CallKey) -> StoredReply:
    """Raises NotFound when the model has not been asked yet."""
    return StoredReply.model_validate_json(world.store.get(f"{key.path()}/reply.json"))


def store_reply(
    world: RunWorld, key: CallKey, reply: ModelReply, usage: UsageRecord, news: list[str], told: list[str]
) -> StoredReply:
    stored = StoredReply(
        messages=legible_data(list(reply.messages)),
        text=legible(reply.text),
        calls=legible_data([dataclasses.asdict(c) for c in reply.calls]),
        usage=usage,
        news=news,
        told=told,
        notes=list(reply.notes),
        input_tokens=reply.usage.input,
    )
    data = world.store.put_new(f"{key.path()}/reply.json", stored.model_dump_json().encode())
    return StoredReply.model_validate_json(data)


def store_result(world: RunWorld, key: CallKey, index: int, result: StoredResult) -> StoredResult:
    data = world.store.put_new(f"{key.path()}/call-{index}.json", as_bytes(legible_data(result.model_dump())))
    return StoredResult.model_validate_json(data)


def stored_result(world: RunWorld, key: CallKey, index: int) -> StoredResult:
    """Raises NotFound."""
    return StoredResult.model_validate_json(world.store.get(f"{key.path()}/call-{index}.json"))


def transcript(world: RunWorld, agent: AgentRef, before: int) -> list[TurnRecord]:
    """The agent's turns 1 … before-1. A turn whose successor has been asked for never changes: it is kept."""
    kept: dict[str, list[TurnRecord]] = world.caches.setdefault("transcripts", {})
    name = f"{agent.role}/{agent.task}/{agent.attempt}"
    done = kept.get(name, [])
    missing = range(len(done) + 1, before)
    if missing:
        # A new list: reads of one turn come here side by side, and must not append to each other's.
        done = [*done, *(_turn(world, key_of(agent, turn)) for turn in missing)]
        if len(kept) >= MAX_KEPT:
            kept.pop(next(iter(list(kept))), None)
        kept[name] = done
    return done[: before - 1]


MAX_KEPT = 64
"""Agents whose transcripts are held in memory; others are read from the store. A choice."""


def forget(world: RunWorld, agent: AgentRef) -> None:
    world.caches.get("transcripts", {}).pop(f"{agent.role}/{agent.task}/{agent.attempt}", None)


def _turn(world: RunWorld, key: CallKey) -> TurnRecord:
    reply = stored_reply(world, key)
    results: list[ResultRecord] = []
    for call in reply.tool_calls():
        try:
            text = stored_result(world, key, call.index).text
        except NotFound:
            text = NOT_RUN
        results.append(ResultRecord(index=call.index, call_id=call.call_id, text=text))
    return TurnRecord(
        turn=key.turn,
        news=reply.told,
        messages=reply.messages,
        results=results,
        input_tokens=reply.input_tokens,
    )


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
