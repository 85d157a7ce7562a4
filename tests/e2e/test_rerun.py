"""`swarmrun rerun`: another attempt that keeps what the last one made, with real git and counted model calls."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import killing
import pytest
import scenes
from lab import Lab, git, until

from swarmrun.cassette.format import Cassette
from swarmrun.cassette.server import CassetteServer

NAME = "journal"
BRANCH = f"swarm/{NAME}"
WHO = scenes.names(2)


class Again:
    """A run whose recorded models are served outside of the program, and counted."""

    def __init__(self, lab: Lab, server: CassetteServer, bare: Path) -> None:
        self.lab, self.server, self.bare = lab, server, bare
        self.before: dict[str, int] = {}

    def asked(self) -> set[str]:
        """`role/task` of what models were asked since this was last called, by whichever attempt."""
        now = {key: sum(counts.values()) for key, counts in self.server.requests().items()}
        new = [key.split("/") for key, count in now.items() if count != self.before.get(key, 0)]
        self.before = now
        return {f"{role}/{task}" for _, role, task, *_ in new}

    def agents(self) -> dict[str, dict]:
        return {a["task"]: a for a in self.lab.status(NAME)["agents"]}

    def end(self) -> tuple[str, str]:
        status = self.lab.status(NAME)
        ready = next(c for c in status["conditions"] if c["type"] == "Ready")
        return status["phase"], ready["reason"]

    def lines(self, who: str) -> int:
        return len(git("-C", str(self.bare), "show", f"{BRANCH}:{who}/journal.txt").splitlines())

    def tip(self) -> str:
        return git("-C", str(self.bare), "rev-parse", BRANCH)


@pytest.fixture
def again(lab: Lab) -> Iterator[Again]:
    bare = lab.repository(files={"README": "What was here before.\n"})
    with CassetteServer(Cassette.model_validate(scenes.journal_recording())) as server:
        run = scenes.journal(bare, name=NAME, plan={"tasks": tasks(bare)})
        lab.resource(scenes.documents(scenes.swarm_class(server.url), run))
        yield Again(lab, server, bare)


def tasks(bare: Path) -> list[dict]:
    """The second depends on the first."""
    planned = scenes.journal(bare)["spec"]["plan"]["tasks"]
    planned[1]["dependsOn"] = [planned[0]["id"]]
    return planned


def test_a_refused_push_is_published_later_without_asking_anybody(lab, again):
    hook = again.bare / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'closed until noon' >&2\nexit 1\n")
    hook.chmod(0o755)
    done = lab.run("run", "-f", "run.yaml", expect=1)
    assert "PublishRefused" in done.out + done.err
    used = lab.status(NAME)["usage"]["tokens"]
    assert used
    again.asked()
    hook.unlink()
    lab.run("rerun", NAME, "--from", "publish")
    status = lab.status(NAME)
    assert again.end() == ("Succeeded", "Published")
    assert again.asked() == set()
    assert [again.lines(who) for who in WHO] == [2, 2]
    # The tasks stand there with what they took; the attempt itself has paid nothing.
    assert {
        who: (a["phase"], a["turns"], a["tokens"]) for who, a in again.agents().items() if who in WHO
    } == dict.fromkeys(WHO, ("Merged", 3, 3150))
    assert status["usage"].get("tokens", 0) == 0
    told = lab.run("logs", NAME, WHO[0])
    assert f"── coder {WHO[0]}, attempt 1, turn 3" in told.out
    assert f"note: attempt 1 of the run did task {WHO[0]}" in told.err
    assert lab.left_behind() == []


def test_the_judge_alone_is_asked_again_and_the_branch_goes_on(lab, again):
    lab.run("run", "-f", "run.yaml")
    first, _ = again.tip(), again.asked()
    lab.run("rerun", NAME, "--from", "judge")
    assert again.asked() == {"judge/round-0"}
    assert again.end() == ("Succeeded", "Published")
    git("-C", str(again.bare), "merge-base", "--is-ancestor", first, again.tip())


def test_a_task_is_done_again_with_what_depends_on_it_through_a_kill_in_the_middle(lab, again):
    lab.run("run", "-f", "run.yaml")
    first, _ = again.tip(), again.asked()
    seen, due = lab.root / "seen", lab.root / "due"
    seen.write_text("")
    due.write_text("begun adopt\ndone adopt\n")
    started = lab.start(
        str(seen), str(due), "rerun", NAME, "--from", f"task/{WHO[1]}", program=killing.PROGRAM
    )
    assert started.wait().code == -signal.SIGKILL
    started = lab.start(str(seen), str(due), "resume", NAME, program=killing.PROGRAM)
    assert started.wait().code == -signal.SIGKILL
    lab.run("resume", NAME)
    assert again.end() == ("Succeeded", "Published")
    assert again.asked() == {f"coder/{WHO[1]}", "judge/round-0"}
    assert {m["task"] for m in lab.status(NAME)["merges"]} == set(WHO)
    assert [again.lines(who) for who in WHO] == [2, 2]
    # The branch had the earlier attempt's result and nobody else's: it is replaced.
    assert again.tip() != first
    assert lab.status(NAME)["result"]["branch"] == BRANCH

    # A rerun of the rerun, from the first task: both are done again.
    lab.run("rerun", NAME, "--from", f"task/{WHO[0]}")
    assert again.asked() == {*(f"coder/{who}" for who in WHO), "judge/round-0"}
    assert json.loads((lab.directory(NAME) / "run.json").read_text())["attempt"] == 3
    assert "+turn 1" in lab.run("diff", NAME, WHO[0]).out


@pytest.mark.parametrize("point", ["work", "plan", ""])
def test_what_is_published_does_not_swallow_a_rerun(lab, again, point):
    lab.run("run", "-f", "run.yaml")
    base, _ = lab.status(NAME)["result"]["baseCommit"], again.asked()
    # The branch that it started from has gone on since.
    moved = lab.commit(again.bare, {"LATER": "by somebody else\n"})
    lab.run("rerun", NAME, *(["--from", point] if point else []))
    assert again.asked() == {*(f"coder/{who}" for who in WHO), "judge/round-0"}
    result = lab.status(NAME)["result"]
    assert again.end() == ("Succeeded", "Published")
    # Taken over with a point, looked up anew without.
    assert result["baseCommit"] == (base if point else moved)
    assert result["branch"] == BRANCH


def test_somebody_else_s_commits_on_the_branch_are_not_replaced(lab, again):
    lab.run("run", "-f", "run.yaml")
    mine = lab.commit(again.bare, {"MINE": "on top\n"}, branch=BRANCH)
    lab.run("rerun", NAME, "--from", "work")
    assert again.tip() == mine
    assert lab.status(NAME)["result"]["branch"] == f"{BRANCH}-2"


def test_a_point_that_is_none_or_was_not_reached_changes_nothing(lab, again):
    started = lab.start("run", "-f", "run.yaml")
    until(lambda: again.asked(), "an agent at work")
    assert f"works on run {NAME}" in lab.run("rerun", NAME, expect=1).err
    started.signal(signal.SIGKILL)
    started.wait()
    assert "has not ended" in lab.run("rerun", NAME, expect=1).err
    lab.run("cancel", NAME)
    again.asked()
    for point, words in (
        ("nowhere", "one of plan, work, judge, publish, or task/<id>"),
        ("task/a77", "one of a01, a02"),
        ("judge", "before it had finished its tasks"),
        ("publish", "before it had judged its result"),
    ):
        refused = lab.run("rerun", NAME, "--from", point, expect=2)
        assert words in refused.err, refused
    assert again.asked() == set()
    assert lab.status(NAME)["phase"] == "Cancelled"
    # It can begin from what was reached.
    lab.run("rerun", NAME, "--from", "work")
    assert again.end() == ("Succeeded", "Published")
