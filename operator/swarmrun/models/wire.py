"""The framework's two clients for one turn, with what they drop put back and what they let pass refused.

An instance lives for one call (it costs a tenth of a millisecond) because a stream has state: which index
belongs to which call, which pieces of reasoning have come. What is done here and why:

- The chat client knows no `reasoning_content`, keeps only the last piece of streamed `reasoning_details`, and
  drops `extra_content` of calls (some models' thought signatures, missed with a 400 on the next turn).
- Two calls under one id, or under one index, would be joined into one call with both arguments.
- The Responses client always asks for encrypted reasoning, always sends item ids, and forgets the reason of a
  failed response.
- What is really about to be sent is looked at last: tools that were meant and are missing would make an agent
  that reports success and did nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent_framework import Content, Message
from agent_framework.openai import OpenAIChatClient, OpenAIChatCompletionClient

from swarmrun.errors import PermanentError
from swarmrun.models.refusals import StreamError
from swarmrun.ports import Profile

if TYPE_CHECKING:
    from openai import AsyncOpenAI

REASONING = "swarmrun_reasoning"
"""Where a message prepared for chat carries the reasoning text that goes beside its content."""
_EXTRA = "extra_content"


@dataclass(frozen=True)
class Ask:
    """One way of asking; a refused one is followed by another."""

    cap: int
    """Output tokens."""
    effort: str
    reasoning: bool
    """False: earlier reasoning is left out."""
    schema: str
    """`strict`, `object` or `none`; matters only when the answer must be JSON."""
    new_cap_name: bool
    """chat: whether the cap is called `max_completion_tokens` or `max_tokens`."""
    openai_rules: bool
    """chat: whether `store` and `prompt_cache_key` are known (some servers refuse what they do not know)."""


def framework_client(
    profile: Profile, sdk: AsyncOpenAI, ask: Ask, tools: Sequence[str], orphans: frozenset[str]
) -> OpenAIChatClient | OpenAIChatCompletionClient:
    """`orphans`: ids of calls whose reasoning is not sent, so that their item ids must not be either."""
    kind = ResponsesTurn if profile.api == "responses" else ChatTurn
    return kind(profile, sdk, ask, tools, orphans)


def guard_tools(expected: Sequence[str], sent: Mapping[str, Any]) -> None:
    """Raises PermanentError (reason PhantomAgent) when a request would go out without the tools it was given."""
    have: set[str] = set()
    for tool in sent.get("tools") or ():
        have.add(str(tool.get("name") or (tool.get("function") or {}).get("name")))
    missing = [name for name in expected if name not in have]
    if missing or (expected and sent.get("tool_choice") == "none"):
        what = f"without {', '.join(missing)}" if missing else "with tool_choice none"
        raise PermanentError(
            f"a model call with tools would have gone out {what}",
            mend="an agent that cannot act may still report success: this is a fault of the program, report it",
            reason="PhantomAgent",
        )


class ChatTurn(OpenAIChatCompletionClient):
    """One call on chat/completions."""

    def __init__(
        self, profile: Profile, sdk: AsyncOpenAI, ask: Ask, tools: Sequence[str], orphans: frozenset[str]
    ) -> None:
        super().__init__(
            model=profile.model,
            async_client=sdk,
            response_parser=self._read_delta,
            message_preparer=self._write_message,
            function_invocation_configuration={"enabled": False},
        )
        self._profile = profile
        self._ask = ask
        self._tools = tools
        self._ids: dict[int, str] = {}
        """Call id by the index we gave it."""
        self._current: dict[Any, int] = {}
        """Our index by the server's."""
        self._extras: dict[int, Any] = {}
        self.details: list[dict[str, Any]] = []

    def _prepare_options(self, messages: Sequence[Message], options: Mapping[str, Any]) -> dict[str, Any]:
        sent = super()._prepare_options(messages, options)
        if not self._ask.new_cap_name and "max_completion_tokens" in sent:
            sent["max_tokens"] = sent.pop("max_completion_tokens")
        guard_tools(self._tools, sent)
        return _past_the_transform(sent, "messages")

    def _parse_response_update_from_openai(self, chunk: Any) -> Any:
        for choice in chunk.choices or ():
            for call in (choice.delta.tool_calls or ()) if choice.delta is not None else ():
                self._number(call)
        chunk.created = chunk.created if isinstance(chunk.created, int) else 0
        return super()._parse_response_update_from_openai(chunk)

    def _number(self, call: Any) -> None:
        """Gives a piece of a call an index that is its own, and an id that is a string and unique.

        Some servers leave the index out, some give every parallel call index 0, some repeat ids.
        """
        theirs = call.index
        given = "" if call.id is None else str(call.id)
        ours = self._current.get(theirs)
        begins = ours is None or bool(
            call.function is not None and call.function.name and given and given != self._ids[ours]
        )
        if begins:
            ours = len(self._ids)
            self._ids[ours] = given
            self._current[theirs] = ours
        assert ours is not None
        call.index = ours
        # A marker that cannot collide while pieces are joined; `read_calls` gives the final id.
        call.id = None if not begins else _marked(given, ours)
        extra = getattr(call, _EXTRA, None)
        if extra:
            self._extras[ours] = extra

    def finish(self, messages: Sequence[Message]) -> None:
        """After the stream: marked ids made plain again, what was collected beside the pieces put in."""
        calls = [c for m in messages for c in m.contents if c.type == "function_call"]
        for content in calls:
            plain, ours = _unmarked(content.call_id or "")
            content.call_id = plain
            if ours in self._extras:
                content.additional_properties[_EXTRA] = self._extras[ours]
        if self.details and messages:
            whole = Content.from_text_reasoning(protected_data=json.dumps(self.details))
            first = messages[0]
            first.contents = [whole, *(c for c in first.contents if c.type != "text_reasoning")]

    def _read_delta(self, delta: Any, contents: list[Content]) -> list[Content]:
        contents = [c for c in contents if c.type != "text_reasoning"]
        if isinstance(delta.content, list):  # some servers send parts here, thoughts among them
            texts = [
                p.get("text", "") for p in delta.content if isinstance(p, Mapping) and p.get("type") == "text"
            ]
            contents += [
                Content.from_text(text, merge_mode="append") for text in texts if isinstance(text, str)
            ]
        replay = self._profile.reasoning_replay
        if replay == "reasoning_details":
            for piece in getattr(delta, "reasoning_details", None) or ():
                if isinstance(piece, Mapping):
                    _join_detail(self.details, dict(piece))
        elif replay == "reasoning_content":
            for field in ("reasoning_content", "reasoning"):
                text = getattr(delta, field, None)
                if isinstance(text, str) and text:
                    contents.insert(0, Content.from_text_reasoning(text=text, merge_mode="append"))
                    break
        return contents

    def _write_message(self, message: Message, sent: list[dict[str, Any]]) -> list[dict[str, Any]]:
        extras = {
            c.call_id: c.additional_properties[_EXTRA]
            for c in message.contents
            if c.type == "function_call" and c.additional_properties.get(_EXTRA)
        }
        for part in sent:
            if part.get("role") != "assistant":
                continue
            if part.get("tool_calls"):
                part.setdefault("content", None)
                for call in part["tool_calls"]:
                    if call["id"] in extras:
                        call[_EXTRA] = extras[call["id"]]
            if REASONING in message.additional_properties:
                part["reasoning_content"] = message.additional_properties[REASONING]
        return sent


