"""What a request says, in the words of either interface: who asks, with which tools, after which results."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from swarmrun.cassette.format import Expect

Api = Literal["chat", "responses"]
KEY = ("run", "role", "task", "attempt", "turn", "sample")


@dataclass(frozen=True)
class Asked:
    api: Api
    key: dict[str, str]
    """run, role, task, attempt, turn, sample, api; empty where the header is missing."""
    tools: list[str]
    texts: list[str]
    """Instructions and every text, result and argument of the messages."""
    last_results: list[str]
    """Tool results since the model last spoke."""
    stream: bool
    usage: bool
    """chat: whether the stream ends with usage."""
    encrypted: bool
    """Responses: whether encrypted reasoning is asked for."""
    length: int
    """Characters of the whole body."""

    def label(self) -> str:
        return "/".join(self.key[name] or "-" for name in KEY[:5])


def read_request(api: Api, headers: Mapping[str, str], body: Mapping[str, Any], length: int) -> Asked:
    key = {name: urllib.parse.unquote(headers.get(f"x-swarmrun-{name}") or "") for name in KEY}
    texts: list[str] = [str(body.get("instructions") or "")]
    results: list[str] = []
    for item in _items(body.get("messages") if api == "chat" else body.get("input")):
        kind = str(item.get("type") or "")
        if item.get("role") == "tool" or kind == "function_call_output":
            text = _text(item.get("content") if api == "chat" else item.get("output"))
            results.append(text)
            texts.append(text)
            continue
        if item.get("role") == "assistant" or kind in ("function_call", "reasoning"):
            results = []
        texts.append(_text(item.get("content")))
        for call in item.get("tool_calls") or ([item] if kind == "function_call" else []):
            texts.append(str((call.get("function") or call).get("arguments") or ""))
    tools = [str((tool.get("function") or tool).get("name") or "") for tool in _items(body.get("tools"))]
    return Asked(
        api=api,
        key={**key, "api": api},
        tools=tools,
        texts=texts,
        last_results=results,
        stream=bool(body.get("stream")),
        usage=bool((body.get("stream_options") or {}).get("include_usage")),
        encrypted="reasoning.encrypted_content" in (body.get("include") or ()),
        length=length,
    )


def mismatches(expect: Expect, asked: Asked) -> list[str]:
    """What was expected and did not come, with what came instead."""
    found: list[str] = []
    missing = [name for name in expect.tools if name not in asked.tools]
    if missing:
        found.append(f"expected tools {', '.join(missing)}; offered: {', '.join(asked.tools) or 'none'}")
    for text in expect.messages_contain:
        if not any(text in have for have in asked.texts):
            found.append(f"expected {text!r} in the messages; the last ends: {_tail(asked.texts)!r}")
    for text in expect.last_tool_result_contains:
        if not any(text in have for have in asked.last_results):
            came = f"came: {_tail(asked.last_results)!r}" if asked.last_results else "no tool result came"
            found.append(f"expected {text!r} in the last tool result; {came}")
    return found


def _items(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    return [item for item in value or () if isinstance(item, dict)]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        parts = (p.get("text") or p.get("refusal") or "" if isinstance(p, dict) else str(p) for p in value)
        return "\n".join(str(part) for part in parts)
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _tail(texts: list[str]) -> str:
    return texts[-1][-600:] if texts else ""
