"""Where a run's sandboxes are started and by what its remote is reached: the part of a world that depends on
where the operator runs."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from swarmrun.api import API_VERSION
from swarmrun.api.resolve import Snapshot
from swarmrun.controller.settings import OperatorSettings
from swarmrun.controller.wanted import uid_of
from swarmrun.errors import StorageUnavailable
from swarmrun.git.credentials import Credential, Token, UserGit
from swarmrun.git.pull_requests.factory import for_remote
from swarmrun.git.remote import Remote
from swarmrun.git.urls import parse
from swarmrun.ports import PullRequests, SandboxProvider


@dataclass(frozen=True)
class Hands:
    """Each is asked once a run; what they give is used by many threads."""

    provider: Callable[[Snapshot], SandboxProvider]
    remote: Callable[[Snapshot], Remote]
    pull_requests: Callable[[Snapshot], PullRequests | None]


def hands_for(settings: OperatorSettings) -> Hands:
    """As the settings say."""
    return process_hands(settings) if settings.sandboxes == "process" else pod_hands(settings)


def pod_hands(settings: OperatorSettings) -> Hands:
    """Sandboxes as Pods in the resource's namespace, owned by it."""
    from swarmrun.kube.api import KubeApi
    from swarmrun.kube.options import NetworkOptions, Owner, PodOptions, RunPlace
    from swarmrun.sandbox.kubernetes.provider import KubernetesProvider

    api = KubeApi()
    key = master_key(settings)
    options = PodOptions(
        image=settings.sandbox_image,
        image_pull_policy=settings.sandbox_pull_policy,
        image_pull_secrets=settings.sandbox_pull_secrets,
    )
    network = NetworkOptions(brain_namespace=settings.namespace, brain_labels=settings.brain_labels)

    def provider(snapshot: Snapshot) -> SandboxProvider:
        owner = Owner(API_VERSION, "SwarmRun", snapshot.name, uid_of(snapshot.run))
        place = RunPlace(snapshot.namespace, snapshot.run, snapshot.name, owner)
        return KubernetesProvider(api, place, key, options, network)

    def remote(snapshot: Snapshot) -> Remote:
        return Remote(snapshot.repository.url, schemes=("https", "ssh", "http"))

    return Hands(provider, remote, lambda _: None)


def process_hands(settings: OperatorSettings) -> Hands:
    """Sandboxes as processes of this machine, git as this user's: for an operator that runs outside of a Pod."""
    from swarmrun.sandbox.process import ProcessProvider

    provider = ProcessProvider(
        settings.state / "sandboxes", master_key(settings), unsafe_no_sandbox=settings.unsafe_no_sandbox
    )
    token = os.environ.get("SWARMRUN_GIT_TOKEN", "")

    def remote(snapshot: Snapshot) -> Remote:
        url = snapshot.repository.url
        https = token and parse(url).scheme in ("https", "http")
        credential: Credential = Token(token) if https else UserGit()
        # Which schemes a run may name was checked against its class.
        return Remote(url, credential=credential, schemes=("https", "ssh", "http", "file"))

    def pull_requests(snapshot: Snapshot) -> PullRequests | None:
        spec = snapshot.publish.pull_request
        return for_remote(
            snapshot.repository.url, token, spec.provider or None, draft=spec.draft, allow_http=True
        )

    return Hands(lambda _: provider, remote, pull_requests)


def master_key(settings: OperatorSettings) -> bytes:
    """What sandboxes' tokens are derived from. Raises StorageUnavailable."""
    path = settings.master_key_file or settings.state / "master.key"
    try:
        if settings.master_key_file is None:
            _make(path)
        return path.read_bytes()
    except OSError as exc:
        raise StorageUnavailable(f"the master key {path} cannot be read: {exc.strerror}") from exc


def _make(path: Path) -> None:
    """Whole or absent, whoever is killed; of two who make it at once the first wins."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    staging.touch(mode=0o600)
    staging.write_bytes(secrets.token_bytes(32))
    try:
        os.link(staging, path)
    except FileExistsError:
        pass
    finally:
        staging.unlink()