class ResponsesTurn(OpenAIChatClient):
    """One call on Responses."""

    def __init__(
        self, profile: Profile, sdk: AsyncOpenAI, ask: Ask, tools: Sequence[str], orphans: frozenset[str]
    ) -> None:
        super().__init__(
            model=profile.model, async_client=sdk, function_invocation_configuration={"enabled": False}
        )
        self._profile = profile
        self._tools = tools
        self._orphans = orphans
        self._whole: set[int] = set()
        """Output indexes whose arguments have come."""
        self._seen = 0

    async def _prepare_options(
        self, messages: Sequence[Message], options: Mapping[str, Any]
    ) -> dict[str, Any]:
        sent = await super()._prepare_options(messages, options)
        if self._profile.reasoning_replay != "encrypted":
            sent.pop("include", None)
        for item in sent["input"]:
            if item.get("type") == "function_call" and item.get("call_id") in self._orphans:
                item.pop("id", None)
        guard_tools(self._tools, sent)
        return _past_the_transform(sent, "input")

    def _parse_chunk_from_openai(
        self, event: Any, options: dict[str, Any], function_call_ids: dict[int, tuple[str, str]], *rest: Any
    ) -> Any:
        kind = event.type
        if kind == "error":
            raise StreamError(str(event.code or ""), str(event.message or "error"))
        if kind == "response.failed":
            error = event.response.error
            raise StreamError(
                str(getattr(error, "code", "") or ""), str(getattr(error, "message", "") or "failed")
            )
        if kind in ("response.function_call_arguments.delta", "response.function_call_arguments.done"):
            self._whole.add(event.output_index)
        item: Any = getattr(event, "item", None)
        if kind == "response.output_item.added" and getattr(item, "type", None) == "function_call":
            item.call_id = _marked(str(item.call_id or ""), self._seen)
            self._seen += 1
        update = super()._parse_chunk_from_openai(event, options, function_call_ids, *rest)
        if kind == "response.output_item.done" and getattr(item, "type", None) == "function_call":
            # Servers that send a call in one piece: the framework waits for pieces and loses it.
            if event.output_index not in function_call_ids:
                function_call_ids[event.output_index] = (
                    _marked(str(item.call_id or ""), self._seen),
                    item.name,
                )
                self._seen += 1
            if event.output_index not in self._whole:
                call_id, name = function_call_ids[event.output_index]
                update.contents.append(
                    Content.from_function_call(
                        call_id=call_id,
                        name=name,
                        arguments=item.arguments,
                        additional_properties={"fc_id": item.id},
                    )
                )
        return update

    def finish(self, messages: Sequence[Message]) -> None:
        for content in (c for m in messages for c in m.contents if c.type == "function_call"):
            content.call_id = _unmarked(content.call_id or "")[0]


