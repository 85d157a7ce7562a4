"""A run is begun by one program and finished by another, whose orchestration has other steps: both ways, killed
with -9 in between, as real processes on one state directory."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import killing
import other_program
import pytest
import scenes
from killing import KilledRun, Outcome
from lab import PROGRAM, Lab, Started, tree, until

from swarmrun.cassette.format import Cassette
from swarmrun.cassette.server import CassetteServer

AGENTS, TURNS = 2, 3
NAME = "journal"


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Path:
    return other_program.patched(tmp_path_factory.mktemp("other") / "operator")


class Upgraded(KilledRun):
    """After every kill the other program goes on."""

    programs: tuple[Path, Path]

    def _start(self) -> Started:
        known = (self.lab.directory(self.name) / "run.json").exists()
        arguments = ["resume", self.name] if known else ["run", "-f", self.file]
        program = ["env", f"PYTHONPATH={self.programs[self.kills % 2]}", *killing.PROGRAM]
        return self.lab.start(str(self.seen), str(self.due), *arguments, program=program)


def played(root: Path, programs: tuple[Path, Path], boundaries: list[str]) -> Outcome:
    root.mkdir(parents=True, exist_ok=True)
    lab = Lab(root)
    bare = lab.repository(files={"README": "What was here before.\n"})
    recording = scenes.journal_recording(agents=AGENTS, turns=TURNS, delay=0.1)
    with CassetteServer(Cassette.model_validate(recording)) as server:
        resource = scenes.journal(bare, name=NAME, agents=AGENTS, turns=TURNS)
        file = lab.resource(scenes.documents(scenes.swarm_class(server.url), resource))
        run = Upgraded(lab, server, file, NAME, "repo")
        run.programs = programs
        try:
            return run.at(boundaries)
        finally:
            lab.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, other) -> Outcome:
    """A run that nobody disturbs."""
    ours = other_program.ROOT / "operator"
    outcome = played(tmp_path_factory.mktemp("whole"), (ours, other), [])
    assert outcome.code == 0, outcome.said
    return outcome


POINTS = [
    "recorded preflight",
    "done scaffold task=integration attempt=1",
    "begun model_turn role=coder task=a01 attempt=1 turn=1",
    "recorded model_turn role=coder task=a01 attempt=1 turn=2",
    "begun checkpoint role=coder task=a02 attempt=1 turn=1",
    "done finish role=coder task=a01 attempt=1 turn=3 index=0",
    "done merge task=a01",
    "recorded merge task=a02",
    "done gates task=integration attempt=1 round=0",
    "recorded judge_sample round=0 sample=1",
    "done publish",
    "recorded publish",
]


@pytest.mark.parametrize("points", [POINTS[0::2], POINTS[1::2]], ids=["first", "second"])
def test_a_run_that_changes_programs_at_every_kill_ends_as_if_it_had_not(whole, other, tmp_path, points):
    """Upgrade and downgrade in turns: before the plan, at work, at merges, at the judge, at publishing."""
    assert set(points) <= set(whole.seen)
    killed = played(tmp_path, (other_program.ROOT / "operator", other), points)
    assert killed.kills == len(points)
    assert killed.differences(whole) == []


def test_a_run_that_waits_for_approval_is_approved_before_and_after_an_upgrade(lab, other):
    """What was said while nobody worked is heard by the program that comes; a suspension holds, too."""
    bare = lab.repository(files={"README": "What was here before.\n"})
    recording = scenes.journal_recording(agents=AGENTS, turns=TURNS)
    later = ["env", f"PYTHONPATH={other}", *PROGRAM]
    with CassetteServer(Cassette.model_validate(recording)) as server:
        resource = scenes.journal(bare, name=NAME, plan={"approval": True}, publish={"approval": True})
        file = lab.resource(scenes.documents(scenes.swarm_class(server.url), resource))
        started = lab.start("run", "-f", file)
        until(lambda: lab.status(NAME).get("phase") == "AwaitingApproval", "the plan")
        started.signal(signal.SIGKILL)
        started.wait()
        lab.run("approve", NAME, "plan")
        lab.run("suspend", NAME)
        started = lab.start("resume", NAME, program=later)
        until(
            lambda: lab.status(NAME).get("phase") == "AwaitingApproval" and lab.status(NAME).get("score"),
            "the result",
        )
        started.signal(signal.SIGKILL)
        started.wait()
        answers = sum(count.get("answered", 0) for count in server.requests().values())
        lab.run("approve", NAME, "publish")
        lab.run("resume", NAME)
        assert sum(count.get("answered", 0) for count in server.requests().values()) == answers
    status = lab.status(NAME)
    assert status["phase"] == "Succeeded"
    assert status["usage"]["tokens"] == answers * 1050 - (1050 - judge_tokens(lab))
    assert lab.pushes() == [f"refs/heads/swarm/{NAME}"]
    assert tree(bare, f"swarm/{NAME}")


def judge_tokens(lab: Lab) -> int:
    """What the judge's one answer took."""
    (answer,) = lab.directory(NAME).glob("artifacts/turns/judge/*/*/*/answer.json")
    usage = json.loads(answer.read_text())["usage"]
    return usage["input"] + usage["output"]
