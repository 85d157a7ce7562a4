"""Which model wants to be talked to how: a table by name, overridable where it is wrong or does not know.

Why the fields are what they are:

- GPT-5-class models refuse tools on chat/completions unless reasoning effort is `none`, so they speak
  Responses; most compatible servers have chat/completions only.
- DeepSeek, Kimi, GLM and Qwen in thinking mode answer 400 when the `reasoning_content` of an earlier turn
  with tool calls is missing; the aggregators' form of the same is `reasoning_details`.
- GPT-5-class models are trained on `apply_patch`.
- Reasoning models reject `temperature`; nobody gets one unless the class says so.

Replay for DeepSeek was read in reports of its users; the other rows rest on common knowledge of the families and
were run against no real server: `swarmrun doctor --probe` tells whether one holds. Windows are rounded down;
`max_output` is a choice (roomy for one
turn of an agent, small against a runaway). A window is what a prompt may fill before it is compacted: where
long prompts cost extra (GPT-5.4 and later, above 272,000 tokens), it ends there.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields, replace
from fnmatch import fnmatchcase
from typing import Any

from swarmrun.api.swarmclass import Prices, ProfileOverrides
from swarmrun.errors import InvalidResource
from swarmrun.models.prices import list_price
from swarmrun.ports import Profile

_GPT_5: dict[str, Any] = {
    "api": "responses",
    "reasoning_effort": "medium",
    "reasoning_replay": "encrypted",
    "json_schema": "strict",
    "edit_tool": "apply_patch",
    "context_window": 272_000,
    "max_output": 32_768,
}
_O_SERIES: dict[str, Any] = {**_GPT_5, "edit_tool": "edit_file", "context_window": 200_000}
_GPT_4: dict[str, Any] = {"json_schema": "strict", "max_output": 16_384}
_THINKING: dict[str, Any] = {"reasoning_replay": "reasoning_content", "max_output": 16_384}

# First match wins. Patterns with a slash see the whole name, the others what follows its last slash.
_TABLE: tuple[tuple[str, dict[str, Any]], ...] = (
    ("gpt-oss*", _THINKING),
    ("gpt-5*-chat*", _GPT_4),
    ("gpt-[5-9]*", _GPT_5),
    ("codex-*", _GPT_5),
    ("gpt-4.1*", {**_GPT_4, "context_window": 1_000_000}),
    ("gpt-4.5*", _GPT_4),
    ("gpt-4o*", _GPT_4),
    ("gpt-4*", {"max_output": 4_096}),
    ("o[1-9]*", _O_SERIES),
    # R1 answered 400 when its reasoning was sent back; its successors answer 400 when it is not.
    ("deepseek-r1*", {"max_output": 16_384}),
    ("deepseek*", _THINKING),
    ("qwen2*", {"context_window": 32_768}),
    ("qwen*", _THINKING),
    ("qwq*", _THINKING),
    ("kimi*", {**_THINKING, "context_window": 200_000}),
    ("glm*", _THINKING),
    (
        "anthropic/claude*",
        {"reasoning_replay": "reasoning_details", "context_window": 200_000, "max_output": 16_384},
    ),
    # Anthropic's own compatible endpoint ignores response_format.
    ("claude*", {"json_schema": "none", "context_window": 200_000, "max_output": 16_384}),
    (
        "google/gemini*",
        {"reasoning_replay": "reasoning_details", "context_window": 1_000_000, "max_output": 32_768},
    ),
    ("gemini*", {"context_window": 1_000_000, "max_output": 32_768}),
)

_OPENAI = ("gpt-[3-9]*", "chatgpt-*", "codex-*", "o[1-9]*")


def openai_family(model: str) -> bool:
    """Whether OpenAI's own parameters fit (`max_completion_tokens`, `prompt_cache_key`, `store` on chat)."""
    return any(fnmatchcase(_bare(model), pattern) for pattern in _OPENAI)


def profile_for(
    model: str,
    overrides: ProfileOverrides | Mapping[str, Any] | None = None,
    prices: Prices | None = None,
) -> Profile:
    """The profile of a model; overrides use the field names of `ports.Profile`.

    Raises InvalidResource for an unknown field or a replay that the interface cannot do.
    """
    given = _given(overrides)
    row = next((row for pattern, row in _TABLE if fnmatchcase(_subject(model, pattern), pattern)), {})
    listed = list_price(model)
    priced: dict[str, Any] = (
        {}
        if listed is None
        else {
            "price_input": listed.input,
            "price_cached": listed.cached,
            "price_cache_write": listed.cache_write,
            "price_output": listed.output,
        }
    )
    if prices is not None:
        asked = {
            "price_input": prices.input,
            "price_cached": prices.cached_input,
            "price_cache_write": prices.cache_write,
            "price_output": prices.output,
        }
        # A price of one's own replaces the list's as a whole: half of each would be neither's bill.
        if any(value is not None for value in asked.values()):
            priced = asked
    profile = Profile(model=model, **{**row, **priced, **given})
    return _consistent(profile, given)


def _given(overrides: ProfileOverrides | Mapping[str, Any] | None) -> dict[str, Any]:
    if isinstance(overrides, ProfileOverrides):
        overrides = overrides.model_dump(exclude_none=True)
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    known = [f.name for f in fields(Profile) if f.name != "model"]
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            raise InvalidResource(
                f"model profile has no field {key!r}",
                field=f"profile.{key}",
                mend=f"did you mean {near[0]}?" if near else f"fields: {', '.join(known)}",
            )
    if "temperature" in given:
        given["temperature"] = float(given["temperature"])
    return given


def _consistent(profile: Profile, given: Mapping[str, Any]) -> Profile:
    """Encrypted reasoning lives on Responses, the two plain forms on chat."""
    fits = {"responses": ("none", "encrypted"), "chat": ("none", "reasoning_content", "reasoning_details")}
    if profile.reasoning_replay in fits[profile.api]:
        return profile
    if "reasoning_replay" in given:
        raise InvalidResource(
            f"model {profile.model}: reasoning replay {profile.reasoning_replay!r} does not exist on api "
            f"{profile.api!r}",
            field="profile.reasoning_replay",
            mend=f"use one of: {', '.join(fits[profile.api])}",
        )
    return replace(profile, reasoning_replay="none")


def _bare(model: str) -> str:
    return model.lower().rsplit("/", 1)[-1]


def _subject(model: str, pattern: str) -> str:
    return model.lower() if "/" in pattern else _bare(model)
