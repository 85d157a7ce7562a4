"""A ranked map of an existing repository: where to start reading, within a bound of tokens.

Manifests first, then directories, then files by rank with their symbols. A file's rank is how often its
symbols are named in other files: what everything uses is what a plan must know. No model, no guess.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from swarmrun.code.languages import PROGRAMS, language
from swarmrun.code.symbols import Symbol, symbols
from swarmrun.code.text import is_binary
from swarmrun.errors import NotFound

MAX_TOKENS = 8_000
"""The design's number."""
CHARACTERS_PER_TOKEN = 3.5
"""Of code; cautious for the tokenizers in use."""
GUIDES = ("AGENTS.md", "CLAUDE.md", ".github/copilot-instructions.md")
MANIFESTS = (
    "pyproject.toml",
    "setup.cfg",
    "requirements.txt",
    "package.json",
    "go.mod",
    "Cargo.toml",
    "pom.xml",
    "build.gradle",
    "build.gradle.kts",
    "Makefile",
    "justfile",
    "tox.ini",
    "pytest.ini",
    "Dockerfile",
)
_MANIFEST_CHARACTERS = 2_000
_MANIFEST_SHARE = 0.3
_MOST_READ = 4_000
_MOST_PARSED = 400
_MOST_BYTES = 300_000
_MOST_SYMBOLS = 25
# The six numbers above are choices: a map of a monorepo must come within seconds and show its breadth.
_PLAIN_WORD = 0.2
"""A name that is an English word stands in comments and as a local name all over. The idea is aider's."""
_NAME = re.compile(rb"[A-Za-z_][A-Za-z0-9_]{2,}")

Read = Callable[[str], bytes]
"""A path's bytes; raises NotFound."""


def guide(paths: Sequence[str], read: Read) -> str:
    """The repository's own guide for agents, or the empty string."""
    there = set(paths)
    for name in GUIDES:
        if name in there:
            text = _read(name, read).decode("utf-8", "replace").strip()
            if text:
                return text
    return ""


def repo_map(paths: Sequence[str], read: Read, *, max_tokens: int = MAX_TOKENS) -> str:
    """The map; the empty string for a repository without files. Same input, same text."""
    paths = sorted(set(paths))
    if not paths:
        return ""
    room = int(max_tokens * CHARACTERS_PER_TOKEN)
    parts = list(_manifests(paths, read, int(room * _MANIFEST_SHARE)))
    parts.append(_directories(paths))
    used = sum(len(part) + 2 for part in parts)
    parts.append(_files(paths, read, room - used))
    return "\n\n".join(part for part in parts if part)[:room]


def _read(path: str, read: Read) -> bytes:
    try:
        return read(path)
    except NotFound:
        return b""


def _manifests(paths: Sequence[str], read: Read, room: int) -> Iterator[str]:
    order = {name: n for n, name in enumerate(MANIFESTS)}
    found = [p for p in paths if PurePosixPath(p).name in order]
    # The root's first: in a monorepo the others say the same again.
    found.sort(key=lambda p: (p.count("/"), order[PurePosixPath(p).name], p))
    for path in found:
        text = _read(path, read).decode("utf-8", "replace").strip()
        if not text:
            continue
        if len(text) > _MANIFEST_CHARACTERS:
            text = text[:_MANIFEST_CHARACTERS].rsplit("\n", 1)[0] + "\n[…]"
        part = f"== {path}\n{text}"
        if len(part) > room:
            return
        room -= len(part)
        yield part


def _directories(paths: Sequence[str]) -> str:
    """Directories down to the second level with the number of files below and their commonest kinds."""
    below: dict[str, Counter[str]] = defaultdict(Counter)
    for path in paths:
        pure = PurePosixPath(path)
        kind = pure.suffix or pure.name
        for depth in range(1, min(len(pure.parts), 3)):
            below["/".join(pure.parts[:depth]) + "/"][kind] += 1
    rows = [f"== {len(paths)} files"]
    rows += [p for p in paths if "/" not in p][:30]
    shown = sorted(sorted(below, key=lambda d: -sum(below[d].values()))[:60])
    for directory in shown:
        kinds = ", ".join(f"{count} {kind}" for kind, count in below[directory].most_common(3))
        rows.append(f"{directory} ({kinds})")
    return "\n".join(rows)


