"""The git Pod between a real cluster and a real Gitea."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time

import httpx
import pytest

from swarmrun.errors import PermissionDenied, RemoteUnavailable, SwarmRunError
from swarmrun.git import trailers
from swarmrun.git.pod.client import GitPodAccess

pytestmark = pytest.mark.cluster

AUTHOR = "Swarm <swarm@example.invalid>"


def test_a_run_goes_to_its_remote_and_back_by_a_pod_that_alone_holds_the_secret(
    in_cluster, repository, forge, repo
):
    async def scenario(cluster):
        await cluster.secret("team-git", token=forge[1], hosts="other.example.com " + host(forge))
        remote = cluster.git(repo, repository, secret="team-git", draft=True)
        found = await cluster.served(remote.preflight, "")
        assert (found.branch, found.push, found.empty) == ("main", "ok", False)
        await cluster.served(remote.check_pull_requests)
        await cluster.served(remote.fetch, found.base_commit, branch="main")
        base = found.base_commit
        message = trailers.add("Result\n", trailers.run_trailers(run="r", spec_hash="h1"))
        commit = repo.commit_tree(repo.with_files(base, {"x.py": b"x = 1\n"}), [base], message, AUTHOR, 100)
        repo.record(commit, base)
        done = await cluster.served(
            remote.publish, commit, branch="swarm/demo", base_branch="main", base_commit=base
        )
        assert (done.branch, done.commit, done.already) == ("swarm/demo", commit, False)
        opened = await cluster.served(
            remote.open_pull_request, head="swarm/demo", base="main", title="Result", body="as asked"
        )
        assert opened.created
        # The Pod dies; the next call makes another, which finds what was done.
        (pod,) = await cluster.pods()
        await cluster.api.delete(f"{cluster.core}/pods/{pod['metadata']['name']}", grace_seconds=1)
        await cluster.gone("pods")  # and its server with it
        assert (await cluster.served(remote.find_published, "swarm/demo", "h1")).commit == commit
        assert (await cluster.served(remote.publish, commit, branch="swarm/demo", base_commit=base)).already
        again = await cluster.served(
            remote.open_pull_request, head="swarm/demo", base="main", title="Result", body="again"
        )
        assert (again.number, again.created) == (opened.number, False)
        # The token is on no object that says anything about the run.
        (pod,) = await cluster.pods()
        assert forge[1] not in str(pod)
        assert hashlib.sha256(cluster.git_token.encode()).hexdigest() in str(pod)

    in_cluster(scenario)


def host(forge: tuple[str, str]) -> str:
    return httpx.URL(forge[0]).host


def test_what_is_wrong_with_a_secret_is_said(in_cluster, repository, forge, repo):
    async def scenario(cluster):
        async def refused(remote: GitPodAccess) -> SwarmRunError:
            with pytest.raises(PermissionDenied) as exc:
                await cluster.served(remote.preflight, "")
            return exc.value

        remote = cluster.git(repo, repository, secret="team-git")
        assert (await refused(remote)).reason == "SecretMissing"
        await cluster.secret("team-git", token=forge[1], hosts="elsewhere.example.com")
        # A Pod that was made without it is not given it: the next call makes another one.
        exc = await refused(remote)
        assert exc.reason == "SecretHostNotAllowed"
        assert host(forge) in exc.message

    in_cluster(scenario)


def test_a_wrong_token_is_the_hosts_own_refusal(in_cluster, repository, forge, repo):
    async def scenario(cluster):
        await cluster.secret("team-git", username="swarm", password="wrong")
        remote = cluster.git(repo, repository, secret="team-git")
        with pytest.raises(PermissionDenied, match=r"[Aa]uthenticat"):
            await cluster.served(remote.preflight, "")

    in_cluster(scenario)


def test_the_git_pod_reaches_the_remote_alone(in_cluster, repository, forge, repo):
    async def scenario(cluster):
        await cluster.secret("team-git", token=forge[1])
        first = cluster.git(repo, repository, secret="team-git")
        await cluster.served(first.preflight, "")
        # The same Pod with a remote on another port: the policy of this one does not let it there.
        await cluster.api.delete(f"{cluster.core}/pods", labelSelector="app.kubernetes.io/component=git")
        await cluster.api.delete(cluster.policies, labelSelector="app.kubernetes.io/component=git")
        await cluster.gone("pods")
        closed = cluster.git(repo, repository, secret="team-git", cidrs=("192.0.2.0/24",))
        await cluster.served(closed.check_pull_requests)  # which asks nobody
        ends = time.monotonic() + 30
        while await asyncio.to_thread(_reaches, closed):
            # Policies take effect 1.0–1.5 s after a container's start, on an idle machine.
            assert time.monotonic() < ends, "the remote is still reached"
            await asyncio.sleep(0.5)
        assert not await asyncio.to_thread(_reaches, closed)

    in_cluster(scenario)


def _reaches(remote: GitPodAccess) -> bool:
    """False: its Pod is there, and was not let through."""
    try:
        remote.preflight("")
    except RemoteUnavailable as exc:
        if not re.search(r"cannot read|did not answer", str(exc)):
            raise
        return False
    return True
