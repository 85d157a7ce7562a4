"""The resource of a run: read from a file, or made of options; options win over the file."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarmrun.api import API_VERSION
from swarmrun.api.load import Resource, load, to_yaml
from swarmrun.api.resolve import scheme_and_host
from swarmrun.api.run import SwarmRun
from swarmrun.api.swarmclass import Models, SwarmClass
from swarmrun.cli.names import name_from_goal
from swarmrun.errors import InvalidResource, NotFound
from swarmrun.local.default_class import default_class, model_tier


@dataclass(frozen=True)
class Asked:
    """The options of `run` and `plan`; empty means not given."""

    file: str = ""
    goal: str = ""
    repository: str = ""
    branch: str = ""
    name: str = ""
    namespace: str = ""
    model: str = ""
    endpoint: str = ""
    mode: str = ""
    publish_branch: str = ""
    pull_request: bool = False
    parallelism: int | None = None
    budget_tokens: int | None = None
    budget_cost: str = ""
    budget_duration: str = ""
    plan_approval: bool = False


@dataclass(frozen=True)
class Composed:
    run: SwarmRun
    cls: SwarmClass
    source_dir: Path
    """What relative paths in the resource mean."""


def compose(asked: Asked, note: Any = None) -> Composed:
    """Raises InvalidResource, NotFound."""
    if asked.file:
        text, source, directory = read(asked.file)
        resources = load(text, source, note=note)
        run = with_options(the_run([r for r in resources if isinstance(r, SwarmRun)], asked, source), asked)
    else:
        resources, directory = list[Resource](), Path.cwd()
        run = from_options(asked)
    cls = the_class([r for r in resources if isinstance(r, SwarmClass)], run, asked)
    return Composed(run, cls, directory)


def read(file: str) -> tuple[str, str, Path]:
    """(text, its name in messages, directory of relative paths); `-` is standard input."""
    if file == "-":
        return sys.stdin.read(), "standard input", Path.cwd()
    path = Path(file)
    try:
        return path.read_text(encoding="utf-8-sig"), file, path.absolute().parent
    except FileNotFoundError as exc:
        raise NotFound(f"no file {file}") from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidResource(f"{file} cannot be read: {exc}") from exc


def the_run(runs: list[SwarmRun], asked: Asked, source: str) -> SwarmRun:
    if not runs:
        raise InvalidResource(f"{source} holds no SwarmRun")
    if len(runs) == 1:
        return runs[0]
    chosen = [r for r in runs if r.metadata.name == asked.name]
    if len(chosen) != 1:
        names = ", ".join(r.metadata.name for r in runs)
        raise InvalidResource(f"{source} holds {len(runs)} SwarmRuns: {names}", mend="choose one with --name")
    return chosen[0]


def the_class(classes: list[SwarmClass], run: SwarmRun, asked: Asked) -> SwarmClass:
    """The class the run names, else the only one in the file, else the one built in."""
    wanted = run.spec.class_name
    if wanted:
        cls = next((c for c in classes if c.metadata.name == wanted), None)
        if cls is None:
            known = ", ".join(c.metadata.name for c in classes) or "none"
            raise InvalidResource(
                f"no SwarmClass {wanted!r} in the file (there: {known})",
                field="spec.className",
                mend="add it as a document",
            )
    elif len(classes) == 1:
        cls = classes[0]
    elif classes:
        names = ", ".join(c.metadata.name for c in classes)
        raise InvalidResource(
            f"several SwarmClasses ({names}) and the run names none", field="spec.className", mend="set it"
        )
    else:
        return default_class(
            os.environ, model=asked.model, endpoint=asked.endpoint, parallelism=run.spec.parallelism
        )
    if asked.model or asked.endpoint:
        models = Models(standard=model_tier(os.environ, model=asked.model, endpoint=asked.endpoint))
        cls = cls.model_copy(update={"spec": cls.spec.model_copy(update={"models": models})})
    return cls


def from_options(asked: Asked) -> SwarmRun:
    """As if the options had been written in a file; their mistakes are told the same way."""
    missing = [f"--{name}" for name in ("goal", "repository") if not getattr(asked, name)]
    if missing:
        raise InvalidResource(
            f"{' and '.join(missing)} missing", mend="give a file with -f, or both --goal and --repository"
        )
    spec: dict[str, Any] = {"goal": asked.goal, "repository": {"url": asked.repository}}
    metadata = {"name": asked.name or name_from_goal(asked.goal), "namespace": asked.namespace or "default"}
    overlay(spec, asked)
    data = {"apiVersion": API_VERSION, "kind": "SwarmRun", "metadata": metadata, "spec": spec}
    (run,) = load(to_yaml(data), "the options")
    assert isinstance(run, SwarmRun)
    return run


def with_options(run: SwarmRun, asked: Asked) -> SwarmRun:
    """The run of a file, with what the options say instead."""
    data = run.model_dump(mode="json", by_alias=True, exclude_unset=True)
    spec, metadata = data["spec"], data["metadata"]
    if asked.goal:
        spec["goal"] = asked.goal
    if asked.repository:
        # On the command line a path means the working directory, in a file the file's.
        local = scheme_and_host(asked.repository)[0] == "file" and not asked.repository.startswith("file:")
        spec["repository"]["url"] = str(Path(asked.repository).absolute()) if local else asked.repository
    metadata.update({k: v for k, v in (("name", asked.name), ("namespace", asked.namespace)) if v})
    overlay(spec, asked)
    data = {"apiVersion": API_VERSION, "kind": "SwarmRun", "metadata": metadata, "spec": spec}
    (changed,) = load(to_yaml(data), "the file with the options")
    assert isinstance(changed, SwarmRun)
    return changed


def overlay(spec: dict[str, Any], asked: Asked) -> None:
    for path, value in (
        (("repository", "branch"), asked.branch),
        (("mode",), asked.mode),
        (("publish", "branch"), asked.publish_branch),
        (("publish", "pullRequest", "enabled"), asked.pull_request),
        (("parallelism",), asked.parallelism),
        (("budget", "tokens"), asked.budget_tokens),
        (("budget", "cost"), asked.budget_cost),
        (("budget", "duration"), asked.budget_duration),
        (("plan", "approval"), asked.plan_approval),
    ):
        if not value:
            continue
        place = spec
        for part in path[:-1]:
            place = place.setdefault(part, {})
        place[path[-1]] = value
