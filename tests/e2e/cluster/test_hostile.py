"""Whole runs on a hostile repository, with a hostile agent among honest ones: what it tries gives it nothing, takes
nothing else down, and is told. Beside them a run of somebody else's goes on."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator

import attacks
import hostile
import pytest
from kubectl import RUNS
from place import Place
from play import CREDENTIAL, KEY, TEST, Play, Scene, Search

PLACE = "hostile"


@pytest.fixture(scope="module")
def scene(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    kubectl, release = place.kubectl, place.release
    search = Search(tmp_path_factory.mktemp("search"))
    values = {what: f"canary{secrets.token_hex(12)}" for what in ("git token", "model key", "planted")}
    host = f"git.{kubectl.namespace}.svc"
    meta = {
        "name": CREDENTIAL,
        "labels": {"swarmrun.dev/git-credential": "true"},
        "annotations": {"swarmrun.dev/allowed-hosts": host},
    }
    git = {"token": values["git token"], "hosts": host}
    secret = {"apiVersion": "v1", "kind": "Secret"}
    kubectl.apply(secret | {"metadata": meta, "stringData": git})
    release.kubectl.apply(secret | {"metadata": {"name": "models"}, "stringData": {KEY: values["model key"]}})
    release.upgrade(modelKeys__existingSecret="models")
    for name, value in values.items():
        search.know(name, value)
    operator = release.pod()
    state = "cat /var/lib/swarmrun/state/master.key | base64 -w0"
    search.know("master key", base64.b64decode(release.kubectl("exec", operator, "--", "sh", "-c", state)))
    token = "/run/secrets/kubernetes.io/serviceaccount/token"
    search.know("operator's token", release.kubectl("exec", operator, "--", "cat", token).strip())
    services = {s["metadata"]["name"]: s["spec"]["clusterIP"] for s in kubectl.items("services")}
    pods = [p["status"].get("podIP", "") for p in [*kubectl.items("pods"), *release.kubectl.items("pods")]]
    known = [*services.values(), *filter(None, pods)]
    for name in ("works", "fails"):
        hostile.repository(place.git, name, values["planted"])
    place.git.commit("beside", {"README": "Of somebody else.\n"})
    yield Scene(place, search, values["planted"], known, f"{services['git']}:8080")
    kubectl("delete", RUNS, "--all", "--timeout=30s")
    kubectl(
        "delete",
        "swarmclass",
        *[f"{n}-{kubectl.namespace}" for n in ("works", "fails", "beside")],
        "--ignore-not-found",
    )
    release.upgrade(modelKeys__existingSecret="")


def nobody_else_was_harmed(play: Play) -> None:
    place = play.scene.place
    for who in ("honest", "after"):
        assert (play.agents[who]["phase"], play.agents[who]["verified"]) == ("Merged", True)
        assert play.file(f"{who}/journal.txt") == "turn 1\nturn 2\n"
    assert play.beside["phase"] == "Succeeded", play.beside
    assert play.beside["progress"] == "2/2"
    assert not [note for note in play.beside.get("notes", []) if "lost" in note]
    assert play.watch.restarted == set()
    (operator,) = place.release.kubectl.items("pods", "-l", "app.kubernetes.io/name=swarmrun-operator")
    assert operator["metadata"]["name"] == play.operator
    assert [c["restartCount"] for c in operator["status"]["containerStatuses"]] == [0]
    assert place.git.refs(play.name) == {"refs/heads/main", f"refs/heads/swarm/{play.name}"}
    assert place.git.refs("beside") <= {
        "refs/heads/main",
        *(f"refs/heads/swarm/beside-{n}" for n in ("fails", "works")),
    }
    assert place.git.script("ls /repositories").split() == ["beside.git", "fails.git", "works.git"]
    assert place.git.script("ls -d /tmp/owned 2>&1 || true").startswith("ls: cannot access")
    place.clean()


def somebody_was_there(play: Play) -> None:
    """Where its packets went, there were Pods that answer the brain."""
    (tried,) = [line for line in play.stored("attacker") if " places in " in line]
    there = [
        name
        for name, address in play.watch.addresses.items()
        if f" {address.rpartition('.')[0]}.0/24" in tried
    ]
    for who in (f"{play.name}-git-", f"{play.name}-integration-", "beside-", "git-"):
        assert [name for name in there if name.startswith(who)], (who, tried, play.watch.addresses)


def no_lie_was_believed(play: Play) -> None:
    assert play.status["usage"]["tokens"] == play.said.tokens()
    stored = play.stored("attacker")
    assert [line for line in stored if attacks.MARK in line]  # where it belongs: its own words and results
    for task in ("honest", "after", "plan"):
        assert not [line for line in play.stored(task) if attacks.MARK in line]
    # Nothing in its record passes for another's turn, and its Pods' logs hold what the brain said and nothing else.
    ours = ("── ", "→ ", "told: ", "note: ")
    heads = [line for line in stored if line.startswith("── ")]
    assert heads
    assert all(line.startswith("── coder attacker, attempt ") for line in heads)
    assert not [line for line in stored if line.startswith(ours[2:]) and attacks.MARK in line]
    logs = play.logs_of("attacker")
    assert logs
    for name, lines in logs.items():
        assert set(lines) <= {*stored, "listening on port 8700"}, name
    for word in (attacks.MARK, "turn 99"):
        assert word not in play.scene.swarm("diff", play.name)
        assert word not in play.scene.swarm("artifact", play.name, "gates/round-0.json")
        assert word not in str(play.status)
        assert word not in str(play.events)


def no_secret_got_out(play: Play) -> None:
    scene, kubectl = play.scene, play.scene.place.kubectl
    look = scene.search.look
    look("status", kubectl("get", RUNS, play.name, "-o", "yaml", "--show-managed-fields").encode())
    look("events", str(play.events).encode())
    for name, text in play.watch.logs.items():
        look("git Pod's log" if "-git-" in name else "sandboxes' logs", text.encode())
    look("operator's log", scene.place.release.log(100_000).encode())
    look("transcript", scene.swarm("logs", play.name, "--stored").encode())
    look("diff", scene.swarm("diff", play.name).encode())
    small = "awk '$3 < 1000000 {print $1}'"
    read = f"git -C /repositories/{play.name}.git cat-file"
    script = f"{read} --batch-all-objects --batch-check | {small} | {read} --batch | base64"
    look("remote", base64.b64decode(scene.place.git.script(script)))
    assert {place for name, place in scene.search.found if name != "planted"} == set(), scene.search.found
    assert scene.search.places("planted") >= {"status", "events", "sandboxes' logs", "transcript", "remote"}


@pytest.mark.timeout(TEST)
def test_an_agent_that_destroys_and_claims_success_fails_alone(scene: Scene) -> None:
    said = hostile.destroyer(scene.planted, scene.known, scene.remote)
    play = Play(scene, "fails", said, partial=True)
    told = scene.place.kubectl("describe", RUNS, "fails")

    ready = next(c for c in play.status["conditions"] if c["type"] == "Ready")
    assert (play.status["phase"], ready["reason"], play.status["progress"]) == ("Failed", "Incomplete", "2/3")
    assert "not in the result: attacker (failed: PhantomAgent); published as swarm/fails" in told
    assert play.published() == {("A", "honest/journal.txt"), ("A", "after/journal.txt")}
    nobody_else_was_harmed(play)
    no_lie_was_believed(play)
    somebody_was_there(play)
    no_secret_got_out(play)

    # How each is told: in the agent's transcript, and where it ended something, on the resource.
    stored = "\n".join(play.stored("attacker"))
    for words in (
        "tricks are set",
        "refused: standard output",
        "refused: environ",
        "refused: attach",
        "reached: nobody",
        "kept in",
        "Resource temporarily unavailable",
        "/proc/1/fd/1: Permission denied",
        "sprung: 0",
        "ruined",
        "exec was not run again: it ended the sandbox twice",
        "Your sandbox was replaced.",
        "the diff of your branch is empty",
        "\\x1b]0;owned\\x07",
    ):
        assert f"{words}" in stored, words
    assert "\x1b" not in stored
    for reason, words in (
        ("AgentFailed", "attacker: attempt 1 ended ToolRejected: the repository's directory is gone"),
        ("SandboxLost", "attacker: sandbox 1 of attempt 2 was lost: ServerEnded"),
        ("SandboxLost", "attacker: sandbox 2 of attempt 2 was lost: ServerEnded"),
        ("AgentFailed", "it claims to be done after 4 tool calls, but its diff is empty"),
        ("Incomplete", "not in the result: attacker (failed: PhantomAgent)"),
    ):
        assert ("Warning", reason) in {e[:2] for e in play.events if words in e[2]}, (words, play.events)
        assert words in told


@pytest.mark.timeout(TEST)
def test_of_an_agent_that_attacks_and_delivers_only_its_own_work_is_published(scene: Scene) -> None:
    said = hostile.deliverer(scene.planted, scene.known, scene.remote)
    play = Play(scene, "works", said)
    told = scene.place.kubectl("describe", RUNS, "works")

    ready = next(c for c in play.status["conditions"] if c["type"] == "Ready")
    assert (play.status["phase"], ready["reason"], play.status["progress"]) == (
        "Succeeded",
        "Published",
        "3/3",
    )
    mine = {("A", "attacker/journal.txt"), ("A", "attacker/.gitattributes")}
    assert play.published() == {("A", "honest/journal.txt"), ("A", "after/journal.txt")} | mine
    nobody_else_was_harmed(play)
    no_lie_was_believed(play)
    somebody_was_there(play)
    no_secret_got_out(play)

    assert play.agents["attacker"]["verified"] is False
    assert (
        "Left out, since they belong to other tasks: honest/stolen.txt" in play.agents["attacker"]["message"]
    )
    stored = "\n".join(play.stored("attacker"))
    for words in (
        "outside the repository",
        "git's own files",
        "honest/stolen.txt belongs to task honest",
        "sprung: 0",
    ):
        assert words in stored, words
    huge = "attacker: attempt 1 ended ToolRejected: too large to be stored (over 100 MB): attacker/huge.bin (51200 MB)"
    assert huge in told
    assert [m for kind, r, m in play.events if (kind, r) == ("Warning", "AgentFailed") and m.startswith(huge)]
