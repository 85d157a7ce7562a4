"""Pydantic models, dataclasses and plain JSON across the engine.

The SDK calls a converter in the middle of a replay, where an exception fails the orchestration and cannot be
caught by it. So nothing raises here:

- what JSON does not know is written as its text (`Path`, `Decimal`, an exception, …);
- a payload that does not fit its model arrives as plain data, and the mismatch is logged.

A set is written sorted: its own order would differ between two replays.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import enum
import json
import logging
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from durabletask.serialization import DataConverter
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

log = logging.getLogger("swarmrun.durable.converter")


class Converter(DataConverter):
    """The same value always gives the same text."""

    def serialize(self, value: Any) -> str | None:
        if value is None:
            return None
        return json.dumps(_plain(value, 0), ensure_ascii=False, separators=(",", ":"))

    def deserialize(self, data: str | None, target_type: Any = None) -> Any:
        if not data:
            return None
        try:
            value = json.loads(data)
        except ValueError:
            log.warning("a payload of %d characters is not JSON and is passed on as text", len(data))
            return data
        return self.coerce(value, target_type)

    def coerce(self, value: Any, target_type: Any = None) -> Any:
        if target_type is None or value is None:
            return value
        adapter = _adapter(target_type)
        if adapter is None:
            return value
        try:
            return adapter.validate_python(value)
        except ValidationError as exc:
            # Where and why, not what: contents are never logged.
            wrong = [f"{'.'.join(map(str, e['loc']))}: {e['type']}" for e in exc.errors(include_input=False)]
            log.warning("a payload does not fit %s and is passed on as it is: %s", target_type, wrong[:5])
            return value

    def can_reconstruct(self, target_type: Any) -> bool:
        """Models, dataclasses, and whatever is made of them; plain data needs no rebuilding."""
        return _mentions_model(target_type) and _adapter(target_type) is not None


def _mentions_model(hint: Any) -> bool:
    if isinstance(hint, type) and (issubclass(hint, BaseModel) or dataclasses.is_dataclass(hint)):
        return True
    return any(_mentions_model(part) for part in getattr(hint, "__args__", ()))


@lru_cache(maxsize=512)
def _adapter_of(target_type: Any) -> TypeAdapter[Any] | None:
    try:
        return TypeAdapter(target_type)
    except (PydanticSchemaGenerationError, PydanticUserError, NameError, TypeError):
        return None


def _adapter(target_type: Any) -> TypeAdapter[Any] | None:
    try:
        return _adapter_of(target_type)
    except TypeError:  # a hint that cannot be hashed
        return None


_DEEPEST = 200
"""Levels of nesting; json.dumps itself gives up near Python's recursion limit (1000)."""


def _plain(value: Any, depth: int) -> Any:
    """The value as JSON knows it, deterministic and without exceptions."""
    if value is None or (isinstance(value, bool | int | str) and not isinstance(value, enum.Enum)):
        return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
    if depth > _DEEPEST:
        return _text(value)
    match value:
        case enum.Enum():
            return _plain(value.value, depth + 1)
        case float():
            return value if math.isfinite(value) else str(value)
        case BaseModel():
            try:
                return _plain(value.model_dump(mode="json"), depth + 1)
            except Exception:  # a serializer of the model's own failed  # noqa: BLE001
                return _plain(dict(value), depth + 1)
        case Mapping():
            return {_key(k): _plain(v, depth + 1) for k, v in value.items()}
        case list() | tuple():
            return [_plain(item, depth + 1) for item in value]
        case set() | frozenset():
            return sorted((_plain(item, depth + 1) for item in value), key=_text)
        case bytes() | bytearray():
            return base64.b64encode(value).decode()
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case datetime.timedelta():
            return value.total_seconds()
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {
                f.name: _plain(getattr(value, f.name, None), depth + 1) for f in dataclasses.fields(value)
            }
        case _:
            return _text(value)


def _key(key: Any) -> str:
    plain = _plain(key, _DEEPEST)
    return plain if isinstance(plain, str) else _text(plain)


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # a __str__ of a stranger  # noqa: BLE001
        return f"<{type(value).__name__}>"
