"""Conflicts of structured files, generated: real histories hold too few of them.

Two branches change one manifest or settings file, each in one or two of the ways that agents do. The expected
result is computed on the values, so that it does not depend on the code under test.
"""

from __future__ import annotations

import copy
import json
import random
from dataclasses import dataclass
from typing import Any

import tomlkit
import yaml


@dataclass(frozen=True)
class Generated:
    path: str
    base: str
    ours: str
    theirs: str
    expected: Any
    """The values that a right merge has."""


_PACKAGES = [
    "attrs",
    "click",
    "django",
    "flask",
    "httpx",
    "jinja2",
    "numpy",
    "pydantic",
    "rich",
    "typer",
    "uvicorn",
]
_SETTINGS = ["timeout", "retries", "debug", "level", "region", "workers", "prefix", "color"]

Change = tuple[str, str, Any]
"""(what, key, value): `add`, `bump` or `drop` a dependency; `set` a setting."""


def _changes(rng: random.Random, have: list[str], taken: set[str]) -> list[Change]:
    found: list[Change] = []
    for _ in range(rng.randint(1, 2)):
        what = rng.choice(["add", "add", "add", "bump", "drop", "set", "set"])
        pool = have if what in ("bump", "drop") else _SETTINGS if what == "set" else _PACKAGES
        free = [k for k in pool if f"{k}" not in taken and (what != "add" or k not in have)]
        if free:
            key = rng.choice(free)
            taken.add(key)
            found.append((what, key, rng.randint(2, 9)))
    return found


def _apply(values: dict[str, Any], changes: list[Change]) -> dict[str, Any]:
    values = copy.deepcopy(values)
    for what, key, number in changes:
        if what == "set":
            values["settings"][key] = number
        elif what == "drop":
            del values["dependencies"][key]
        else:
            values["dependencies"][key] = f"{number}.0.1"
    return values


def _toml(values: dict[str, Any]) -> str:
    rows = "".join(f'    "{k}>={v}",\n' for k, v in values["dependencies"].items())
    settings = "".join(f"{k} = {v}\n" for k, v in values["settings"].items())
    return f'# manifest\n[project]\nname = "x"\ndependencies = [\n{rows}]\n\n[tool.x]  # settings\n{settings}'


def _json(values: dict[str, Any]) -> str:
    return json.dumps({"name": "x", **values}, indent=2) + "\n"


def _yaml(values: dict[str, Any]) -> str:
    rows = "".join(f"  - name: {k}\n    version: '{v}'\n" for k, v in values["dependencies"].items())
    settings = "".join(f"  {k}: {v}\n" for k, v in values["settings"].items())
    return f"# manifest\nname: x\ndependencies:\n{rows}settings:\n{settings}"


def _requirements(values: dict[str, Any]) -> str:
    return "".join(f"{k}=={v}\n" for k, v in values["dependencies"].items())


_WRITERS = {
    "pyproject.toml": _toml,
    "package.json": _json,
    "app.yaml": _yaml,
    "requirements.txt": _requirements,
}


def read(path: str, text: str) -> Any:
    """The values of a file, for comparison; order aside."""
    if path == "package.json":
        return json.loads(text)
    if path == "app.yaml":
        found = yaml.safe_load(text)
        return {**found, "dependencies": sorted(map(str, found["dependencies"]))}
    if path == "requirements.txt":
        return sorted(text.split())
    found = tomlkit.parse(text).unwrap()
    found["project"]["dependencies"].sort()
    return found


def generate(count: int, seed: int = 1) -> list[Generated]:
    rng = random.Random(seed)
    made: list[Generated] = []
    while len(made) < count:
        path = rng.choice(sorted(_WRITERS))
        write = _WRITERS[path]
        have = sorted(rng.sample(_PACKAGES, 4))
        values = {
            "dependencies": dict.fromkeys(have, "1.0.1"),
            "settings": dict.fromkeys(rng.sample(_SETTINGS, 3), 1),
        }
        taken: set[str] = set()
        left, right = _changes(rng, have, taken), _changes(rng, have, taken)
        base, ours, theirs = write(values), write(_apply(values, left)), write(_apply(values, right))
        if base in (ours, theirs) or ours == theirs:
            continue
        expected = read(path, write(_apply(values, [*left, *right])))
        made.append(Generated(path, base, ours, theirs, expected))
    return made
