"""Commands as people type them, with a scripted runner."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from swarmrun.api.status import (
    AgentStatus,
    Condition,
    MergeHow,
    MergeStatus,
    Phase,
    ResultStatus,
    SwarmRunStatus,
)
from swarmrun.local.directory import RunDirectory


def directory(cli: Any, name: str = "demo", namespace: str = "default") -> RunDirectory:
    return RunDirectory(cli.home / "runs" / namespace / name)


def ends_as(cli: Any, phase: str, reason: str, succeeded: str = "False") -> None:
    conditions = [
        Condition(type="Ready", status="False", reason=reason),
        Condition(type="Succeeded", status=succeeded, reason=reason),  # type: ignore[arg-type]
    ]
    cli.runners.script = [SwarmRunStatus(phase=Phase(phase), conditions=conditions)]


# ---------------------------------------------------------------- run


def test_a_run_prints_its_events_its_table_and_the_next_command(cli: Any, run_file: Path) -> None:
    done = cli("run", "-f", str(run_file))
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].split(" ", 1)[1] == "run  isolation  bubblewrap"
    assert any("storage  Running  turn 3  exec pytest -q" in line for line in lines)
    table = [line.split() for line in lines if line.rstrip().endswith(("measured", "model"))]
    assert ["judge,", "round", "2", "91", "(spread", "2)", "model"] in table
    assert lines[-3] == "demo: Succeeded (Published), 3/3 tasks merged, score 91"
    assert lines[-2].strip() == "swarmrun diff demo"
    assert lines[-1].strip() == f"git -C {run_file.parent}/repo diff aaaaaaaaaaaa..swarm/demo"


def test_a_cassettes_models_are_marked_scripted(cli: Any, run_file: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("entries: []\n")
    text = run_file.read_text().replace("http://127.0.0.1:9/v1", "cassette:c.yaml").replace("key", "none")
    run_file.write_text(text)
    done = cli("run", "-f", str(run_file))
    assert any(
        line.startswith("judge, round 2") and line.rstrip().endswith("scripted")
        for line in done.out.splitlines()
    )
    (served,) = cli.runners.endpoints
    assert list(served) == [f"cassette:{tmp_path}/c.yaml"]
    assert served[f"cassette:{tmp_path}/c.yaml"].startswith("http://127.0.0.1:")


def test_json_is_all_there_is_on_standard_output(cli: Any, run_file: Path) -> None:
    done = cli("run", "-f", str(run_file), "-o", "json")
    assert done.json["status"]["phase"] == "Succeeded"
    assert "storage  Running" in done.err


@pytest.mark.parametrize(
    ("phase", "reason", "code"),
    [("Failed", "Incomplete", 1), ("Cancelled", "Cancelled", 3), ("Failed", "BudgetExceeded", 4)],
)
def test_the_exit_code_tells_how_it_ended(
    cli: Any, run_file: Path, phase: str, reason: str, code: int
) -> None:
    ends_as(cli, phase, reason)
    assert cli("run", "-f", str(run_file)).code == code


def test_paths_in_a_file_mean_the_files_directory(cli: Any, run_file: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir("/")
    cli("run", "-f", str(run_file))
    assert directory(cli).resource().spec.repository.url == str(run_file.parent / "repo")


def test_the_same_run_again_shows_what_there_is(cli: Any, run_file: Path) -> None:
    cli("run", "-f", str(run_file))
    again = cli("run", "-f", str(run_file))
    assert again.code == 0
    assert "had ended before" in again.err
    assert len(cli.runners.opened) == 1


def test_another_goal_under_the_same_name_is_refused(cli: Any, run_file: Path) -> None:
    cli("run", "-f", str(run_file))
    done = cli("run", "-f", str(run_file), "--goal", "Something else")
    assert done.code == 1
    assert "exists with another goal" in done.err
    assert "mend: --name OTHER, or first `swarmrun delete demo`" in done.err


def test_options_make_the_resource_that_dry_run_shows(cli: Any, tmp_path: Path) -> None:
    done = cli(
        *("run", "--goal", "Add a login page", "--repository", ".", "--model", "m", "--branch", "dev"),
        *("--budget-cost", "2.50", "--budget-tokens", "5000", "--budget-duration", "1h", "--mode", "Solo"),
        *("--parallelism", "9", "--publish-branch", "out", "--pull-request", "--dry-run", "-o", "yaml"),
    )
    assert done.code == 0, done.err
    cls, run = yaml.safe_load_all(done.out)
    assert cls["kind"] == "SwarmClass"
    assert cls["spec"]["models"]["standard"]["model"] == "m"
    assert run == {
        "apiVersion": "swarmrun.dev/v1alpha1",
        "kind": "SwarmRun",
        "metadata": {"name": "add-login-page"},
        "spec": {
            "goal": "Add a login page",
            "repository": {"url": str(tmp_path), "branch": "dev"},
            "publish": {"branch": "out", "pullRequest": {"enabled": True}},
            "mode": "Solo",
            "budget": {"tokens": 5000, "cost": "2.50", "duration": "1h"},
            "parallelism": 9,
        },
    }
    assert not (tmp_path / "home").exists()


def test_options_win_over_the_file(cli: Any, run_file: Path, tmp_path: Path) -> None:
    done = cli(
        *("run", "-f", str(run_file), "--name", "other", "--repository", "x", "--mode", "Swarm", "--dry-run"),
        *("-n", "team", "-o", "json"),
    )
    assert done.json["kind"] == "List"
    run = done.json["items"][1]
    assert run["metadata"] == {"name": "other", "namespace": "team"}
    assert run["spec"]["repository"]["url"] == str(tmp_path / "x")
    assert run["spec"]["mode"] == "Swarm"
    assert run["spec"]["goal"] == "Build a URL shortener"


def test_standard_input_is_a_file_too(cli: Any, run_file: Path, monkeypatch: Any) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO(run_file.read_text()))
    done = cli("run", "-f", "-", "--dry-run", "-o", "json")
    assert done.json["items"][1]["metadata"]["name"] == "demo"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run"], "--goal and --repository missing"),
        (["run", "--goal", "g"], "--repository missing"),
        (["run", "--goal", "g", "--repository", "."], "no model is named"),
        (["run", "--goal", " ", "--repository", ".", "--model", "m"], "spec.goal: is empty"),
        (["run", "--goal", "g", "--repository", ".", "--model", "m", "--mode", "solo"], "did you mean Solo?"),
        (["run", "--goal", "g", "--repository", "ftp://x/y", "--model", "m"], "'ftp' is not allowed"),
        (["run", "--goal", "g", "--repository", ".", "--model", "m", "--name", "Bad_Name"], "metadata.name"),
        (["run", "--parallelism", "0"], "--parallelism"),
        (["runn"], "No such command"),
        (["run", "--gaol", "g"], "--goal"),
        (["approve", "x", "everything"], "everything"),
        (["describe", "../../etc"], "is no DNS label"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_exit_2(cli: Any, arguments: list[str], told: str) -> None:
    done = cli(*arguments)
    assert done.code == 2
    assert told in done.err
    assert done.err.startswith("error: ")
    as_json = (
        json.loads(cli(*arguments, "-o", "json").err.splitlines()[-1]) if arguments[0] == "run" else None
    )
    assert as_json is None or as_json["error"]["exitCode"] == 2


def test_a_missing_class_is_named(cli: Any, run_file: Path) -> None:
    run_file.write_text(run_file.read_text().replace("repository:", "className: big, repository:"))
    done = cli("run", "-f", str(run_file))
    assert done.code == 2
    assert "no SwarmClass 'big' in the file (there: local)" in done.err


def test_a_missing_file_and_a_missing_cassette_are_named(cli: Any, run_file: Path) -> None:
    assert "no file nowhere.yaml" in cli("run", "-f", "nowhere.yaml").err
    run_file.write_text(run_file.read_text().replace("http://127.0.0.1:9/v1", "cassette:gone.yaml"))
    assert "no cassette at" in cli("run", "-f", str(run_file)).err


def test_of_several_runs_in_a_file_one_is_chosen_by_name(cli: Any, run_file: Path) -> None:
    text = run_file.read_text()
    run_file.write_text(text + "---\n" + text.split("---")[0].replace("name: demo", "name: second"))
    assert "holds 2 SwarmRuns: demo, second" in cli("run", "-f", str(run_file), "--dry-run").err
    chosen = cli("run", "-f", str(run_file), "--dry-run", "--name", "second", "-o", "json")
    assert chosen.json["items"][1]["metadata"]["name"] == "second"


def test_the_environment_names_the_model(cli: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://x.openai.azure.com")
    monkeypatch.setenv("AZURE_OPENAI_DEPLOYMENT", "gpt-5-mini")
    cli("run", "--goal", "g", "--repository", ".")
    tier = directory(cli, "g").swarm_class().spec.models.standard
    assert (tier.provider, tier.model, tier.auth.type) == ("azure-openai", "gpt-5-mini", "entra")


def test_no_guards_is_for_the_negative_control_only(cli: Any, run_file: Path) -> None:
    assert "no-guards" not in cli("run", "--help").out
    cli("run", "-f", str(run_file), "--no-guards")
    assert directory(cli).snapshot().guards is False


# ---------------------------------------------------------------- plan, approvals


def waiting(cli: Any, script: list[SwarmRunStatus]) -> None:
    ready = Condition(type="Ready", status="False", reason="AwaitingPlanApproval", message="")
    waits = script[1].model_copy(
        update={"phase": Phase.AWAITING_APPROVAL, "conditions": [ready], "agents": []}
    )
    cli.runners.script = [script[0], waits, *script[1:]]


def test_plan_prints_the_dag_and_leaves_the_run_waiting(
    cli: Any, run_file: Path, script: list[SwarmRunStatus]
) -> None:
    waiting(cli, script)
    done = cli("plan", "-f", str(run_file))
    assert done.code == 0
    assert "def put(url: str) -> str: ..." in done.out
    assert "swarmrun approve demo plan && swarmrun resume demo" in done.out
    assert "AwaitingApproval" not in done.out.splitlines()[0]
    assert directory(cli).resource().spec.plan.approval is True
    assert cli.runners.opened[0].closed

    assert cli("approve", "demo", "plan").code == 0
    assert cli.runners.opened[-1].mails() == [{"kind": "approve", "what": "plan"}]
    assert cli("resume", "demo").code == 0


def test_a_plan_as_json_is_the_plan(cli: Any, run_file: Path, script: list[SwarmRunStatus]) -> None:
    waiting(cli, script)
    assert [t["id"] for t in cli("plan", "-f", str(run_file), "-o", "json").json["tasks"]] == [
        "storage",
        "api",
        "tests",
    ]


def test_a_run_that_fails_before_its_plan_says_so(cli: Any, run_file: Path) -> None:
    ends_as(cli, "Failed", "PlanInvalid")
    done = cli("plan", "-f", str(run_file))
    assert done.code == 1
    assert "demo: Failed (PlanInvalid)" in done.err


def test_a_rejection_carries_its_reason(cli: Any, run_file: Path, script: list[SwarmRunStatus]) -> None:
    waiting(cli, script)
    cli("plan", "-f", str(run_file))
    assert cli("reject", "demo", "plan", "--reason", "too many tasks").code == 0
    assert cli.runners.opened[-1].mails() == [{"kind": "reject", "what": "plan", "reason": "too many tasks"}]


# ---------------------------------------------------------------- cancel, suspend, delete


def test_cancelling_a_stopped_run_ends_it_for_good(
    cli: Any, run_file: Path, script: list[SwarmRunStatus]
) -> None:
    waiting(cli, script)
    cli("plan", "-f", str(run_file))
    assert cli("cancel", "demo").code == 0
    assert directory(cli).status().phase is Phase.CANCELLED
    assert directory(cli).resource().spec.cancel is True
    done = cli("resume", "demo")
    assert done.code == 3
    again = cli("cancel", "demo")
    assert (again.code, "has ended: Cancelled" in again.err) == (1, True)


def test_a_suspended_run_is_resumed_by_resume(cli: Any, run_file: Path, script: list[SwarmRunStatus]) -> None:
    waiting(cli, script)
    cli("plan", "-f", str(run_file))
    cli("suspend", "demo")
    assert directory(cli).resource().spec.suspend is True
    cli("approve", "demo", "plan")
    assert cli("resume", "demo").code == 0
    kinds = [m["kind"] for m in cli.runners.opened[-1].mails()]
    assert kinds[0] == "suspend"
    assert kinds[-1] == "resume"
    assert directory(cli).resource().spec.suspend is False


@pytest.mark.parametrize(
    "command",
    ["describe", "suspend", "cancel", "approve plan", "reject plan", "delete", "logs", "diff", "resume"],
)
def test_errors_are_json_wherever_json_is_asked_for(cli: Any, command: str) -> None:
    verb, *what = command.split()
    done = cli(verb, "nothere", *what, "-o", "json")
    assert (done.code, done.out) == (1, "")
    assert json.loads(done.err)["error"]["reason"] == "NotFound"


def test_what_is_told_to_a_run_prints_its_resource_as_json(
    cli: Any, run_file: Path, script: list[SwarmRunStatus]
) -> None:
    cli("run", "-f", str(run_file))
    assert cli("describe", "demo", "-o", "json").json["status"]["score"] == 91
    directory(cli).save_status(script[0])
    assert cli("suspend", "demo", "-o", "json").json["spec"]["suspend"] is True
    assert cli("reject", "demo", "plan", "-o", "json").json["kind"] == "SwarmRun"
    assert cli("delete", "demo", "-o", "json").out == ""


def test_help_says_how_a_rejected_run_ends(cli: Any) -> None:
    assert "PlanRejected" in cli("reject", "--help").out


def test_deleting_removes_everything(cli: Any, run_file: Path) -> None:
    cli("run", "-f", str(run_file))
    locked = directory(cli).path / "sandboxes" / "readonly"
    locked.mkdir(parents=True)
    (locked / "file").write_text("x")
    locked.chmod(0o500)
    assert cli("delete", "demo").code == 0
    assert not directory(cli).path.exists()
    assert cli("list").out == ""
    assert cli("delete", "demo").code == 1


# ---------------------------------------------------------------- looking


def test_list_shows_each_run_in_a_row_that_a_script_can_cut(cli: Any, run_file: Path) -> None:
    cli("run", "-f", str(run_file))
    cli("run", "-f", str(run_file), "-n", "team")
    rows = [line.split() for line in cli("list").out.splitlines()]
    assert rows[0][:3] == ["NAMESPACE", "NAME", "PHASE"]
    assert [r[:5] for r in rows[1:]] == [
        ["default", "demo", "Succeeded", "3/3", "91"],
        ["team", "demo", "Succeeded", "3/3", "91"],
    ]
    assert len(cli("-n", "team", "list").out.splitlines()) == 2
    assert len(cli("list", "-o", "json").json["items"]) == 2


@pytest.mark.parametrize("name", ["status.json", "run.json", "resource.yaml"])
def test_a_damaged_run_does_not_hide_the_others(cli: Any, run_file: Path, name: str) -> None:
    cli("run", "-f", str(run_file))
    cli("run", "-f", str(run_file), "--name", "other")
    damaged = directory(cli).path / name
    damaged.write_bytes(damaged.read_bytes()[:30])
    done = cli("list", "-n", "default")
    assert (done.code, sorted(line.split()[:2] for line in done.out.splitlines()[1:])) == (
        0,
        [["demo", "unreadable"], ["other", "Succeeded"]],
    )
    assert name in done.err
    assert [i["metadata"]["name"] for i in cli("list", "-o", "json").json["items"]] == ["other"]


@pytest.mark.parametrize("name", ["status.json", "snapshot.json"])
def test_a_damaged_file_is_named_in_one_line_with_its_mend(cli: Any, run_file: Path, name: str) -> None:
    cli("run", "-f", str(run_file))
    damaged = directory(cli).path / name
    damaged.write_bytes(damaged.read_bytes()[:40])
    for done in [cli("resume", "demo"), *([cli("describe", "demo")] if name == "status.json" else [])]:
        told = [line for line in done.err.splitlines() if not line.startswith("note: ")]
        assert (done.code, len(told)) == (1, 2)
        assert told[0].startswith(f"error: {damaged} cannot be read: Invalid JSON")
        assert told[1] == "  mend: swarmrun delete demo --force"
    assert cli("delete", "demo").code == 0


def test_get_prints_the_resource_with_its_status(cli: Any, run_file: Path) -> None:
    cli("run", "-f", str(run_file))
    assert yaml.safe_load(cli("get", "demo").out)["status"]["score"] == 91
    assert cli("get", "demo", "-o", "json").json["status"]["result"]["branch"] == "swarm/demo"


def test_describe_reads_as_a_story(cli: Any, run_file: Path) -> None:
    cli("run", "-f", str(run_file))
    out = cli("describe", "demo").out
    assert (
        out.index("Plan")
        < out.index("Agents")
        < out.index("Merges")
        < out.index("Judgements")
        < out.index("Result")
    )


def test_an_unknown_run_or_task_names_the_nearest(cli: Any, run_file: Path) -> None:
    cli("run", "-f", str(run_file))
    done = cli("describe", "dmeo")
    assert done.code == 1
    assert "mend: did you mean demo?" in done.err
    assert "did you mean storage?" in cli("logs", "demo", "storeage").err
    assert "known: demo" in cli("logs", "zzz").err


def test_logs_are_the_events_once_each_and_an_agents_turns(cli: Any, run_file: Path) -> None:
    done = cli("run", "-f", str(run_file))
    events = [line for line in done.out.splitlines() if line[2:3] == ":"]
    assert cli("logs", "demo").out.splitlines() == events

    turn = directory(cli).artifacts / "turns" / "coder" / "storage" / "1" / "0001"
    turn.mkdir(parents=True)
    call = {"index": 0, "call_id": "c", "name": "exec", "arguments": {"command": "pytest -q"}}
    reply = {"text": "I run the \x1b[31mtests", "calls": [call], "notes": ["mended"], "told": ["@start"]}
    (turn / "reply.json").write_text(json.dumps(reply))
    (turn / "call-0.json").write_text(json.dumps({"text": "1 passed\n" + "x" * 5000}))
    out = cli("logs", "demo", "storage").out
    assert "── coder storage, attempt 1, turn 1" in out
    assert '→ exec {"command": "pytest -q"}' in out
    assert "  1 passed" in out
    assert "characters more]" in out
    assert "\x1b" not in out


def git(where: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", "-C", str(where), *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_diff_shows_the_run_and_each_task_from_its_own_repository(cli: Any, run_file: Path) -> None:
    cli("run", "-f", str(run_file))
    repo = directory(cli).repo
    repo.mkdir()
    git(repo, "init", "-q", "-b", "main")
    commits = []
    for name in ("base.py", "storage.py", "api.py", "main.py"):
        (repo / name).write_text(f"# {name}\n")
        git(repo, "add", name)
        git(repo, "commit", "-qm", name)
        commits.append(git(repo, "rev-parse", "HEAD"))
    status = directory(cli).status()
    status.result = ResultStatus(base_commit=commits[0], commit=commits[3])
    status.merges = [
        MergeStatus(task="storage", how=MergeHow.CLEAN, commit=commits[1]),
        MergeStatus(task="api", how=MergeHow.INTEGRATOR, commit=commits[3]),
    ]
    status.agents = [
        AgentStatus(task="storage"),
        AgentStatus(task="fix-1", role="fixer", commit=commits[2]),
        AgentStatus(task="fix-2", role="fixer", commit=commits[1]),
        AgentStatus(task="integrate-api", role="integrator", commit=commits[3]),
    ]
    status.plan = None
    directory(cli).save_status(status)

    def diff(*arguments: str) -> str:
        return cli("diff", "demo", *arguments).out

    whole = diff()
    assert "+# storage.py" in whole
    assert "+# api.py" in whole
    assert "base.py" not in whole
    assert "+# storage.py" in diff("storage")
    assert "api.py" not in diff("storage")
    assert "3 files changed" in diff("--stat")
    assert "+# api.py" in diff("fix-1")
    assert "storage.py" not in diff("fix-1")
    assert "+# main.py" in diff("integrate-api")
    assert "task fix-2 of run demo changed nothing" in cli("diff", "demo", "fix-2").err


def test_a_run_without_commits_has_no_diff(cli: Any, run_file: Path) -> None:
    ends_as(cli, "Failed", "RepositoryMissing")
    cli("run", "-f", str(run_file))
    done = cli("diff", "demo")
    assert done.code == 1
    assert "has no commit yet" in done.err


# ---------------------------------------------------------------- doctor, tools


def test_doctor_names_each_finding_with_its_mend(cli: Any) -> None:
    done = cli("doctor", "-o", "json")
    found = {f["name"]: f for f in done.json}
    assert found["python"]["level"] == found["git"]["level"] == found["home"]["level"] == "ok"
    assert found["model keys"]["level"] == "warning"
    assert "OPENAI_API_KEY" in found["model keys"]["mend"]


def test_doctor_shows_no_key(cli: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    done = cli("doctor")
    assert "set: OPENAI_API_KEY" in done.out
    assert "very-secret" not in done.out + done.err


def test_doctor_fails_where_the_home_cannot_be_written(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = cli("doctor", "--home", str(tmp_path / "file" / "below"))
    assert done.code == 1
    assert "problem  home" in done.out


def test_doctor_finds_a_state_from_a_newer_version(cli: Any, run_file: Path) -> None:
    cli("run", "-f", str(run_file))
    path = directory(cli).path / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    assert "newer swarmrun (state format 99" in cli("doctor").out


def test_mergetool_merges_and_tells_by_its_exit_code(cli: Any, tmp_path: Path) -> None:
    for name, (a, b) in {"base": (1, 2), "ours": (3, 2), "theirs": (1, 4)}.items():
        (tmp_path / name).write_text(f"a = {a}\n\n\nb = {b}\n")
    done = cli("mergetool", "--path", "x.py", "base", "ours", "theirs", "out", "-o", "json")
    assert (done.code, done.json["resolved"]) == (0, True)
    assert (tmp_path / "out").read_text() == "a = 3\n\n\nb = 4\n"
    (tmp_path / "theirs").write_text("a = 5\n\n\nb = 2\n")
    assert cli("mergetool", "--path", "x.py", "base", "ours", "theirs", "out").code == 1
    assert cli("mergetool", "--path", "x.py", "gone", "ours", "theirs", "out").code == 2


def test_verify_finds_broken_contracts_and_with_a_base_only_new_ones(cli: Any, tmp_path: Path) -> None:
    repo = tmp_path / "work"
    repo.mkdir()
    git(repo, "init", "-q")
    (repo / "m.py").write_text("def put(url: str) -> str:\n    return url\n")
    git(repo, "add", ".")
    git(repo, "commit", "-qm", "x")
    contract = {"id": "put", "path": "m.py", "declaration": "def put(url: str, ttl: int) -> str: ..."}
    plan = tmp_path / "plan.yaml"
    plan.write_text(yaml.safe_dump({"contracts": [contract]}))
    done = cli("verify", "--contracts", str(plan), "-C", str(repo))
    assert done.code == 1
    assert "1 contract, 1 breach" in done.out
    assert cli("verify", "--contracts", str(plan), "-C", str(repo), "--base", "HEAD").code == 0
    plan.write_text(
        yaml.safe_dump({"contracts": [contract | {"declaration": "def put(url: str) -> str: ..."}]})
    )
    assert cli("verify", "--contracts", str(plan), "-C", str(repo)).code == 0
    plan.write_text(yaml.safe_dump({"contracts": [{"id": "put", "pth": "m.py"}]}))
    assert cli("verify", "--contracts", str(plan), "-C", str(repo)).code == 2
