"""Words to runs that nobody works on, and a human who takes up what a run has left."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import scenes
from lab import Lab, git, until

from swarmrun.cassette.format import Cassette
from swarmrun.cassette.server import CassetteServer

NAME = "journal"


class Talk:
    """A run whose recorded models are served outside of the program."""

    def __init__(self, lab: Lab, server: CassetteServer, **spec: Any) -> None:
        self.lab, self.server = lab, server
        self.bare = lab.repository(files={"README": "What was here before.\n"})
        run = scenes.journal(self.bare, name=NAME, **spec)
        self.file = lab.resource(scenes.documents(scenes.swarm_class(server.url), run))

    def asked(self) -> dict[str, int]:
        """`role/task/attempt/turn` → requests of any outcome."""
        return {key.split("/", 1)[1]: sum(counts.values()) for key, counts in self.server.requests().items()}

    def settled(self) -> dict[str, int]:
        """`asked` of a program that was killed: a request that it had sent may be counted a moment later."""
        before = self.asked()
        while True:
            time.sleep(0.5)
            if (now := self.asked()) == before:
                return now
            before = now

    def killed(self, when: Callable[[], Any]) -> None:
        """Starts it, and kills it once that is so."""
        started = self.lab.start("run", "-f", self.file)
        until(when, "the moment to kill it")
        started.signal(signal.SIGKILL)
        started.wait()

    def agents(self) -> dict[str, dict[str, Any]]:
        return {a["task"]: a for a in self.lab.status(NAME)["agents"]}


@pytest.fixture
def talk(lab: Lab) -> Iterator[Callable[..., Talk]]:
    with ExitStack() as stack:

        def make(recording: dict[str, Any], **spec: Any) -> Talk:
            server = stack.enter_context(CassetteServer(Cassette.model_validate(recording)))
            return Talk(lab, server, **spec)

        yield make


def test_cancelling_a_stopped_run_asks_no_model_and_keeps_the_branches(lab, talk):
    run = talk(scenes.journal_recording(turns=40, delay=0.2), turns=40)
    run.killed(lambda: {"coder/a01/1/4", "coder/a02/1/4"} <= set(run.asked()))
    before = run.settled()
    lab.run("cancel", NAME)
    assert run.asked() == before
    assert lab.status(NAME)["phase"] == "Cancelled"
    assert {a["phase"] for a in run.agents().values()} == {"Cancelled"}
    for who in scenes.names(2):
        assert "+turn 1" in lab.run("diff", NAME, who).out
    assert lab.left_behind() == []


def test_a_stopped_run_can_be_approved_and_goes_on_when_it_is_resumed(lab, talk):
    run = talk(scenes.journal_recording(), plan={"approval": True})
    run.killed(lambda: lab.status(NAME).get("phase") == "AwaitingApproval")
    said = lab.run("approve", NAME, "plan").out
    assert f"nobody works on it now: {' '.join(_program())} resume {NAME}" in said
    assert run.asked() == {}
    lab.run("resume", NAME)
    assert lab.pushes() == [f"refs/heads/swarm/{NAME}"]


def test_a_stopped_run_can_be_suspended_and_begins_nothing_until_it_is_resumed(lab, talk):
    run = talk(scenes.journal_recording(turns=5, delay=0.2), turns=5)
    run.killed(lambda: {"coder/a01/1/2", "coder/a02/1/2"} <= set(run.asked()))
    before = run.settled()
    lab.run("suspend", NAME)
    assert run.asked() == before
    assert "suspend: true" in lab.run("get", NAME).out
    lab.run("resume", NAME)
    assert lab.status(NAME)["phase"] == "Succeeded"


def test_what_a_run_could_not_merge_a_human_edits_and_merges(lab, talk, tmp_path):
    run = talk(quarrel(), turns=2, gates=[{"name": "said", "command": "test -s README"}])
    done = lab.run("run", "-f", run.file, expect=1)
    left = next(who for who, a in run.agents().items() if who in scenes.names(2) and a["phase"] != "Merged")
    assert run.agents()[left]["phase"] == "Failed"
    mine = tmp_path / "mine"
    assert f"merge {NAME} {left} --checkout {left}" in done.out
    assert lab.pushes() == []

    refused = lab.run("merge", NAME, left, expect=1)
    assert "README: content" in refused.err
    lab.run("merge", NAME, left, "--checkout", str(mine))
    # As the command has said it.
    who = ("-c", "user.name=me", "-c", "user.email=me@example.org")
    merging = subprocess.run(["git", "-C", str(mine), *who, "merge", "integration"], capture_output=True)
    assert merging.returncode == 1, merging
    (mine / "README").write_text("Both, by hand.\n")
    git("-C", str(mine), "commit", "-q", "-a", "-m", "by hand")
    asked = run.asked()
    ended = lab.run("merge", NAME, left, "--from", str(mine))
    assert "Succeeded (Published), 2/2 tasks merged" in ended.out
    assert git("-C", str(run.bare), "show", f"swarm/{NAME}:README") == "Both, by hand."
    assert lab.pushes() == [f"refs/heads/swarm/{NAME}"]
    assert run.asked() == asked
    assert lab.left_behind() == []
    assert any("Succeeded" in row for row in lab.run("list").out.splitlines() if NAME in row)
    # It has ended, and so it stays.
    assert "ended before" in lab.run("run", "-f", run.file).err


def quarrel() -> dict[str, Any]:
    """Two agents rewrite one line; the integrator and the fresh attempt do nothing."""
    finish = {"name": "finish", "arguments": {"summary": "Done."}}
    recording = scenes.journal_recording(turns=2)
    entries = [e for e in recording["entries"] if e["role"] == "judge"]
    for who in scenes.names(2):
        command = f"mkdir -p {who} && echo 'turn 1' > {who}/journal.txt && echo 'Written by {who}.' > README"
        call = {"name": "exec", "arguments": {"command": command}}
        entries += [scenes.entry(who, 1, 0, call), scenes.entry(who, 2, 0, finish)]
        entries += [{"role": "coder", "task": who, "attempt": 2, "turn": "*", "calls": [finish]}]
        entries += [{"role": "integrator", "task": f"integrate-{who}", "turn": "*", "calls": [finish]}]
    return {**recording, "entries": entries}


def _program() -> list[str]:
    from lab import PROGRAM

    return PROGRAM
