"""kill -9 of everything that belongs to a run; `make test-kill` does this at every boundary of the demo."""

from __future__ import annotations

import copy
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
import scenes
from killing import KilledRun, Outcome
from lab import Lab, until

from swarmrun.cassette.format import Cassette
from swarmrun.cassette.server import CassetteServer

SEED = int(os.environ.get("SWARMRUN_TEST_SEED", "20261123"))
AGENTS, TURNS = 2, 3
NAME = "journal"


def played(root: Path, recording: dict[str, Any], how) -> Outcome:
    """The scene `journal` in a place of its own, run as `how` says."""
    root.mkdir(parents=True, exist_ok=True)
    lab = Lab(root)
    bare = lab.repository(files={"README": "What was here before.\n"})
    with CassetteServer(Cassette.model_validate(recording)) as server:
        resource = scenes.journal(bare, name=NAME, agents=AGENTS, turns=TURNS)
        file = lab.resource(scenes.documents(scenes.swarm_class(server.url), resource))
        try:
            return how(KilledRun(lab, server, file, NAME, "repo"))
        finally:
            lab.close()


@pytest.fixture(scope="module")
def recording() -> dict[str, Any]:
    return scenes.journal_recording(agents=AGENTS, turns=TURNS, delay=0.1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, recording) -> Outcome:
    """A run that nobody disturbs."""
    outcome = played(tmp_path_factory.mktemp("whole"), recording, lambda run: run.at([]))
    assert outcome.code == 0, outcome.said
    assert set(outcome.turns) >= {"a01: turn 1", "a02: turn 2"}
    assert all(len(trees) == 1 for trees in outcome.turns.values())
    return outcome


@pytest.mark.parametrize("half", [0, 1])
def test_a_run_killed_at_step_boundaries_ends_as_if_it_had_not_been(whole, recording, tmp_path, half):
    chance = random.Random(SEED)
    # One of each kind, and one of any: before a step, after it and before it is recorded, after that.
    kinds = [[b for b in whole.seen if b.startswith(kind)] for kind in ("begun", "done", "recorded", "")]
    chosen = [chance.choice(boundaries) for boundaries in kinds][half * 2 : half * 2 + 2]
    print(f"seed {SEED}: {chosen}")
    killed = played(tmp_path, recording, lambda run: run.at(chosen))
    assert killed.differences(whole) == []
    assert killed.kills >= 1


def test_a_run_killed_at_random_instants_ends_as_if_it_had_not_been(whole, recording, tmp_path):
    print(f"seed {SEED}")
    longest = whole.seconds * 0.7  # another run may be quicker
    killed = played(tmp_path, recording, lambda run: run.at_instants(random.Random(SEED), 2, longest))
    assert killed.differences(whole) == []


def test_a_sandbox_killed_in_a_tool_call_is_replaced_and_the_turn_replayed(whole, recording, tmp_path):
    slow = copy.deepcopy(recording)
    command, after = slow["entries"][1]["calls"][0]["arguments"], slow["entries"][2]
    command["command"] += " && sleep 3.21"
    # The model is told once it is asked again.
    after["expect"] = {"messages_contain": ["Your sandbox was replaced."]}

    def kill_the_sandbox(run: KilledRun) -> Outcome:
        started = run.lab.start("run", "-f", run.file)
        # The line is written, the command still runs.
        until(lambda: processes("sleep\0003.21\0"), "the tool call")
        sandbox = processes("-a01-a1-g1/volume", "bwrap")
        assert sandbox
        for pid in sandbox:
            os.kill(pid, signal.SIGKILL)
        return run._outcome(started.wait().code, started)

    killed = played(tmp_path, slow, kill_the_sandbox)
    assert killed.differences(whole) == []
    assert killed.asked_again == 0


def processes(*words: str) -> list[int]:
    """Ids of processes whose command line holds all of these."""
    found: list[int] = []
    for proc in Path("/proc").iterdir():
        if proc.name.isdigit():
            try:
                line = (proc / "cmdline").read_text()
            except OSError:
                continue
            if all(word in line for word in words):
                found.append(int(proc.name))
    return found