def _files(paths: Sequence[str], read: Read, room: int) -> str:
    texts: dict[str, bytes] = {}
    for path in [p for p in paths if language(p) in PROGRAMS][:_MOST_READ]:
        data = _read(path, read)
        if data and len(data) <= _MOST_BYTES and not is_binary(data):
            texts[path] = data
    used_in = Counter(word for data in texts.values() for word in frozenset(_NAME.findall(data)))
    sources: dict[str, Sequence[Symbol]] = {}
    for path in _worth_parsing(texts, used_in):
        found = symbols(path, texts[path])
        sources[path] = [s for s in found if s.kind in ("class", "function", "type", "method")]
    defined_in = Counter(
        name
        for found in sources.values()
        for name in {_last(s).encode() for s in found if s.kind != "method"}
    )

    def weight(symbol: Symbol) -> float:
        """Other files that name it; less for a plain word (`run`, `items`), which says little."""
        name = _last(symbol)
        used, defined = used_in[name.encode()], max(defined_in[name.encode()], 1)
        plain = name.islower() and "_" not in name.strip("_")
        return math.log1p(max(used - 1, 0)) / defined * (_PLAIN_WORD if plain else 1.0)

    def rank(path: str) -> float:
        top = [weight(s) for s in sources[path] if s.kind != "method" and not _last(s).startswith("_")]
        score = sum(sorted(top, reverse=True)[:10])
        return score * (0.3 if _is_test(path) else 1.0)

    rows: list[str] = []
    for path in sorted(sources, key=lambda p: (-rank(p), p)):
        part = _outline(path, sources[path], weight)
        if len(part) + 1 > room:
            # A shorter file further down may still fit; its name at least says that it is there.
            part = f"== {path}"
            if len(part) + 1 > room:
                break
        room -= len(part) + 1
        rows.append(part)
    return "\n".join(rows)


def _worth_parsing(texts: Mapping[str, bytes], used_in: Mapping[bytes, int]) -> list[str]:
    """In a large repository the files whose module others name most, tests last: parsing takes its time."""

    def rank(path: str) -> tuple[bool, int, str]:
        pure = PurePosixPath(path)
        module = pure.parent.name if pure.stem in ("__init__", "index", "mod", "main") else pure.stem
        return _is_test(path), -used_in.get(module.encode(), 0), path

    return sorted(texts, key=rank)[:_MOST_PARSED]


def _outline(path: str, found: Sequence[Symbol], weight: Callable[[Symbol], float]) -> str:
    """The file with its most used symbols, in the order of the text; public methods below their class."""
    tops = [s for s in found if s.kind != "method" and "<locals>" not in s.name]
    best = sorted(tops, key=lambda s: (_last(s).startswith("_"), -weight(s), s.lines))[:_MOST_SYMBOLS]
    rows = [f"== {path}"]
    for symbol in sorted(best, key=lambda s: s.lines):
        depth = symbol.name.count(".")
        rows.append(f"{'  ' * depth}L{symbol.lines[0]} {symbol.signature[:160]}")
        if symbol.kind == "class":
            inner = [m for m in found if m.kind == "method" and m.name.rpartition(".")[0] == symbol.name]
            names = [_last(m) for m in inner if not _last(m).startswith("_")]
            if names:
                rows.append(f"{'  ' * (depth + 1)}{', '.join(names[:20])}")
    if len(tops) > len(best):
        rows.append(f"[{len(tops) - len(best)} more]")
    return "\n".join(rows)


def _last(symbol: Symbol) -> str:
    return symbol.name.rpartition(".")[2]


def _is_test(path: str) -> bool:
    pure = PurePosixPath(path)
    return "test" in pure.stem.lower() or any(
        part in ("tests", "test", "__tests__") for part in pure.parts[:-1]
    )
