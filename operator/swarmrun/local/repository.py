"""A run's bare repository, over what its agents recorded in the artifact store."""

from __future__ import annotations

from swarmrun.artifacts.store import open_store
from swarmrun.git.repo import RunRepo
from swarmrun.local.directory import RunDirectory
from swarmrun.ports import ArtifactStore


def open_artifacts(directory: RunDirectory) -> ArtifactStore:
    directory.artifacts.mkdir(parents=True, exist_ok=True)
    return open_store(directory.artifacts.as_uri())


def open_repo(directory: RunDirectory) -> RunRepo:
    """Agents' checkpoints are recorded, and only taken into the repository when somebody wants them: `ensure`."""
    return RunRepo(directory.repo, open_artifacts(directory), "")
