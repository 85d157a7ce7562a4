"""JSON, TOML and YAML documents: read with their layout, as plain values, and written back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from io import StringIO
from typing import Any

from swarmrun.code.text import too_deep


class Unreadable(ValueError):
    """Does not parse, or has a form that cannot be written back as it was."""


@dataclass(frozen=True)
class Form:
    read: Callable[[str], Any]
    """Raises Unreadable. Empty text is an empty mapping."""
    plain: Callable[[Any], Any]
    write: Callable[[Any, str], str]
    """(document, the text it was read from) → text. Raises Unreadable."""


_LARGEST = 300_000
"""Characters; round-trip YAML takes seconds beyond that. Arbitrary."""


def _json_read(text: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise Unreadable("a key stands twice")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=unique) if text.strip() else {}
    except (json.JSONDecodeError, RecursionError) as exc:
        raise Unreadable(str(exc)) from exc


def _json_plain(document: Any) -> Any:
    return json.loads(json.dumps(document))


def _json_write(document: Any, like: str) -> str:
    """In the layout that writes the text `like` back unchanged; there must be one."""
    original = _json_read(like)
    ending = like[len(like.rstrip("\n")) :]
    first = re.search(r"\n([ \t]+)\S", like)
    indents: list[str | int | None] = [first[1] if first else 2, None]
    for indent in indents:
        for ascii_only in (False, True):
            for separators in ((",", ": "), (", ", ": "), (",", ":")):
                encoder = json.JSONEncoder(ensure_ascii=ascii_only, indent=indent, separators=separators)
                if encoder.encode(original) + ending == like:
                    return encoder.encode(document) + ending
    raise Unreadable("written by hand: this layout cannot be kept")


def _toml_read(text: str) -> Any:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        return tomlkit.parse(text)
    except (TOMLKitError, ValueError, RecursionError) as exc:
        raise Unreadable(str(exc)) from exc


def _toml_plain(document: Any) -> Any:
    return document.unwrap()


def _toml_write(document: Any, like: str) -> str:
    import tomlkit

    return tomlkit.dumps(document)


@lru_cache(maxsize=1)
def _yaml_layouts() -> list[tuple[int, int, int]]:
    return [(2, 4, 2), (2, 2, 0), (4, 4, 0), (4, 6, 4), (4, 4, 2)]


def _yaml(mapping: int = 2, sequence: int = 4, offset: int = 2) -> Any:
    from ruamel.yaml import YAML

    yaml = YAML(typ="rt", pure=True)
    yaml.preserve_quotes = True
    yaml.width = 1 << 16
    yaml.indent(mapping=mapping, sequence=sequence, offset=offset)
    return yaml


def _yaml_read(text: str) -> Any:
    from ruamel.yaml.error import YAMLError

    if (
        len(text) > _LARGEST
        or too_deep(text.encode("utf-8", "replace"))
        or re.search(r"(^|\s)[!&*][\w!<]", text)
    ):
        raise Unreadable("too large, or with tags or anchors")
    try:
        document = _yaml().load(text) if text.strip() else None
    except (YAMLError, ValueError, RecursionError, AttributeError) as exc:
        raise Unreadable(str(exc)) from exc
    return {} if document is None else document


def _yaml_plain(document: Any) -> Any:
    if isinstance(document, dict):
        return {_yaml_plain(k): _yaml_plain(v) for k, v in document.items()}  # type: ignore[misc]
    if isinstance(document, list):
        return [_yaml_plain(item) for item in document]  # type: ignore[misc]
    if isinstance(document, bool) or document is None:
        return document
    for kind in (int, float, str):
        if isinstance(document, kind):
            return kind(document)
    return document


def _yaml_write(document: Any, like: str) -> str:
    original = _yaml_read(like)
    start = "---\n" if like.startswith("---\n") else ""
    for layout in _yaml_layouts():
        yaml = _yaml(*layout)
        yaml.explicit_start = bool(start)
        out = StringIO()
        yaml.dump(original, out)
        if out.getvalue() == like:
            out = StringIO()
            yaml.dump(document, out)
            return out.getvalue()
    raise Unreadable("this layout cannot be kept")


FORMS: dict[str, Form] = {
    "json": Form(_json_read, _json_plain, _json_write),
    "toml": Form(_toml_read, _toml_plain, _toml_write),
    "yaml": Form(_yaml_read, _yaml_plain, _yaml_write),
}
