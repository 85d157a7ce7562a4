"""A real cluster: any KUBECONFIG whose Pods this process can reach, with the images loaded there.

| variable | meaning |
| --- | --- |
| `SWARMRUN_TEST_CLUSTER=1` | the cluster is one for tests: namespaces are made and deleted in it |
| `SWARMRUN_TEST_SANDBOX_IMAGE`, `SWARMRUN_TEST_OPERATOR_IMAGE` | default `localhost/swarmrun-{sandbox,operator}:dev` |
| `SWARMRUN_TEST_OTHER_IMAGE` | one with Python >= 3.9 and git and nothing of ours |
| `SWARMRUN_TEST_FORGE`, `SWARMRUN_TEST_FORGE_TOKEN` | a Gitea that Pods reach, and an administrator's token |
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from swarmrun.artifacts.store import open_store
from swarmrun.errors import RemoteUnavailable
from swarmrun.git.pod.client import GitPodAccess
from swarmrun.git.pod.manifest import GitOptions
from swarmrun.git.repo import RunRepo
from swarmrun.kube.api import KubeApi
from swarmrun.kube.options import NetworkOptions, PodOptions, RunPlace
from swarmrun.ports import Sandbox, SandboxSpec, SandboxState
from swarmrun.sandbox.kubernetes.provider import KubernetesProvider

KEY = b"k" * 32
NETWORK = NetworkOptions("swarmrun-system", {"app.kubernetes.io/component": "worker"})
PATIENCE = 1500
"""Seconds for a test that says nothing else: more than all together that it waits for here."""
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ready = os.environ.get("SWARMRUN_TEST_CLUSTER") == "1" and os.environ.get("KUBECONFIG")
    skip = pytest.mark.skip(reason="needs a cluster: set KUBECONFIG and SWARMRUN_TEST_CLUSTER=1")
    for item in items:
        if not item.get_closest_marker("cluster"):
            continue
        if not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(PATIENCE))
        if not ready:
            item.add_marker(skip)


class Cluster:
    """One namespace, and what tests do in it."""

    image = os.environ.get("SWARMRUN_TEST_SANDBOX_IMAGE", "localhost/swarmrun-sandbox:dev")
    operator_image = os.environ.get("SWARMRUN_TEST_OPERATOR_IMAGE", "localhost/swarmrun-operator:dev")
    other_image = os.environ.get("SWARMRUN_TEST_OTHER_IMAGE", "localhost/base:bookworm")
    network = NETWORK
    git_token = "derived by the brain"

    def __init__(self, api: KubeApi, namespace: str) -> None:
        self.api = api
        self.namespace = namespace
        self.place = RunPlace(namespace, "run", "demo")
        self.core = f"/api/v1/namespaces/{namespace}"
        self.policies = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"

    def provider(self, network: NetworkOptions = NETWORK, **options: Any) -> KubernetesProvider:
        return KubernetesProvider(
            self.api, self.place, KEY, PodOptions(**({"image": self.image} | options)), network
        )

    def spec(self, name: str = "run-task-a1-g1", **more: Any) -> SandboxSpec:
        small: dict[str, Any] = {"cpu": 0.5, "memory_mb": 256, "disk_mb": 512}
        return SandboxSpec(name, run="run", **(small | more))

    async def settled(
        self, provider: KubernetesProvider, it: SandboxSpec, *, within: float = 180
    ) -> SandboxState:
        """What `ensure` says once it no longer says Starting."""
        ends = time.monotonic() + within
        while (state := await provider.ensure(it)).phase == "Starting":
            assert time.monotonic() < ends, state
            await asyncio.sleep(0.2)
        return state

    async def ready(self, provider: KubernetesProvider, it: SandboxSpec | None = None) -> Sandbox:
        it = it or self.spec()
        state = await self.settled(provider, it)
        assert state.phase == "Ready", state
        return await provider.connect(it.id)

    async def until_lost(
        self, provider: KubernetesProvider, it: SandboxSpec, *, within: float = 240
    ) -> SandboxState:
        ends = time.monotonic() + within
        while (state := await provider.ensure(it)).phase != "Lost":
            assert time.monotonic() < ends, state
            await asyncio.sleep(0.5)
        return state

    async def secret(self, name: str, **keys: str) -> None:
        await self.api.create(f"{self.core}/secrets", {"metadata": {"name": name}, "stringData": keys})

    def git(self, repo: RunRepo, url: str, **more: Any) -> GitPodAccess:
        """The brain's side of a git Pod."""
        loop = asyncio.get_running_loop()
        options = GitOptions(
            url, PodOptions(self.operator_image), schemes=("http", "https"), provider="gitea", **more
        )

        def run(coroutine: Any) -> str:
            return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

        return GitPodAccess(self.api, self.place, options, self.network, repo, self.git_token, run)

    @staticmethod
    async def served(call: Any, *args: Any, within: float = 180, **more: Any) -> Any:
        """As the orchestration does it: asked again while the git Pod starts."""
        ends = time.monotonic() + within
        while True:
            try:
                return await asyncio.to_thread(call, *args, **more)
            except RemoteUnavailable:
                if time.monotonic() > ends:
                    raise
                await asyncio.sleep(0.3)

    async def pods(self) -> list[dict[str, Any]]:
        return (await self.api.get(f"{self.core}/pods"))["items"]

    async def gone(self, what: str, *, within: float = 180) -> None:
        """Waits until the namespace holds none of `what`."""
        ends = time.monotonic() + within
        while left := (await self.api.get(f"{self.core}/{what}"))["items"]:
            assert time.monotonic() < ends, [item["metadata"]["name"] for item in left]
            await asyncio.sleep(0.3)


