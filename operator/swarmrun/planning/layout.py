"""What a repository needs around the contracts: packages, tests folder, manifest, ignore file."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Collection, Iterable

from swarmrun.api.plan import Plan
from swarmrun.code.imports import imports
from swarmrun.code.languages import PROGRAMS, language

MANIFESTS = ("pyproject.toml", "package.json", "tsconfig.json", "go.mod", ".gitignore")
_TESTS = frozenset({"tests", "test"})
_ROOTS = frozenset({"src", "lib", "scripts", "bin", "docs", "examples", "tools", "cmd"})
"""Folders that hold code but are no packages by custom."""
_DISTRIBUTIONS = {
    "PIL": "pillow",
    "bs4": "beautifulsoup4",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "jwt": "PyJWT",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}
"""Modules whose distribution has another name, the usual ones."""


def main_language(plan: Plan) -> str:
    """The plan's language, or the one that most of its paths are written in; empty when none is told."""
    word = plan.language.strip().lower()
    word = {"py": "python", "ts": "typescript", "js": "javascript", "golang": "go", "node": "javascript"}.get(
        word, word
    )
    if word in PROGRAMS:
        return word
    tongues = Counter(t for path in _named(plan) if (t := language(path)) in PROGRAMS)
    return tongues.most_common(1)[0][0] if tongues else ""


def module(path: str) -> str:
    """`src/shop/models.py` → `shop.models`."""
    parts = path.removesuffix(".py").removesuffix("/__init__").split("/")
    if parts[0] in ("src", "lib") and len(parts) > 1:
        parts = parts[1:]
    return ".".join(parts)


def packages(plan: Plan, existing: Collection[str]) -> list[str]:
    """`__init__.py` files of folders that hold Python files of the plan and are new to the repository."""
    found: set[str] = set()
    for path in _named(plan):
        if language(path) != "python":
            continue
        folders = path.split("/")[:-1]
        start = 1 if folders and folders[0] in _ROOTS else 0
        for depth in range(start, len(folders)):
            folder = "/".join(folders[: depth + 1])
            if not folders[depth].isidentifier():
                break
            held = any(p.startswith(folder + "/") and p.endswith(".py") for p in existing)
            if held and f"{folder}/__init__.py" not in existing:
                # No package, and what is below would be imported under a shorter name than it shows
                # (`tests/api/__init__.py` alone makes a top-level `api`).
                break
            if not held:
                found.add(f"{folder}/__init__.py")
    return sorted(found)


def manifest(plan: Plan, sources: dict[str, bytes]) -> dict[str, bytes]:
    """Manifest, test configuration and ignore file for an empty repository, by the plan's language."""
    tongue = main_language(plan)
    name = _project(plan)
    if tongue == "python":
        return {
            "pyproject.toml": _pyproject(name, plan, sources).encode(),
            "tests/__init__.py": b"",
            ".gitignore": b"__pycache__/\n*.egg-info/\n.pytest_cache/\n.ruff_cache/\n.venv/\nbuild/\ndist/\n",
        }
    if tongue in ("typescript", "tsx"):
        return {
            "package.json": _json(
                {
                    "name": name,
                    "version": "0.1.0",
                    "private": True,
                    "type": "module",
                    "scripts": {"build": "tsc -p .", "test": "tsc -p . && node --test"},
                    "devDependencies": {"@types/node": "^20", "typescript": "^5"},
                }
            ),
            "tsconfig.json": _json(
                {
                    "compilerOptions": {
                        "target": "ES2022",
                        "module": "NodeNext",
                        "moduleResolution": "NodeNext",
                        "strict": True,
                        "outDir": "dist",
                        "rootDir": ".",
                        "skipLibCheck": True,
                    },
                    "include": ["src", "test", "tests"],
                }
            ),
            ".gitignore": b"node_modules/\ndist/\n",
        }
    if tongue == "javascript":
        return {
            "package.json": _json(
                {
                    "name": name,
                    "version": "0.1.0",
                    "private": True,
                    "type": "module",
                    "scripts": {"test": "node --test"},
                }
            ),
            ".gitignore": b"node_modules/\n",
        }
    if tongue == "go":
        return {"go.mod": f"module {name}\n\ngo 1.21\n".encode(), ".gitignore": b"/bin/\n"}
    return {}


def _named(plan: Plan) -> Iterable[str]:
    yield from (c.path for c in plan.contracts)
    yield from (p for t in plan.tasks for p in t.owned_paths if not re.search(r"[*?\[]", p))


def _project(plan: Plan) -> str:
    """The package that most paths lie in; a manifest must have some name."""
    tops = Counter(
        folders[0]
        for path in _named(plan)
        if (folders := [f for f in path.split("/")[:-1] if f not in _ROOTS | _TESTS])
    )
    name = tops.most_common(1)[0][0] if tops else "project"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "project"


def _pyproject(name: str, plan: Plan, sources: dict[str, bytes]) -> str:
    root = "src" if any(path.startswith("src/") for path in _named(plan)) else "."
    own = {path.split("/")[1 if path.startswith("src/") else 0].removesuffix(".py") for path in sources}
    own |= {path.split("/")[0].removesuffix(".py") for path in _named(plan)}
    needed = sorted(
        {
            _DISTRIBUTIONS.get(top, top)
            for path, source in sources.items()
            if language(path) == "python"
            for item in imports(source)
            if not item.level
            and (top := item.module.partition(".")[0]) not in sys.stdlib_module_names
            and top not in own
        }
    )
    listed = ", ".join(json.dumps(each) for each in needed)
    return f"""[build-system]
requires = ["setuptools>=61"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "0.1.0"
requires-python = ">=3.10"
dependencies = [{listed}]

[tool.setuptools.packages.find]
where = ["{root}"]
exclude = ["tests*"]

[tool.pytest.ini_options]
testpaths = ["tests"]
pythonpath = ["{root}"]
"""


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
