"""Runs that are stopped, told, doubled or wrong from the start: exit codes, words, and what is left."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import scenes
from lab import PATIENCE, Lab, Started, git, git_host, tree, until

from swarmrun.cassette.format import Cassette, Entry, Fault
from swarmrun.cassette.request import Asked
from swarmrun.cassette.server import CassetteServer

NAME = "journal"


class Models(CassetteServer):
    """Recorded models, served outside of the program, that think about turn `hold` until they are let go."""

    def __init__(self, recording: dict[str, Any], hold: int) -> None:
        super().__init__(Cassette.model_validate(recording))
        self.hold, self.go = hold, threading.Event()
        self.held: set[str] = set()

    def decide(self, asked: Asked) -> tuple[Entry, Fault | None]:
        if asked.key["role"] == "coder" and int(asked.key["turn"]) >= self.hold > 0:
            self.held.add(asked.key["task"])
            self.go.wait(PATIENCE)
        return super().decide(asked)


class Play:
    """A run of the scene `journal`."""

    def __init__(self, lab: Lab, server: Models, **spec: Any) -> None:
        self.lab, self.server = lab, server
        self.bare = lab.root / "repo.git"
        if not self.bare.exists():
            lab.repository(files={"README": "What was here before.\n"})
        run = scenes.journal(self.bare, name=NAME, **spec)
        self.file = lab.resource(scenes.documents(scenes.swarm_class(server.url), run))

    def start(self, *options: str) -> Started:
        return self.lab.start("run", "-f", self.file, *options)

    def answered(self) -> dict[str, int]:
        """`role/task/attempt/turn` → how often a model answered: what would have been paid."""
        return {
            key.split("/", 1)[1]: counts.get("answered", 0) for key, counts in self.server.requests().items()
        }

    def half_way(self) -> None:
        """Waits until both agents have asked for the answer that is held back."""
        until(lambda: self.server.held == set(scenes.names(2)), "both agents are half-way")

    def status(self) -> dict[str, Any]:
        return self.lab.status(NAME)

    def phase(self) -> str:
        return self.status().get("phase", "")

    def branches(self) -> list[str]:
        return git("-C", str(self.bare), "for-each-ref", "--format=%(refname:short)", "refs/heads").split()


@pytest.fixture
def play(lab: Lab) -> Iterator[Callable[..., Play]]:
    with ExitStack() as stack:

        def make(turns: int = 4, hold: int = 0, **spec: Any) -> Play:
            server = stack.enter_context(Models(scenes.journal_recording(turns=turns), hold))
            stack.callback(server.go.set)
            return Play(lab, server, turns=turns, **spec)

        yield make


def expected_tree(lab: Lab, turns: int = 4) -> str:
    """The base with the journals of two agents, made by hand."""
    lines = "".join(f"turn {n}\n" for n in range(1, turns))
    other = lab.repository("expected", {"README": "What was here before.\n"})
    return tree(other, lab.commit(other, {f"{who}/journal.txt": lines for who in scenes.names(2)}))


# ---------------------------------------------------------------- interrupted


def test_ctrl_c_leaves_a_run_that_resume_finishes_with_the_same_tree_and_nothing_paid_twice(lab, play):
    run = play(hold=3)
    started = run.start()
    run.half_way()
    started.signal(signal.SIGINT)
    stopped = started.wait(30)
    run.server.go.set()
    assert stopped.code == 130
    assert f" resume {NAME}\n" in stopped.err
    assert "Traceback" not in stopped.err
    assert lab.left_behind() == []
    assert lab.cgroups() == []
    assert any(NAME in row and "(stopped)" in row for row in lab.run("list").out.splitlines())
    stored = list(lab.directory(NAME).glob("artifacts/turns/coder/*/1/*/reply.json"))
    paid = {"/".join(p.parts[-5:-2]) + f"/{int(p.parts[-2])}" for p in stored}
    before = {key: run.answered()[key] for key in paid}

    lab.run("resume", NAME)
    assert tree(run.bare, f"swarm/{NAME}") == expected_tree(lab)
    assert len(paid) >= 2
    assert {key: run.answered()[key] for key in paid} == before
    assert lab.pushes() == [f"refs/heads/swarm/{NAME}"]


def test_deleting_an_interrupted_run_leaves_nothing_of_its_sandboxes(lab, play):
    run = play(hold=1)
    started = run.start()
    run.half_way()
    groups = lab.cgroups()
    in_use = lab.run("delete", NAME, expect=1)
    assert f" cancel {NAME}`" in in_use.err
    started.signal(signal.SIGKILL)
    started.wait()
    until(lambda: not lab.left_behind(), "sandboxes die with the program")
    lab.run("delete", NAME)
    assert [group for group in groups if group.exists()] == []
    assert not lab.directory(NAME).exists()


# ---------------------------------------------------------------- told by another process


def test_a_cancel_from_elsewhere_ends_with_3_and_keeps_what_the_agents_made(lab, play):
    run = play(hold=3)
    started = run.start()
    run.half_way()
    lab.run("cancel", NAME)
    run.server.go.set()
    done = started.wait(40)
    assert done.code == 3, done
    assert "Cancelled" in done.out
    assert run.phase() == "Cancelled"
    assert lab.left_behind() == []
    assert run.branches() == ["main"]
    agents = {a["task"]: a for a in run.status()["agents"]}
    for who in scenes.names(2):
        assert agents[who]["phase"] == "Cancelled"
        # What it had made is kept in the run's own store and can be looked at.
        assert "+turn 1" in lab.run("diff", NAME, who).out
    late = lab.run("cancel", NAME, expect=1)
    assert "has ended" in late.err


def test_a_stopped_run_can_be_cancelled_too(lab, play):
    run = play(hold=3)
    started = run.start()
    run.half_way()
    started.signal(signal.SIGKILL)
    started.wait()
    run.server.go.set()
    lab.run("cancel", NAME)
    assert run.phase() == "Cancelled"
    assert lab.left_behind() == []
    assert lab.run("resume", NAME, expect=3).code == 3


def test_a_suspended_run_asks_no_model_until_it_is_resumed(lab, play):
    run = play(turns=5, hold=3)
    started = run.start()
    run.half_way()
    lab.run("suspend", NAME)
    run.server.go.set()
    until(lambda: [a["turns"] for a in run.status()["agents"]] == [4, 4], "both agents are before turn 4")
    assert {c["reason"] for c in run.status()["conditions"]} == {"Suspended"}
    shown = json.loads(lab.run("get", NAME, "-o", "json").out)
    assert shown["spec"]["suspend"] is True
    assert sorted(run.answered().values()) == [1] * 6
    second = lab.start("resume", NAME)
    assert started.wait().code == 0
    assert second.wait().code == 0
    assert tree(run.bare, f"swarm/{NAME}") == expected_tree(lab, turns=5)


def test_the_same_run_started_twice_at_once_is_one_run(lab, play):
    run = play()
    first, second = run.start(), run.start("-o", "json")
    one, two = first.wait(), second.wait()
    assert (one.code, two.code) == (0, 0), f"{one}{two}"
    assert json.loads(two.out)["status"]["phase"] == "Succeeded"
    assert set(run.answered().values()) == {1}
    assert lab.pushes() == [f"refs/heads/swarm/{NAME}"]


# ---------------------------------------------------------------- approvals


def test_plan_and_result_wait_for_approval_and_hold_no_sandbox_meanwhile(lab, play):
    run = play(plan={"approval": True}, publish={"approval": True})
    started = run.start()
    until(lambda: run.phase() == "AwaitingApproval", "the plan waits")
    assert run.answered() == {}
    # The status is written before the sandbox is released.
    until(lambda: lab.left_behind() == [], "no sandbox is held")
    lab.run("approve", NAME, "plan")
    until(lambda: run.phase() == "AwaitingApproval" and run.status().get("score"), "the result waits")
    assert run.branches() == ["main"]
    assert "+turn 1" in lab.run("diff", NAME).out
    lab.run("approve", NAME, "publish")
    assert started.wait().code == 0
    assert lab.pushes() == [f"refs/heads/swarm/{NAME}"]


def test_a_rejected_plan_ends_the_run_before_any_token_is_spent(lab, play):
    run = play(plan={"approval": True})
    started = run.start()
    until(lambda: run.phase() == "AwaitingApproval", "the plan waits")
    lab.run("reject", NAME, "plan", "--reason", "too many journals")
    done = started.wait()
    assert done.code == 1, done
    assert "too many journals" in done.out
    assert run.answered() == {}


def test_a_rejected_result_is_not_published(lab, play):
    run = play(publish={"approval": True})
    started = run.start()
    until(lambda: run.phase() == "AwaitingApproval", "the result waits")
    lab.run("reject", NAME, "publish", "--reason", "not on a Friday")
    done = started.wait()
    assert done.code == 1, done
    assert "not on a Friday" in done.out
    assert run.branches() == ["main"]
    assert "+turn 1" in lab.run("diff", NAME).out


# ---------------------------------------------------------------- wrong from the start


def test_a_remote_that_cannot_be_pushed_to_is_found_before_a_token_is_spent(lab, play):
    bare = lab.repository("reader", {"README": "For reading.\n"})
    with git_host(bare.parent) as url:
        run = play(repository={"url": f"{url}/{bare.name}"})
        done = run.start().wait()
    assert done.code == 1, done
    assert "PushDenied" in done.out
    assert "write access" in done.out
    assert run.answered() == {}


def test_a_repository_that_is_not_there_is_refused_before_there_is_a_run(lab, play):
    run = play(repository={"url": "/nowhere/at/all.git"})
    done = run.start().wait()
    assert done.code == 2, done
    assert "/nowhere/at/all.git" in done.err
    assert not lab.directory(NAME).exists()


def test_a_branch_that_is_not_there_is_named_with_those_that_are(lab, play):
    run = play(repository={"branch": "mian"})
    done = run.start().wait()
    assert done.code == 1, done
    assert "main" in done.out
    assert run.answered() == {}


def test_another_goal_under_the_name_of_a_run_is_refused_as_json(lab, play):
    run = play()
    run.start().wait()
    run = play(goal="Something else.")
    done = lab.run("run", "-f", run.file, "-o", "json", expect=None)
    assert done.code == 1
    error = json.loads(done.err)["error"]
    assert error["reason"] == "Conflict"
    assert "another goal" in error["message"]


def test_an_unknown_field_is_named_with_the_nearest_one_and_exit_code_2(lab, play):
    run = play(gaol="A typo.")
    done = run.start().wait()
    assert done.code == 2
    assert "gaol" in done.err
    assert "goal" in done.err
    assert not lab.directory(NAME).exists()


# ---------------------------------------------------------------- somebody else's work


def test_a_branch_that_somebody_pushed_meanwhile_is_kept_and_the_result_stands_beside_it(lab, play):
    run = play(hold=3)
    started = run.start()
    run.half_way()
    theirs = lab.commit(run.bare, {"mine.txt": "by hand\n"}, branch=f"swarm/{NAME}")
    run.server.go.set()
    done = started.wait()
    assert done.code == 0, done
    assert "holds somebody else's commits" in done.out
    assert git("-C", str(run.bare), "rev-parse", f"swarm/{NAME}") == theirs
    assert tree(run.bare, f"swarm/{NAME}-2") == expected_tree(lab)
    result = run.status()["result"]
    assert (result["branch"], result["beside"]) == (f"swarm/{NAME}-2", True)


def test_a_base_branch_that_moves_on_meanwhile_changes_nothing(lab, play):
    run = play(hold=3)
    started = run.start()
    run.half_way()
    lab.commit(run.bare, {"later.txt": "moved on\n"})
    run.server.go.set()
    assert started.wait().code == 0
    assert tree(run.bare, f"swarm/{NAME}") == expected_tree(lab)


def test_a_tracked_file_whose_name_is_no_utf8_hinders_nobody(lab, play):
    odd = "caf\udce9.txt"
    run = play()
    lab.commit(
        run.bare, {odd: "x\n", f"a01/{odd}": "y\n", "test_odd.py": "def test_it():\n    assert True\n"}
    )
    done = run.start().wait(PATIENCE)
    assert done.code == 0, done
    names = git("-C", str(run.bare), "ls-tree", "-r", "--name-only", f"swarm/{NAME}")
    assert "a01/caf\\351.txt" in names
    assert "a01/journal.txt" in names
    openings = list(lab.directory(NAME).glob("artifacts/turns/coder/a01/1/opening.json"))
    prefix = (lab.directory(NAME) / "artifacts/prefix.md").read_text()
    assert openings
    assert "caf\\xe9.txt" in prefix
