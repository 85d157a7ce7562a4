"""`verify`: contracts against the files of a work tree."""

from __future__ import annotations

import os
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from swarmrun.api.plan import Plan
from swarmrun.cli.options import Output
from swarmrun.errors import GitError, InvalidResource


def verify_tree(contracts: str, base: str, directory: str, output: Output) -> int:
    """Prints the breaches; 0 when there are none, else 1. With `base` only those that base did not have."""
    from swarmrun.cli import show
    from swarmrun.cli.wording import count
    from swarmrun.planning.contracts import verify

    plan = read_plan(contracts)
    root = Path(_git(directory, "rev-parse", "--show-toplevel").strip())
    paths = _git(str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    present = [p for p in paths if p and (root / p).is_file() and not (root / p).is_symlink()]
    breaches = verify(plan, lambda path: (root / path).read_bytes(), present)
    if base:
        listed = _git(str(root), "ls-tree", "-r", "-z", "--name-only", base).split("\0")
        before = verify(plan, lambda path: _show(str(root), base, path), [p for p in listed if p])
        known = {(b.contract, b.path, b.message) for b in before}
        breaches = [b for b in breaches if (b.contract, b.path, b.message) not in known]
    if output is not Output.TEXT:
        show.data([asdict(b) for b in breaches], output)
    else:
        for breach in breaches:
            print(f"{breach}\n  expected: {breach.expected}\n  found:    {breach.found or 'nothing'}")
        breached = f"{len(breaches)} breach{'es' * (len(breaches) != 1)}"
        print(f"{count(len(plan.contracts), 'contract')}, {breached}")
    return 1 if breaches else 0


def read_plan(file: str) -> Plan:
    """A SwarmRun with `spec.plan`, or a mapping with `contracts` (and `tasks`)."""
    from pydantic import ValidationError

    from swarmrun.api.load import load
    from swarmrun.api.run import SwarmRun
    from swarmrun.api.yamltree import documents
    from swarmrun.cli.compose import read

    text, source, _ = read(file)
    first: Any = next((d.value for d in documents(text, source)), None)
    if not isinstance(first, dict):
        raise InvalidResource(f"{source} holds no plan", mend="a mapping with `contracts`, or a SwarmRun")
    if "apiVersion" in first:
        for resource in load(text, source):
            if isinstance(resource, SwarmRun) and resource.spec.plan.contracts:
                # Contracts are checked on their own; tasks only tell who provides them.
                spec = resource.spec.plan
                return Plan.model_construct(tasks=spec.tasks, contracts=spec.contracts, criteria=[])
        raise InvalidResource(f"{source} holds no SwarmRun with spec.plan.contracts")
    try:
        partial = {"tasks": [_PLACEHOLDER], **first}
        plan = Plan.model_validate(partial, by_alias=True, by_name=False)
    except ValidationError as exc:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in exc.errors())
        raise InvalidResource(f"{source}: {problems}") from exc
    return plan


_PLACEHOLDER = {"id": "unknown", "title": "", "instructions": ""}
"""A plan has at least one task; contracts may be checked without any."""


def _git(directory: str, *arguments: str) -> str:
    command = ["git", "-C", directory, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, errors="surrogateescape", env=os.environ)
    if done.returncode:
        raise GitError(f"git {arguments[0]} failed: {done.stderr.strip()}", output=done.stderr)
    return done.stdout


def _show(directory: str, revision: str, path: str) -> bytes:
    done = subprocess.run(["git", "-C", directory, "show", f"{revision}:{path}"], capture_output=True)
    if done.returncode:
        raise GitError(f"git show {revision}:{path} failed", output=done.stderr.decode("utf-8", "replace"))
    return done.stdout
