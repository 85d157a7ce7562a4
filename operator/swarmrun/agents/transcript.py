"""One agent's conversation, put together from what was stored of each turn. Pure: the same records give the
same bytes, so that a replayed turn asks the model the very same question (and hits its prompt cache)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from swarmrun.agents.compaction import Turned, compact, size_of
from swarmrun.ports import ModelReply, Profile, ToolCall

TOLD_AT = 3
"""The same call this often in a row, this one included: the model is told. A choice."""
BROKEN_AT = 5
"""… and from here on the call is not run and the agent is broken off. A choice; without a
stop a model was seen to repeat one failing call for 41 turns."""

NOT_RUN = "This call was not run. Call it again if it is still needed."


class ResultRecord(BaseModel):
    """What one call of a turn gave."""

    model_config = ConfigDict(extra="ignore")

    index: int
    """Place of the call in the reply, from 0."""
    call_id: str
    text: str


class TurnRecord(BaseModel):
    """One turn as it was stored. The last one may have no reply yet: only its news.

    Frozen, and not to be changed by `model_copy` after its first use: what is put together of a turn is kept
    with it, since every later turn asks for it again.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    turn: int
    news: list[str] = Field(default_factory=list[str])
    """Texts that stand before the reply, as one user message."""
    messages: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])
    """The reply, as the framework's `Message.to_dict()`."""
    results: list[ResultRecord] = Field(default_factory=lambda: list[ResultRecord]())
    input_tokens: int = 0
    """Input tokens that the server counted for this turn's request; 0: unknown."""

    @cached_property
    def turned(self) -> Turned:
        """The turn as messages."""
        return Turned(
            turn=self.turn,
            news=[user_message("\n\n".join(self.news))] if self.news else [],
            reply=self.messages,
            results=list(_results(self)),
            input_tokens=self.input_tokens,
        )

    @classmethod
    def of(cls, turn: int, news: Sequence[str], reply: ModelReply) -> TurnRecord:
        return cls(
            turn=turn,
            news=list(news),
            messages=[dict(m) for m in reply.messages],
            input_tokens=reply.usage.input,
        )


def assemble(
    prefix: Sequence[dict[str, Any]],
    records: Sequence[TurnRecord],
    *,
    profile: Profile,
    overhead: int = 0,
) -> list[dict[str, Any]]:
    """The messages of the next request.

    `prefix` are the messages before the first turn, `overhead` the bytes of instructions and tools, which
    count against the context window too. Every call of an answered turn gets a result, in the calls' order:
    servers refuse a conversation in which one is missing. Old outputs give way when the window fills
    (`compaction`); a call, its reasoning and its result stay or go together.
    """
    turns = [record.turned for record in records]
    return [*prefix, *compact(turns, start=overhead + size_of(prefix), window=profile.context_window)]


def user_message(text: str) -> dict[str, Any]:
    """A user's message as the framework's `Message.to_dict()` gives it."""
    from agent_framework import Message

    return Message("user", [text]).to_dict()


def calls_of(record: TurnRecord) -> list[dict[str, Any]]:
    """The reply's calls, in order: the index of a call is its place here."""
    contents = (c for m in record.messages for c in m.get("contents", ()))
    return [c for c in contents if c.get("type") == "function_call"]


def _results(record: TurnRecord) -> Iterator[dict[str, Any]]:
    from agent_framework import Content, Message

    texts = {result.index: result.text for result in record.results}
    contents = [
        # The id is the call's own: a model may give two calls of a turn the same one, the index is ours.
        Content.from_function_result(str(call["call_id"]), result=texts.get(index, NOT_RUN))
        for index, call in enumerate(calls_of(record))
    ]
    if contents:
        yield Message("tool", contents).to_dict()


def repeated(records: Sequence[TurnRecord], call: ToolCall, *, turn: int = 0) -> int:
    """How often the very same call was made before in a row, without another one between.

    `records` are the agent's turns; when the call's own is among them, `turn` is its number, and only the
    calls before it count. Polling a process is never a repetition.
    """
    if call.name == "process":
        return 0
    wanted = (call.name, _canonical(call.arguments))
    count = 0
    for record in reversed(records):
        if turn and record.turn > turn:
            continue
        made = calls_of(record)
        if turn and record.turn == turn:
            made = made[: call.index]
        for earlier in reversed(made):
            if (str(earlier.get("name")), _canonical(earlier.get("arguments"))) != wanted:
                return count
            count += 1
    return count


def _canonical(arguments: Any) -> str:
    """JSON with sorted keys, whether it came as text or as an object."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments) if arguments.strip() else {}
        except json.JSONDecodeError:
            return arguments
    return json.dumps(arguments or {}, sort_keys=True)
