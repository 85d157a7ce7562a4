"""What is printed to be typed can be typed: as the program was called, with the home that was given."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from swarmrun.api.run import SwarmRun
from swarmrun.api.status import ResultStatus
from swarmrun.cli import typed
from swarmrun.cli.summary import git_diff


@pytest.fixture(autouse=True)
def fresh() -> Any:
    # Of this process: other tests have called commands in it.
    typed.remember("", "")
    yield
    typed.remember("", "")


def called_as(monkeypatch: Any, program: str, path: str = "/nowhere") -> None:
    monkeypatch.setattr(sys, "argv", [program, "run"])
    monkeypatch.setenv("PATH", path)


def installed(folder: Path) -> Path:
    program = folder / "swarmrun"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return program


def test_a_program_on_the_path_is_called_by_its_name(monkeypatch: Any, tmp_path: Path) -> None:
    called_as(monkeypatch, str(installed(tmp_path)), str(tmp_path))
    assert typed.typed("swarmrun diff demo") == "swarmrun diff demo"


def test_one_that_is_not_is_called_as_it_was(monkeypatch: Any) -> None:
    called_as(monkeypatch, ".venv/bin/swarmrun")
    assert typed.typed("swarmrun diff demo") == ".venv/bin/swarmrun diff demo"


def test_another_program_of_that_name_on_the_path_is_not_meant(monkeypatch: Any, tmp_path: Path) -> None:
    (tmp_path / "venv").mkdir()
    installed(tmp_path)
    called_as(monkeypatch, str(installed(tmp_path / "venv")), str(tmp_path))
    assert typed.typed("swarmrun diff demo") == f"{tmp_path}/venv/swarmrun diff demo"


def test_the_module_is_called_as_a_module(monkeypatch: Any) -> None:
    called_as(monkeypatch, str(Path(typed.__file__).with_name("main.py")))
    command = shlex.split(typed.typed("swarmrun --help"))
    assert command == [sys.executable, "-m", "swarmrun.cli.main", "--help"]
    assert subprocess.run(command, capture_output=True).returncode == 0


def test_home_and_namespace_are_repeated_when_they_were_given(monkeypatch: Any, tmp_path: Path) -> None:
    called_as(monkeypatch, str(installed(tmp_path)), str(tmp_path))
    typed.remember("my home", "team")
    assert typed.typed("swarmrun logs x") == "swarmrun --home 'my home' -n team logs x"
    assert typed.typed("swarmrun logs x -n other") == "swarmrun --home 'my home' logs x -n other"
    two = "swarmrun approve x plan && swarmrun resume x"
    assert typed.typed(two).count("swarmrun --home 'my home' -n team ") == 2


def test_only_commands_are_changed(monkeypatch: Any) -> None:
    called_as(monkeypatch, "bin/swarmrun")
    for text in (
        "a newer swarmrun run-time",
        "a bug of swarmrun or a worker",
        "swarmrun/demo",
        "swarmrun: x",
    ):
        assert typed.typed(text) == text


def test_every_command_is_known() -> None:
    from swarmrun.cli.main import app

    names = {c.name for c in app.registered_commands} | {g.name for g in app.registered_groups}
    assert names <= set(typed.COMMANDS)


def test_a_run_prints_commands_with_the_home_it_was_given(cli: Any, run_file: Path, tmp_path: Path) -> None:
    done = cli("run", "-f", str(run_file), "--home", str(tmp_path / "other"))
    assert done.out.splitlines()[-2].strip() == f"swarmrun --home {tmp_path}/other diff demo"
    unknown = cli("--home", str(tmp_path / "other"), "describe", "dem")
    assert "did you mean demo?" in unknown.err
    refused = cli("run", "-f", str(run_file), "--home", str(tmp_path / "other"), "--goal", "else")
    assert f"first `swarmrun --home {tmp_path}/other delete demo`" in refused.err


def test_the_git_command_works_from_anywhere(tmp_path: Path) -> None:
    env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "HOME": str(tmp_path)}

    def git(*words: str) -> str:
        who = ("-c", "user.name=t", "-c", "user.email=t@t")
        return subprocess.run(
            ["git", *who, *words], check=True, capture_output=True, text=True, env=env
        ).stdout.strip()

    there = tmp_path / "a repo"
    git("init", "-q", "-b", "main", str(there))
    git("-C", str(there), "commit", "-q", "--allow-empty", "-m", "base")
    base = git("-C", str(there), "rev-parse", "HEAD")
    git("-C", str(there), "checkout", "-q", "-b", "swarm/demo")
    (there / "new.py").write_text("x = 1\n")
    git("-C", str(there), "add", ".")
    git("-C", str(there), "commit", "-q", "-m", "new")
    result = ResultStatus(branch="swarm/demo", base_commit=base)
    for url in (str(there), f"file://{there}"):
        shown = subprocess.run(
            git_diff(url, result), shell=True, capture_output=True, text=True, cwd="/", env=env
        )
        assert "+x = 1" in shown.stdout, shown.stderr


def test_a_repository_elsewhere_is_fetched_first() -> None:
    result = ResultStatus(branch="swarm/demo", base_commit="a" * 40)
    said = git_diff("https://me:secret@example.org/x/y.git", result)
    assert said == "git fetch https://me@example.org/x/y.git swarm/demo && git diff aaaaaaaaaaaa FETCH_HEAD"


def test_what_dry_run_prints_makes_the_same_run(cli: Any, tmp_path: Path, monkeypatch: Any) -> None:
    import io

    (tmp_path / "repo").mkdir()
    (tmp_path / "c.yaml").write_text("entries: []\n")
    given = ("--goal", "Add a login", "--repository", "repo", "--endpoint", "cassette:c.yaml")
    more = ("--model", "m", "--parallelism", "7", "--name", "same", "--budget-cost", "")
    asked = ("run", *given, *more)
    shown = {output: cli(*asked, "--dry-run", "-o", output).out for output in ("yaml", "json")}
    cli(*asked)

    def made() -> tuple[SwarmRun, Any, Any]:
        from swarmrun.local.directory import RunDirectory

        directory = RunDirectory(cli.home / "runs" / "default" / "same")
        run = directory.resource().model_copy(update={"status": None})
        return run, directory.swarm_class(), directory.snapshot().model_copy(update={"run": ""})

    first = made()
    monkeypatch.chdir("/")
    for text in shown.values():
        cli("delete", "same")
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        assert cli("run", "-f", "-").code == 0
        assert made() == first
