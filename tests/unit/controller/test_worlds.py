"""What a worker keeps of runs whose end it never hears of, by real repositories; what it reads of other versions."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from swarmrun.activities.registry import activities, failed
from swarmrun.api.resolve import Snapshot, resolve
from swarmrun.api.run import SwarmRun
from swarmrun.api.swarmclass import SwarmClass
from swarmrun.artifacts.store import open_store
from swarmrun.controller import worlds as module
from swarmrun.controller.hands import Hands, hands_for
from swarmrun.controller.inputs import run_input
from swarmrun.controller.place import own_place
from swarmrun.controller.settings import OperatorSettings
from swarmrun.controller.worlds import SNAPSHOT, Worlds
from swarmrun.durable.bridge import Bridge
from swarmrun.durable.engine import EmbeddedEngine
from swarmrun.errors import StorageUnavailable
from swarmrun.git.objects import EMPTY_TREE
from swarmrun.orchestration.agent import agent
from swarmrun.orchestration.perform import wait_before_retry
from swarmrun.orchestration.run import run as run_orchestration
from swarmrun.report import RunReport

# The scene and its repository are those of the whole runs.
sys.path.insert(0, str(Path(__file__).parents[2] / "e2e"))

import lab as helpers
import scenes

from swarmrun.cassette.format import Cassette
from swarmrun.cassette.server import CassetteServer

RUN = "6a6f1ef2-1a50-4f4b-b6ee-7191db4fc90f-1"
Body = Callable[..., dict[str, Any]]


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    it = Bridge()
    yield it
    it.close()


@pytest.fixture
def snapshot(run_body: Body, class_body: Body) -> Callable[[str], Snapshot]:
    def make(run: str) -> Snapshot:
        return resolve(
            SwarmRun.model_validate(run_body()), SwarmClass.model_validate(class_body()), instance=run
        )

    return make


@pytest.fixture
def make(tmp_path: Path, bridge: Bridge, snapshot: Callable[[str], Snapshot]) -> Callable[..., Worlds]:
    """Worlds that know some runs."""

    def make(*runs: str, tidies: bool = True) -> Worlds:
        hands = Hands(lambda _: None, lambda *_: None)  # type: ignore[arg-type, return-value]
        it = Worlds((tmp_path / "artifacts").as_uri(), tmp_path / "caches", hands, bridge, tidies=tidies)
        for run in runs:
            it.begin(snapshot(run))
        return it

    return make


def worked(worlds: Worlds, run: str) -> str:
    """A step that makes a commit, and gives it."""
    with worlds(run) as world:
        world.repo.init()
        commit = world.repo.commit_tree(EMPTY_TREE, [], f"of {run}\n", "A <a@example.invalid>", 1)
        world.repo.record(commit)
        return commit


def kept(tmp_path: Path) -> set[str]:
    return {place.name for place in (tmp_path / "caches").glob("*")} | {
        place.name for place in (tmp_path / "caches").glob(".*")
    }


# ---------------------------------------------------------------- what goes


def test_a_repository_that_no_step_uses_goes_and_is_filled_again_from_the_artifacts(
    make: Callable[..., Worlds], tmp_path: Path
) -> None:
    worlds = make("a-1")
    commit = worked(worlds, "a-1")
    worlds.tidy()
    assert kept(tmp_path) == {"a-1.git"}  # it may be wanted in a moment
    worlds.tidy(0)
    assert kept(tmp_path) == set()
    with worlds("a-1") as world:
        world.repo.ensure(commit)
        assert world.repo.message(commit) == "of a-1\n"


def test_a_repository_in_use_stays_until_the_last_step_on_it_has_ended(
    make: Callable[..., Worlds], tmp_path: Path
) -> None:
    worlds = make("a-1", "b-1")
    worked(worlds, "a-1")
    worked(worlds, "b-1")
    with worlds("a-1") as one:
        with worlds("a-1") as two:
            assert two is one
        worlds.tidy(0)
        assert kept(tmp_path) == {"a-1.git"}
    worlds.tidy(0)
    assert kept(tmp_path) == set()


def test_a_step_that_fails_uses_its_repository_no_more(make: Callable[..., Worlds], tmp_path: Path) -> None:
    worlds = make("a-1")
    worked(worlds, "a-1")
    with pytest.raises(RuntimeError), worlds("a-1"):
        raise RuntimeError
    worlds.tidy(0)
    assert kept(tmp_path) == set()


def test_of_too_many_the_one_that_was_used_first_goes_with_its_repository(
    make: Callable[..., Worlds], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_OPEN", 2)
    worlds = make("a-1", "b-1", "c-1", "d-1")
    with ExitStack() as stack:
        worked(worlds, "a-1")
        stack.enter_context(worlds("a-1"))
        worked(worlds, "b-1")
        worked(worlds, "c-1")
        assert kept(tmp_path) == {"a-1.git", "c-1.git"}
    worked(worlds, "d-1")
    # It was used after c.
    assert kept(tmp_path) == {"a-1.git", "d-1.git"}


def test_with_the_embedded_engine_a_repository_stays_until_its_run_ends(
    make: Callable[..., Worlds], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_OPEN", 1)
    worlds = make("a-1", "b-1", tidies=False)
    worked(worlds, "a-1")
    worked(worlds, "b-1")
    assert kept(tmp_path) == {"a-1.git", "b-1.git"}
    worlds.close("a-1")
    assert kept(tmp_path) == {"b-1.git"}


@pytest.mark.timeout(120)
def test_a_run_that_finds_no_repository_at_any_step_ends_the_same(tmp_path: Path, bridge: Bridge) -> None:
    """As if every step were another worker's: what one leaves for the next is in the artifacts."""
    bare = helpers.Lab(tmp_path).repository(files={"README": "What was here before.\n"})
    env = {
        "SWARMRUN_STATE": str(tmp_path / "state"),
        "SWARMRUN_SANDBOXES": "process",
        "SWARMRUN_UNSAFE_NO_SANDBOX": "true",
    }
    settings = OperatorSettings.read(env)
    worlds = Worlds(settings.artifacts, tmp_path / "caches", hands_for(settings, bridge), bridge, tidies=True)
    emptied = set[str]()

    def forgetful(name: str, step: Any) -> Any:
        def run(context: Any, given: Any) -> Any:
            said = step(context, given)
            before = kept(tmp_path)
            worlds.tidy(0)
            if before - kept(tmp_path):
                emptied.add(name)
            return said

        return run

    recording = scenes.journal_recording(agents=2, turns=2)
    with CassetteServer(Cassette.model_validate(recording), quiet=True) as model:
        cls = SwarmClass.model_validate(scenes.swarm_class(model.url))
        body = SwarmRun.model_validate(scenes.journal(bare, agents=2, turns=2))
        given = run_input(worlds.begin(resolve(body, cls, instance=RUN)))
        engine = EmbeddedEngine(tmp_path / "engine.db", grace=0.3).open()
        try:
            steps = {name: forgetful(name, step) for name, step in activities(worlds).items()}
            engine.start_worker([run_orchestration, agent], steps)
            client = engine.client()
            client.schedule_new_orchestration("run", input=given.model_dump(mode="json"), instance_id=RUN)
            state = client.wait_for_orchestration_completion(RUN, timeout=90)
        finally:
            engine.close(wait=0.1)
    assert state
    report = RunReport.model_validate_json(state.serialized_output or "null")
    assert (report.phase, report.reason) == ("Succeeded", "Published"), report.message
    # Others run beside each other, and each keeps it for the other.
    assert {"judge_tally", "publish"} <= emptied
    assert kept(tmp_path) == set()


