"""A run's world on this machine: its store, repository, sandboxes, models and remote, wired together."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from swarmrun.activities.world import RunWorld
from swarmrun.api.resolve import Snapshot, scheme_and_host
from swarmrun.api.swarmclass import ModelTier, Tier
from swarmrun.artifacts.store import open_store
from swarmrun.durable.bridge import Bridge
from swarmrun.errors import Conflict, InvalidResource, PermissionDenied
from swarmrun.git.credentials import Credential, Token, UserGit
from swarmrun.git.pull_requests.factory import for_remote
from swarmrun.git.remote import Remote
from swarmrun.local.directory import RunDirectory
from swarmrun.local.lock import lock_unworked
from swarmrun.local.repository import open_artifacts, open_repo
from swarmrun.models.client import client_for
from swarmrun.ports import ModelClient, PullRequests, SandboxProvider
from swarmrun.sandbox.container import ContainerProvider, engine
from swarmrun.sandbox.process import ProcessProvider
from swarmrun.settings import settings

SCHEMES = ("https", "ssh", "http", "file")
TOKENS = (
    "SWARMRUN_GIT_TOKEN",
    "GH_TOKEN",
    "GITHUB_TOKEN",
    "GITLAB_TOKEN",
    "GITEA_TOKEN",
    "AZURE_DEVOPS_TOKEN",
)
"""Environment variables that are looked at, in this order, for the pull requests' token."""


class Models:
    """The clients of a run's tiers, each made when it is first asked for."""

    def __init__(self, snapshot: Snapshot, endpoints: Mapping[str, str], bridge: Bridge) -> None:
        """`endpoints` says which URL stands for each `cassette:` endpoint."""
        self._snapshot, self._endpoints, self._bridge = snapshot, endpoints, bridge
        self._clients: dict[Tier, ModelClient] = {}

    def __call__(self, tier: Tier) -> ModelClient:
        if tier not in self._clients:
            self._clients[tier] = client_for(self._served(self._snapshot.tiers[tier]))
        return self._clients[tier]

    def close(self) -> None:
        while self._clients:
            self._bridge.run(self._clients.popitem()[1].close())

    def _served(self, tier: ModelTier) -> ModelTier:
        if not tier.endpoint.startswith("cassette:"):
            return tier
        try:
            return tier.model_copy(update={"endpoint": self._endpoints[tier.endpoint]})
        except KeyError:
            raise InvalidResource(f"{tier.endpoint} is not served", field="models.endpoint") from None


def open_world(directory: RunDirectory, bridge: Bridge, models: Models) -> RunWorld:
    """What the steps of this run work on. The caller holds the directory's lock, and closes bridge and models."""
    snapshot = directory.snapshot()
    return RunWorld(
        snapshot=snapshot,
        store=open_artifacts(directory),
        repo=open_repo(directory),
        provider=_provider(directory),
        bridge=bridge,
        model_of=models,
        remote=lambda: remote_of(snapshot),
        pull_requests=lambda: _pull_requests(snapshot),
        earlier=lambda _: open_store(directory.artifacts_of(directory.file().attempt - 1).as_uri()),
    )


def _provider(directory: RunDirectory) -> SandboxProvider:
    """Raises SandboxRefused where the wanted kind is not there, InvalidResource for a kind that is unknown."""
    root, key, chosen = directory.sandboxes, directory.master_key(), settings()
    if chosen.sandboxes == "container":
        command = engine(chosen.container_engine)
        return ContainerProvider(root, key, command=command, image=chosen.sandbox_image)
    if chosen.sandboxes != "process":
        raise InvalidResource(
            f"SWARMRUN_SANDBOXES is {chosen.sandboxes!r}", mend="on one machine it is process or container"
        )
    return ProcessProvider(root, key, unsafe_no_sandbox=directory.file().unsafe_no_sandbox)


@contextmanager
def ended(directory: RunDirectory) -> Iterator[RunWorld]:
    """The world of a run that has ended, for as long as it is worked on. Raises Conflict `NotEnded`."""
    name = directory.name
    with lock_unworked(directory.lock, name):
        phase = directory.status().phase
        if not phase.terminal:
            raise Conflict(
                f"run {name} has not ended: {phase}",
                mend=f"`swarmrun resume {name}` goes on with it, `swarmrun cancel {name}` ends it",
                reason="NotEnded",
            )
        bridge = Bridge()
        models = Models(directory.snapshot(), {}, bridge)
        try:
            yield open_world(directory, bridge, models)
        finally:
            models.close()
            bridge.close()


def remote_of(snapshot: Snapshot) -> Remote:
    url = snapshot.repository.url
    token = os.environ.get("SWARMRUN_GIT_TOKEN", "")
    scheme, _ = scheme_and_host(url)
    credential: Credential = Token(token) if token and scheme in ("https", "http") else UserGit()
    return Remote(url, credential=credential, schemes=SCHEMES)


def _pull_requests(snapshot: Snapshot) -> PullRequests | None:
    spec = snapshot.publish.pull_request
    token = next((os.environ[t] for t in TOKENS if os.environ.get(t)), "")
    if not token:
        raise PermissionDenied(
            "no token for pull requests",
            mend=f"set one of {', '.join(TOKENS)}",
            reason="PullRequestTokenMissing",
        )
    return for_remote(
        snapshot.repository.url, token, spec.provider or None, draft=spec.draft, allow_http=True
    )
