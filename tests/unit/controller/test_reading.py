"""The read interface over real HTTP, with real git; the API server is two tables."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from swarmrun.api.reading import AUDIENCE, SERVED, TOKEN, run_path
from swarmrun.artifacts.store import open_store
from swarmrun.controller.reading import access, server, transcript
from swarmrun.controller.reading.server import ReadServer
from swarmrun.errors import InvalidResource, NotFound, PermissionDenied
from swarmrun.git.repo import RunRepo

UID = "6a6f1ef2-1a50-4f4b-b6ee-7191db4fc90f"
OTHER = "11111111-1a50-4f4b-b6ee-7191db4fc90f"


class FakeApi:
    """Knows tokens, rights and resources; counts what it was asked."""

    def __init__(self) -> None:
        self.tokens = {"ann": {"authenticated": True, "audiences": [AUDIENCE], "user": {"username": "ann"}}}
        self.rights = {("ann", "team", "demo")}
        self.status: dict[str, Any] = {"run": f"{UID}-1", "phase": "Running"}
        self.forbidden = False
        self.asked: list[str] = []

    async def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(body["kind"])
        if body["kind"] == "TokenReview":
            assert body["spec"]["audiences"] == [AUDIENCE]
            return {"status": self.tokens.get(body["spec"]["token"], {"error": "unknown"})}
        what = body["spec"]["resourceAttributes"]
        assert (what["verb"], what["group"], what["resource"]) == ("get", "swarmrun.dev", "swarmruns")
        return {"status": {"allowed": (body["spec"]["user"], what["namespace"], what["name"]) in self.rights}}

    async def get(self, path: str) -> dict[str, Any]:
        if self.forbidden:
            raise PermissionDenied("no")
        if not path.endswith("/namespaces/team/swarmruns/demo"):
            raise NotFound("no such run")
        return {"metadata": {"name": "demo", "namespace": "team", "uid": UID}, "status": self.status}


class Lab:
    def __init__(self, path: Path) -> None:
        self.path, self.api = path, FakeApi()
        self.artifacts = (path / "artifacts").as_uri()
        self.store = open_store(f"{self.artifacts}/runs/{UID}-1")
        self.address = ""

    def serves(self, scenario: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
        async def go() -> Any:
            it = ReadServer(self.api, self.artifacts, self.path / "reading")  # type: ignore[arg-type]
            port = await it.start(0, "127.0.0.1")
            self.address = f"http://127.0.0.1:{port}"
            try:
                async with httpx.AsyncClient(base_url=self.address, trust_env=False, timeout=20) as http:
                    http.headers[TOKEN] = "ann"
                    return await scenario(http)
            finally:
                await it.close()

        return asyncio.run(go())

    def gets(self, what: str, *, run: str = "", **headers: str) -> httpx.Response:
        async def go(http: httpx.AsyncClient) -> httpx.Response:
            return await http.get(f"{run or run_path('team', 'demo')}{what}", headers=headers)

        answer = self.serves(go)
        assert answer.headers[SERVED] == "1"
        return answer

    def turn(self, task: str, turn: int, *calls: str, attempt: int = 1, role: str = "coder") -> None:
        at = f"turns/{role}/{task}/{attempt}/{turn:04d}"
        asked = [{"index": n, "name": "exec", "arguments": {"command": c}} for n, c in enumerate(calls)]
        self.store.put(f"{at}/reply.json", json.dumps({"text": f"{task} {turn}", "calls": asked}).encode())
        for n, command in enumerate(calls):
            self.store.put(f"{at}/call-{n}.json", json.dumps({"text": f"did {command}"}).encode())


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def reason(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["reason"]


# ---------------------------------------------------------------- who may


@pytest.mark.parametrize(
    ("token", "run", "status"),
    [
        ("", run_path("team", "demo"), (401, "Unauthenticated")),
        ("stranger", run_path("team", "demo"), (403, "TokenRefused")),
        ("ann", run_path("team", "other"), (403, "Forbidden")),
        ("ann", run_path("elsewhere", "demo"), (403, "Forbidden")),
    ],
)
def test_who_may_not_get_the_run_learns_nothing_of_it(lab, token, run, status):
    assert reason(lab.gets("/transcript", run=run, **{TOKEN: token})) == status


def test_a_token_for_nobody_in_particular_is_refused(lab):
    """An authenticator that knows no audiences says `authenticated` and names none."""
    lab.api.tokens["ann"] = {"authenticated": True, "user": {"username": "ann"}}
    assert reason(lab.gets("/transcript")) == (403, "TokenRefused")


def test_a_right_is_looked_up_again_after_a_while(lab, monkeypatch):
    async def twice(http: httpx.AsyncClient) -> list[int]:
        path = f"{run_path('team', 'demo')}/transcript"
        first = [(await http.get(path)).status_code for _ in range(3)]
        lab.api.rights.clear()
        return [*first, (await http.get(path)).status_code]

    assert lab.serves(twice) == [200, 200, 200, 200]
    assert lab.api.asked == ["TokenReview", "SubjectAccessReview"]
    monkeypatch.setattr(access, "REMEMBERED_SECONDS", 0.0)
    assert lab.gets("/transcript").status_code == 403


def test_a_status_that_names_another_resource_s_run_opens_nothing(lab):
    """Whoever may patch a status could write anything there."""
    lab.turn("storage", 1)
    for run in (f"{OTHER}-1", f"{UID}-1/../{OTHER}-1", "", f"../{OTHER}-1"):
        lab.api.status["run"] = run
        assert reason(lab.gets("/transcript")) == (404, "NotFound")


def test_a_namespace_that_is_another_operator_s_is_told(lab):
    lab.api.forbidden = True
    answer = lab.gets("/transcript")
    assert answer.status_code == 404
    assert "does not work on namespace team" in answer.json()["error"]["message"]


# ---------------------------------------------------------------- transcripts


def test_a_transcript_is_in_the_order_in_which_it_was_made(lab):
    lab.turn("storage", 1, "ls", "cat")
    lab.turn("api", 1)
    lab.turn("storage", 2)
    told = lab.gets("/transcript").json()
    assert (told["more"], told["ended"]) == (False, False)
    assert [(e["task"], e["turn"], e["lines"][-1]) for e in told["entries"]] == [
        ("storage", 1, "storage 1"),
        ("storage", 1, "  did ls"),
        ("storage", 1, "  did cat"),
        ("api", 1, "api 1"),
        ("storage", 2, "storage 2"),
    ]
    assert told["entries"][1]["lines"][0] == '→ exec {"command": "ls"}'


def test_one_task_and_one_attempt_can_be_asked_for(lab):
    lab.turn("storage", 1)
    lab.turn("storage", 1, attempt=2)
    lab.turn("storage2", 1)
    assert len(lab.gets("/transcript?task=storage").json()["entries"]) == 2
    (entry,) = lab.gets("/transcript?task=storage&attempt=2").json()["entries"]
    assert (entry["attempt"], entry["lines"][0]) == (2, "── coder storage, attempt 2, turn 1")
    assert lab.gets("/transcript?task=nobody").json()["entries"] == []


def test_pages_join_without_loss_or_repetition(lab, monkeypatch):
    monkeypatch.setattr(transcript, "MOST", 3)
    for turn in range(1, 8):
        lab.turn("storage", turn)

    async def all_pages(http: httpx.AsyncClient) -> list[int]:
        found, after = [], ""
        while True:
            page = (await http.get(f"{run_path('team', 'demo')}/transcript", params={"after": after})).json()
            found += page["entries"]
            if not page["more"]:
                return [e["turn"] for e in found]
            after = f"{found[-1]['time']} {found[-1]['id']}"

    assert lab.serves(all_pages) == list(range(1, 8))


def test_a_follower_is_answered_when_something_comes(lab, monkeypatch):
    monkeypatch.setattr(server, "LOOK_SECONDS", 0.02)
    lab.turn("storage", 1)

    async def follow(http: httpx.AsyncClient) -> Any:
        path = f"{run_path('team', 'demo')}/transcript"
        (known,) = (await http.get(path)).json()["entries"]
        after = {"after": f"{known['time']} {known['id']}", "wait": "20"}
        waiting = asyncio.create_task(http.get(path, params=after))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        lab.turn("storage", 2)
        return (await waiting).json()["entries"]

    (entry,) = lab.serves(follow)
    assert entry["turn"] == 2


def test_nobody_waits_for_a_run_that_has_ended(lab):
    lab.api.status["phase"] = "Failed"
    assert lab.gets("/transcript?wait=30").json() == {"entries": [], "more": False, "ended": True}


@pytest.mark.parametrize("query", ["attempt=x", "after=x", "after=nan", "wait=-1", "run=1e9"])
def test_what_cannot_be_read_is_refused(lab, query):
    assert reason(lab.gets(f"/transcript?{query}")) == (400, "InvalidResource")


def test_a_run_whose_artifacts_are_gone_says_so_and_stays_gone(lab):
    lab.api.status["run"] = f"{UID}-2"
    answer = lab.gets("/transcript")
    assert answer.status_code == 404
    assert "ttlSecondsAfterFinished" in answer.json()["error"]["mend"]
    assert not (lab.path / f"artifacts/runs/{UID}-2").exists()


def test_an_earlier_attempt_can_be_read(lab):
    lab.turn("storage", 1)
    lab.api.status["run"] = f"{UID}-2"
    assert len(lab.gets("/transcript?run=1").json()["entries"]) == 1


def test_the_turns_of_a_task_that_a_rerun_kept_are_those_of_the_attempt_that_did_it(lab):
    lab.turn("storage", 1)
    lab.turn("storage", 2)
    for attempt in (2, 3):
        lab.store = open_store(f"{lab.artifacts}/runs/{UID}-{attempt}")
        lab.turn("api", attempt)
    agents = [{"task": "storage", "turns": 2}, {"task": "api", "turns": 1}, {"task": "tests", "turns": 0}]
    lab.api.status |= {"run": f"{UID}-3", "agents": agents}
    kept = lab.gets("/transcript?task=storage").json()
    assert ([e["turn"] for e in kept["entries"]], kept["kept"]) == ([1, 2], 1)
    last = kept["entries"][0]
    rest = lab.gets(f"/transcript?task=storage&after={last['time']} {last['id']}").json()
    assert ([e["turn"] for e in rest["entries"]], rest["kept"]) == ([2], 1)
    # Done again, and not begun: of this attempt alone.
    again = lab.gets("/transcript?task=api").json()
    assert ([e["turn"] for e in again["entries"]], "kept" in again) == ([3], False)
    assert lab.gets("/transcript?task=tests").json() == {"entries": [], "more": False, "ended": False}
    shutil.rmtree(lab.path / f"artifacts/runs/{UID}-1")
    assert reason(lab.gets("/transcript?task=storage")) == (404, "EarlierAttemptGone")


# ---------------------------------------------------------------- artifacts


def test_artifacts_are_given_by_key(lab):
    lab.store.put("gates/round-1.json", b'{"a": 1}')
    answer = lab.gets("/artifacts/gates/round-1.json")
    assert (answer.status_code, answer.content) == (200, b'{"a": 1}')
    assert answer.headers["content-type"] == "application/octet-stream"
    assert reason(lab.gets("/artifacts/gates/round-2.json")) == (404, "NotFound")


@pytest.mark.parametrize("key", ["snapshot.json", "bundles/abc", "turns/coder/a/1/0001/once-0-g1/x", "gates"])
def test_what_is_not_meant_for_people_is_not_given(lab, key):
    lab.store.put(key, b"x")
    assert reason(lab.gets(f"/artifacts/{key}")) == (404, "NotFound")


@pytest.mark.parametrize(
    "key",
    [
        f"gates/../../{OTHER}-1/gates/secret.json",
        f"gates/%2e%2e/%2e%2e/{OTHER}-1/gates/secret.json",
        f"gates%2f..%2f..%2f{OTHER}-1%2fgates%2fsecret.json",
        "gates//secret.json",
        "gates/./secret.json",
        "gates/a%00b",
    ],
)
def test_a_path_that_leaves_the_run_is_refused(lab, key):
    """By hand, since clients tidy such paths up."""
    open_store(f"{lab.artifacts}/runs/{OTHER}-1").put("gates/secret.json", b"secret")

    async def raw(_: httpx.AsyncClient) -> str:
        reader, writer = await asyncio.open_connection(*lab.address.removeprefix("http://").split(":"))
        line = f"GET {run_path('team', 'demo')}/artifacts/{key} HTTP/1.1\r\nHost: x\r\n{TOKEN}: ann\r\n"
        writer.write(f"{line}Connection: close\r\n\r\n".encode())
        answer = (await reader.read()).decode()
        writer.close()
        return answer

    said = lab.serves(raw)
    assert said.startswith("HTTP/1.1 400 ")
    assert "secret\n" not in said


@pytest.mark.parametrize("run", ["/v1/namespaces/Team/swarmruns/demo", "/v1/namespaces/team/swarmruns/a..b"])
def test_what_is_no_name_is_refused(lab, run):
    assert reason(lab.gets("/transcript", run=run)) == (400, "InvalidResource")


def test_there_is_no_other_way_in(lab):
    for path in ("/", "/v1/namespaces/team/swarmruns", "/healthz"):
        assert lab.gets("", run=path).status_code == 404

    async def post(http: httpx.AsyncClient) -> httpx.Response:
        return await http.post(f"{run_path('team', 'demo')}/transcript")

    assert lab.serves(post).status_code == 405


def test_a_port_that_is_taken_is_told(lab):
    async def twice(_: httpx.AsyncClient) -> None:
        other = ReadServer(lab.api, lab.artifacts, lab.path / "other")
        await other.start(int(lab.address.rpartition(":")[2]), "127.0.0.1")

    with pytest.raises(InvalidResource, match="SWARMRUN_READ_PORT"):
        lab.serves(twice)


# ---------------------------------------------------------------- diffs


@pytest.fixture
def changed(lab: Lab, tmp_path: Path) -> Lab:
    """A base, a task's merged commit on it, and a second task's commit that is not merged; bundles only."""
    work = tmp_path / "work"

    def git(*args: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b.invalid"]
        done = subprocess.run(["git", *who, *args], cwd=work, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(name: str) -> str:
        (work / name).write_text(f"{name}\n")
        git("add", "-A")
        git("commit", "-qm", name)
        return git("rev-parse", "HEAD")

    work.mkdir()
    git("init", "-q", "-b", "main")
    base = commit("base.txt")
    one = commit("one.txt")
    git("checkout", "-q", base)
    two = commit("two.txt")
    git("checkout", "-q", base)
    git("merge", "-q", "--no-ff", "-m", "merge", one)
    merged = git("rev-parse", "HEAD")
    brain = RunRepo(tmp_path / "brain.git", lab.store, "")
    brain.init()
    for sha, since in ((base, None), (one, base), (two, base), (merged, base)):
        git("push", "-q", str(brain.path), f"{sha}:refs/x/{sha}")
        brain.hold(sha)
        brain.record(sha, since)
    lab.api.status |= {
        "result": {"baseCommit": base, "commit": merged},
        "merges": [{"task": "one", "how": "Clean", "commit": merged}],
        "agents": [{"task": "one", "commit": one}, {"task": "two", "commit": two}, {"task": "three"}],
    }
    return lab


def test_the_diff_of_run_and_tasks_comes_from_bundles_alone(changed):
    whole = changed.gets("/diff").text
    assert "+one.txt" in whole
    assert "two.txt" not in whole
    assert "+one.txt" in changed.gets("/diff?task=one").text
    assert "+two.txt" in changed.gets("/diff?task=two").text
    assert "two.txt | 1 +" in changed.gets("/diff?task=two&stat=true").text
    nothing = changed.gets("/diff?task=three")
    assert reason(nothing) == (404, "NotFound")
    assert "task three of run demo has no commit yet" in nothing.text
    assert changed.gets("/diff?task=tow").json()["error"]["mend"] == "did you mean two?"


def test_a_commit_that_the_run_never_recorded_is_not_found(changed):
    changed.api.status["result"]["commit"] = "1" * 40
    assert reason(changed.gets("/diff")) == (404, "NotFound")
