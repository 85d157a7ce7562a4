"""Model calls and tool calls, counted and traced by OpenTelemetry's conventions for generative AI.

https://github.com/open-telemetry/semantic-conventions-genai (status: development). What the conventions leave to
opt-in, messages and arguments, is not written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal

from opentelemetry.trace import SpanKind

from swarmrun.errors import BadModelOutput, SwarmRunError
from swarmrun.observability import metrics, tracing
from swarmrun.ports import ModelClient, ModelReply, ModelRequest, Profile, Usage

Price = Callable[[Usage], Decimal | None]
"""US dollars of one call; None while unknown."""


class ObservedModel:
    """A `ports.ModelClient` that counts and traces what goes through it."""

    def __init__(self, client: ModelClient, tier: str, price: Price) -> None:
        self._client, self._tier, self._price = client, tier, price
        self.profile: Profile = client.profile

    async def turn(self, request: ModelRequest) -> ModelReply:
        profile, key = self.profile, request.key
        attributes: dict[str, str | int] = {
            "gen_ai.operation.name": "chat",
            # The interface that is spoken; who answers behind it is told by the model's name.
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": profile.model,
            "gen_ai.request.max_tokens": request.max_output or profile.max_output,
            "gen_ai.agent.name": key.role,
            "gen_ai.conversation.id": f"{key.run}:{key.task}:{key.attempt}",
            "gen_ai.output.type": "json" if request.response_schema else "text",
            "swarmrun.tier": self._tier,
        }
        with tracing.span(f"chat {profile.model}", attributes, kind=SpanKind.CLIENT) as span:
            try:
                reply = await self._client.turn(request)
            except SwarmRunError as exc:
                metrics.MODEL_CALLS.labels(self._tier, metrics.reason(exc.reason)).inc()
                if isinstance(exc, BadModelOutput) and isinstance(exc.usage, Usage):
                    self._paid(exc.usage)
                raise
            metrics.MODEL_CALLS.labels(self._tier, "ok").inc()
            self._paid(reply.usage)
            span.set_attributes(
                {
                    "gen_ai.response.model": reply.model,
                    "gen_ai.response.finish_reasons": [reply.finish_reason],
                    "gen_ai.usage.input_tokens": reply.usage.input,
                    "gen_ai.usage.output_tokens": reply.usage.output,
                    "gen_ai.usage.cache_read.input_tokens": reply.usage.cached,
                }
            )
            return reply

    async def close(self) -> None:
        await self._client.close()

    def _paid(self, usage: Usage) -> None:
        # Some servers report cached tokens beside the input instead of within it.
        kinds = {"input": max(0, usage.input - usage.cached), "cached": usage.cached, "output": usage.output}
        for kind, tokens in kinds.items():
            metrics.TOKENS.labels(self._tier, kind).inc(tokens)
        price = self._price(usage)
        if price is not None:
            metrics.COST.labels(self._tier).inc(float(price))


@contextmanager
def tool_execution(name: str, call_id: str, role: str) -> Iterator[Callable[[bool], None]]:
    """One tool call of an agent; what it gives is told whether the call worked. `name` is one of our tools': a
    model may call anything. A call that ends otherwise (a lost sandbox) is not counted: it will run again."""
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": name,
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": call_id,
        "gen_ai.agent.name": role,
    }
    with tracing.span(f"execute_tool {name}", attributes) as span:

        def answered(ok: bool) -> None:
            metrics.TOOL_CALLS.labels(name, str(ok).lower()).inc()
            if not ok:
                tracing.failed(span, "ToolError")

        yield answered
