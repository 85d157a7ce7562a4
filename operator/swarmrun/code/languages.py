"""Which language a path is written in, by name alone."""

from __future__ import annotations

from pathlib import PurePosixPath

_BY_SUFFIX = {
    ".py": "python",
    ".pyi": "python",
    ".pyw": "python",
    ".js": "javascript",
    ".jsx": "javascript",
    ".mjs": "javascript",
    ".cjs": "javascript",
    ".ts": "typescript",
    ".mts": "typescript",
    ".cts": "typescript",
    ".tsx": "tsx",
    ".go": "go",
    ".rs": "rust",
    ".java": "java",
    ".json": "json",
    ".jsonc": "jsonc",
    ".toml": "toml",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".md": "markdown",
    ".rst": "rst",
    ".txt": "text",
}
_BY_NAME = {
    "Pipfile": "toml",
    "tsconfig.json": "jsonc",
    "jsconfig.json": "jsonc",
    "go.mod": "gomod",
    "go.work": "gomod",
}

PROGRAMS = frozenset({"python", "javascript", "typescript", "tsx", "go", "rust", "java"})
"""Languages that have functions and classes, so that symbols can be looked for."""


def language(path: str) -> str:
    """The language's name in lower case, or the empty string for a file this room knows nothing of."""
    name = PurePosixPath(path).name
    return _BY_NAME.get(name) or _BY_SUFFIX.get(PurePosixPath(name).suffix.lower(), "")
