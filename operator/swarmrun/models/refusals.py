"""Foreign errors of one model call, translated: what kind, when to try again, what mends it.

The SDK's and the framework's exceptions arrive nested; the innermost that says something counts.
"""

from __future__ import annotations

import email.utils
import json
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

from swarmrun.errors import (
    BadModelOutput,
    ModelRefused,
    ModelUnavailable,
    PermissionDenied,
    RateLimited,
    SwarmRunError,
)
from swarmrun.observability.secrets import scrub

_LONGEST_WAIT = 24 * 3600.0
"""Seconds. A server that names more than a day is broken or means never; a timer must still end."""


class StreamError(Exception):
    """An error event inside a stream that began well."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}" if code else message)
        self.code = code
        self.message = message


def translate(exc: BaseException, *, endpoint: str, model: str) -> SwarmRunError:
    """What a failed call means. The result is to be raised `from exc`."""
    import openai

    chain = list(_chain(exc))
    for error in chain:
        if isinstance(error, SwarmRunError):
            return error
    where = f"model {model} at {endpoint}"
    if _never_sent(chain[-1]):
        return ModelRefused(
            f"{where}: the request cannot be made: {type(chain[-1]).__name__}: {scrub(str(chain[-1]))[:300]}",
            mend="nothing was sent: this is a fault of swarmrun, report it",
        )
    for error in chain:
        if isinstance(error, openai.APIStatusError):
            return _by_status(error.status_code, _words(error), error.response.headers, where)
        if isinstance(error, StreamError):
            return _by_code(error.code, error.message, where)
        if isinstance(error, openai.APITimeoutError):
            return ModelUnavailable(f"{where} did not answer in time: {_cause(error)}", reason="ModelTimeout")
        if isinstance(error, openai.APIConnectionError):
            if type(chain[-1]).__name__ in ("RemoteProtocolError", "ReadError", "WriteError"):
                return ModelUnavailable(
                    f"{where}: the connection broke off: {_cause(error)}", reason="StreamCutOff"
                )
            return ModelUnavailable(
                f"{where} cannot be reached: {_cause(error)}", mend="check the endpoint and the network"
            )
        if isinstance(error, openai.APIError):
            body = error.body if isinstance(error.body, Mapping) else {}
            code = str(body.get("code") or body.get("type") or getattr(error, "code", None) or "")
            return _by_code(code, str(error.message), where)
    return _of_the_stream(chain[-1], where)


def _never_sent(error: BaseException) -> bool:
    """What is asked cannot be written as JSON. Tried again it would fail the same; what a server sends is only
    ever decoded."""
    unknown = isinstance(error, TypeError) and "not JSON serializable" in str(error)
    return unknown or isinstance(error, UnicodeEncodeError)


def _of_the_stream(error: BaseException, where: str) -> SwarmRunError:
    name = type(error).__name__
    said = scrub(str(error))[:300]
    if "Timeout" in name or isinstance(error, TimeoutError):
        return ModelUnavailable(
            f"{where} fell silent in the middle of an answer: {name}", reason="ModelTimeout"
        )
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return ModelUnavailable(f"{where} sent something that is no event stream: {said}")
    if name == "ChatClientInvalidRequestException":
        return ModelRefused(f"{where}: the request cannot be made: {said}")
    return ModelUnavailable(f"{where}: the answer broke off: {name}: {said}")


def _by_status(status: int, said: tuple[str, str], headers: Mapping[str, str], where: str) -> SwarmRunError:
    code, words = said
    wait = retry_after(headers)
    quota = code in ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
    if status == 402 or (status == 429 and quota):
        return PermissionDenied(
            f"{where}: no credit left: {words}",
            mend="add credit or raise the limit with the provider",
            reason="QuotaExhausted",
        )
    if status == 429 or (status == 503 and wait is not None):
        return RateLimited(f"{where} says {status}: {words}", retry_after=wait)
    if status in (408, 409) or status >= 500:
        return ModelUnavailable(f"{where} says {status}: {words}", retry_after=wait)
    if status in (401, 403, 407):
        return PermissionDenied(
            f"{where} refused the key ({status}): {words}",
            mend="check auth in the class (env, file or entra) and that this key may use this model",
        )
    if code == "content_filter":
        return _filtered(where, words)
    reason, mend = _recognised(status, code, words)
    return ModelRefused(f"{where} refused the request ({status}): {words}", mend=mend, reason=reason)


def _by_code(code: str, message: str, where: str) -> SwarmRunError:
    """Errors inside a stream have no status, only a code (some aggregators put the status there)."""
    words = scrub(message)[:500]
    if code.isdigit():
        return _by_status(int(code), ("", words), {}, where)
    if "rate_limit" in code or code in ("too_many_requests", "slow_down"):
        return RateLimited(f"{where}: {code}: {words}")
    if code == "insufficient_quota":
        return _by_status(429, (code, words), {}, where)
    if code == "content_filter":
        return _filtered(where, words)
    refused = (
        "invalid_prompt",
        "invalid_request_error",
        "context_length_exceeded",
        "invalid_encrypted_content",
    )
    if code in refused:
        reason, mend = _recognised(400, code, words)
        return ModelRefused(f"{where} refused the request: {code}: {words}", mend=mend, reason=reason)
    return ModelUnavailable(f"{where} broke off: {code or 'error'}: {words}")


def _filtered(where: str, words: str) -> BadModelOutput:
    return BadModelOutput(
        f"{where}: stopped by its content filter: {words}",
        feedback="The provider's content filter refused this. Put it in other words.",
        reason="ContentFilter",
    )


# (reason, any of these in the server's words or code, mend); first match wins. Lower case. Words as common
# servers are known to use them, gathered without running those servers: what is not recognised is only told
# without a mend.
_RECOGNISED: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("CassetteMismatch", ("cassette_mismatch",), "mend the cassette or record it again"),
    (
        "EncryptedContent",
        (
            "invalid_encrypted_content",
            "encrypted content",
            "without its required 'reasoning'",
            "encrypted_content",
        ),
        "set profile.reasoningReplay: none",
    ),
    (
        "ContextTooLong",
        (
            "context_length",
            "context length",
            "maximum context",
            "context window",
            "too many tokens",
            "context size",
        ),
        "lower profile.contextWindow to what this server really has",
    ),
    (
        "TokenCapName",
        ("'max_tokens' is not supported", "max_completion_tokens", "unsupported parameter: 'max_tokens'"),
        "",
    ),
    (
        "ReasoningReplay",
        ("reasoning_content",),
        "set profile.reasoningReplay: reasoning_content (or none where the server refuses the field)",
    ),
    (
        "ReasoningUnsupported",
        (
            "reasoning_effort",
            "reasoning.effort",
            "reasoning effort",
            "does not support reasoning",
            "'reasoning'",
        ),
        "set profile.reasoningEffort to one this model knows, or to an empty string",
    ),
    (
        "TemperatureUnsupported",
        ("temperature",),
        "leave profile.temperature out: this model has one of its own",
    ),
    (
        "SchemaUnsupported",
        ("response_format", "json_schema", "text.format", "structured output", "json mode", "guided_json"),
        "set profile.jsonSchema: object, or none",
    ),
    (
        "ToolsUnsupported",
        (
            "does not support tools",
            "tool choice requires",
            "tool_choice",
            "tool-call-parser",
            "function calling",
            "tools are not supported",
            "does not support function",
            "tool use",
            "use --jinja",
            "tools param",
        ),
        "this server or model takes no tools: use another model, or start the server with tool calling on "
        "(vLLM: --enable-auto-tool-choice and --tool-call-parser; llama.cpp: --jinja), or set profile.api: responses",
    ),
    ("UnknownParameter", ("prompt_cache_key", "'store'", "stream_options"), ""),
)


def _recognised(status: int, code: str, words: str) -> tuple[str, str]:
    said = f"{code} {words}".lower()
    for reason, signs, mend in _RECOGNISED:
        if any(sign in said for sign in signs):
            return reason, mend
    if status == 404:
        return (
            "ModelNotFound",
            "check model and endpoint (most base addresses end in /v1); profile.api: chat where "
            "the server has no /responses",
        )
    if status == 413:
        return "ContextTooLong", "lower profile.contextWindow to what this server really has"
    return "", "the server's words say what it does not take; profile in the class changes what is sent"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from `retry-after-ms` or either form of `Retry-After` (RFC 9110, 10.2.3)."""
    for name, factor in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = (headers.get(name) or "").strip()
        if not value:
            continue
        try:
            seconds = float(value) * factor
        except ValueError:
            try:
                seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
            except (ValueError, TypeError):
                continue
        if math.isfinite(seconds):
            return min(max(0.0, seconds), _LONGEST_WAIT)
    return None


def _words(error: Any) -> tuple[str, str]:
    """(code, message) of a status error, whatever form its body has."""
    body: Any = error.body
    if isinstance(body, Mapping) and isinstance(body.get("error"), Mapping):
        body = body["error"]
    if isinstance(body, Mapping):
        code = str(body.get("code") or body.get("type") or "")
        message = body.get("message") or body.get("detail") or body.get("error") or body
        words = message if isinstance(message, str) else json.dumps(message, default=str)
        param = body.get("param")
        words = f"{words} (parameter {param})" if isinstance(param, str) and param not in words else words
    else:
        code, words = "", str(body or error.message)
    return code, scrub(" ".join(words.split()))[:4000]


def _cause(error: BaseException) -> str:
    inner = list(_chain(error))[-1]
    return scrub(f"{type(inner).__name__}: {inner}")[:300]


def _chain(exc: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    error: BaseException | None = exc
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