@pytest.fixture
def in_cluster() -> Callable[..., Any]:
    """Runs a coroutine function in a namespace of its own, which enforces the restricted standard."""

    def run(scenario: Callable[[Cluster], Awaitable[Any]]) -> Any:
        async def go() -> Any:
            api = KubeApi(kubeconfig=os.environ["KUBECONFIG"])
            name = f"test-{secrets.token_hex(4)}"
            await api.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": RESTRICTED}})
            try:
                cluster = Cluster(api, name)
                while not (await api.get(f"{cluster.core}/serviceaccounts"))["items"]:
                    await asyncio.sleep(0.1)
                return await scenario(cluster)
            finally:
                await api.delete(f"/api/v1/namespaces/{name}")
                await api.close()

        return asyncio.run(go())

    return run


@pytest.fixture
def forge() -> tuple[str, str]:
    """Address and token."""
    url, token = os.environ.get("SWARMRUN_TEST_FORGE"), os.environ.get("SWARMRUN_TEST_FORGE_TOKEN")
    if not url or not token:
        pytest.skip("no Gitea that Pods reach: set SWARMRUN_TEST_FORGE and SWARMRUN_TEST_FORGE_TOKEN")
    return url.rstrip("/"), token


@pytest.fixture
def repository(forge: tuple[str, str]) -> Iterator[str]:
    """Of the forge, private and with one commit; its address."""
    url, token = forge
    headers = {"Authorization": f"token {token}"}
    name = f"t-{secrets.token_hex(6)}"
    body = {"name": name, "default_branch": "main", "auto_init": True, "private": True}
    made = httpx.post(f"{url}/api/v1/user/repos", json=body, headers=headers, timeout=30)
    assert made.is_success, made.text
    yield made.json()["clone_url"]
    httpx.delete(f"{url}/api/v1/repos/{made.json()['full_name']}", headers=headers, timeout=30)


@pytest.fixture
def repo(tmp_path: Path) -> RunRepo:
    """The brain's."""
    made = RunRepo(tmp_path / "brain.git", open_store((tmp_path / "artifacts").as_uri()), "")
    made.init()
    return made
