"""A real cluster: any KUBECONFIG whose Pods this process can reach, and the sandbox image loaded there.

`SWARMRUN_TEST_CLUSTER=1` says that the cluster is one for tests: namespaces are made and deleted.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from swarmrun.kube.api import KubeApi
from swarmrun.kube.options import NetworkOptions, PodOptions, RunPlace
from swarmrun.ports import SandboxSpec, SandboxState
from swarmrun.sandbox.kubernetes.provider import KubernetesProvider

KEY = b"k" * 32
IMAGE = os.environ.get("SWARMRUN_TEST_SANDBOX_IMAGE", "localhost/swarmrun-sandbox:dev")
OTHER_IMAGE = os.environ.get("SWARMRUN_TEST_OTHER_IMAGE", "localhost/base:bookworm")

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("SWARMRUN_TEST_CLUSTER") == "1" and os.environ.get("KUBECONFIG"):
        return
    skip = pytest.mark.skip(reason="needs a cluster: set KUBECONFIG and SWARMRUN_TEST_CLUSTER=1")
    for item in items:
        if item.get_closest_marker("cluster"):
            item.add_marker(skip)


class Cluster:
    """One namespace, and what tests do in it."""

    def __init__(self, api: KubeApi, namespace: str) -> None:
        self.api = api
        self.namespace = namespace
        self.core = f"/api/v1/namespaces/{namespace}"

    def provider(
        self, run: str = "run", options: dict[str, Any] | None = None, **network: Any
    ) -> KubernetesProvider:
        return KubernetesProvider(
            self.api,
            RunPlace(self.namespace, run, "demo"),
            KEY,
            PodOptions(IMAGE, **(options or {})),
            NetworkOptions("swarmrun-system", {"app.kubernetes.io/component": "worker"}, **network),
        )

    async def make(self, path: str, body: dict[str, Any]) -> None:
        """Retried: a new namespace's service account and quota take a moment."""
        await self.api.create(path, body)

    async def pod(self, name: str) -> dict[str, Any]:
        return await self.api.get(f"{self.core}/pods/{name}")

    async def pods(self) -> list[dict[str, Any]]:
        return (await self.api.get(f"{self.core}/pods"))["items"]


def spec(name: str = "run-task-a1-g1", **more: Any) -> SandboxSpec:
    small: dict[str, Any] = {"cpu": 0.5, "memory_mb": 256, "disk_mb": 512}
    return SandboxSpec(name, run=more.pop("run", "run"), **(small | more))


async def settled(provider: KubernetesProvider, it: SandboxSpec, *, within: float = 60) -> SandboxState:
    """What `ensure` says once it no longer says Starting."""
    ends = time.monotonic() + within
    while (state := await provider.ensure(it)).phase == "Starting":
        assert time.monotonic() < ends, state
        await asyncio.sleep(0.2)
    return state


async def ready(provider: KubernetesProvider, it: SandboxSpec):
    state = await settled(provider, it)
    assert state.phase == "Ready", state
    return await provider.connect(it.id)


async def until(provider: KubernetesProvider, it: SandboxSpec, phase: str, *, within: float = 60):
    ends = time.monotonic() + within
    while (state := await provider.ensure(it)).phase != phase:
        assert time.monotonic() < ends, state
        await asyncio.sleep(0.3)
    return state


Scenario = Callable[[Cluster], Awaitable[Any]]


@pytest.fixture
def in_cluster() -> Callable[..., Any]:
    """Runs a coroutine function in a namespace of its own, which enforces the restricted standard."""

    def run(scenario: Scenario, **labels: str) -> Any:
        async def go() -> Any:
            api = KubeApi(kubeconfig=os.environ["KUBECONFIG"])
            name = f"test-{secrets.token_hex(4)}"
            body = {"metadata": {"name": name, "labels": RESTRICTED | labels}}
            await api.create("/api/v1/namespaces", body)
            try:
                cluster = Cluster(api, name)
                for _ in range(50):
                    found = await api.get(f"{cluster.core}/serviceaccounts")
                    if found["items"]:
                        break
                    await asyncio.sleep(0.1)
                return await scenario(cluster)
            finally:
                await api.delete(f"/api/v1/namespaces/{name}")
                await api.close()

        return asyncio.run(go())

    return run
