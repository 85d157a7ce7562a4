"""JSON out of a model's text, checked against its schema and mended where only the form is wrong."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from swarmrun.errors import BadModelOutput

_THINK = re.compile(r"<(think|thinking|reasoning)>.*?(</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_MAX_STARTS = 400
"""Opening brackets tried before giving up: a runaway of brackets must not cost quadratic time. A choice."""
_MAX_MENDS = 200
"""Mended places an answer: beyond this it is not sloppy but wrong. A choice."""


def without_thoughts(text: str) -> str:
    """Text without `<think>` blocks; one that never ends reaches to the end, one that never began is cut too."""
    text = _THINK.sub("", text)
    # Templates that open the block in the prompt leave only its end in the answer.
    return re.sub(r"\A.*</think>", "", text, flags=re.DOTALL | re.IGNORECASE).strip()


def loads(text: str) -> Any:
    """JSON as a stranger writes it. Raises ValueError, also for NaN, absurd depth and lone surrogates."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    json.dumps(value, ensure_ascii=False).encode("utf-8")  # UnicodeEncodeError is a ValueError
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def values_in(text: str, opening: str = "{") -> list[tuple[int, int, Any]]:
    """Every outermost JSON value in a text that starts with one of `opening`: (start, end, value)."""
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    found: list[tuple[int, int, Any]] = []
    position, tries = 0, 0
    pattern = re.compile("[" + re.escape(opening) + "]")
    while (match := pattern.search(text, position)) and tries < _MAX_STARTS:
        tries += 1
        try:
            value, end = decoder.raw_decode(text, match.start())
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except (ValueError, RecursionError):
            position = match.start() + 1
            continue
        found.append((match.start(), end, value))
        position = end
    return found


def read_json(text: str, schema: dict[str, Any]) -> tuple[Any, list[str]]:
    """The last value in the text that fits the schema, and what had to be mended.

    Raises BadModelOutput; its feedback names the place in the answer and what the schema wants there.
    """
    bare = without_thoughts(text)
    opening = "[" if schema.get("type") == "array" else "{"
    candidates = [without_nulls(value, schema) for _, _, value in values_in(bare, opening)]
    if not candidates:
        raise BadModelOutput(
            "the answer holds no JSON" if bare else "the answer is empty",
            feedback=f"Your answer held no whole JSON {'array' if opening == '[' else 'object'}"
            f" (it began: {bare[:80]!r}). Answer with JSON alone.",
            reason="NoJson",
        )
    for value in reversed(candidates):
        if next(problems(value, schema), None) is None:
            return value, []
    for value in reversed(candidates):
        mended, notes = mend(value, schema)
        if next(problems(mended, schema), None) is None:
            return mended, notes
    # Of several, the fault that is told is that of the last: it is the one meant as the answer.
    faults = [
        f"{where}: {what}" for where, what in list(problems(mend(candidates[-1], schema)[0], schema))[:5]
    ]
    raise BadModelOutput(
        f"the answer does not fit its schema: {faults[0]}",
        feedback="Your JSON does not fit the schema. "
        + "; ".join(faults)
        + ". Answer again, whole, with JSON alone.",
        reason="SchemaMismatch",
    )


