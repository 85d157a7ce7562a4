"""One turn of a model: what is asked, what an answer must be, and what is tried once more.

Calls stream: a long think would else look like a dead connection. Nothing here waits or retries an outage (the
durable engine does, see `errors`); what is asked again at once is a request that was refused for its form, and
an answer that was cut off at its cap.
"""

from __future__ import annotations

import asyncio
import json
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from swarmrun.api.base import legible, legible_data
from swarmrun.api.swarmclass import ModelTier
from swarmrun.errors import BadModelOutput, InvalidResource, ModelRefused, ModelUnavailable, SwarmRunError
from swarmrun.models.auth import KeySource, key_source
from swarmrun.models.calls import calls_in_text, put_calls, read_calls
from swarmrun.models.profiles import openai_family, profile_for
from swarmrun.models.refusals import translate
from swarmrun.models.structured import read_json, strict_schema, without_thoughts
from swarmrun.ports import ModelReply, ModelRequest, Profile, ToolSpec, Usage

if TYPE_CHECKING:
    from agent_framework import Message
    from openai import AsyncOpenAI

    from swarmrun.models.wire import Ask

OPENAI = "https://api.openai.com/v1"

SILENCE_S = 300.0
"""Without a byte for so long, a call has failed."""
TOTAL_S = 1200.0
"""However lively, a call ends after this."""
CONNECT_S = 20.0
"""A choice: longer than three TCP retransmissions."""

_CHARACTERS_A_TOKEN = 12
"""No tokenizer averages more; what is longer than cap × this ran past its cap. A choice."""
_LOWER_EFFORT = {"max": "high", "xhigh": "high", "high": "medium", "medium": "low"}
_NEXT_SCHEMA = {"strict": "object", "object": "none"}

# What servers call it, by what it means here. A reason that is in none of them is unknown: it is noted, and the
# answer counts if there is one.
_WHOLE = {"stop", "tool_calls", "function_call", "end_turn", "eos", "eos_token", "stop_sequence", "tool_use"}
_CUT = {"length", "max_tokens", "model_length", "max_output_tokens"}
_FILTERED = {
    "content_filter",
    "safety",
    "recitation",
    "sensitive",
    "prohibited_content",
    "blocklist",
    "refusal",
}
_BROKEN = {"error", "abort", "cancelled", "network_error", "insufficient_system_resource"}


def client_for(tier: ModelTier, *, silence_s: float = SILENCE_S, total_s: float = TOTAL_S) -> OpenAIModel:
    """The client of one tier. Raises InvalidResource for an endpoint or profile that cannot be.

    A `cassette:` endpoint has to be served and replaced by the server's address first.
    """
    return OpenAIModel(
        profile_for(tier.model, tier.profile, tier.prices),
        endpoint=base_url(tier),
        key=key_source(tier),
        silence_s=silence_s,
        total_s=total_s,
    )


