"""What every API model shares: camelCase on the wire, unknown fields refused, small scalar types."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel


class ApiModel(BaseModel):
    """Written by people: unknown fields are errors, so that a typing mistake is found."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        validate_default=True,
        use_attribute_docstrings=True,
    )

    def dump(self) -> dict[str, object]:
        """As it is written in YAML: camelCase, JSON types, absent fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def rules(*pairs: tuple[str, str]) -> dict[str, Any]:
    """CEL rules of a field or model for the API server: (expression over `self`, what its author is told)."""
    found = [{"rule": rule, "message": message} for rule, message in pairs]
    return {"x-kubernetes-validations": found}


Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", max_length=63)]
"""A DNS label, as Kubernetes names are."""

TaskId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$", max_length=40)]
"""A task's or contract's id: a DNS label of at most 40 characters, so that branch and Pod names fit."""

Usd = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}(\.[0-9]{1,6})?$")]
"""US dollars as a decimal string: floats do not survive YAML, JSON and CEL alike."""

Cidr = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F:.]+(/[0-9]{1,3})?$", max_length=50)]
"""An address range, `10.0.0.0/8`, or one address."""

Duration = Annotated[
    str,
    StringConstraints(pattern=r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$", min_length=2, max_length=30),
    Field(json_schema_extra=rules(("self.matches('[1-9]')", "must be longer than nothing: 1h30m, 45s"))),
]
"""As Kubernetes writes them: `1h30m`, `45s`."""

Message = Annotated[str, StringConstraints(max_length=512)]
"""Longer texts live in the artifact store; the status holds their head."""

RepoPath = Annotated[str, StringConstraints(min_length=1, max_length=200)]


def seconds(duration: str) -> int:
    """`1h30m` → 5400. The pattern of `Duration` has been checked before."""
    total, number = 0, ""
    for character in duration:
        if character.isdigit():
            number += character
        else:
            total += int(number) * {"h": 3600, "m": 60, "s": 1}[character]
            number = ""
    return total


def usd(amount: str) -> Decimal:
    return Decimal(amount)


def clip(text: str, limit: int = 512) -> str:
    """The head of a text, an ellipsis where something was cut."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


_SURROGATE = re.compile("[\ud800-\udfff]")


def legible(text: str) -> str:
    """A text that can be sent and stored as UTF-8: bytes of a file name that are not (`surrogateescape`) are
    shown as `\\xe9`, other lone surrogates as U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub(_shown, text)
    return text


def _shown(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else "\ufffd"


def legible_data(value: Any) -> Any:
    """The same for every text in JSON data."""
    if isinstance(value, str):
        return legible(value)
    if isinstance(value, dict):
        return {legible_data(k): legible_data(v) for k, v in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [legible_data(item) for item in cast("list[Any]", value)]
    return value


__all__ = [
    "ApiModel",
    "Cidr",
    "Duration",
    "Field",
    "Message",
    "Name",
    "RepoPath",
    "TaskId",
    "Usd",
    "clip",
    "legible",
    "legible_data",
    "rules",
    "seconds",
    "usd",
]
