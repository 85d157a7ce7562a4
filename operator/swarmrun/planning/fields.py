"""Fields out of a stranger's objects: names in any case, lists where one was meant, texts that are too long.

Every mending leaves a note, every refusal an error; nothing raises.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from swarmrun.api.base import clip
from swarmrun.api.plan import Plan
from swarmrun.planning import loose

_NEVER_CLIPPED = frozenset({"declaration", "path", "command", "owned_paths"})
"""Half of one of these means something else."""


@lru_cache(maxsize=1)
def _limits() -> Mapping[tuple[str, str], int]:
    """(model, field) → the most characters or items that the schema takes."""
    schema = Plan.model_json_schema(by_alias=False)
    models = {**schema["$defs"], "Plan": schema}
    found: dict[tuple[str, str], int] = {}
    for model, body in models.items():
        for name, rule in cast("dict[str, dict[str, Any]]", body.get("properties", {})).items():
            limit = rule.get("maxLength", rule.get("maxItems"))
            if limit is not None:
                found[model, name] = int(limit)
    return found


class Ids:
    """Ids as they were written → ids as they are; titles lead there too."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.taken: set[str] = set()

    def add(self, identity: str, *written: object) -> None:
        self.taken.add(identity)
        for word in written:
            if key := loose.text(word).strip():
                self.known.setdefault(key, identity)

    def find(self, written: object) -> str:
        key = loose.text(written).strip()
        return self.known.get(key) or loose.identifier(key)


class Fields:
    """Reads fields and keeps the notes and errors of one answer."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.errors: list[str] = []
        self.tasks = Ids()
        self.contracts = Ids()

    def rows(
        self, body: dict[str, object], name: str, model: str, main: str
    ) -> list[tuple[int, dict[str, object]]]:
        """The objects of a list; a mapping by id is a list too, and a bare string is its main field."""
        value = loose.decoded(body.get(name))
        by_id = loose.mapping(value)
        if by_id is not None and not {"id", "title", "path", "question"} & by_id.keys():
            self.notes.append(f"{name} were given as a mapping by id")
            value = [
                {"id": key, **(loose.mapping(loose.decoded(item)) or {main: item})}
                for key, item in by_id.items()
            ]
        found: list[tuple[int, dict[str, object]]] = []
        items = self.list_of({name: value}, name, model, "the plan", clipped=name == "criteria")
        for number, item in enumerate(items, 1):
            row = loose.mapping(loose.decoded(item))
            if row is None and loose.text(item).strip():
                row = {main: item}
                if main == "title":
                    row["instructions"] = item
                self.notes.append(f"{name}: entry {number} was a text, taken for its {main}")
            if row:
                found.append((number, row))
            else:
                self.notes.append(f"{name}: entry {number} was empty and left out")
        return found

    def fields(
        self, row: dict[str, object], table: Mapping[str, Sequence[str]], what: str
    ) -> dict[str, object]:
        """Our field names, whatever the case; the first alias that holds something wins."""
        folded: dict[str, object] = {}
        for key, value in row.items():
            if value is not None:
                folded.setdefault(loose.fold(key), value)
        known = {alias for aliases in table.values() for alias in aliases}
        found: dict[str, object] = {}
        for name, aliases in table.items():
            value = next((folded[alias] for alias in aliases if alias in folded), None)
            if value is not None:
                found[name] = value
        unknown = [key for key in row if loose.fold(key) not in known]
        if unknown:
            listed = ", ".join(clip(key, 40) for key in sorted(unknown)[:10])
            self.notes.append(f"{what}: unknown fields left out: {listed}")
        return found

    def name(self, rows: Sequence[dict[str, object]], ids: Ids, what: str) -> None:
        """Gives every row its id. Two rows with one id are an error: references would be guesses."""
        for number, row in enumerate(rows, 1):
            written = self.single(row.get("id"), f"{what} {number}: id")
            identity = loose.identifier(written) or loose.identifier(row.get("title")) or f"{what}-{number}"
            if identity in ids.taken:
                self.errors.append(
                    f"two {what if what != 'criterion' else 'criteri'}{'s' if what != 'criterion' else 'a'} "
                    f"have the id {identity!r} (from {clip(loose.text(written), 60)!r}): give each its own"
                )
            if identity != written and row.get("id") is not None:
                self.notes.append(f'{what} id {clip(loose.text(written), 60)} became "{identity}"')
            row["id"] = identity
            ids.add(identity, identity)
            ids.add(identity, written)
        for row in rows:  # titles last: an id that reads like somebody's title is still that id
            ids.add(str(row["id"]), row.get("title"))

    def single(self, value: object, what: str) -> object:
        items = loose.sequence(value)
        if items is None:
            return value
        if len(items) > 1:
            self.notes.append(f"{what} was a list; its first entry was taken")
        return items[0] if items else None

    def list_of(
        self, row: dict[str, object], name: str, model: str, what: str, *, clipped: bool = False
    ) -> list[object]:
        value = loose.decoded(row.get(name))
        if isinstance(value, str):
            lines = [re.sub(r"^\s*(?:[-*•]|\d+[.)])\s+", "", line) for line in value.splitlines()]
            items: list[object] = [line.strip() for line in lines if line.strip()]
            if name in ("owned_paths", "depends_on", "provides", "uses", "skills") and len(items) == 1:
                known = self.tasks.known if name == "depends_on" else self.contracts.known
                if items[0] not in known:
                    items = [part.strip() for part in str(items[0]).split(",") if part.strip()]
        else:
            listed = loose.sequence(value)
            items = [value] if listed is None and value is not None else listed or []
        # `[["a", "b"]]`: one level too deep.
        flat: list[object] = []
        for item in items:
            inner = loose.sequence(item)
            flat.extend(inner if inner is not None else [item])
        flat = [item for item in flat if item is not None and item != ""]
        most = _limits().get((model, name), 200)
        if len(flat) > most:
            if clipped:
                self.notes.append(f"{what}: {name} had {len(flat)} entries, the first {most} were kept")
            else:
                self.errors.append(f"{what}: {name} has {len(flat)} entries, at most {most} are taken")
            flat = flat[:most]
        return flat

    def text(self, row: dict[str, object], name: str, model: str, what: str) -> str:
        value = loose.text(row.get(name))
        most = _limits().get((model, name))
        if most is None or len(value) <= most:
            return value
        if name in _NEVER_CLIPPED:
            self.errors.append(f"{what}: {name} is {len(value)} characters long, at most {most} are taken")
        else:
            self.notes.append(f"{what}: {name} was cut from {len(value)} to {most} characters")
        return clip(value, most)

    def number(self, value: object, what: str, default: int) -> int:
        """A whole number from 1 to 100."""
        value = self.single(value, what)
        if value is None:
            return default
        match = re.search(r"-?\d{1,15}(\.\d{1,15})?", loose.text(value))
        number = float(match[0]) if match else math.nan
        if not math.isfinite(number):
            self.notes.append(f"{what} {clip(loose.text(value), 40)!r} is no number; {default} was taken")
            return default
        result = min(100, max(1, round(number)))
        if result != value:
            self.notes.append(f"{what} {clip(loose.text(value), 40)} became {result}")
        return result
