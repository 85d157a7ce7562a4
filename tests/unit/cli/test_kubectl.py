"""`kubectl swarm` over real HTTP, against an API server of a few tables: which source is read when, and what is said
where none can be."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from swarmrun.api.reading import SERVED, TOKEN

UID = "6a6f1ef2-1a50-4f4b-b6ee-7191db4fc90f"
RUNS = "/apis/swarmrun.dev/v1alpha1/namespaces/team/swarmruns"
PROXY = "/api/v1/namespaces/swarmrun-system/services/http:swarmrun-read:read/proxy"
READ = f"{PROXY}/v1/namespaces/team/swarmruns/demo"
PODS = "/api/v1/namespaces/team/pods"


def forbidden(verb: str, what: str) -> tuple[int, dict[str, Any]]:
    said = f'{what} is forbidden: User "ann" cannot {verb} resource "{what}" in API group "" in the namespace "team"'
    return 403, {"kind": "Status", "message": said, "reason": "Forbidden"}


def ours(status: int, body: Any) -> tuple[int, Any, dict[str, str]]:
    return status, body, {SERVED: "1"}


class Server:
    """Answers from `table`: path → (status, JSON or text[, headers]), or a function of the request to one."""

    def __init__(self) -> None:
        self.table: dict[str, Any] = {}
        self.asked: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.url = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)

    async def _start(self) -> str:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self._answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        found = self.table.get(request.path, (404, {"kind": "Status", "message": f"no {request.path}"}))
        if callable(found):
            found = await found(request)
        if isinstance(found, web.StreamResponse):
            return found
        status, body, *headers = found
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(text=text, status=status, headers=headers[0] if headers else None)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


def run(phase: str = "Running", *agents: dict[str, Any], **more: Any) -> tuple[int, dict[str, Any]]:
    tasks = [{"id": t, "title": t} for t in ("storage", "api")]
    status = {"run": f"{UID}-1", "phase": phase, "agents": list(agents), "plan": {"tasks": tasks}, **more}
    return 200, {
        "metadata": {
            "name": "demo",
            "namespace": "team",
            "uid": UID,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"goal": "x", "repository": {"url": "https://h.invalid/x.git"}},
        "status": status,
    }


def agent(task: str, role: str = "coder", phase: str = "Running") -> dict[str, Any]:
    return {"task": task, "role": role, "phase": phase, "turns": 1}


def pod(task: str) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"demo-{task}",
            "labels": {"app.kubernetes.io/component": "sandbox"},
            "annotations": {"swarmrun.dev/sandbox": f"{UID}-1-{task}-a1-g1"},
        },
        "status": {"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]},
    }


def entry(task: str, turn: int, time: float = 1.0) -> dict[str, Any]:
    lines = [f"── coder {task}, attempt 1, turn {turn}", f"stored {task}"]
    return {"id": f"turns/coder/{task}/1/{turn}/reply.json", "time": time, "task": task, "lines": lines}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    contexts = [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "team"}}]
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server.url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": contexts,
        "current-context": "here",
    }
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    monkeypatch.delenv("SWARMRUN_OPERATOR", raising=False)
    server.table[f"{RUNS}/demo"] = run()
    server.table[PODS] = (200, {"items": []})
    account = "/api/v1/namespaces/team/serviceaccounts/swarmrun-reader/token"
    server.table[account] = (201, {"status": {"token": "read-token"}})
    yield server
    server.close()


@pytest.fixture
def swarm(cluster: Server, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: str) -> tuple[int, str, str]:
        from swarmrun.cli.kubectl.main import run as main

        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main(list(arguments))
        said = capsys.readouterr()
        return int(exit_.value.code or 0), said.out, said.err

    return call


# ---------------------------------------------------------------- logs


def test_pods_are_read_while_they_live_and_the_operator_for_those_that_are_gone(cluster, swarm):
    cluster.table[f"{RUNS}/demo"] = run("Running", agent("storage"), agent("api", phase="Merged"))
    cluster.table[PODS] = (200, {"items": [pod("storage")]})
    cluster.table[f"{PODS}/demo-storage/log"] = (200, "── coder storage, attempt 1, turn 1\nlive\n")
    page = {"entries": [entry("storage", 1), entry("api", 1)], "more": False, "ended": False}
    cluster.table[f"{READ}/transcript"] = ours(200, page)
    code, out, _ = swarm("logs", "demo")
    assert (code, out.splitlines()) == (
        0,
        [
            "[storage] ── coder storage, attempt 1, turn 1",
            "[storage] live",
            "[api] ── coder api, attempt 1, turn 1",
            "[api] stored api",
        ],
    )
    # Where everything lives the operator is not asked.
    cluster.asked.clear()
    assert swarm("logs", "demo", "storage")[1].splitlines()[-1] == "live"
    assert not [a for a in cluster.asked if "proxy" in a]


def test_the_turns_of_a_kept_task_are_said_to_be_another_attempt_s(cluster, swarm):
    cluster.table[f"{RUNS}/demo"] = run("Judging", agent("storage", phase="Merged"))
    cluster.table[PODS] = (200, {"items": []})
    page = {"entries": [entry("storage", 1)], "more": False, "ended": False, "kept": 1}
    cluster.table[f"{READ}/transcript"] = ours(200, page)
    code, out, err = swarm("logs", "demo", "storage")
    assert (code, out.splitlines()[-1]) == (0, "stored storage")
    assert err.splitlines() == [
        "note: attempt 1 of the run did task storage, the present one has kept its work: these are its turns"
    ]


def test_of_the_integration_sandbox_only_the_agent_in_question_is_shown(cluster, swarm):
    cluster.table[f"{RUNS}/demo"] = run("Fixing", agent("plan", "planner"), agent("fix-1", "fixer"))
    cluster.table[PODS] = (200, {"items": [pod("integration")]})
    log = "── planner plan, attempt 1, turn 1\nplanned\n── fixer fix-1, attempt 1, turn 1\nmended\n"
    cluster.table[f"{PODS}/demo-integration/log"] = (200, log)
    assert swarm("logs", "demo", "fix-1")[1] == "── fixer fix-1, attempt 1, turn 1\nmended\n"
    assert "[plan] planned\n[fix-1] ── fixer" in swarm("logs", "demo")[1]


def test_what_an_agent_forged_in_its_log_does_not_steer_the_terminal(cluster, swarm):
    cluster.table[f"{RUNS}/demo"] = run("Running", agent("storage"))
    cluster.table[PODS] = (200, {"items": [pod("storage")]})
    cluster.table[f"{PODS}/demo-storage/log"] = (200, "\x1b]0;owned\x07\x1b[2J\n")
    assert swarm("logs", "demo", "storage")[1] == "\\x1b]0;owned\\x07\\x1b[2J\n"


def test_a_followed_run_is_read_to_its_end_new_pods_too(cluster, swarm, monkeypatch):
    from swarmrun.cli.kubectl import telling

    monkeypatch.setattr(telling, "LOOK_SECONDS", 0.05)
    first, second = asyncio.Event(), asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        if request.query.get("limitBytes"):
            return web.Response(text="x")
        assert request.query["follow"] == "true"
        answer = web.StreamResponse()
        await answer.prepare(request)
        task = "storage" if "storage" in request.path else "api"
        await answer.write(f"── coder {task}, attempt 1, turn 1\nhal".encode())
        if task == "storage":
            first.set()
            await second.wait()
        else:
            second.set()
        await answer.write(b"f a line\nno line feed")
        return answer

    async def pods(_: web.Request) -> tuple[int, Any]:
        return 200, {"items": [pod("storage"), *([pod("api")] if first.is_set() else [])]}

    async def status(_: web.Request) -> tuple[int, Any]:
        return run("Succeeded" if second.is_set() else "Running", agent("storage"), agent("api"))

    cluster.table |= {f"{RUNS}/demo": status, PODS: pods}
    cluster.table |= {f"{PODS}/demo-{t}/log": stream for t in ("storage", "api")}
    code, out, _ = swarm("logs", "-f", "demo")
    assert code == 0
    for task in ("storage", "api"):
        assert [line for line in out.splitlines() if line.startswith(f"[{task}]")] == [
            f"[{task}] ── coder {task}, attempt 1, turn 1",
            f"[{task}] half a line",
            f"[{task}] no line feed",
        ]


def test_who_may_not_read_pods_follows_what_the_operator_stores(cluster, swarm):
    cluster.table[f"{RUNS}/demo"] = run("Running", agent("storage"))
    cluster.table[PODS] = forbidden("list", "pods")
    stored = [entry("storage", 1, 10.0)]

    async def transcript(request: web.Request) -> Any:
        assert request.headers[TOKEN] == "read-token"
        when, _, key = request.query.get("after", "0 ").partition(" ")
        if request.query.get("wait") and len(stored) == 1:
            # Of the same second and with a lesser key than what was told: only a look back finds it.
            stored.append(entry("storage", 0, 10.0))
            stored.append(entry("storage", 2, 10.5))
        found = [e for e in stored if (e["time"], e["id"]) > (float(when), key)]
        return ours(
            200, {"entries": sorted(found, key=lambda e: e["time"]), "more": False, "ended": len(stored) > 1}
        )

    cluster.table[f"{READ}/transcript"] = transcript
    code, out, err = swarm("logs", "-f", "demo", "storage")
    assert code == 0
    heads = [line for line in out.splitlines() if line.startswith("──")]
    assert [h[-1] for h in heads] == ["1", "0", "2"]
    assert "ask for the verb `list` on pods in namespace team" in err


# ---------------------------------------------------------------- where nothing can be read


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({}, "--operator NAMESPACE/SERVICE"),
        (
            {f"{READ}/diff": forbidden("get", "services/proxy")},
            "`get` on services/proxy in namespace swarmrun-system",
        ),
        ({f"{READ}/diff": (503, {"message": "no endpoints available"})}, "is its Pod running?"),
        (
            {f"{READ}/diff": ours(404, {"error": {"message": "no commit yet", "mend": "wait"}})},
            "no commit yet",
        ),
        (
            {f"{READ}/diff": ours(403, {"error": {"message": "may not", "mend": "bind a role"}})},
            "bind a role",
        ),
        ({f"{READ}/diff": ours(500, "<html>")}, "status 500"),
        (
            {
                "/api/v1/namespaces/team/serviceaccounts/swarmrun-reader/token": (
                    404,
                    {"message": "not found"},
                )
            },
            "kubectl -n team create serviceaccount swarmrun-reader",
        ),
    ],
)
def test_why_nothing_can_be_read_is_said_exactly(cluster, swarm, table, says):
    cluster.table |= table
    code, _, err = swarm("diff", "demo")
    assert code == 1
    assert says in err


def test_a_published_branch_is_named_where_the_operator_cannot_be_asked(cluster, swarm):
    result = {"branch": "swarm/demo", "commit": "b" * 40, "baseCommit": "c" * 40}
    cluster.table[f"{RUNS}/demo"] = run("Succeeded", result=result)
    code, _, err = swarm("diff", "demo")
    assert code == 1
    assert "git fetch https://h.invalid/x.git swarm/demo && git diff cccccccccccc FETCH_HEAD" in err


ELSEWHERE = "/api/v1/namespaces/platform/services/http:ops-read:read/proxy"
LABELLED = {"items": [{"metadata": {"namespace": "platform", "name": "ops-read"}}]}


def test_an_operator_that_is_elsewhere_is_asked_where_a_person_names_it(cluster, swarm, monkeypatch):
    cluster.table[f"{ELSEWHERE}/v1/namespaces/team/swarmruns/demo/diff"] = ours(200, "diff --git a b\r\n")
    # A patch stays what it is.
    assert swarm("--operator", "platform/ops-read", "diff", "demo")[:2] == (0, "diff --git a b\r\n")
    monkeypatch.setenv("SWARMRUN_OPERATOR", "platform/ops-read")
    assert swarm("diff", "demo")[:2] == (0, "diff --git a b\r\n")
    # What is typed counts more than the variable, wherever it stands.
    assert swarm("--operator", "nowhere", "diff", "demo")[0] == 2
    assert swarm("diff", "demo", "--operator", "nowhere")[0] == 2


@pytest.mark.parametrize(
    "default", [(404, {"message": "no such Service"}), forbidden("get", "services/proxy")]
)
@pytest.mark.parametrize(
    "command", [("diff", "demo"), ("logs", "demo", "storage"), ("artifact", "demo", "plan")]
)
def test_a_service_that_is_only_labelled_as_the_operator_s_is_named_and_gets_no_token(
    cluster, swarm, default, command
):
    cluster.table["/api/v1/services"] = (200, LABELLED)
    got: list[web.Request] = []

    async def stranger(request: web.Request) -> Any:
        got.append(request)
        return ours(200, {"entries": [], "more": False, "ended": True})

    for what in ("/diff", "/transcript", "/artifacts/plan"):
        cluster.table[f"{READ}{what}"] = default
        cluster.table[f"{ELSEWHERE}/v1/namespaces/team/swarmruns/demo{what}"] = stranger
    code, out, err = swarm(*command)
    assert (code, out, got) == (1, "", [])
    assert "which everybody can do who may make Services: platform/ops-read" in err
    assert "export SWARMRUN_OPERATOR=platform/ops-read" in err
    assert not [a for a in cluster.asked if "platform" in a]


def test_who_may_not_list_services_is_told_how_to_name_the_operator_s(cluster, swarm):
    cluster.table["/api/v1/services"] = forbidden("list", "services")
    code, _, err = swarm("diff", "demo")
    assert code == 1
    assert "--operator NAMESPACE/SERVICE or SWARMRUN_OPERATOR" in err
    assert "Labelled" not in err


def test_a_service_account_takes_a_token_of_its_own(cluster, swarm):
    cluster.table["/apis/authentication.k8s.io/v1/selfsubjectreviews"] = (
        201,
        {"status": {"userInfo": {"username": "system:serviceaccount:tools:ci"}}},
    )
    cluster.table["/api/v1/namespaces/tools/serviceaccounts/ci/token"] = (201, {"status": {"token": "mine"}})

    async def diff(request: web.Request) -> Any:
        return ours(200, request.headers[TOKEN])

    cluster.table[f"{READ}/diff"] = diff
    assert swarm("diff", "demo")[1] == "mine"
    cluster.table["/api/v1/namespaces/tools/serviceaccounts/ci/token"] = forbidden(
        "create", "serviceaccounts/token"
    )
    assert swarm("diff", "demo")[1] == "read-token"


# ---------------------------------------------------------------- the rest


def test_a_run_that_this_program_cannot_read_hides_no_other(cluster, swarm):
    strange = run()[1]
    strange["spec"]["parallelism"] = "ByTheFuture"
    cluster.table[RUNS] = (200, {"items": [strange, run("Succeeded", score=90)[1]]})
    code, out, _ = swarm("list")
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [["demo", "Running"], ["demo", "Succeeded"]]
    cluster.table[f"{RUNS}/demo"] = (200, strange)
    code, _, err = swarm("describe", "demo")
    assert code == 2
    assert "parallelism" in err
    assert json.loads(swarm("describe", "demo", "-o", "json")[1])["spec"]["parallelism"] == "ByTheFuture"


def test_a_wait_lives_through_an_outage_and_ends_with_the_run_s_own_code(cluster, swarm, monkeypatch):
    from swarmrun.cli.kubectl import look

    monkeypatch.setattr(look, "LOOK_SECONDS", 0.01)
    answers = iter([run("Planning"), (503, {"message": "etcd"}), run("Running"), run("Cancelled")])

    async def status(_: web.Request) -> Any:
        return next(answers)

    cluster.table[f"{RUNS}/demo"] = status
    code, out, err = swarm("wait", "demo")
    assert code == 3
    assert out.splitlines()[-1] == "demo: Cancelled"
    assert "run  Planning" in out
    assert "note: " in err
    cluster.table[f"{RUNS}/demo"] = run("Running")
    code, _, err = swarm("wait", "demo", "--timeout", "0s", "-q")
    assert code == 1
    assert "has not ended within 0s" in err
    assert swarm("wait", "demo", "--timeout", "soon")[0] == 2


@pytest.mark.parametrize("what", ["nothing", "no context", "broken"])
def test_a_kubeconfig_that_cannot_be_used_is_told(tmp_path, monkeypatch, swarm, what):
    path = tmp_path / "other"
    if what == "broken":
        path.write_text("{")
    arguments = ["--context", "there"] if what == "no context" else ["--kubeconfig", str(path)]
    code, _, err = swarm(*arguments, "list")
    assert code == 2
    assert "known: here" in err if what == "no context" else str(path) in err


def test_commands_that_are_shown_can_be_typed(cluster, swarm):
    code, _, err = swarm("-n", "team", "suspend", "demo", "--timeout", "0s")
    assert code == 1
    assert "mend: kubectl swarm wait demo -n team; does the operator run?" in err
    cluster.table[f"{RUNS}/demo"] = run("AwaitingApproval")
    _, out, _ = swarm("-n", "team", "describe", "demo")
    assert "kubectl swarm approve demo -n team plan" in out
