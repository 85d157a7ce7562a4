"""Git and set-up in a company's network: a private CA, a proxy, and nothing else to be reached.

`company` is of conftest.py.
"""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from swarmrun.errors import GitError, InvalidResource, RemoteUnavailable
from swarmrun.kube.options import EgressProxy
from swarmrun.sandbox.kubernetes import provider as providers

pytestmark = pytest.mark.cluster


def test_a_git_pod_goes_by_the_proxy_and_trusts_the_companys_ca(in_cluster, company, repository, forge, repo):
    async def scenario(cluster):
        await cluster.secret("team-git", token=forge[1])
        remote = cluster.git(
            repo,
            company.url(repository),
            secret="team-git",
            ca_config_map=await company.trusted(cluster),
            cidrs=(f"{company.host}/32",),
            env={"HTTPS_PROXY": company.proxy_url},
        )
        found = await cluster.served(remote.preflight, "")
        assert (found.branch, found.push) == ("main", "ok")
        await cluster.served(remote.fetch, found.base_commit, branch="main")
        await cluster.served(remote.check_pull_requests)
        done = await cluster.served(remote.publish, found.base_commit, branch="swarm/x", base_branch="main")
        assert done.branch == "swarm/x"
        # The REST interface takes the same way, with the same trust.
        opened = await cluster.served(
            remote.open_pull_request, head="swarm/x", base="main", title="Result", body=""
        )
        assert opened.created
        assert set(company.proxy.asked) == {f"CONNECT {company.name}:443"}
        # The policy lets it to the proxy's port and nowhere else on that host.
        (policy,) = (await cluster.api.get(cluster.policies))["items"]
        assert [r["ports"] for r in policy["spec"]["egress"]] == [
            [{"protocol": "TCP", "port": company.proxy.port}]
        ]

    in_cluster(scenario)


def test_a_ca_that_is_not_trusted_is_told_at_once(in_cluster, company, repository, forge, repo):
    async def scenario(cluster):
        await cluster.secret("team-git", token=forge[1])
        env = {"HTTPS_PROXY": company.proxy_url}
        remote = cluster.git(repo, company.url(repository), secret="team-git", env=env)
        with pytest.raises(GitError) as refused:
            await cluster.served(remote.preflight, "")
        assert refused.value.reason == "TLS"
        assert "gitCaConfigMap" in refused.value.mend

    in_cluster(scenario)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, 'configmap "corporate-ca" not found'),
        ({"other": "x"}, "references non-existent config key: ca.crt"),
        ({"ca.crt": "not a certificate"}, "holds no certificate"),
    ],
)
def test_a_ca_that_is_not_there_is_told_by_name(in_cluster, company, repository, forge, repo, data, words):
    async def scenario(cluster):
        if data is not None:
            body = {"metadata": {"name": "corporate-ca"}, "data": data}
            await cluster.api.create(f"{cluster.core}/configmaps", body)
        remote = cluster.git(repo, company.url(repository), ca_config_map="corporate-ca")
        with pytest.raises(InvalidResource) as refused:
            await cluster.served(remote.preflight, "")
        assert words in refused.value.message

    in_cluster(scenario)


def test_set_up_goes_by_the_proxy_to_granted_domains_and_agents_go_nowhere(in_cluster, company):
    async def scenario(cluster):
        ca = await company.trusted(cluster)
        proxy = EgressProxy(company.proxy_url, f"{company.host}/32")
        net = dataclasses.replace(cluster.network, proxy=proxy)
        provider = cluster.provider(net, ca_config_map=ca)
        ahead = cluster.spec(egress=True, setup_only=True, setup="ahead")
        state = await cluster.settled(provider, ahead)
        assert (state.phase, state.open) == ("Ready", True), state
        box = await provider.connect(ahead.id)
        ask = f"git ls-remote https://{company.name}/nobody/nothing.git 2>&1 | tail -1"
        for _ in range(10):
            said = (await box.exec(ask, timeout_s=20)).stdout
            if "Couldn't connect" not in said and "Failed to connect" not in said:
                break
            await asyncio.sleep(0.5)
        # TLS stood, the proxy let it through: what answers is the forge.
        assert "nothing.git/' not found" in said, said
        python = (
            "python3 -c 'import urllib.request as u; u.urlopen(\"https://{}\", timeout=5)' 2>&1 | tail -1"
        )
        assert (
            "HTTP Error 404"
            in (await box.exec(python.format(f"{company.name}/api/v1/nothing"), timeout_s=20)).stdout
        )
        refused = (await box.exec(python.format("elsewhere.example.com"), timeout_s=20)).stdout
        assert "403 Forbidden" in refused
        # The host itself is out of reach, but for the proxy.
        forge_port = company.front.port
        direct = (
            f"python3 -c 'import socket; socket.create_connection((\"{company.host}\", {forge_port}), 2)'"
        )
        assert (await box.exec(direct, timeout_s=20)).exit_code != 0
        done = dataclasses.replace(ahead, setup="done")
        assert (await cluster.settled(provider, done)).phase == "Ready"
        asked = len(company.proxy.asked)
        assert (await box.exec("env | grep -ci _proxy; true")).stdout == "0\n"
        by_hand = f"https_proxy={company.proxy_url} {ask}"
        said = (await box.exec(by_hand, timeout_s=60)).stdout
        assert "not found" not in said
        assert len(company.proxy.asked) == asked

    in_cluster(scenario)


def test_a_proxy_that_stays_open_to_agents_stops_the_run(in_cluster, company, monkeypatch):
    monkeypatch.setattr(providers, "ENFORCED_WITHIN", 4.0)

    async def scenario(cluster):
        body = {
            "metadata": {"name": "tenant"},
            "spec": {
                "podSelector": {},
                "policyTypes": ["Egress"],
                "egress": [
                    {
                        "to": [{"ipBlock": {"cidr": f"{company.host}/32"}}],
                        "ports": [{"protocol": "TCP", "port": company.proxy.port}],
                    }
                ],
            },
        }
        await cluster.api.create(cluster.policies, body)
        net = dataclasses.replace(cluster.network, proxy=EgressProxy(company.proxy_url, f"{company.host}/32"))
        provider = cluster.provider(net)
        ahead = cluster.spec(egress=True, setup_only=True, setup="ahead")
        assert (await cluster.settled(provider, ahead)).open
        state = await cluster.settled(provider, dataclasses.replace(ahead, setup="done"))
        assert (state.phase, state.reason) == ("Refused", "NetworkPolicyNotEnforced"), state
        assert f"{company.host}:{company.proxy.port} can be reached" in state.message

    in_cluster(scenario)


def test_a_git_pod_whose_proxy_is_down_waits(in_cluster, company, repository, forge, repo):
    async def scenario(cluster):
        await cluster.secret("team-git", token=forge[1])
        company.proxy.close()
        env = {"HTTPS_PROXY": company.proxy_url}
        remote = cluster.git(repo, company.url(repository), secret="team-git", env=env)
        await cluster.served(remote.check_pull_requests)  # which asks nobody: the Pod is there
        with pytest.raises(RemoteUnavailable, match=r"Failed to connect|Couldn't connect|Connection refused"):
            await cluster.served(remote.preflight, "", within=15)

    in_cluster(scenario)
