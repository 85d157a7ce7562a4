"""Where a run's sandboxes are started and by what its remote is reached: the part of a world that depends on
where the operator runs."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from swarmrun.api import API_VERSION
from swarmrun.api.resolve import Snapshot, scheme_and_host
from swarmrun.controller.settings import OperatorSettings
from swarmrun.controller.wanted import uid_of
from swarmrun.durable.bridge import Bridge
from swarmrun.errors import StorageUnavailable
from swarmrun.git.credentials import Credential, Token, UserGit
from swarmrun.git.pull_requests.factory import for_remote
from swarmrun.git.remote import Remote
from swarmrun.git.repo import RunRepo
from swarmrun.ports import PullRequests, RepositoryAccess, SandboxProvider
from swarmrun.sandbox.tokens import token


@dataclass(frozen=True)
class Hands:
    """Each is asked once a run; what they give is used by many threads."""

    provider: Callable[[Snapshot], SandboxProvider]
    repository: Callable[[Snapshot, RunRepo], RepositoryAccess]


def hands_for(settings: OperatorSettings, bridge: Bridge) -> Hands:
    """As the settings say."""
    make = process_hands if settings.sandboxes == "process" else pod_hands
    return make(settings, bridge)


def pod_hands(settings: OperatorSettings, bridge: Bridge) -> Hands:
    """Sandboxes and one git Pod as Pods in the resource's namespace, owned by it."""
    from swarmrun.git.pod.client import GitPodAccess
    from swarmrun.git.pod.manifest import GitOptions, git_name
    from swarmrun.kube.api import KubeApi
    from swarmrun.kube.from_class import network_options, pod_options
    from swarmrun.kube.options import NetworkOptions, Owner, PodOptions, RunPlace
    from swarmrun.kube.pods import Pods
    from swarmrun.sandbox.kubernetes.provider import KubernetesProvider

    api = KubeApi(own_rights=True)
    seen = Pods(api, settings.namespaces)
    key = master_key(settings)
    options = PodOptions(
        image=settings.sandbox_image,
        image_pull_policy=settings.sandbox_pull_policy,
        image_pull_secrets=settings.sandbox_pull_secrets,
    )
    network = NetworkOptions(brain_namespace=settings.namespace, brain_labels=settings.brain_labels)

    def place(snapshot: Snapshot) -> RunPlace:
        owner = Owner(API_VERSION, "SwarmRun", snapshot.name, uid_of(snapshot.run))
        return RunPlace(snapshot.namespace, snapshot.run, snapshot.name, owner)

    def provider(snapshot: Snapshot) -> SandboxProvider:
        pods, fence = pod_options(options, snapshot.pods), network_options(network, snapshot.pods)
        return KubernetesProvider(api, place(snapshot), key, pods, fence, seen)

    def repository(snapshot: Snapshot, repo: RunRepo) -> RepositoryAccess:
        spec, credential = snapshot.publish.pull_request, snapshot.repository.credential
        git = GitOptions(
            url=snapshot.repository.url,
            pods=replace(pod_options(options, snapshot.pods), image=settings.operator_image),
            secret=credential.name if credential else "",
            # Which schemes a run may name was checked against its class.
            schemes=(scheme_and_host(snapshot.repository.url)[0],),
            provider=spec.provider,
            draft=spec.draft,
            cidrs=tuple(snapshot.pods.git_cidrs),
            ca_config_map=snapshot.pods.git_ca_config_map or snapshot.pods.ca_config_map,
            env=snapshot.pods.git_env,
        )
        its = place(snapshot)
        return GitPodAccess(api, its, git, network, repo, token(key, git_name(its)), bridge.run, seen)

    return Hands(provider, repository)


def process_hands(settings: OperatorSettings, bridge: Bridge) -> Hands:
    """Sandboxes as processes of this machine, git as this user's: for an operator that runs outside of a Pod."""
    from swarmrun.git.direct import DirectAccess
    from swarmrun.sandbox.process import ProcessProvider

    provider = ProcessProvider(
        settings.state / "sandboxes", master_key(settings), unsafe_no_sandbox=settings.unsafe_no_sandbox
    )
    git_token = os.environ.get("SWARMRUN_GIT_TOKEN", "")

    def repository(snapshot: Snapshot, repo: RunRepo) -> RepositoryAccess:
        url, spec = snapshot.repository.url, snapshot.publish.pull_request
        by_token = git_token and scheme_and_host(url)[0] in ("https", "http")
        credential: Credential = Token(git_token) if by_token else UserGit()

        def remote() -> Remote:
            return Remote(url, credential=credential, schemes=("https", "ssh", "http", "file"))

        def pull_requests() -> PullRequests:
            return for_remote(url, git_token, spec.provider or None, draft=spec.draft, allow_http=True)

        return DirectAccess(repo, remote, pull_requests, bridge.run)

    return Hands(lambda _: provider, repository)


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