def test_what_ended_processes_have_left_goes_and_what_a_living_one_has_stays(tmp_path: Path) -> None:
    (tmp_path / "old-1.git").mkdir()
    code = (
        "import sys, time; from pathlib import Path; from swarmrun.controller.place import own_place; "
        "print(own_place(Path(sys.argv[1])), flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        try:
            assert other.stdout
            theirs = Path(other.stdout.readline().strip())
            mine = own_place(tmp_path)
            assert set(tmp_path.iterdir()) == {mine, theirs}
        finally:
            other.send_signal(signal.SIGKILL)
    later = own_place(tmp_path)
    assert set(tmp_path.iterdir()) == {mine, later}
    (tmp_path / "file").touch()
    with pytest.raises(StorageUnavailable):
        own_place(tmp_path / "file")


# ---------------------------------------------------------------- what another version has stored


def test_a_snapshot_with_fields_of_the_future_is_read_wherever_they_stand(
    make: Callable[..., Worlds], tmp_path: Path, snapshot: Callable[[str], Snapshot]
) -> None:
    worlds = make("a-1")
    store = open_store((tmp_path / "artifacts" / "runs" / "a-1").as_uri())
    written = json.loads(store.get(SNAPSHOT))
    now = {"tomorrow": {"a": [1]}}
    written |= now
    for place in ("repository", "publish", "limits", "sandbox", "pods"):
        written[place] |= now
    written["sandbox"]["egress"] |= now
    written["rubric"][0] |= now
    for tier in written["tiers"].values():
        tier |= now
    store.put(SNAPSHOT, json.dumps(written).encode())
    with worlds("a-1") as world:
        assert world.snapshot == snapshot("a-1")
    assert worlds.begin(snapshot("a-1")) == snapshot("a-1")


@pytest.mark.parametrize("broken", [b'{"mode": "Choir"}', b"{", b"[]"])
def test_a_snapshot_that_cannot_be_read_is_named_and_waited_for(
    make: Callable[..., Worlds], broken: bytes
) -> None:
    worlds = make("a-1")
    store = worlds.store("a-1")
    if broken.startswith(b'{"'):
        broken = json.dumps(json.loads(store.get(SNAPSHOT)) | json.loads(broken)).encode()
    store.put(SNAPSHOT, broken)
    with pytest.raises(StorageUnavailable, match=r"artifact snapshot\.json cannot be read") as caught:
        worlds("a-1").__enter__()
    assert "the version that wrote it" in caught.value.mend
    # A worker of that version may be the next one that is asked.
    assert wait_before_retry(failed(caught.value), 30) is not None