def problems(value: Any, schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(JSON path, what is wrong), most telling first. A schema that is itself broken raises jsonschema's error."""
    from jsonschema.exceptions import relevance

    for error in sorted(_validator(json.dumps(schema)).iter_errors(value), key=relevance):
        for deep in _leaves(error):
            yield deep.json_path, _short(deep.message)


def mend(value: Any, schema: dict[str, Any]) -> tuple[Any, list[str]]:
    """A copy with the form put right: `1` for "1", one for a list of one, unknown fields dropped.

    Never invents a missing value and never touches what fits. Only what a validator complains of is looked at.
    """
    value = copy.deepcopy(value)
    validator = _validator(json.dumps(schema))
    notes: list[str] = []
    for _ in range(_MAX_MENDS):
        step = next(
            (
                (error, done)
                for top in validator.iter_errors(value)
                for error in _leaves(top)
                if (done := _mended(error)) is not None
            ),
            None,
        )
        if step is None:
            break
        error, (fixed, note) = step
        notes.append(f"{error.json_path}: {note}")
        value = _put(value, list(error.absolute_path), fixed)
    return value, notes


def _mended(error: Any) -> tuple[Any, str] | None:
    """What stands at the error's place, put right, or None when there is nothing to put right."""
    have: Any = error.instance
    rule: Any = error.validator_value
    if error.validator == "type":
        for kind in [rule] if isinstance(rule, str) else rule:
            done = _as_type(have, kind)
            if done is not None:
                return done
    elif error.validator == "additionalProperties" and not rule and isinstance(have, dict):
        known = error.schema.get("properties", {})
        extra = ", ".join(str(key) for key in have if key not in known)
        return {key: v for key, v in have.items() if key in known}, f"dropped unknown {extra}"[:200]
    elif error.validator == "enum" and isinstance(have, str):
        same = [v for v in rule if isinstance(v, str) and _fold(v) == _fold(have)]
        if len(same) == 1:
            return same[0], f"{have!r} read as {same[0]!r}"
    return None


def _as_type(have: Any, kind: str) -> tuple[Any, str] | None:
    if kind == "string" and isinstance(have, int | float) and not isinstance(have, bool):
        return str(have), "number read as string"
    if kind in ("integer", "number") and isinstance(have, str) and re.fullmatch(r"\s*-?\d{1,15}\s*", have):
        return int(have), "string read as number"
    if kind == "boolean" and isinstance(have, str) and have.strip().lower() in ("true", "false"):
        return have.strip().lower() == "true", "string read as boolean"
    if kind == "array" and not isinstance(have, list):
        return [have], "single value read as list"
    if kind != "array" and isinstance(have, list) and len(have) == 1:
        return have[0], "list of one unwrapped"
    return None


def _put(root: Any, path: list[Any], fixed: Any) -> Any:
    if not path:
        return fixed
    place = root
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = fixed
    return root


def _leaves(error: Any) -> Iterator[Any]:
    """An `anyOf` complains as a whole; what helps is the complaint of the branch that nearly fits."""
    if error.validator in ("anyOf", "oneOf") and error.context:
        branches: dict[Any, list[Any]] = {}
        for inner in error.context:
            branches.setdefault(inner.schema_path[0], []).append(inner)
        # Nullable fields: the branch that wants null is never the one that was meant.
        meant = [b for b in branches.values() if not any(e.validator_value == "null" for e in b)] or list(
            branches.values()
        )
        for inner in min(meant, key=len):
            yield from _leaves(inner)
    else:
        yield error


def _fold(text: str) -> str:
    return text.strip().replace("_", "-").replace(" ", "-").casefold()


def _short(message: str) -> str:
    return message if len(message) <= 200 else f"{message[:120]} … {message[-70:]}"


@lru_cache(maxsize=64)
def _validator(schema: str) -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(schema))


# ---------------------------------------------------------------- what strict mode wants

_STRICT_REFUSES = ("patternProperties", "allOf", "oneOf", "not", "if", "dependentRequired", "prefixItems")
_STRICT_DROPS = ("default", "title", "examples")


def strict_schema(schema: dict[str, Any]) -> dict[str, Any] | None:
    """The schema in the subset that OpenAI's strict mode takes (every field required, none unknown), where
    optional fields become nullable; None when it cannot be said there (free-form maps, for one).

    Answers are read against the schema that was meant, which `read_json` does.
    """
    try:
        return _strict(schema)
    except _NotStrictError:
        return None


class _NotStrictError(Exception):
    pass


def _strict(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    if any(key in node for key in _STRICT_REFUSES) or isinstance(node.get("additionalProperties"), dict):
        raise _NotStrictError
    out: dict[str, Any] = {key: value for key, value in node.items() if key not in _STRICT_DROPS}
    for key in ("$defs", "definitions"):
        if key in out:
            out[key] = {name: _strict(value) for name, value in out[key].items()}
    if "items" in out:
        out["items"] = _strict(out["items"])
    if "anyOf" in out:
        out["anyOf"] = [_strict(branch) for branch in out["anyOf"]]
    if node.get("type") == "object":
        if not node.get("properties"):
            raise _NotStrictError
        required = set(node.get("required", ()))
        out["properties"] = {
            name: _strict(value) if name in required else _nullable(_strict(value))
            for name, value in node["properties"].items()
        }
        out["required"] = list(node["properties"])
        out["additionalProperties"] = False
    return out


def _nullable(node: dict[str, Any]) -> dict[str, Any]:
    if node.get("type") == "null" or {"type": "null"} in node.get("anyOf", ()):
        return node
    return {"anyOf": [node, {"type": "null"}]}


def without_nulls(value: Any, schema: dict[str, Any]) -> Any:
    """Without the nulls that the schema does not allow: strict mode makes a model fill optional fields so, and
    others do it unasked."""
    for _ in range(_MAX_MENDS):
        error = next(
            (
                error
                for top in _validator(json.dumps(schema)).iter_errors(value)
                for error in _leaves(top)
                if error.instance is None and error.absolute_path and isinstance(error.absolute_path[-1], str)
            ),
            None,
        )
        if error is None:
            return value
        *path, last = error.absolute_path
        place = value
        for step in path:
            place = place[step]
        del place[last]
    return value