def base_url(tier: ModelTier) -> str:
    """The base address: Azure's bare resource address and a bare host get the path that they mean."""
    if not tier.endpoint:
        if tier.provider == "openai":
            return OPENAI
        raise InvalidResource(
            f"model {tier.model}: provider {tier.provider} needs an endpoint",
            field="models.endpoint",
            mend="e.g. http://127.0.0.1:8000/v1, or https://NAME.openai.azure.com",
        )
    parts = urllib.parse.urlsplit(tier.endpoint.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidResource(
            f"model {tier.model}: endpoint {tier.endpoint!r} is no http address",
            field="models.endpoint",
            mend="begin it with https:// (or http:// on one's own machine)",
        )
    path = parts.path.rstrip("/")
    host = parts.hostname
    if not path or path == "/openai":
        azure = tier.provider == "azure-openai" or host.endswith(
            (".openai.azure.com", ".services.ai.azure.com")
        )
        path = "/openai/v1" if azure else "/v1"
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


@dataclass(frozen=True)
class _Answer:
    messages: list[Message]
    finish: str | None
    usage: Usage
    estimated: bool
    model: str


class OpenAIModel:
    """`ports.ModelClient` over the framework's Responses and chat/completions clients. Serves many agents."""

    def __init__(
        self,
        profile: Profile,
        *,
        endpoint: str,
        key: KeySource | None = None,
        silence_s: float = SILENCE_S,
        total_s: float = TOTAL_S,
    ) -> None:
        self.profile = profile
        self.endpoint = endpoint
        self._key = key
        self._silence_s = silence_s
        self._total_s = total_s
        self._sdk: AsyncOpenAI | None = None
        # What this server was found to take; learnt once, not paid for on every call.
        self._schema: str = profile.json_schema
        host = urllib.parse.urlsplit(endpoint).hostname or ""
        self._openai_rules = openai_family(profile.model) or host.endswith((".azure.com", "api.openai.com"))
        self._new_cap_name = self._openai_rules

    async def close(self) -> None:
        if self._sdk is not None:
            await self._sdk.close()
            self._sdk = None

    async def turn(self, request: ModelRequest) -> ModelReply:
        from swarmrun.models.wire import Ask

        _check_tools(request.tools)
        # The one place that all texts for models pass: git's file names may be any bytes, JSON takes UTF-8 only.
        request = replace(
            request,
            instructions=legible(request.instructions),
            messages=[legible_data(message) for message in request.messages],
        )
        cap = request.max_output or self.profile.max_output
        ask = Ask(
            cap=cap,
            effort=self.profile.reasoning_effort,
            reasoning=True,
            schema=self._schema,
            new_cap_name=self._new_cap_name,
            openai_rules=self._openai_rules,
        )
        notes: list[str] = []
        tried: set[str] = set()
        spent = Usage()
        lengthened = False
        while True:
            try:
                answer = await self._ask(request, ask)
            except ModelRefused as refusal:
                ask = self._another_way(refusal, request, ask, tried, notes)
                continue
            except BadModelOutput as bad:
                bad.usage = spent + (bad.usage or Usage())
                raise
            spent += answer.usage
            if answer.finish in _CUT and not lengthened:
                lengthened = True
                wider = min(2 * ask.cap, max(ask.cap, self.profile.context_window // 2))
                notes.append(f"cut off at {ask.cap} tokens, asked again with {wider}")
                ask = replace(ask, cap=wider, effort=_LOWER_EFFORT.get(ask.effort, ask.effort))
                continue
            try:
                return self._reply(request, answer, ask, notes, spent)
            except BadModelOutput as bad:
                bad.usage = spent
                raise

    def _another_way(
        self, refusal: ModelRefused, request: ModelRequest, ask: Ask, tried: set[str], notes: list[str]
    ) -> Ask:
        """The request in another form where the refusal says which part of it was not taken; else raises it.

        Every way is taken at most once a turn, so this ends.
        """
        if (
            refusal.reason == "SchemaUnsupported"
            and request.response_schema is not None
            and ask.schema in _NEXT_SCHEMA
        ):
            self._schema = _NEXT_SCHEMA[ask.schema]
            notes.append(f"JSON by {ask.schema} refused, asked again by {self._schema}")
            return replace(ask, schema=self._schema)
        if refusal.reason in tried:
            raise refusal
        tried.add(refusal.reason)
        if refusal.reason == "EncryptedContent":
            notes.append("earlier reasoning refused, asked again without it")
            return replace(ask, reasoning=False)
        if refusal.reason == "TokenCapName" and self.profile.api == "chat":
            self._new_cap_name = not ask.new_cap_name
            return replace(ask, new_cap_name=self._new_cap_name)
        if refusal.reason == "UnknownParameter" and self.profile.api == "chat" and ask.openai_rules:
            self._openai_rules = False
            return replace(ask, openai_rules=False)
        raise refusal

    async def _ask(self, request: ModelRequest, ask: Ask) -> _Answer:
        from swarmrun.models.wire import framework_client, prepare

        messages, orphans = prepare(request.messages, self.profile, ask)
        client = framework_client(
            self.profile, self._client(), ask, [tool.name for tool in request.tools], orphans
        )
        limit = ask.cap * _CHARACTERS_A_TOKEN + 10_000
        size = 0
        try:
            async with asyncio.timeout(self._total_s):
                stream = client.get_response(
                    messages,
                    stream=True,
                    options=self._options(request, ask),
                    client_kwargs={"extra_headers": _headers(request)},
                )
                async with stream:
                    async for update in stream:
                        size += sum(
                            len(c.text or "") + (len(c.arguments) if isinstance(c.arguments, str) else 0)
                            for c in update.contents
                        )
                        if size > limit:
                            raise BadModelOutput(
                                f"model {self.profile.model}: runaway answer, {size} characters under a cap of "
                                f"{ask.cap} tokens",
                                feedback="Your answer did not end. Answer again, short.",
                                usage=_estimate(request, size),
                                reason="Runaway",
                            )
                    response = await stream.get_final_response()
        except TimeoutError as exc:
            raise ModelUnavailable(
                f"model {self.profile.model} at {self.endpoint} did not end its answer in {self._total_s:g} s",
                reason="ModelTimeout",
            ) from exc
        except SwarmRunError:
            raise
        except Exception as exc:
            raise translate(exc, endpoint=self.endpoint, model=self.profile.model) from exc
        client.finish(response.messages)  # pyright: ignore[reportAttributeAccessIssue]
        usage = _usage(response.usage_details)
        estimated = usage.total == 0
        return _Answer(
            messages=list(response.messages),
            finish=str(response.finish_reason).lower() if response.finish_reason else None,
            usage=_estimate(request, size) if estimated else usage,
            estimated=estimated,
            model=str(response.model or self.profile.model),
        )

    def _reply(
        self, request: ModelRequest, answer: _Answer, ask: Ask, notes: list[str], spent: Usage
    ) -> ModelReply:
        """A whole answer, checked. Raises ModelUnavailable or BadModelOutput."""
        notes = list(notes)
        self._check_finish(answer.finish, ask, notes)
        text = without_thoughts(
            "".join(c.text or "" for m in answer.messages for c in m.contents if c.type == "text")
        )
        written: list[tuple[str, dict[str, Any]]] = []
        if request.tools and not any(c.type == "function_call" for m in answer.messages for c in m.contents):
            written, rest = calls_in_text(text, request.tools)
            if written:
                text = rest
                put_calls(answer.messages[-1], rest, written)
                notes.append("tool call taken from text")
        used = [
            str(c.get("call_id"))
            for m in request.messages
            for c in m.get("contents", ())
            if isinstance(c, dict) and c.get("type") == "function_call"
        ]
        calls, mended = read_calls(answer.messages, request.tools, used_ids=used, turn=request.key.turn)
        # Calls from text have no id of their own: giving them one is no news.
        notes += mended if not written else []
        if answer.estimated:
            notes.append("the server reported no usage: estimated from the text's length")
        if not text and not calls:
            raise BadModelOutput(
                f"model {self.profile.model} gave an empty answer (finish reason {answer.finish})",
                feedback="Your answer was empty. Call a tool, or answer with text.",
                reason="EmptyAnswer",
            )
        value: Any = None
        if request.response_schema is not None and not calls:
            value, how = read_json(text, request.response_schema)
            notes += how
        return ModelReply(
            messages=[m.to_dict() for m in answer.messages if m.contents],
            text=text,
            calls=calls,
            usage=spent,
            finish_reason="tool_calls" if calls else "stop",
            model=answer.model,
            value=value,
            notes=notes,
        )

    def _check_finish(self, finish: str | None, ask: Ask, notes: list[str]) -> None:
        model = f"model {self.profile.model}"
        if finish is None:
            raise ModelUnavailable(
                f"{model} at {self.endpoint}: the stream ended without a finish reason, so the answer is cut off",
                reason="StreamCutOff",
            )
        if finish in _BROKEN:
            raise ModelUnavailable(f"{model}: the server gave up in the middle of the answer ({finish})")
        if finish in _CUT:
            raise BadModelOutput(
                f"{model}: the answer was cut off at {ask.cap} tokens, twice",
                feedback="Your answer was longer than it may be and was cut off. Do less in one turn: smaller edits, "
                "one file at a time.",
                reason="CutOffAtCap",
            )
        if finish in _FILTERED:
            raise BadModelOutput(
                f"{model}: stopped by the provider's content filter",
                feedback="The provider's content filter stopped your answer. Put it in other words.",
                reason="ContentFilter",
            )
        if finish not in _WHOLE:
            notes.append(f"unknown finish reason {finish!r} taken for a whole answer")

    def _options(self, request: ModelRequest, ask: Ask) -> Any:
        options: dict[str, Any] = {"instructions": request.instructions, "max_tokens": ask.cap}
        if request.tools:
            options["tools"] = [_tool(spec) for spec in request.tools]
            options["tool_choice"] = "auto"
            if not self.profile.parallel_tools:
                options["allow_multiple_tool_calls"] = False
        if self.profile.temperature is not None:
            options["temperature"] = self.profile.temperature
        if self.profile.api == "responses":
            options |= {"store": False, "prompt_cache_key": request.key.run}
            if ask.effort:
                options["reasoning"] = {"effort": ask.effort}
        else:
            if ask.openai_rules:
                options |= {"store": False, "prompt_cache_key": request.key.run}
            if ask.effort:
                options["reasoning_effort"] = ask.effort
        if request.response_schema is not None:
            _ask_for_json(options, request.response_schema, ask.schema)
        return options

    def _client(self) -> AsyncOpenAI:
        if self._sdk is None:
            import openai

            async def nothing() -> str:
                return "none"

            self._sdk = openai.AsyncOpenAI(
                base_url=self.endpoint,
                api_key=self._key or nothing,
                # The SDK's retries would pay a long think several times: waiting is the engine's.
                max_retries=0,
                timeout=openai.Timeout(self._silence_s, connect=min(CONNECT_S, self._silence_s)),
                http_client=openai.DefaultAsyncHttpxClient(
                    event_hooks={"response": [self._check_content_type]}
                ),
            )
        return self._sdk

    async def _check_content_type(self, response: Any) -> None:
        kind = response.headers.get("content-type", "text/event-stream")
        if response.status_code != 200 or kind.startswith(("text/event-stream", "text/plain")):
            return
        if kind.startswith("application/json"):
            raise ModelRefused(
                f"{self.endpoint} answered in one piece where an event stream was due",
                mend="switch streaming on in this server or the gateway before it",
                reason="StreamingUnsupported",
            )
        raise ModelRefused(
            f"{self.endpoint} answered {kind} where an event stream was due",
            mend="is this the base address of an OpenAI-compatible interface? most end in /v1",
            reason="WrongContentType",
        )


def _check_tools(tools: Sequence[ToolSpec]) -> None:
    names = [tool.name for tool in tools]
    if len(set(names)) != len(names) or not all(names):
        raise InvalidResource(f"tools need names that differ: {', '.join(names)}", field="tools")


def _headers(request: ModelRequest) -> dict[str, str]:
    """Who asks, for gateways and cassettes. Percent-encoded where a header could not carry it."""
    key = request.key
    pairs = {"run": key.run, "role": key.role, "task": key.task, "attempt": key.attempt, "turn": key.turn}
    return {
        f"x-swarmrun-{name}": urllib.parse.quote(str(value), safe=" /:@!$&'()*+,;=~")
        for name, value in pairs.items()
    }


def _tool(spec: ToolSpec) -> Any:
    from agent_framework import FunctionTool

    # Declared only: calls are run by the agents' side, one activity each, never by the client.
    return FunctionTool(
        name=spec.name, description=spec.description, input_model=json.loads(json.dumps(spec.parameters))
    )


def _ask_for_json(options: dict[str, Any], schema: dict[str, Any], how: str) -> None:
    if how == "strict":
        strict = strict_schema(schema)
        options["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": strict or schema, "strict": strict is not None},
        }
        return
    if how == "object":
        options["response_format"] = {"type": "json_object"}
    options["instructions"] += (
        "\n\nAnswer with one JSON object and nothing else. It must fit this JSON schema:\n"
        + json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    )


def _usage(details: Any) -> Usage:
    given = dict(details or {})

    def count(name: str) -> int:
        value = given.get(name)
        return max(0, value) if isinstance(value, int) else 0

    return Usage(
        input=count("input_token_count"),
        cached=count("cache_read_input_token_count"),
        cache_write=count("cache_creation_input_token_count"),
        output=count("output_token_count"),
        reasoning=count("reasoning_output_token_count"),
    )


def _estimate(request: ModelRequest, characters: int) -> Usage:
    """Four characters a token, the usual rule of thumb for English and code."""
    asked = len(request.instructions) + len(json.dumps(list(request.messages), default=str))
    asked += sum(len(json.dumps(tool.parameters)) + len(tool.description) for tool in request.tools)
    return Usage(input=asked // 4, output=characters // 4)
