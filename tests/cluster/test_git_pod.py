"""The git Pod between a real cluster and a real Gitea."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import secrets
import time
from typing import Any

import httpx
import pytest

from swarmrun.artifacts.store import open_store
from swarmrun.errors import PermissionDenied, RemoteUnavailable, SwarmRunError
from swarmrun.git import trailers
from swarmrun.git.pod.client import GitPodAccess
from swarmrun.git.pod.manifest import GitOptions
from swarmrun.git.repo import RunRepo
from swarmrun.kube.options import PodOptions

pytestmark = pytest.mark.cluster

AUTHOR = "Swarm <swarm@example.invalid>"
TOKEN = "derived by the brain"


@pytest.fixture
def forge() -> tuple[str, str]:
    url, token = os.environ.get("SWARMRUN_TEST_FORGE"), os.environ.get("SWARMRUN_TEST_FORGE_TOKEN")
    if not url or not token:
        pytest.skip("no Gitea that Pods reach: set SWARMRUN_TEST_FORGE and SWARMRUN_TEST_FORGE_TOKEN")
    return url.rstrip("/"), token


@pytest.fixture
def repository(forge):
    url, token = forge
    headers = {"Authorization": f"token {token}"}
    name = f"t-{secrets.token_hex(6)}"
    body = {"name": name, "default_branch": "main", "auto_init": True, "private": True}
    made = httpx.post(f"{url}/api/v1/user/repos", json=body, headers=headers, timeout=30)
    assert made.is_success, made.text
    yield made.json()["clone_url"]
    httpx.delete(f"{url}/api/v1/repos/{made.json()['full_name']}", headers=headers, timeout=30)


@pytest.fixture
def repo(tmp_path) -> RunRepo:
    made = RunRepo(tmp_path / "brain.git", open_store((tmp_path / "artifacts").as_uri()), "")
    made.init()
    return made


async def secret(cluster: Any, name: str, **keys: str) -> None:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in keys.items()}
    body = {"metadata": {"name": name}, "data": data}
    await cluster.api.create(f"{cluster.core}/secrets", body)


def access(cluster: Any, repo: RunRepo, url: str, **more: Any) -> GitPodAccess:
    loop = asyncio.get_running_loop()
    options = GitOptions(
        url, PodOptions(cluster.operator_image), schemes=("http", "https"), provider="gitea", **more
    )

    def run(coroutine: Any) -> str:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    return GitPodAccess(cluster.api, cluster.place, options, cluster.network, repo, TOKEN, run)


async def served(call: Any, *args: Any, within: float = 60, **more: Any) -> Any:
    """As the orchestration does it: asked again while the Pod starts."""
    ends = time.monotonic() + within
    while True:
        try:
            return await asyncio.to_thread(call, *args, **more)
        except RemoteUnavailable:
            if time.monotonic() > ends:
                raise
            await asyncio.sleep(0.3)


def test_a_run_goes_to_its_remote_and_back_by_a_pod_that_alone_holds_the_secret(
    in_cluster, repository, forge, repo
):
    async def scenario(cluster):
        await secret(cluster, "team-git", token=forge[1], hosts="other.example.com " + host(forge))
        remote = access(cluster, repo, repository, secret="team-git", draft=True)
        found = await served(remote.preflight, "")
        assert (found.branch, found.push, found.empty) == ("main", "ok", False)
        await served(remote.check_pull_requests)
        await served(remote.fetch, found.base_commit, branch="main")
        base = found.base_commit
        message = trailers.add("Result\n", trailers.run_trailers(run="r", spec_hash="h1"))
        commit = repo.commit_tree(repo.with_files(base, {"x.py": b"x = 1\n"}), [base], message, AUTHOR, 100)
        repo.record(commit, base)
        done = await served(remote.publish, commit, branch="swarm/demo", base_branch="main", base_commit=base)
        assert (done.branch, done.commit, done.already) == ("swarm/demo", commit, False)
        opened = await served(
            remote.open_pull_request, head="swarm/demo", base="main", title="Result", body="as asked"
        )
        assert opened.created
        # The Pod dies; the next call makes another, which finds what was done.
        (pod,) = await cluster.pods()
        await cluster.api.delete(f"{cluster.core}/pods/{pod['metadata']['name']}", grace_seconds=0)
        assert (await served(remote.find_published, "swarm/demo", "h1")).commit == commit
        assert (await served(remote.publish, commit, branch="swarm/demo", base_commit=base)).already
        again = await served(
            remote.open_pull_request, head="swarm/demo", base="main", title="Result", body="again"
        )
        assert (again.number, again.created) == (opened.number, False)
        # The token is on no object that says anything about the run.
        (pod,) = await cluster.pods()
        assert forge[1] not in str(pod)
        assert hashlib.sha256(TOKEN.encode()).hexdigest() in str(pod)

    in_cluster(scenario)


def host(forge: tuple[str, str]) -> str:
    return httpx.URL(forge[0]).host


def test_what_is_wrong_with_a_secret_is_said(in_cluster, repository, forge, repo):
    async def scenario(cluster):
        async def refused(remote: GitPodAccess) -> SwarmRunError:
            with pytest.raises(PermissionDenied) as exc:
                await served(remote.preflight, "")
            return exc.value

        remote = access(cluster, repo, repository, secret="team-git")
        assert (await refused(remote)).reason == "SecretMissing"
        await secret(cluster, "team-git", token=forge[1], hosts="elsewhere.example.com")
        # A Pod that was made without it is not given it: the next call makes another one.
        exc = await refused(remote)
        assert exc.reason == "SecretHostNotAllowed"
        assert host(forge) in exc.message

    in_cluster(scenario)


def test_a_wrong_token_is_the_hosts_own_refusal(in_cluster, repository, forge, repo):
    async def scenario(cluster):
        await secret(cluster, "team-git", username="swarm", password="wrong")
        remote = access(cluster, repo, repository, secret="team-git")
        with pytest.raises(PermissionDenied, match=r"[Aa]uthenticat"):
            await served(remote.preflight, "")

    in_cluster(scenario)


def test_the_git_pod_reaches_the_remote_alone(in_cluster, repository, forge, repo):
    async def scenario(cluster):
        await secret(cluster, "team-git", token=forge[1])
        first = access(cluster, repo, repository, secret="team-git")
        await served(first.preflight, "")
        # The same Pod with a remote on another port: the policy of this one does not let it there.
        await cluster.api.delete(f"{cluster.core}/pods", labelSelector="app.kubernetes.io/component=git")
        await cluster.api.delete(cluster.policies, labelSelector="app.kubernetes.io/component=git")
        await cluster.gone("pods")
        closed = access(cluster, repo, repository, secret="team-git", cidrs=("192.0.2.0/24",))
        await asyncio.to_thread(_starting, closed)
        await asyncio.sleep(5)  # policies take effect 1.0–1.5 s after a container's start
        await served(closed.check_pull_requests)  # which asks nobody
        with pytest.raises(RemoteUnavailable, match=r"cannot read|did not answer"):
            await asyncio.to_thread(closed.preflight, "")

    in_cluster(scenario)


def _starting(remote: GitPodAccess) -> None:
    with pytest.raises(RemoteUnavailable):
        remote.preflight("")
