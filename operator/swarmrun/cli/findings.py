"""What `doctor` looks at."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from swarmrun.cli.wording import count
from swarmrun.errors import InvalidResource, SwarmRunError
from swarmrun.findings import Finding
from swarmrun.local.directory import FORMAT, RunDirectory

MIN_FREE_GB = 2
"""A choice: clones, artifacts and the engine of a few runs of a middling repository."""
KEYS = (
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "OPENAI_MODEL",
    "AZURE_OPENAI_ENDPOINT",
    "AZURE_OPENAI_API_KEY",
    "AZURE_OPENAI_DEPLOYMENT",
)


def machine(home: Path) -> list[Finding]:
    """Everything that needs no network."""
    from swarmrun.sandbox.probe import check

    return [_python(), *check(), _home(home), *_states(home), _keys()]


def _python() -> Finding:
    """Always well here: pip refuses to install this under an older one."""
    return Finding("python", "ok", f"Python {platform.python_version()} ({sys.executable})")


def _home(home: Path) -> Finding:
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=home):
            pass
        free = shutil.disk_usage(home).free / 1e9
    except OSError as exc:
        return Finding("home", "problem", f"{home}: {exc.strerror}", "set SWARMRUN_HOME, or give --home")
    if free < MIN_FREE_GB:
        return Finding("home", "warning", f"{home}: {free:.1f} GB free", f"free {MIN_FREE_GB} GB or more")
    return Finding("home", "ok", f"{home}: writable, {free:.0f} GB free")


def _states(home: Path) -> list[Finding]:
    """Every run's state can be read by this version."""
    runs = sorted(home.glob("runs/*/*/run.json"))
    broken: list[Finding] = []
    for path in runs:
        directory = RunDirectory(path.parent)
        try:
            directory.file()
            directory.status()
        except SwarmRunError as exc:
            broken.append(Finding("state", "warning", exc.message, exc.mend))
    return broken or [Finding("state", "ok", f"{count(len(runs), 'run')}, state format {FORMAT}")]


def _keys() -> Finding:
    known = [k for k in KEYS if os.environ.get(k)]
    if not known:
        return Finding(
            "model keys",
            "warning",
            "no model is named in the environment",
            "set OPENAI_API_KEY (and OPENAI_BASE_URL), AZURE_OPENAI_ENDPOINT, or name models in a SwarmClass",
        )
    # Names only: a key must not end up in a terminal's scrollback.
    return Finding("model keys", "ok", f"set: {', '.join(known)}")


def models(file: str, model: str, endpoint: str) -> list[Finding]:
    """Asks each tier's model. Raises InvalidResource or NotFound where the file cannot be read."""
    import asyncio

    return asyncio.run(_models(file, model, endpoint))


async def _models(file: str, model: str, endpoint: str) -> list[Finding]:
    from swarmrun.api.load import load
    from swarmrun.api.swarmclass import SwarmClass
    from swarmrun.cli.compose import read
    from swarmrun.local.default_class import default_class
    from swarmrun.models.tiers import look

    classes = [r for r in load(*read(file)[:2]) if isinstance(r, SwarmClass)] if file else []
    try:
        cls = classes[0] if classes else default_class(os.environ, model=model, endpoint=endpoint)
    except InvalidResource as exc:
        return [Finding("models", "problem", exc.message, exc.mend)]
    found = await look(cls.spec.models)
    return found or [Finding("models", "ok", "answer from a cassette: nothing to probe")]
