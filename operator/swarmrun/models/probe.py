"""Does this model answer as its profile says? For `swarmrun doctor --probe`: a few small paid calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from swarmrun.errors import BadModelOutput, PermissionDenied, SwarmRunError, TransientError
from swarmrun.models.client import OpenAIModel
from swarmrun.ports import CallKey, ModelReply, ModelRequest, ToolSpec

_T = TypeVar("_T")

_CAP = 2_048
"""Output tokens a probe may use: reasoning models think even about this. A choice."""

_TOOL = ToolSpec(
    "report_number",
    "Reports one number.",
    {
        "type": "object",
        "properties": {"number": {"type": "integer"}},
        "required": ["number"],
        "additionalProperties": False,
    },
)
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"colour": {"type": "string"}, "count": {"type": "integer"}},
    "required": ["colour", "count"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `mend` is empty when it is well."""

    check: str
    """`reachable`, `key`, `answers`, `usage`, `reasoning`, `tools`, `json`."""
    ok: bool
    message: str
    mend: str = ""


async def probe(client: OpenAIModel) -> list[Finding]:
    """Asks three to four times. Never raises for what the server does; the first hopeless finding ends it."""
    findings, reply = await _first(client)
    if reply is None:
        return findings
    findings.append(_usage(reply))
    with_tools, first = await _tools(client)
    findings.append(with_tools)
    if first is not None and client.profile.reasoning_replay != "none":
        findings.append(await _replay(client, first))
    findings.append(await _json(client))
    return findings


async def greet(client: OpenAIModel) -> list[Finding]:
    """Asks for one word, once: `reachable`, `key`, `answers`. Never raises for what the server does."""
    return (await _first(client))[0]


async def _first(client: OpenAIModel) -> tuple[list[Finding], ModelReply | None]:
    """No reply: hopeless."""
    reached = [Finding("reachable", True, client.endpoint)]
    try:
        reply = await client.turn(_request(1, "Answer with the single word: ready"))
    except PermissionDenied as exc:
        return [*reached, Finding("key", False, exc.message, exc.mend)], None
    except TransientError as exc:
        hint = exc.mend or "try again later, or check the endpoint"
        return [Finding("reachable", False, exc.message, hint)], None
    except SwarmRunError as exc:
        answers = Finding("answers", False, exc.message, exc.mend)
        return [*reached, Finding("key", True, "accepted"), answers], None
    answers = Finding("answers", True, f"as {reply.model}")
    return [*reached, Finding("key", True, "accepted"), answers], reply


def _usage(reply: ModelReply) -> Finding:
    if any("estimated" in note for note in reply.notes):
        return Finding(
            "usage",
            False,
            "the stream reports no token usage: budgets work on estimates",
            "switch usage in streams on (stream_options.include_usage) in the server or gateway",
        )
    return Finding("usage", True, f"{reply.usage.input} in, {reply.usage.output} out")


async def _tools(client: OpenAIModel) -> tuple[Finding, ModelReply | None]:
    async def ask() -> tuple[Finding, ModelReply | None]:
        reply = await client.turn(_request(2, "Call report_number with the number 7.", tools=(_TOOL,)))
        call = next(iter(reply.calls), None)
        if call is None:
            mend = "switch tool calling on in the server, or use a model trained on tools"
            return Finding("tools", False, f"no call came; it said {reply.text[:80]!r}", mend), None
        if call.problem:
            return Finding("tools", False, call.problem, "use a model trained on tools"), None
        from_text = "tool call taken from text" in reply.notes
        told = "calls come as text and are read from it" if from_text else "called with its arguments"
        return Finding("tools", True, told), None if from_text else reply

    return await _guarded("tools", ask, lambda finding: (finding, None))


async def _replay(client: OpenAIModel, reply: ModelReply) -> Finding:
    """The turn after a call is where servers miss the reasoning of the call."""
    request = _request(2, "Call report_number with the number 7.", tools=(_TOOL,))
    results = [
        {"type": "function_result", "call_id": call.call_id, "result": "noted"} for call in reply.calls
    ]
    history = [*request.messages, *reply.messages, {"type": "message", "role": "tool", "contents": results}]

    async def ask() -> Finding:
        again = await client.turn(replace(request, key=replace(request.key, turn=3), messages=history))
        refused = next((note for note in again.notes if "reasoning refused" in note), "")
        mend = "set profile.reasoningReplay: none" if refused else ""
        return Finding(
            "reasoning", not refused, refused or f"{client.profile.reasoning_replay} accepted", mend
        )

    return await _guarded("reasoning", ask, lambda finding: finding)


async def _json(client: OpenAIModel) -> Finding:
    async def ask() -> Finding:
        prompt = "Answer in JSON: colour is blue, count is 3."
        reply = await client.turn(_request(4, prompt, schema=_SCHEMA))
        fell = next((note for note in reply.notes if note.startswith("JSON by")), "")
        if fell:
            level = fell.rsplit(" ", 1)[-1]
            return Finding(
                "json", True, fell, f"set profile.jsonSchema: {level} to spare the refused request"
            )
        return Finding("json", True, f"by {client.profile.json_schema}")

    return await _guarded("json", ask, lambda finding: finding)


async def _guarded(check: str, ask: Callable[[], Awaitable[_T]], wrap: Callable[[Finding], _T]) -> _T:
    try:
        return await ask()
    except BadModelOutput as exc:
        return wrap(Finding(check, False, exc.message, exc.mend or "use a model that is better at this"))
    except SwarmRunError as exc:
        return wrap(Finding(check, False, exc.message, exc.mend or "see the server's words"))


def _request(
    turn: int, prompt: str, *, tools: tuple[ToolSpec, ...] = (), schema: dict[str, Any] | None = None
) -> ModelRequest:
    return ModelRequest(
        key=CallKey(run="doctor", role="probe", task="probe", attempt=1, turn=turn),
        instructions="You are being probed. Do exactly what is asked, in as few words as possible.",
        messages=[{"type": "message", "role": "user", "contents": [{"type": "text", "text": prompt}]}],
        tools=tools,
        response_schema=schema,
        max_output=_CAP,
    )
