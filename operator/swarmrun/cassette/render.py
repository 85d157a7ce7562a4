"""An answer in the words of each interface, whole or as a stream of events.

Written from the types of OpenAI's SDK and from what the framework's clients read; complete enough for both,
reasoning and usage included.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_PIECE = 400
"""Characters a streamed piece holds: a file comes in several, so that joining is exercised; real servers send
far smaller ones, which would only cost processor time here. A choice."""


@dataclass(frozen=True)
class Said:
    """One answer, independent of the interface."""

    model: str
    seed: str
    """What ids are made from: the same request gives the same ids."""
    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str | int, str, str]] = field(default_factory=list[tuple[str | int, str, str]])
    """(id, name, arguments as they go over the wire)."""
    usage: dict[str, int] = field(default_factory=dict[str, int])
    """input, cached, cache_write, output, reasoning."""
    finish: str = ""
    """Empty: `tool_calls` or `stop`."""

    def id(self, prefix: str) -> str:
        return prefix + hashlib.sha256(f"{prefix}{self.seed}".encode()).hexdigest()[:24]


def event(data: Any, name: str = "") -> bytes:
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


def _pieces(text: str) -> list[str]:
    return [text[i : i + _PIECE] for i in range(0, len(text), _PIECE)]


# ---------------------------------------------------------------- chat/completions


def _chat_usage(said: Said) -> dict[str, Any]:
    u = said.usage
    return {
        "prompt_tokens": u["input"],
        "completion_tokens": u["output"],
        "total_tokens": u["input"] + u["output"],
        "prompt_tokens_details": {"cached_tokens": u["cached"], "cache_write_tokens": u["cache_write"]},
        "completion_tokens_details": {"reasoning_tokens": u["reasoning"]},
    }


def _chat_finish(said: Said) -> str:
    return said.finish or ("tool_calls" if said.calls else "stop")


def chat(said: Said) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": said.text or None, "refusal": None}
    if said.reasoning:
        message["reasoning_content"] = said.reasoning
    if said.calls:
        message["tool_calls"] = [
            {"id": i, "type": "function", "function": {"name": n, "arguments": a}} for i, n, a in said.calls
        ]
    return {
        "id": said.id("chatcmpl-"),
        "object": "chat.completion",
        "created": 0,
        "model": said.model,
        "choices": [{"index": 0, "message": message, "finish_reason": _chat_finish(said), "logprobs": None}],
        "usage": _chat_usage(said),
    }


def chat_events(said: Said, *, usage: bool) -> Iterator[bytes]:
    def chunk(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> bytes:
        choices = (
            [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]
        )
        return event(
            {
                "id": said.id("chatcmpl-"),
                "object": "chat.completion.chunk",
                "created": 0,
                "model": said.model,
                "choices": choices,
                **more,
            }
        )

    yield chunk({"role": "assistant", "content": ""})
    for piece in _pieces(said.reasoning):
        yield chunk({"reasoning_content": piece})
    for piece in _pieces(said.text):
        yield chunk({"content": piece})
    for index, (call_id, name, arguments) in enumerate(said.calls):
        head = {
            "index": index,
            "id": call_id,
            "type": "function",
            "function": {"name": name, "arguments": ""},
        }
        yield chunk({"tool_calls": [head]})
        for piece in _pieces(arguments):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield chunk({}, _chat_finish(said))
    if usage:
        yield chunk(None, usage=_chat_usage(said))
    yield event("[DONE]")


# ---------------------------------------------------------------- Responses


def _items(said: Said, encrypted: bool) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if said.reasoning:
        item: dict[str, Any] = {
            "type": "reasoning",
            "id": said.id("rs_"),
            "summary": [{"type": "summary_text", "text": said.reasoning}],
        }
        if encrypted:
            item["encrypted_content"] = said.id("enc_")
        items.append(item)
    if said.text:
        part = {"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}
        items.append(
            {
                "type": "message",
                "id": said.id("msg_"),
                "status": "completed",
                "role": "assistant",
                "content": [part],
            }
        )
    for index, (call_id, name, arguments) in enumerate(said.calls):
        items.append(
            {
                "type": "function_call",
                "id": f"{said.id('fc_')}{index}",
                "call_id": str(call_id),
                "name": name,
                "arguments": arguments,
                "status": "completed",
            }
        )
    return items


def responses(said: Said, *, encrypted: bool = False, status: str = "") -> dict[str, Any]:
    u = said.usage
    cut = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(said.finish)
    begun = status == "in_progress"
    return {
        "id": said.id("resp_"),
        "object": "response",
        "created_at": 0,
        "model": said.model,
        "status": status or ("incomplete" if cut else "completed"),
        "output": [] if begun else _items(said, encrypted),
        "error": None,
        "incomplete_details": {"reason": cut} if cut and not begun else None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "top_p": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "store": False,
        "usage": None
        if begun
        else {
            "input_tokens": u["input"],
            "input_tokens_details": {"cached_tokens": u["cached"], "cache_write_tokens": u["cache_write"]},
            "output_tokens": u["output"],
            "output_tokens_details": {"reasoning_tokens": u["reasoning"]},
            "total_tokens": u["input"] + u["output"],
        },
    }


def responses_events(said: Said, *, encrypted: bool) -> Iterator[bytes]:
    number = -1

    def say(kind: str, **data: Any) -> bytes:
        nonlocal number
        number += 1
        return event({"type": kind, "sequence_number": number, **data}, kind)

    yield say("response.created", response=responses(said, status="in_progress"))
    yield say("response.in_progress", response=responses(said, status="in_progress"))
    for index, item in enumerate(_items(said, encrypted)):
        at: dict[str, Any] = {"item_id": item["id"], "output_index": index}
        if item["type"] == "reasoning":
            yield say("response.output_item.added", output_index=index, item={**item, "summary": []})
            for piece in _pieces(said.reasoning):
                yield say("response.reasoning_summary_text.delta", **at, summary_index=0, delta=piece)
            yield say("response.reasoning_summary_text.done", **at, summary_index=0, text=said.reasoning)
        elif item["type"] == "message":
            part = item["content"][0]
            begun = {**item, "status": "in_progress", "content": []}
            yield say("response.output_item.added", output_index=index, item=begun)
            yield say("response.content_part.added", **at, content_index=0, part={**part, "text": ""})
            for piece in _pieces(said.text):
                yield say("response.output_text.delta", **at, content_index=0, delta=piece, logprobs=[])
            yield say("response.output_text.done", **at, content_index=0, text=said.text, logprobs=[])
            yield say("response.content_part.done", **at, content_index=0, part=part)
        else:
            begun = {**item, "status": "in_progress", "arguments": ""}
            yield say("response.output_item.added", output_index=index, item=begun)
            for piece in _pieces(item["arguments"]):
                yield say("response.function_call_arguments.delta", **at, delta=piece)
            yield say(
                "response.function_call_arguments.done", **at, name=item["name"], arguments=item["arguments"]
            )
        yield say("response.output_item.done", output_index=index, item=item)
    whole = responses(said, encrypted=encrypted)
    yield say(f"response.{whole['status']}", response=whole)
