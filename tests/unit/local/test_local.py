"""State directories, locks and the facade, on a real disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from swarmrun.api.run import ObjectMeta, Repository, SwarmRun, SwarmRunSpec
from swarmrun.api.status import Phase, SwarmRunStatus
from swarmrun.api.swarmclass import SwarmClass
from swarmrun.errors import Conflict, EngineError, InvalidResource, NotFound, StorageUnavailable
from swarmrun.local.default_class import default_class
from swarmrun.local.files import write_atomic
from swarmrun.local.lock import Lock, held, holder
from swarmrun.local.runs import Runs

CLS = default_class({}, model="m", endpoint="http://127.0.0.1:9/v1")


def run(name: str = "demo", goal: str = "g", **spec: object) -> SwarmRun:
    return SwarmRun(
        metadata=ObjectMeta(name=name),
        spec=SwarmRunSpec(goal=goal, repository=Repository(url="/"), **spec),  # type: ignore[arg-type]
    )


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "home")


def start(runs: Runs, given: SwarmRun | None = None, cls: SwarmClass = CLS):  # type: ignore[no-untyped-def]
    return runs.start(given or run(), cls, source_dir=Path("/"))


def test_what_is_started_is_read_back_the_same(runs: Runs) -> None:
    given = run(suspend=True)
    directory = start(runs, given)
    again = runs.get("demo")
    assert again == directory
    assert again.resource() == given.model_copy(update={"status": SwarmRunStatus()})
    assert again.swarm_class() == CLS
    snapshot = again.snapshot()
    assert (snapshot.run, snapshot.branch) == (again.file().instance, "swarm/demo")


def test_two_runs_of_one_name_have_instances_of_their_own(runs: Runs) -> None:
    first = start(runs).file().instance
    runs.delete("demo")
    assert start(runs).file().instance != first


def test_starting_the_same_again_gives_what_there_is_another_goal_is_refused(runs: Runs) -> None:
    first = start(runs).file().instance
    assert start(runs).file().instance == first
    with pytest.raises(Conflict, match="another goal"):
        start(runs, run(goal="other"))


def test_a_refused_run_leaves_nothing_behind(runs: Runs) -> None:
    with pytest.raises(InvalidResource):
        start(runs, run(cancel=True))
    strict = CLS.model_copy(deep=True)
    strict.spec.repositories.schemes = ["https"]
    with pytest.raises(InvalidResource, match="scheme 'file' is not allowed"):
        start(runs, cls=strict)
    assert runs.list() == []
    with pytest.raises(NotFound):
        runs.get("demo")


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("ext::sh -c id", "not an address that is taken"),
        ("ftp://host.example/a/b", "ftp"),
        ("not/there", "no repository at"),
        ("a-file", "is a file"),
    ],
)
def test_an_address_that_no_run_can_use_is_refused_before_there_is_a_run(
    runs: Runs, tmp_path: Path, url: str, what: str
) -> None:
    (tmp_path / "a-file").write_text("x")
    given = run()
    given.spec.repository.url = url
    with pytest.raises(InvalidResource, match=what) as caught:
        runs.start(given, CLS, source_dir=tmp_path)
    assert caught.value.exit_code == 2
    assert runs.list() == []


@pytest.mark.parametrize("name", ["..", "a/b", "", "A", "x" * 64, "-a", ".start"])
def test_no_name_leads_out_of_the_home(runs: Runs, name: str) -> None:
    with pytest.raises(InvalidResource, match="no DNS label"):
        runs.get(name)
    with pytest.raises(InvalidResource):
        runs.delete(name, force=True)
    with pytest.raises(InvalidResource):
        runs.get("a", namespace=name)


def test_a_state_from_a_newer_version_is_left_alone(runs: Runs) -> None:
    path = start(runs).path / "run.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps(data | {"format": 2, "instance": None}))
    with pytest.raises(EngineError) as caught:
        runs.get("demo")
    assert caught.value.reason == "StateFromNewerVersion"
    with pytest.raises(EngineError):
        start(runs)
    path.write_text(json.dumps(data | {"newField": 1}))
    runs.get("demo")


def test_what_a_newer_version_has_added_to_a_snapshot_is_left_out(runs: Runs) -> None:
    directory = start(runs)
    path, known = directory.path / "snapshot.json", directory.snapshot()
    data = json.loads(path.read_text())
    path.write_text(json.dumps(data | {"tomorrow": 1, "sandbox": data["sandbox"] | {"tomorrow": {}}}))
    assert directory.snapshot() == known
    path.write_text(json.dumps(data | {"mode": "Choir"}))
    with pytest.raises(EngineError, match="mode"):
        directory.snapshot()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": "x"}', '{"format": 1}', "\x00\xff"])
def test_a_damaged_state_is_told_and_can_be_deleted(runs: Runs, damage: str) -> None:
    path = start(runs).path / "run.json"
    path.write_bytes(damage.encode("latin-1"))
    with pytest.raises(EngineError) as caught:
        runs.get("demo")
    assert caught.value.mend == "swarmrun delete demo --force"
    runs.delete("demo", force=True)
    assert runs.list() == []


def test_files_are_for_their_owner_only(runs: Runs) -> None:
    directory = start(runs)
    directory.save_status(SwarmRunStatus())
    key = directory.master_key()
    assert len(key) == 32
    assert directory.master_key() == key
    for path in directory.path.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_write_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    write_atomic(path, "old")
    path.parent.chmod(0o500)
    try:
        if os.geteuid() != 0:
            with pytest.raises(StorageUnavailable):
                write_atomic(path, "new")
            assert path.read_text() == "old"
    finally:
        path.parent.chmod(0o700)
    assert [p.name for p in tmp_path.iterdir()] == ["status.json"]


def test_a_full_disk_is_said_in_words_and_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomic(tmp_path / "f", "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageUnavailable, match="No space left on device") as caught:
        write_atomic(tmp_path / "f", "new")
    assert "free disk space" in caught.value.mend
    assert (tmp_path / "f").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_the_lock_goes_with_its_holder_however_it_dies(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import sys, time; from pathlib import Path; from swarmrun.local.lock import Lock\n"
        f"lock = Lock(Path({str(path)!r})); print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    assert held(path)
    assert holder(path) == process.pid
    with pytest.raises(Conflict, match=str(process.pid)):
        Lock(path)
    process.kill()
    process.communicate()
    assert not held(path)
    with Lock(path):
        assert held(path)
        assert holder(path) == os.getpid()
    assert not held(path)


def test_runs_are_listed_oldest_first_and_by_namespace(runs: Runs) -> None:
    for name in ("b", "a"):
        start(runs, run(name))
    os.utime(runs.get("b").path / "run.json", (1, 1))
    assert [d.name for d in runs.list()] == ["b", "a"]
    assert runs.list("other") == []


def test_a_terminal_status_is_the_end(runs: Runs) -> None:
    directory = start(runs)
    directory.save_status(SwarmRunStatus(phase=Phase.FAILED))
    told: list[Phase] = []
    done = runs.work(directory, lambda r: told.append(r.status.phase) if r.status else None)
    assert done.status
    assert done.status.phase is Phase.FAILED
    assert told == [Phase.FAILED]
    with pytest.raises(Conflict, match="has ended: Failed"):
        runs.send(directory, "cancel")


@pytest.mark.parametrize(
    ("env", "model", "endpoint", "expected"),
    [
        ({"OPENAI_API_KEY": "k"}, "gpt-5-mini", "", ("openai", "", "gpt-5-mini", "key")),
        ({"OPENAI_API_KEY": "k", "OPENAI_MODEL": "m"}, "", "", ("openai", "", "m", "key")),
        ({}, "m", "http://127.0.0.1:8000/v1", ("compatible", "http://127.0.0.1:8000/v1", "m", "none")),
        (
            {"OPENAI_BASE_URL": "http://x/v1", "OPENAI_API_KEY": "k"},
            "m",
            "",
            ("compatible", "http://x/v1", "m", "key"),
        ),
        (
            {"AZURE_OPENAI_ENDPOINT": "https://a", "AZURE_OPENAI_API_KEY": "k"},
            "d",
            "",
            ("azure-openai", "https://a", "d", "key"),
        ),
        (
            {"AZURE_OPENAI_ENDPOINT": "https://a"},
            "d",
            "http://x/v1",
            ("compatible", "http://x/v1", "d", "none"),
        ),
        ({}, "", "cassette:f.yaml", ("compatible", "cassette:f.yaml", "cassette", "none")),
    ],
)
def test_the_default_class_reads_options_before_the_environment(
    env: dict[str, str], model: str, endpoint: str, expected: tuple[str, ...]
) -> None:
    tier = default_class(env, model=model, endpoint=endpoint).spec.models.standard
    assert (tier.provider, tier.endpoint, tier.model, tier.auth.type) == expected


def test_without_a_model_the_mend_names_the_ways() -> None:
    with pytest.raises(InvalidResource) as caught:
        default_class({"AZURE_OPENAI_ENDPOINT": "https://a"})
    assert "AZURE_OPENAI_DEPLOYMENT" in caught.value.mend
