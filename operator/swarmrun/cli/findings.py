"""What `doctor` looks at."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from swarmrun.cli.wording import count
from swarmrun.errors import InvalidResource, SwarmRunError
from swarmrun.local.directory import FORMAT, RunDirectory

MIN_FREE_GB = 2
"""A choice: clones, artifacts and the engine of a few runs of a middling repository."""
NEEDED = ("reachable", "key", "answers", "tools")
"""Checks of a model without which no run can work."""
PROBE_SECONDS = 60.0
"""How long a model may say nothing; the questions are small ones. A choice."""
KEYS = (
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "OPENAI_MODEL",
    "AZURE_OPENAI_ENDPOINT",
    "AZURE_OPENAI_API_KEY",
    "AZURE_OPENAI_DEPLOYMENT",
)


@dataclass(frozen=True)
class Finding:
    name: str
    level: Literal["ok", "warning", "problem"]
    message: str
    mend: str = ""


def machine(home: Path) -> list[Finding]:
    """Everything that needs no network."""
    from swarmrun.sandbox.probe import check

    sandbox = [Finding(f.name, f.level, f.message, f.mend) for f in check()]
    return [_python(), *sandbox, _home(home), *_states(home), _keys()]


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
    from swarmrun.api.swarmclass import SwarmClass, Tier
    from swarmrun.cli.compose import read
    from swarmrun.local.default_class import default_class
    from swarmrun.models.client import client_for
    from swarmrun.models.probe import probe

    classes = [r for r in load(*read(file)[:2]) if isinstance(r, SwarmClass)] if file else []
    try:
        cls = classes[0] if classes else default_class(os.environ, model=model, endpoint=endpoint)
    except InvalidResource as exc:
        return [Finding("models", "problem", exc.message, exc.mend)]
    found: list[Finding] = []
    seen: set[str] = set()
    for tier in Tier:
        spec = cls.spec.models.tier(tier)
        key = spec.model_dump_json()
        if key in seen or spec.endpoint.startswith("cassette:"):
            continue
        seen.add(key)
        name = f"model {tier.value} ({spec.model})"
        try:
            client = client_for(spec, silence_s=PROBE_SECONDS, total_s=3 * PROBE_SECONDS)
        except SwarmRunError as exc:
            found.append(Finding(name, "problem", exc.message, exc.mend))
            continue
        try:
            for f in await probe(client):
                level = "ok" if f.ok else "problem" if f.check in NEEDED else "warning"
                found.append(Finding(name, level, f"{f.check}: {f.message}", f.mend))
        finally:
            await client.close()
    return found or [Finding("models", "ok", "answer from a cassette: nothing to probe")]
