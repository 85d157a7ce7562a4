"""Tickets in one JSON file, written whole and swapped in, so that a crash leaves the old one."""

from __future__ import annotations

import json
import os
import typing
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

from helpdesk.models import Ticket


class Store:
    """The file need not exist. Raises ValueError for one that holds something else."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> list[Ticket]:
        try:
            rows = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return []
        if not isinstance(rows, list):
            raise ValueError(f"{self._path} holds no list of tickets")
        return [_decode(Ticket, row) for row in rows]

    def save(self, tickets: Iterable[Ticket]) -> None:
        text = json.dumps([_encode(t) for t in tickets], ensure_ascii=False, indent=1)
        beside = self._path.with_name(self._path.name + ".new")
        beside.write_text(text + "\n", encoding="utf-8")
        os.replace(beside, self._path)


def _encode(value: Any) -> Any:
    if is_dataclass(value):
        return {f.name: _encode(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (tuple, list)):
        return [_encode(each) for each in value]
    return value


def _decode(kind: Any, value: Any) -> Any:
    """By type hint. Fields that a row lacks keep their default: files of older versions stay readable."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Union:
        return None if value is None else _decode(arguments[0], value)
    if origin is tuple:
        return tuple(_decode(arguments[0], each) for each in value)
    if is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{f.name: _decode(hints[f.name], value[f.name]) for f in fields(kind) if f.name in value})
    if kind is datetime:
        return datetime.fromisoformat(value)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    return value
