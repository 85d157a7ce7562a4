"""Merges JSON, TOML and YAML by key instead of by line; comments and layout of ours are kept."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, MutableMapping, MutableSequence
from dataclasses import dataclass
from typing import Any, cast

from swarmrun.merging.cases import Attempt, Case, How
from swarmrun.merging.rungs import documents
from swarmrun.merging.rungs.tokens import versions

Table = dict[Any, Any]
Plain = Any
"""dict, list, str, int, float, bool, None, dates: what a document says, without its layout."""


class _Stuck(Exception):
    """Both sides set the same key differently."""


@dataclass(frozen=True)
class Keys:
    how: How = "Keys"

    def resolve(self, case: Case) -> Attempt | None:
        form = documents.FORMS.get(case.language)
        if form is None:
            return None
        try:
            base, ours, theirs = (form.read(text) for text in case.texts)
            b, o, t = (form.plain(document) for document in (base, ours, theirs))
            expected = form.plain(form.read(case.texts[1]))
            notes: list[str] = []
            _fold(b, o, t, expected, t, "", [])
            _fold(b, o, t, ours, theirs, "", notes)
            text = form.write(ours, case.texts[1])
            if case.texts[1].endswith("\n") and not case.texts[1].endswith("\n\n"):
                text = text.rstrip("\n") + "\n"
            if not _same(form.plain(form.read(text)), expected):
                return None  # the writer lost something
        except (_Stuck, documents.Unreadable, RecursionError):
            return None
        return Attempt(text, f"merged by key: {', '.join(notes[:6])}" if notes else "merged by key")


def _same(one: Plain, other: Plain) -> bool:
    """Equality that tells 1 from True and 1.0, and does not ask for the order of keys."""
    if isinstance(one, dict) and isinstance(other, dict):
        left, right = cast(Table, one), cast(Table, other)
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(one, list) and isinstance(other, list):
        rows, others = cast(list[Plain], one), cast(list[Plain], other)
        return len(rows) == len(others) and all(map(_same, rows, others))
    return type(cast(object, one)) is type(cast(object, other)) and one == other


def _fold(b: Plain, o: Plain, t: Plain, ours: Any, theirs: Any, path: str, notes: list[str]) -> None:
    """Brings what theirs changed into the document `ours`. b, o, t are the plain values of this place."""
    if not isinstance(o, dict) or not isinstance(t, dict):
        raise _Stuck(path)
    o, t = cast(Table, o), cast(Table, t)
    b = cast(Table, b if isinstance(b, dict) else {})
    for key in list(t):
        at = f"{path}.{key}" if path else str(key)
        in_base = key in b
        if key not in o:
            if not in_base:
                _insert(ours, key, theirs[key], list(t), o)
                notes.append(at)
            elif not _same(t[key], b[key]):
                raise _Stuck(at)
        elif _same(o[key], t[key]) or (in_base and _same(t[key], b[key])):
            continue
        elif in_base and _same(o[key], b[key]):
            ours[key] = theirs[key]
            notes.append(at)
        else:
            _both(b.get(key), o[key], t[key], ours, theirs, key, at, notes)
    for key in b:
        if key not in t and key in o:
            if not _same(o[key], b[key]):
                raise _Stuck(f"{path}.{key}")
            del ours[key]
            notes.append(f"without {key}")


def _both(b: Plain, o: Plain, t: Plain, ours: Any, theirs: Any, key: Any, at: str, notes: list[str]) -> None:
    if isinstance(o, dict) and isinstance(t, dict):
        _fold(b, cast(Table, o), cast(Table, t), ours[key], theirs[key], at, notes)
    elif isinstance(o, list) and isinstance(t, list):
        old = cast(list[Plain], b if isinstance(b, list) else [])
        _fold_list(old, cast(list[Plain], o), cast(list[Plain], t), ours[key], theirs[key], at)
        notes.append(at)
    elif isinstance(b, str) and isinstance(o, str) and isinstance(t, str):
        if _higher(b, o, t) == t:
            ours[key] = theirs[key]
        notes.append(at)
    else:
        raise _Stuck(at)


def _insert(document: MutableMapping[Any, Any], key: Any, value: Any, order: list[Any], known: Plain) -> None:
    """A new key goes where its neighbours are sorted or, in plain dictionaries, behind the one before it."""
    names = list(document)
    place = len(names)
    if len(names) > 1 and names == sorted(names, key=str):
        place = next((n for n, name in enumerate(names) if str(name) > str(key)), place)
    else:
        before = order[: order.index(key)]
        place = next((names.index(k) + 1 for k in reversed(before) if k in names), place)
    insert = getattr(document, "insert", None)
    if insert is not None and hasattr(document, "ca"):  # ruamel.yaml's mapping
        insert(place, key, value)
        return
    if type(cast(object, document)) is not dict:  # tomlkit has no places
        document[key] = value
        return
    rest: Table = {name: document.pop(name) for name in names[place:]}
    document[key] = value
    document.update(rest)


_REQUIREMENT = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(\[[^\]]*\])?\s*($|[<>=!~;@ (])")
_NAMES = ("name", "id", "key", "repo", "path", "uses", "url")


def _identity(items: list[Plain]) -> Callable[[Plain], str]:
    """How an item of a list is known: a requirement by its package, a mapping by its name, else by value."""
    if items and all(isinstance(item, str) and _REQUIREMENT.match(item) for item in items):
        return lambda item: re.sub(r"[-_.]+", "-", _REQUIREMENT.match(item)[1]).lower()  # type: ignore[index]
    for name in _NAMES:
        if items and all(_named(item, name) for item in items):
            return lambda item, name=name: str(item[name])
    return repr


def _named(item: Plain, name: str) -> bool:
    return isinstance(item, dict) and isinstance(cast(Table, item).get(name), str)


def _fold_list(
    b: list[Plain],
    o: list[Plain],
    t: list[Plain],
    ours: MutableSequence[Any],
    theirs: MutableSequence[Any],
    path: str,
) -> None:
    identity = _identity([*b, *o, *t])
    kb, ko, kt = ([identity(item) for item in part] for part in (b, o, t))
    if any(len(set(keys)) != len(keys) for keys in (kb, ko, kt)):
        raise _Stuck(path)  # repeated items: their order means something
    old, mine, new = (dict(zip(k, v, strict=True)) for k, v in ((kb, b), (ko, o), (kt, t)))
    if [k for k in kb if k in mine and k in new] != [k for k in ko if k in old and k in new]:
        raise _Stuck(path)  # ours has another order
    for key in [k for k in kb if k not in new and k in mine]:
        if not _same(mine[key], old[key]):
            raise _Stuck(f"{path}[{key}]")
        del ours[ko.index(key)]
        ko.remove(key)
    for place, key in enumerate(kt):
        if key in old and key not in mine:
            if not _same(new[key], old[key]):
                raise _Stuck(f"{path}[{key}]")
        elif key not in mine:
            at = next(
                (ko.index(k) + 1 for k in reversed(kt[:place]) if k in ko), 0 if place == 0 else len(ko)
            )
            while at < len(ko) and ko[at] not in old and ko[at] not in new:
                at += 1  # behind what ours added there
            if len(ko) > 1 and ko == sorted(ko):
                at = next((n for n, k in enumerate(ko) if k > key), len(ko))
            ours.insert(at, theirs[place])
            ko.insert(at, key)
        elif not _same(mine[key], new[key]) and (key not in old or not _same(new[key], old[key])):
            at = ko.index(key)
            if key in old and _same(mine[key], old[key]):
                ours[at] = theirs[place]
            elif isinstance(mine[key], dict) and isinstance(new[key], dict):
                _fold(old.get(key), mine[key], new[key], ours[at], theirs[place], f"{path}[{key}]", [])
            elif isinstance(mine[key], str) and isinstance(new[key], str):
                if _higher(str(old.get(key, "")), mine[key], new[key]) == new[key]:
                    ours[at] = theirs[place]
            else:
                raise _Stuck(f"{path}[{key}]")


def _higher(base: str, ours: str, theirs: str) -> str:
    """Both sides set another version and nothing else: the higher. Raises _Stuck."""
    found = versions([base], [ours], [theirs], "text")
    if found is None:
        raise _Stuck(json.dumps([base, ours, theirs]))
    return "".join(found)
