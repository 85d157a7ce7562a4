"""The git Pod's server as a real HTTP server on loopback, its client, and how the client makes the Pod."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from swarmrun.errors import (
    GitError,
    InvalidResource,
    NotFound,
    PermissionDenied,
    PublishRefused,
    RemoteUnavailable,
)
from swarmrun.git import trailers, urls
from swarmrun.git.credentials import Anonymous, SshKey, Token, access
from swarmrun.git.pod import certificates, secret, wire
from swarmrun.git.pod.client import GitPodAccess
from swarmrun.git.pod.manifest import GitOptions, git_name, git_pod, git_policy, peer_of
from swarmrun.git.pod.server import GitServer, Settings
from swarmrun.git.remote import FIRST_COMMIT
from swarmrun.git.repo import RunRepo
from swarmrun.kube.api import refusal
from swarmrun.kube.options import NetworkOptions, PodOptions, RunPlace

TOKEN = "the brain's token"
PLACE = RunPlace("team", "uid-1", "demo")
NETWORK = NetworkOptions("swarmrun-system", {"app": "brain"})
AUTHOR = "Swarm <swarm@example.invalid>"


def options(url: str, **more: Any) -> GitOptions:
    return GitOptions(url, PodOptions("localhost/operator:dev"), **more)


class Pod:
    """One git Pod: a server on loopback with a directory of its own."""

    def __init__(
        self, directory: Path, url: str, keys: dict[str, str] | None = None, **settings: Any
    ) -> None:
        self.mounted = directory / "secret"
        directory.mkdir()
        if keys:
            mount(self.mounted, **keys)
        self.settings = Settings(
            **(
                {
                    "token_sha256": hashlib.sha256(TOKEN.encode()).hexdigest(),
                    "url": url,
                    "schemes": ("file",),
                    "secret": "",
                    "provider": "",
                    "draft": False,
                    "mounted": self.mounted,
                    "state": directory / "state",
                }
                | settings
            )
        )
        self.settings.state.mkdir(parents=True)
        self.http = GitServer(("127.0.0.1", 0), self.settings)
        self.address = f"127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[Any]:
    made: list[Pod] = []

    def make(url: str, **settings: Any) -> Pod:
        made.append(Pod(tmp_path / f"pod-{len(made)}", url, **settings))
        return made[-1]

    yield make
    for pod in made:
        pod.stop()


class AtAddress(GitPodAccess):
    """The client without a cluster: it is told where the Pod is."""

    address = ""

    removed = 0

    async def _remove(self) -> str:
        self.removed += 1
        return ""

    async def _ensure(self) -> str:
        return self.address


def client(pod: Pod, repo: RunRepo, token: str = TOKEN) -> AtAddress:
    it = AtAddress(None, PLACE, options(pod.settings.url), NETWORK, repo, token, asyncio.run)  # type: ignore[arg-type]
    it.address = pod.address
    return it


@pytest.fixture
def filled(work, bare) -> str:
    work.commit({"a": "1"})
    sha = work.commit({"b": "2"})
    work.git("push", "-q", str(bare), "main")
    return sha


def result(repo: RunRepo, base: str) -> str:
    message = trailers.add("The result\n", trailers.run_trailers(run="r", spec_hash="h1"))
    commit = repo.commit_tree(repo.with_files(base, {"result": b"x"}), [base], message, AUTHOR, 100)
    repo.record(commit, base)
    return commit


# ------------------------------------------------------------ the whole way


def test_a_run_preflights_fetches_and_publishes_through_a_pod(pods, bare, filled, repo):
    remote = client(pods(str(bare)), repo)
    found = remote.preflight("")
    assert (found.base_commit, found.branch, found.empty, found.push) == (filled, "main", False, "ok")
    remote.fetch(filled, branch="main")
    assert repo.holds(filled)
    with pytest.raises(NotFound):
        remote.find_published("swarm/demo", "h1")
    commit = result(repo, filled)
    done = remote.publish(commit, branch="swarm/demo", base_branch="main", base_commit=filled)
    assert (done.branch, done.commit, done.beside, done.already) == ("swarm/demo", commit, False, False)
    assert remote.publish(commit, branch="swarm/demo", base_commit=filled).already
    assert remote.find_published("swarm/demo", "h1").commit == commit


def test_a_pod_that_came_anew_fetches_the_base_itself(pods, bare, filled, repo):
    first = client(pods(str(bare)), repo)
    first.fetch(filled, branch="main")
    again = client(pods(str(bare)), repo)
    assert (
        again.publish(result(repo, filled), branch="x", base_branch="main", base_commit=filled).branch == "x"
    )


def test_a_base_that_left_the_remote_is_sent_with_its_history(pods, bare, filled, repo, work):
    first = client(pods(str(bare)), repo)
    first.fetch(filled, branch="main")
    commit = result(repo, filled)
    work.git("checkout", "-q", "--orphan", "new")
    work.commit({"other": "1"})
    work.git("push", "-q", "--force", str(bare), "new:main")
    work.git("-C", str(bare), "gc", "-q", "--prune=now")
    again = client(pods(str(bare)), repo)
    assert again.publish(commit, branch="x", base_branch="main", base_commit=filled).commit == commit


def test_an_empty_remote_gets_its_first_commit_and_the_result(pods, bare, repo):
    remote = client(pods(str(bare)), repo)
    found = remote.preflight("")
    assert (found.empty, found.base_commit) == (True, FIRST_COMMIT)
    remote.fetch(FIRST_COMMIT, branch=found.branch)
    commit = result(repo, FIRST_COMMIT)
    done = remote.publish(commit, branch="swarm/demo", base_branch="main", base_commit=FIRST_COMMIT)
    assert done.commit == commit
    assert not remote.preflight("main").empty


def test_errors_arrive_as_they_were_raised(pods, bare, filled, repo, tmp_path):
    remote = client(pods(str(bare)), repo)
    with pytest.raises(NotFound, match=r"set spec\.repository\.branch") as branch:
        remote.preflight("mian")
    assert branch.value.reason == "BranchNotFound"
    with pytest.raises(NotFound) as missing:
        client(pods(str(tmp_path / "none.git")), repo).preflight("")
    assert missing.value.reason == "RepositoryNotFound"
    remote.fetch(filled, branch="main")
    (bare / "hooks").mkdir(exist_ok=True)
    hook = bare / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho protected here; exit 1\n")
    hook.chmod(0o755)
    with pytest.raises(PublishRefused, match="protected here"):
        remote.publish(result(repo, filled), branch="x", base_branch="main", base_commit=filled)


def test_a_directory_has_no_pull_requests_also_with_a_token(pods, bare, repo):
    pod = pods(str(bare), secret="git", keys={"token": "t", "hosts": "*"})
    with pytest.raises(InvalidResource, match="directory"):
        client(pod, repo).check_pull_requests()


def test_a_secret_that_appears_later_is_not_used_by_a_pod_that_was_made_without_it(pods, bare, repo):
    """Policies look at a Secret when a Pod is made; the kubelet brings one that comes later all the same."""
    pod = pods(str(bare), secret="git")
    mount(pod.mounted, token="t", hosts="*")
    remote = client(pod, repo)
    for _ in range(2):
        with pytest.raises(PermissionDenied) as refused:
            remote.check_pull_requests()
        assert refused.value.reason == "SecretMissing"
    assert remote.removed == 2


def test_what_a_server_says_is_taken_for_no_more_than_an_error():
    told = wire.error(RemoteUnavailable("down", retry_after=7, mend="wait", reason="X"))["error"]
    back = wire.raised(told)
    assert isinstance(back, RemoteUnavailable)
    assert (back.message, back.mend, back.reason, back.retry_after) == ("down", "wait", "X", 7)
    assert isinstance(wire.raised({"kind": "SystemExit", "message": "m"}), GitError)
    assert isinstance(wire.raised({"kind": "annotations"}), GitError)


# ------------------------------------------------------------ strangers


def test_a_stranger_is_told_nothing_and_a_pod_that_is_gone_is_asked_for_again(pods, bare, filled, repo):
    pod = pods(str(bare))
    answer = httpx.post(f"http://{pod.address}/v1/preflight", content=b'{"branch": ""}\n')
    assert answer.status_code == 401
    assert "main" not in answer.text
    with pytest.raises(RemoteUnavailable) as other:
        client(pod, repo, "another token").preflight("")
    assert other.value.reason == "GitPodGone"
    remote = client(pod, repo)
    remote.preflight("")
    remote.close()
    pod.stop()
    with pytest.raises(RemoteUnavailable) as gone:
        remote.preflight("")
    assert (gone.value.reason, gone.value.retry_after) == ("GitPodGone", 1.0)
    remote.address = pods(str(bare)).address
    assert remote.preflight("").base_commit == filled


def test_only_operations_of_the_table_can_be_called(pods, bare):
    pod = pods(str(bare))
    for op in ("_remote", "__init__", "nonsense", "../health"):
        answer = httpx.post(
            f"http://{pod.address}/v1/{op}", headers={"Authorization": f"Bearer {TOKEN}"}, content=b"{}\n"
        )
        assert answer.json()["error"]["kind"] == "NotFound"


def test_a_server_without_a_token_does_not_start(tmp_path):
    for bad in ("", "abc", hashlib.sha256(b"").hexdigest()):
        with pytest.raises(InvalidResource):
            Settings.read({"SWARMRUN_TOKEN_SHA256": bad, "SWARMRUN_GIT_URL": "x"}, tmp_path, tmp_path)


# ------------------------------------------------------------ the Secret


def mount(directory: Path, **keys: str) -> Path:
    directory.mkdir(exist_ok=True)
    for name, value in keys.items():
        (directory / name.replace("_", "-").replace("known-hosts", "known_hosts")).write_text(value)
    return directory


HTTPS = urls.parse("https://git.example.com/o/r")
SSH = urls.parse("git@git.example.com:o/r")


def test_a_secret_is_read_by_its_keys(tmp_path):
    assert secret.credential(tmp_path, "", HTTPS) == Anonymous()
    one = mount(tmp_path / "a", hosts="other.org, *.example.com", token="t\n")
    assert secret.credential(one, "s", HTTPS) == Token("t")
    two = mount(tmp_path / "b", hosts="git.example.com", username="me", password="p")
    assert secret.credential(two, "s", HTTPS) == Token("p", "me")
    assert secret.api_token(two, "s") == "p"
    open_one = mount(tmp_path / "o", token="t")
    assert secret.credential(open_one, "s", HTTPS) == Token("t")
    three = mount(tmp_path / "c", hosts="git.example.com", ssh_privatekey="k", known_hosts="h")
    assert secret.credential(three, "s", SSH) == SshKey(three / "ssh-privatekey", three / "known_hosts")


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (None, "SecretMissing"),
        ({}, "SecretMissing"),
        ({"username": "me"}, "SecretKeyMissing"),
        ({"hosts": "git.example.com"}, "SecretKeyMissing"),
        ({"hosts": "example.com", "token": "t"}, "SecretHostNotAllowed"),
        ({"hosts": "", "token": "t"}, "SecretHostNotAllowed"),
    ],
)
def test_a_secret_that_does_not_fit_says_what_is_wrong(tmp_path, keys, reason):
    directory = tmp_path / "s"
    if keys is not None:
        mount(directory, **keys)
    with pytest.raises(PermissionDenied) as refused:
        secret.credential(directory, "team-git", HTTPS)
    assert refused.value.reason == reason
    assert "team-git" in refused.value.message
    assert refused.value.mend


def test_an_ssh_key_is_used_with_known_hosts_alone(tmp_path):
    line = access(SSH, SshKey(Path("/run/k"), Path("/run/known hosts"))).env["GIT_SSH_COMMAND"]
    assert "StrictHostKeyChecking=yes" in line
    assert "UserKnownHostsFile='/run/known hosts'" in line
    with pytest.raises(InvalidResource):
        access(HTTPS, SshKey(Path("k"), Path("h")))


# ------------------------------------------------------------ the Pod


def test_only_the_git_pod_mounts_the_secret_and_goes_to_the_remote_alone():
    given = options("https://10.1.2.3:8443/o/r", secret="team-git")
    pod = git_pod(PLACE, given, token_sha256="0" * 64)
    assert [v["secret"]["secretName"] for v in pod["spec"]["volumes"] if "secret" in v] == ["team-git"]
    assert pod["spec"]["automountServiceAccountToken"] is False
    policy = git_policy(PLACE, given, NETWORK)["spec"]
    assert policy["egress"] == [
        {"to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}], "ports": [{"protocol": "TCP", "port": 8443}]}
    ]
    assert policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()


def test_a_remote_by_name_is_reached_on_its_port_only_and_names_are_resolved():
    egress = git_policy(PLACE, options("git@git.example.com:o/r"), NETWORK)["spec"]["egress"]
    assert egress[0]["ports"] == [{"protocol": "TCP", "port": 22}]
    assert "169.254.0.0/16" in egress[0]["to"][0]["ipBlock"]["except"]
    assert {p["port"] for p in egress[1]["ports"]} == {53}
    named = options("https://git.example.com/o/r", cidrs=("10.0.0.0/24",))
    assert git_policy(PLACE, named, NETWORK)["spec"]["egress"][0]["to"] == [
        {"ipBlock": {"cidr": "10.0.0.0/24"}}
    ]


@pytest.mark.parametrize(
    ("url", "env", "peer"),
    [
        ("https://git.example.com/a", {}, ("git.example.com", 443)),
        ("https://git.example.com:8443/a", {"HTTPS_PROXY": "http://10.0.0.5:3128"}, ("10.0.0.5", 3128)),
        ("https://git.example.com/a", {"https_proxy": "proxy:3128"}, ("proxy", 3128)),
        ("https://git.example.com/a", {"ALL_PROXY": "socks5://proxy"}, ("proxy", 1080)),
        ("http://git.example.com/a", {"HTTPS_PROXY": "http://proxy:3128"}, ("git.example.com", 80)),
        (
            "https://git.example.com/a",
            {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "localhost,.example.com"},
            ("git.example.com", 443),
        ),
        ("git@git.example.com:a", {"ALL_PROXY": "http://proxy:3128"}, ("git.example.com", 22)),
    ],
)
def test_the_policy_opens_what_git_connects_to_the_proxy_where_there_is_one(url, env, peer):
    assert peer_of(urls.parse(url), env) == peer
    policy = git_policy(PLACE, options(url, env=env), NETWORK)
    (rule,) = [r for r in policy["spec"]["egress"] if r["ports"][0]["port"] != 53]
    assert rule["ports"] == [{"protocol": "TCP", "port": peer[1]}]


def test_a_classs_certificates_join_the_images(tmp_path):
    made = git_pod(PLACE, options("https://git.example.com/a", ca_config_map="ca"), token_sha256="h")
    env = {e["name"]: e["value"] for e in made["spec"]["containers"][0]["env"]}
    assert env["GIT_SSL_CAINFO"] == env["SSL_CERT_FILE"] != env["SWARMRUN_CA"]
    ours, system, out = tmp_path / "ca.crt", tmp_path / "system", tmp_path / "out"
    ours.write_text("-----BEGIN CERTIFICATE-----\nours\n")
    system.write_text("system\n")
    certificates.join(ours, out, system=system)
    assert out.read_text() == "system\n-----BEGIN CERTIFICATE-----\nours\n"
    certificates.join(ours, out, system=tmp_path / "absent")
    assert "ours" in out.read_text()
    ours.write_text("nothing")
    with pytest.raises(InvalidResource, match="holds no certificate"):
        certificates.join(ours, out, system=system)


def test_a_password_in_the_address_does_not_get_into_the_pod():
    pod = git_pod(PLACE, options("https://me:hunter2@git.example.com/o/r"), token_sha256="0" * 64)
    assert "hunter2" not in str(pod)


class Api:
    """As much of the API server as the client asks for."""

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}
        self.events: list[Any] = []

    async def get(self, path: str, **_: str) -> Any:
        if path.endswith("/events"):
            return {"items": self.events}
        if path not in self.objects:
            raise NotFound(path)
        return self.objects[path]

    async def create(self, path: str, body: Any) -> Any:
        self.objects[f"{path}/{body['metadata']['name']}"] = body
        return body

    async def delete(self, path: str, **_: Any) -> None:
        self.objects.pop(path, None)


def test_the_pod_is_made_behind_its_policy_and_nobody_waits_for_it(repo):
    api = Api()
    given = options("https://git.example.com/o/r")
    remote = GitPodAccess(api, PLACE, given, NETWORK, repo, TOKEN, asyncio.run)  # type: ignore[arg-type]
    path = f"/api/v1/namespaces/team/pods/{git_name(PLACE)}"

    def asked() -> tuple[type, str]:
        with pytest.raises((RemoteUnavailable, InvalidResource)) as refused:
            remote.preflight("")
        return type(refused.value), refused.value.reason

    assert asked() == (RemoteUnavailable, "GitPodStarting")
    assert [kind["kind"] for kind in api.objects.values()] == ["NetworkPolicy", "Pod"]
    assert asked() == (RemoteUnavailable, "GitPodStarting")
    running = {"state": {"running": {}}, "ready": False}
    api.objects[path]["status"] = {"phase": "Running", "podIP": "10.0.0.9", "containerStatuses": [running]}
    assert asked() == (RemoteUnavailable, "GitPodStarting")
    api.objects[path]["status"] = {"phase": "Failed", "reason": "Evicted", "message": "node was low"}
    assert asked() == (RemoteUnavailable, "GitPodLost")
    assert path not in api.objects
    assert asked() == (RemoteUnavailable, "GitPodStarting")
    waiting = {"reason": "ErrImageNeverPull", "message": "not there"}
    api.objects[path]["status"] = {"phase": "Pending", "containerStatuses": [{"state": {"waiting": waiting}}]}
    assert asked() == (InvalidResource, "ImageNotPresent")


@pytest.mark.parametrize(
    ("said", "reason", "mend"),
    [
        (
            "Secret team-git is not labelled swarmrun.dev/git-credential=true",
            "SecretNotLabelled",
            "label that Secret swarmrun.dev/git-credential=true",
        ),
        (
            "Secret team-git is not for host git.example.com "
            "(its annotation swarmrun.dev/allowed-hosts lists those it is for)",
            "SecretHostNotAllowed",
            "list the host in the annotation swarmrun.dev/allowed-hosts",
        ),
    ],
)
def test_a_secret_that_may_no_longer_be_used_is_named_with_what_mends_it(repo, said, reason, mend):
    """The chart's policies ask again when the git Pod is made; here the Secret was changed after the run was."""
    policy = "ValidatingAdmissionPolicy 'swarmrun-x' with binding 'swarmrun-x' denied request"
    body = {"message": f'pods "demo-git" is forbidden: {policy}: {said}', "reason": "Invalid"}

    class Refusing(Api):
        async def create(self, path: str, body_: Any) -> Any:
            if path.endswith("/pods"):
                raise refusal(422, json.dumps(body), f"POST {path}")
            return await super().create(path, body_)

    given = options("https://git.example.com/o/r", secret="team-git")
    remote = GitPodAccess(Refusing(), PLACE, given, NETWORK, repo, TOKEN, asyncio.run)  # type: ignore[arg-type]
    with pytest.raises(PermissionDenied) as refused:
        remote.preflight("")
    assert refused.value.reason == reason
    assert said in str(refused.value)
    assert mend in str(refused.value)
    assert "spec.pods" not in str(refused.value)


def test_a_young_pod_is_asked_often_and_an_old_one_seldom(repo, monkeypatch):
    api = Api()
    given = options("https://git.example.com/o/r")
    remote = GitPodAccess(api, PLACE, given, NETWORK, repo, TOKEN, asyncio.run)  # type: ignore[arg-type]

    def pause() -> float | None:
        with pytest.raises(RemoteUnavailable) as refused:
            remote.preflight("")
        return refused.value.retry_after

    assert [pause(), pause()] == [0.3, 0.3]
    remote._made_at -= 6
    assert pause() == 1.0