def _past_the_transform(sent: dict[str, Any], history: str) -> dict[str, Any]:
    """The SDK walks every value of a request through its type hints, which changes nothing here and grows with
    the history. What is in `extra_body` it takes as it is.

    Measured as processor time a turn, client and cassette in one process, mean of 40 turns of one call each:
    chat 20 ms with the walk and 9 ms without, Responses 54 ms and 12 ms.
    """
    sent["extra_body"] = {key: sent[key] for key in (history, "tools") if key in sent}
    sent[history] = []
    sent.pop("tools", None)
    return sent


def _marked(call_id: str, index: int) -> str:
    return f"{call_id}\x00{index}"


def _unmarked(call_id: str) -> tuple[str, int]:
    plain, _, index = call_id.partition("\x00")
    return plain, int(index or 0)


def _join_detail(details: list[dict[str, Any]], piece: dict[str, Any]) -> None:
    """Streamed reasoning details come in pieces that share type and index; texts are joined, the rest is kept."""
    last = next(
        (d for d in details if d.get("index") == piece.get("index") and d.get("type") == piece.get("type")),
        None,
    )
    if last is None or piece.get("index") is None:
        details.append(piece)
        return
    for key, value in piece.items():
        if key in ("text", "summary", "data") and isinstance(value, str):
            last[key] = (last.get(key) or "") + value
        elif value is not None:
            last[key] = value


def prepare(
    messages: Sequence[Mapping[str, Any]], profile: Profile, ask: Ask
) -> tuple[list[Message], frozenset[str]]:
    """Stored messages made ready for one model, and the ids of calls that go without their reasoning."""
    prepared: list[Message] = []
    orphans: set[str] = set()
    for stored in messages:
        message = Message.from_dict(dict(stored))
        reasoning = [c for c in message.contents if c.type == "text_reasoning"]
        if message.role == "assistant":
            others = [c for c in message.contents if c.type != "text_reasoning"]
            keep = _replayable(reasoning, profile, ask)
            if reasoning and not keep:
                orphans |= {c.call_id for c in others if c.type == "function_call" and c.call_id}
            if profile.api == "chat" and profile.reasoning_replay == "reasoning_content" and ask.reasoning:
                # Servers that want it want it on every turn with calls, mended ones and ones from text included.
                text = "".join(c.text or "" for c in reasoning)
                if text or any(c.type == "function_call" for c in others):
                    message.additional_properties = {**message.additional_properties, REASONING: text}
            message.contents = [*keep, *others]
            if not message.contents:
                continue
        prepared.append(message)
    return prepared, frozenset(orphans)


def _replayable(reasoning: list[Content], profile: Profile, ask: Ask) -> list[Content]:
    """Reasoning that may go out as such. The framework refuses a turn whose reasoning is only half there."""
    if not ask.reasoning or profile.reasoning_replay not in ("encrypted", "reasoning_details"):
        return []
    sealed = {c.id for c in reasoning if c.protected_data}
    if profile.reasoning_replay == "reasoning_details":
        return [c for c in reasoning if c.protected_data]
    return reasoning if all(c.id and c.id in sealed for c in reasoning) else []
