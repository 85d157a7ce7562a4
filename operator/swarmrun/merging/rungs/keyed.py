"""Files of independent lines: requirements, go.mod's requires, ignore lists, change logs, sorted lists."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath

from swarmrun.merging.rungs.hunks import Lines, Rule
from swarmrun.merging.rungs.tokens import versions

_REQUIREMENTS = re.compile(r"^(requirements|constraints|dev-requirements|test-requirements).*\.(txt|in)$")
_LISTS = frozenset(
    {
        ".gitignore",
        ".dockerignore",
        ".npmignore",
        ".eslintignore",
        ".prettierignore",
        "CODEOWNERS",
        ".gitattributes",
    }
)
_LOGS = re.compile(r"^(CHANGELOG|CHANGES|HISTORY|NEWS|RELEASES?|AUTHORS|CONTRIBUTORS)(\..*)?$", re.IGNORECASE)


def flavour(path: str) -> str:
    """What kind of list a file is: `requirements`, `gomod`, `list`, `log`, or empty."""
    pure = PurePosixPath(path)
    if _REQUIREMENTS.match(pure.name) or (
        pure.parent.name == "requirements" and pure.suffix in (".txt", ".in")
    ):
        return "requirements"
    if pure.name == "go.mod":
        return "gomod"
    if pure.name in _LISTS:
        return "list"
    return "log" if _LOGS.match(pure.name) else ""


def _package(line: str) -> str:
    found = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", line)
    return re.sub(r"[-_.]+", "-", found[1]).lower() if found else line.strip()


def _module(line: str) -> str:
    return re.sub(r"^\s*(require\s+)?", "", line).split(" ")[0].strip()


def by_key(key_of: Callable[[str], str]) -> Callable[[Lines, Lines, Lines, str], list[str] | None]:
    """Three ways over lines known by their key; two new versions of one key: the higher version."""

    def merge(base: Lines, ours: Lines, theirs: Lines, tongue: str) -> list[str] | None:
        sides = [{key_of(line): line for line in lines if line.strip()} for lines in (base, ours, theirs)]
        count = [sum(bool(line.strip()) for line in lines) for lines in (base, ours, theirs)]
        if count != [len(side) for side in sides] or any(_is_comment(x) for s in sides for x in s.values()):
            return None
        b, o, t = sides
        merged: dict[str, str] = {}
        for key in [*o, *(k for k in t if k not in o)]:
            old, mine, new = b.get(key), o.get(key), t.get(key)
            if mine is None or new is None:
                left = mine if mine is not None else new
                if old is None:
                    merged[key] = left or ""
                elif old.strip() != (left or "").strip():
                    return None
                continue
            if mine.strip() == new.strip() or new == old:
                merged[key] = mine
            elif mine == old:
                merged[key] = new
            else:
                higher = versions([old or ""], [mine], [new], "text")
                if higher is None:
                    return None
                merged[key] = "".join(higher)
        keys = list(o)
        rows = [key for key in merged if key in o]
        for key in (k for k in merged if k not in o):
            sorted_ = len(keys) > 1 and keys == sorted(keys)
            place = next((n for n, k in enumerate(rows) if k > key), len(rows)) if sorted_ else len(rows)
            rows.insert(place, key)
        return [line if (line := merged[key]).endswith("\n") else line + "\n" for key in rows]

    return merge


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith(("#", "//"))


def entries(base: Lines, ours: Lines, theirs: Lines, tongue: str) -> list[str] | None:
    """Both add entries to a log: ours, then those of theirs that ours does not have."""
    if any(line.strip() for line in base) or not ours or not theirs:
        return None
    first = list(ours)
    if not first[-1].endswith("\n"):
        first[-1] += "\n"
    have = {line.strip() for line in ours}
    return first + [line for line in theirs if not line.strip() or line.strip() not in have]


_IMPORT_SPEC = re.compile(r'^\s*([\w.]+\s+)?"[^"]+"\s*$')


def go_imports(base: Lines, ours: Lines, theirs: Lines, tongue: str) -> list[str] | None:
    """Lines of Go's import block, sorted as gofmt has them."""
    if tongue != "go" or not all(_IMPORT_SPEC.match(line) for line in [*base, *ours, *theirs]):
        return None
    merged = by_key(str.strip)(base, ours, theirs, tongue)
    return sorted(merged, key=lambda line: line.strip().partition('"')[2]) if merged is not None else None


_NAMED = re.compile(
    r"^(\s*(?:import|export)\s+(?:type\s+)?\{)([^{}]*)(\}\s*from\s*(['\"])[^'\"]+\4;?\s*)$", re.DOTALL
)


def script_imports(base: Lines, ours: Lines, theirs: Lines, tongue: str) -> list[str] | None:
    """`import { a, b } from "x"` that both sides changed: the union of the names."""
    if tongue not in ("javascript", "typescript", "tsx"):
        return None
    found = [_NAMED.match("".join(lines)) for lines in (base, ours, theirs)]
    b, o, t = found
    if o is None or t is None or (o[1].split(), o[3].split()) != (t[1].split(), t[3].split()):
        return None
    names = [[name.strip() for name in m[2].split(",") if name.strip()] if m else [] for m in (b, o, t)]
    kept = [n for n in names[1] if n in names[2] or n not in names[0]]
    kept += [n for n in names[2] if n not in names[1] and n not in names[0]]
    if names[1] == sorted(names[1]) and len(names[1]) > 1:
        kept.sort()
    if "\n" in o[2]:
        indent = re.search(r"\n([ \t]+)", o[2])
        pad = indent[1] if indent else "  "
        text = o[1] + "\n" + "".join(f"{pad}{name},\n" for name in kept) + o[3]
    else:
        text = f"{o[1]} {', '.join(kept)} {o[3]}"
    return text.splitlines(keepends=True)


REQUIREMENTS = Rule("requirements by package", by_key(_package))
MODULES = Rule("modules by path", by_key(_module))
LINES = Rule("lines of a list", by_key(str.strip))
ENTRIES = Rule("log entries of both", entries)
GO_IMPORTS = Rule("union of imports", go_imports)
SCRIPT_IMPORTS = Rule("union of imports", script_imports)
