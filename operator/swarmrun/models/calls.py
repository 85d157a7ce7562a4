"""Tool calls out of an answer: ids made usable, arguments parsed, what cannot run named so that it is told."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from swarmrun.models.structured import loads, problems, values_in, without_thoughts
from swarmrun.ports import ToolCall, ToolSpec

if TYPE_CHECKING:
    from agent_framework import Content, Message

_RAW_CAP = 20_000
"""Characters of broken arguments that are kept: enough to mend a file's worth, not a runaway. A choice."""
_NAME = re.compile(r"[^a-zA-Z0-9_-]")


def read_calls(
    messages: Sequence[Message], tools: Sequence[ToolSpec], *, used_ids: Iterable[str], turn: int
) -> tuple[list[ToolCall], list[str]]:
    """The calls of an answer and what had to be mended.

    Changes the messages where they could not be sent back as they are: servers refuse arguments that are no
    JSON object, names with odd characters, and ids that are empty or not unique.
    """
    taken = set(used_ids)
    calls: list[ToolCall] = []
    notes: list[str] = []
    for content in (c for m in messages for c in m.contents if c.type == "function_call"):
        index = len(calls)
        call_id = _unique(str(content.call_id or ""), taken, turn, index)
        if call_id != content.call_id:
            notes.append(f"call {index + 1}: id {content.call_id!r} replaced by {call_id!r}")
            content.call_id = call_id
        name = _known_name(str(content.name or ""), tools, notes, index)
        arguments, raw, problem, note = parse_arguments(content.arguments)
        if note:
            notes.append(f"call {index + 1} ({name}): {note}")
        if not any(tool.name == name for tool in tools):
            problem = _unknown_tool(name, tools)
        content.name = _NAME.sub("_", name)[:64] or "unnamed"
        content.arguments = json.dumps(arguments, ensure_ascii=False)
        # The framework's own mark of a streamed call is random and means nothing to anyone else.
        content.id = None
        calls.append(ToolCall(index, call_id, name, arguments, raw=raw, problem=problem))
    return calls, notes


def parse_arguments(given: Any) -> tuple[dict[str, Any], str, str, str]:
    """(arguments, raw text when it is broken, problem for the model, note on what was mended)."""
    if isinstance(given, dict):
        given = json.dumps(given, ensure_ascii=False)
    raw = str(given or "")
    if raw.strip() in ("", "null"):
        return {}, "", "", ""
    note = ""
    try:
        value = loads(raw)
        if isinstance(value, str):
            value, note = loads(value), "arguments unwrapped from a JSON string"
    except ValueError as exc:
        return {}, raw[:_RAW_CAP], _broken(raw, exc), ""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value, note = value[0], "arguments unwrapped from a list of one"
    if not isinstance(value, dict):
        kind = {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}.get(
            type(value), "a number"
        )
        return (
            {},
            raw[:_RAW_CAP],
            f"arguments must be one JSON object, not {kind}: call again with an object",
            "",
        )
    return value, "", "", note


def _broken(raw: str, exc: ValueError) -> str:
    if isinstance(exc, json.JSONDecodeError):
        near = raw[max(0, exc.pos - 40) : exc.pos + 40]
        where = f"{exc.msg.removesuffix(' at')} at character {exc.pos} of {len(raw)}, near {near!r}"
    else:
        where = str(exc)[:200]
    return f"arguments are not valid JSON, nothing was run: {where}. Call again with one valid JSON object"


def _unknown_tool(name: str, tools: Sequence[ToolSpec]) -> str:
    names = [tool.name for tool in tools]
    near = difflib.get_close_matches(name, names, 1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"there is no tool {name[:80]!r}: {hint}tools: {', '.join(names) or 'none'}"


def _known_name(name: str, tools: Sequence[ToolSpec], notes: list[str], index: int) -> str:
    """A name without what chat templates leave on it (`functions.x`, `x<|channel|>commentary`)."""
    bare = name.split("<|", 1)[0].strip().removeprefix("functions.")
    if bare != name and any(tool.name == bare for tool in tools):
        notes.append(f"call {index + 1}: tool name {name!r} read as {bare!r}")
        return bare
    return name


def _unique(call_id: str, taken: set[str], turn: int, index: int) -> str:
    base = call_id or f"call_{turn}_{index}"
    chosen, n = base, 1
    while chosen in taken:
        n += 1
        chosen = f"{base}-{n}"
    taken.add(chosen)
    return chosen


# ---------------------------------------------------------------- calls written as text

_FENCE = re.compile(r"```(?:json|tool_call|tool_code)?[ \t]*\n(.*?)(?:\n```|\Z)", re.DOTALL)
_TAG = re.compile(r"<(tool_call|function_call)>(.*?)(?:</\1>|\Z)", re.DOTALL)


def calls_in_text(text: str, tools: Sequence[ToolSpec]) -> tuple[list[tuple[str, dict[str, Any]]], str]:
    """Calls that a model wrote as text, and the text without them.

    Taken only when the tool exists and the arguments fit its schema. Bare JSON counts only at the end of the
    text: an object quoted in the middle of prose is something the model talks about.
    """
    text = without_thoughts(text)
    for pattern, group in ((_TAG, 2), (_FENCE, 1)):
        found = [(m, list(_calls_of(m.group(group), tools))) for m in pattern.finditer(text)]
        calls = [call for _, inner in found for call in inner]
        if calls:
            rest = text
            for match, inner in reversed(found):
                rest = rest[: match.start()] + rest[match.end() :] if inner else rest
            return calls, rest.strip()
    start = _bare_start(text)
    if start is not None:
        calls = list(_calls_of(text[start:], tools))
        if calls:
            return calls, text[:start].strip()
    return [], text


def _bare_start(text: str) -> int | None:
    """Where the run of JSON values that ends the text begins."""
    start, end = None, len(text.rstrip())
    for begin, stop, _ in reversed(values_in(text, "{[")):
        if text[stop:end].strip(" \t\r\n,;"):
            break
        start, end = begin, begin
    return start


def _calls_of(text: str, tools: Sequence[ToolSpec]) -> Iterator[tuple[str, dict[str, Any]]]:
    for _, _, value in values_in(text, "{["):
        for item in value if isinstance(value, list) else [value]:
            call = _as_call(item, tools)
            if call is not None:
                yield call


def _as_call(item: Any, tools: Sequence[ToolSpec]) -> tuple[str, dict[str, Any]] | None:
    if not isinstance(item, dict):
        return None
    if isinstance(item.get("function"), dict):
        item = item["function"]
    name = next(
        (item[k] for k in ("name", "tool", "tool_name", "function") if isinstance(item.get(k), str)), None
    )
    given = next((item[k] for k in ("arguments", "parameters", "args", "input") if k in item), None)
    tool = next((t for t in tools if t.name == name), None)
    if tool is None or given is None:
        return None
    arguments, _, problem, _ = parse_arguments(given)
    if problem or next(problems(arguments, tool.parameters), None) is not None:
        return None
    return tool.name, arguments


def put_calls(message: Message, rest: str, calls: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Rewrites an answer so that its history holds real calls: the text that is left, then the calls."""
    from agent_framework import Content

    kept: list[Content] = [c for c in message.contents if c.type != "text"]
    if rest:
        kept.append(Content.from_text(rest))
    kept += [
        Content.from_function_call(call_id="", name=name, arguments=json.dumps(arguments, ensure_ascii=False))
        for name, arguments in calls
    ]
    message.contents = kept
