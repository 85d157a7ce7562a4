"""What gives way when a conversation fills the model's window.

At 80 % of the window the conversation goes down to 50 % in one step: cutting a little on every turn would
change the beginning of every request and break the servers' prompt caches each time. First old tool outputs
become one-line stubs, oldest first; when that is not enough, whole old turns (reasoning, calls and results
together) give way to one line. It is computed from the records alone, by going through the turns again: the
same records give the same messages, and what was cut stays cut.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

FULL = 0.80
"""Share of the context window at which it is done."""
GOAL = 0.50
"""Share it goes down to."""
KEPT_TURNS = 3
"""The newest turns are never touched: the agent is working with them. A choice."""
STUB_OVER = 200
"""Characters; shorter outputs stay as they are. A choice."""
BYTES_PER_TOKEN = 4.0
"""Before the server has counted anything; corrected by its counts afterwards."""


@dataclass
class Turned:
    """One turn as messages."""

    turn: int
    news: list[dict[str, Any]]
    reply: list[dict[str, Any]]
    results: list[dict[str, Any]]
    input_tokens: int = 0

    @cached_property
    def news_size(self) -> int:
        return size_of(self.news)

    @cached_property
    def size(self) -> int:
        return self.news_size + size_of(self.reply) + size_of(self.results)

    @cached_property
    def stubs(self) -> list[dict[str, Any]]:
        """The results with long outputs replaced by one line each."""
        return _stubbed(self)

    @cached_property
    def stub_size(self) -> int:
        return self.news_size + size_of(self.reply) + size_of(self.stubs)


@dataclass
class _State:
    stubbed: int = 0
    """Turns whose outputs are stubs, counted from the first."""
    dropped: int = 0
    """Turns that are left out, counted from the first."""
    bytes_per_token: float = BYTES_PER_TOKEN


def compact(turns: Sequence[Turned], *, start: int, window: int) -> list[dict[str, Any]]:
    """The messages of all turns. `start` are the bytes that stand before them, `window` is in tokens."""
    state = _State()

    def size(upto: int) -> float:
        """Bytes of the request that asks for the reply of turn number `upto`."""
        whole = sum(t.stub_size for t in turns[state.dropped : min(state.stubbed, upto)])
        whole += sum(t.size for t in turns[max(state.stubbed, state.dropped) : upto])
        return start + whole + (turns[upto].news_size if upto < len(turns) else 0)

    # One round per request that was made, and one for the request that is due now.
    answered = bool(turns) and bool(turns[-1].reply)
    for n in range(len(turns) + (1 if answered else 0)):
        allowed = window * state.bytes_per_token
        if size(n) > FULL * allowed:
            _cut(state, n, lambda n=n, allowed=allowed: size(n) <= GOAL * allowed)
        if n < len(turns) and turns[n].input_tokens:
            state.bytes_per_token = _ratio(size(n), turns[n].input_tokens)
    return _messages(turns, state)


def _cut(state: _State, n: int, small_enough: Any) -> None:
    last = max(n - KEPT_TURNS, 0)
    while state.stubbed < last and not small_enough():
        state.stubbed += 1
    while state.dropped < last and not small_enough():
        state.dropped += 1


def _ratio(size: float, tokens: int) -> float:
    """Bytes per token of the last request; a server that counts nonsense does not get its way."""
    return min(max(size / tokens, 1.0), 8.0)


def _messages(turns: Sequence[Turned], state: _State) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if state.dropped:
        messages.append(_left_out(turns[: state.dropped]))
    for n, turn in enumerate(turns[state.dropped :], state.dropped):
        messages += turn.news + turn.reply
        messages += turn.stubs if n < state.stubbed else turn.results
    return messages


def _left_out(turns: Sequence[Turned]) -> dict[str, Any]:
    """One message for the turns that gave way; news in them (changed contracts, warnings) is repeated."""
    from agent_framework import Message

    used: dict[str, int] = {}
    for turn in turns:
        for content in _contents(turn.reply):
            if content.get("type") == "function_call":
                used[str(content.get("name"))] = used.get(str(content.get("name")), 0) + 1
    calls = ", ".join(f"{count} × {name}" for name, count in used.items()) or "none"
    text = (
        f"[Turns {turns[0].turn}-{turns[-1].turn} are left out to save room. Calls made in them: {calls}. Their "
        "effects are in the work tree: look there (git diff) before you repeat anything.]"
    )
    news = [str(c.get("text", "")) for turn in turns for c in _contents(turn.news)]
    return Message("user", ["\n\n".join([text, *news])]).to_dict()


def _stubbed(turn: Turned) -> list[dict[str, Any]]:
    from agent_framework import Content

    calls = {c.get("call_id"): c for c in _contents(turn.reply) if c.get("type") == "function_call"}

    def short(content: dict[str, Any]) -> dict[str, Any]:
        text, call_id = str(content.get("result") or ""), str(content["call_id"])
        if len(text) <= STUB_OVER:
            return content
        return Content.from_function_result(call_id, result=_stub(text, calls.get(call_id, {}))).to_dict()

    return [{**message, "contents": [short(c) for c in message["contents"]]} for message in turn.results]


def _stub(text: str, call: dict[str, Any]) -> str:
    head = text.split("\n", 1)[0][:100]
    again = " again" if call.get("name") else ""
    name = call.get("name") or "the tool"
    return (
        f"[{len(text)} characters left out to save room; they began: {head!r}. Call {name}{again} if needed]"
    )


def _contents(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [c for m in messages for c in m.get("contents", ())]


def size_of(messages: Sequence[dict[str, Any]]) -> int:
    """Bytes as they travel, nearly. The framework's own form holds a tool's output twice."""
    return sum(
        len(json.dumps(_travels(c), ensure_ascii=False).encode("utf-8", "replace"))
        for c in _contents(messages)
    )


def _travels(content: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in content.items() if k not in ("items", "additional_properties")}
