"""Paths in a resource mean the directory of its file; in the state directory they are absolute."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from swarmrun.api.resolve import Snapshot, scheme_and_host
from swarmrun.api.run import SwarmRun
from swarmrun.api.swarmclass import SwarmClass
from swarmrun.errors import InvalidResource, NotFound
from swarmrun.git.urls import parse

REPOSITORY = "spec.repository.url"


def absolute_run(run: SwarmRun, source_dir: Path) -> SwarmRun:
    """A local repository's path, relative to the resource's file, as an absolute one."""
    url = run.spec.repository.url
    if scheme_and_host(url)[0] != "file" or url.startswith("file:"):
        return run
    path = str((source_dir / Path(url).expanduser()).resolve())
    repository = run.spec.repository.model_copy(update={"url": path})
    return run.model_copy(update={"spec": run.spec.model_copy(update={"repository": repository})})


def check_repository(url: str) -> None:
    """Raises InvalidResource for an address that no run could ever use, found without any network."""
    try:
        parsed = parse(url)
    except InvalidResource as exc:
        raise InvalidResource(exc.message, field=REPOSITORY, mend=exc.mend) from exc
    if parsed.scheme != "file":
        return
    path = parsed.git  # os.path: what cannot be looked at raises nothing
    if not os.path.exists(path):
        raise InvalidResource(
            f"there is no repository at {path}",
            field=REPOSITORY,
            mend="paths are relative to the resource's file",
        )
    if not os.path.isdir(path):
        raise InvalidResource(
            f"{path} is a file, no repository", field=REPOSITORY, mend="name the directory of a repository"
        )


def absolute_class(cls: SwarmClass, source_dir: Path) -> SwarmClass:
    """The same for `cassette:FILE` endpoints. Raises NotFound where there is no such file."""
    models = cls.spec.models
    update: dict[str, Any] = {}
    for name in ("premium", "standard", "light"):
        tier = getattr(models, name)
        if tier is None or not tier.endpoint.startswith("cassette:"):
            continue
        path = (source_dir / Path(tier.endpoint.removeprefix("cassette:")).expanduser()).resolve()
        if not path.is_file():
            raise NotFound(f"no cassette at {path}", mend="paths are relative to the resource's file")
        update[name] = tier.model_copy(update={"endpoint": f"cassette:{path}"})
    models = models.model_copy(update=update)
    return cls.model_copy(update={"spec": cls.spec.model_copy(update={"models": models})})


def cassettes(snapshot: Snapshot) -> list[str]:
    return sorted({t.endpoint for t in snapshot.tiers.values() if t.endpoint.startswith("cassette:")})
