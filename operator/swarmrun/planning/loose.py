"""Values out of a stranger's JSON: nothing here raises, whatever it is given."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import cast

MAX_ID = 40
"""Length of a task's or contract's id, as `api.base.TaskId` has it."""

_THINK = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"^\s*```[\w+-]*[ \t]*\n(.*?)\n?[ \t]*```\s*$", re.DOTALL)
_MOST_TRIES = 2000
"""Opening brackets looked at in one text; a text with more is no answer. Arbitrary."""


def mapping(value: object) -> dict[str, object] | None:
    """A JSON object with its keys as strings, or None for anything else."""
    if not isinstance(value, dict):
        return None
    return {text(key): item for key, item in cast("dict[object, object]", value).items()}


def sequence(value: object) -> list[object] | None:
    return list(cast("list[object]", value)) if isinstance(value, list | tuple) else None


def text(value: object) -> str:
    """Any JSON value as text: lists line by line, objects as JSON; lone surrogates and NULs replaced."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        result = value
    elif (items := sequence(value)) is not None:
        try:
            result = "\n".join(text(item) for item in items)
        except RecursionError:
            result = ""
    elif isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        result = str(int(value))
    else:
        try:
            result = json.dumps(value) if isinstance(value, dict) else str(value)
        except (ValueError, TypeError, RecursionError):
            result = ""  # an integer of thousands of digits, a nest without end
    return result.encode("utf-8", "replace").decode("utf-8").replace("\0", "")


def fold(name: str) -> str:
    """`Test Writer`, `test_writer` and `testWriter` are the same word."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def identifier(value: object) -> str:
    """A DNS label of at most 40 characters, or the empty string when nothing is left of the value."""
    plain = unicodedata.normalize("NFKD", text(value)).encode("ascii", "ignore").decode("ascii").lower()
    label = re.sub(r"[^a-z0-9]+", "-", plain[:400]).strip("-")
    return label[:MAX_ID].strip("-")


def unfenced(value: str) -> str:
    """The inside of a ``` fence, when the whole text is one."""
    match = _FENCE.match(value)
    return match[1] if match else value


def decoded(value: object) -> object:
    """JSON out of a string where it holds some, the value itself otherwise."""
    if not isinstance(value, str):
        return value
    body = unfenced(value).strip()
    if body[:1] not in ("{", "["):
        return value
    try:
        return cast(object, json.loads(body))
    except (ValueError, RecursionError):
        return value


def objects(value: str) -> list[object]:
    """Every outermost JSON object or list in a text, thoughts (`<think>`) left out, in order."""
    body = _THINK.sub("", value)
    decoder, found, at = json.JSONDecoder(), list[object](), 0
    for _ in range(_MOST_TRIES):
        starts = [i for i in (body.find("{", at), body.find("[", at)) if i >= 0]
        if not starts:
            break
        at = min(starts)
        try:
            item, at = decoder.raw_decode(body, at)
        except (ValueError, RecursionError):
            at += 1
        else:
            found.append(cast(object, item))
    return found
