"""A network for set-up alone: open while a sandbox is prepared, closed before anything of an agent's runs in it."""

from __future__ import annotations

from typing import Any

import pytest

from swarmrun.api.status import Phase
from swarmrun.steps import Called, CheckpointTaken, Ensured, Failed, Preflight, Prepared, TaskRef

Given = dict[str, Any]


def box_of(given: Given) -> str:
    box = given.get("box") or given
    return f"{box['task']}-a{box['attempt']}-g{box['generation']}"


class Doors:
    """Sandboxes that are born open and are closed when asked to; `seen` is what ran where and how it was then."""

    def __init__(self, stage: Any) -> None:
        self.open: dict[str, bool] = {}
        self.seen: list[tuple[str, str, bool]] = []
        stage.on("sandbox_ensure", self.ensure)
        for step in ("sandbox_prepare", "baseline", "scaffold", "tool_call", "gates"):
            self.watch(stage, step)

    def watch(self, stage: Any, step: str) -> None:
        def look(given: Given) -> None:
            if given.get("box") is not None or "generation" in given:
                self.seen.append((step, box_of(given), self.open[box_of(given)]))

        stage.before(step, look)

    def ensure(self, given: Given) -> Ensured:
        box = box_of(given)
        if given["setup"] == "done":
            if self.open[box]:
                self.open[box] = False
                return Ensured(phase="Starting", reason="NetworkClosing")
        else:
            self.open.setdefault(box, given["setup"] == "ahead")
        return Ensured(phase="Ready", open=self.open[box])


@pytest.mark.parametrize("empty", [False, True])
def test_only_set_up_runs_in_an_open_sandbox(stage, coder, empty) -> None:
    stage.happy(coder("a"), coder("b"))
    if empty:
        stage.on("preflight", Preflight(base_branch="main", base_commit="base", empty=True))
    doors = Doors(stage)
    report = stage.run(setup_only=True)
    assert report.phase is Phase.SUCCEEDED, report
    assert {step for step, _, is_open in doors.seen if is_open} == {"sandbox_prepare"}
    prepared = {box for step, box, is_open in doors.seen if step == "sandbox_prepare" and is_open}
    assert {"a-a1-g1", "b-a1-g1"} <= prepared
    assert {box for step, box, _ in doors.seen if step == "gates"} <= prepared


def test_on_an_empty_repository_set_up_gets_a_sandbox_of_its_own_after_the_scaffold(stage, coder) -> None:
    stage.happy(coder("a"))
    stage.on("preflight", Preflight(base_branch="main", base_commit="base", empty=True))
    Doors(stage)
    stage.run(setup_only=True)
    first, second = (g for g in stage.inputs("sandbox_prepare") if g["task"] == "integration")
    assert (first["setup"], second["setup"], second["commit"]) == (False, True, "scaffold")
    assert second["generation"] == 2


def test_a_sandbox_that_is_lost_while_it_is_closed_is_replaced_by_an_open_one(stage) -> None:
    stage.happy(TaskRef(id="a"))
    doors = Doors(stage)
    stage.agent("coder/a/1", "write", "finish")

    def lose(given: Given) -> Ensured | None:
        if given["setup"] == "done" and given["generation"] == 1:
            return Ensured(phase="Lost", reason="Deleted", message="somebody deleted it")
        return None

    stage.before("sandbox_ensure", lose)
    stage.run_agent()
    assert [(s, b) for s, b, is_open in doors.seen if is_open] == [
        ("sandbox_prepare", "a-a1-g1"),
        ("sandbox_prepare", "a-a1-g2"),
    ]
    assert ("tool_call", "a-a1-g2", False) in doors.seen


def test_a_network_that_does_not_close_ends_the_run(stage) -> None:
    stage.happy()
    Doors(stage)
    stage.before(
        "sandbox_ensure",
        lambda g: (
            Ensured(phase="Refused", reason="NetworkPolicyNotEnforced", message="10.0.0.1:53 answers")
            if g["setup"] == "done"
            else None
        ),
    )
    report = stage.run(setup_only=True)
    assert (report.phase, report.reason) == (Phase.FAILED, "NetworkPolicyNotEnforced")
    assert not stage.given("model_turn")


def test_without_it_no_step_is_added(stage, coder) -> None:
    stage.happy(coder("a"))
    stage.run()
    assert {g["setup"] for g in stage.inputs("sandbox_ensure")} == {"none", "ahead"}


# ---------------------------------------------------------------- what a sandbox outgrows


@pytest.mark.parametrize(
    ("cause", "field"), [("DiskFull", "resources.disk"), ("OOMKilled", "resources.memory")]
)
def test_a_set_up_that_twice_outgrows_its_sandbox_fails_with_the_cause(stage, cause, field) -> None:
    stage.happy()
    stage.agent("coder/a/1", "write", "finish")
    stage.on("sandbox_prepare", Failed(reason=cause, message="it was evicted", lost=True))
    result = stage.run_agent()
    assert (result["status"], result["reason"]) == ("Failed", cause)
    assert field in result["message"]
    assert len(stage.inputs("sandbox_prepare")) == 2


def test_one_that_outgrows_it_once_is_replaced(stage) -> None:
    stage.happy()
    stage.agent("coder/a/1", "write", "finish")
    stage.on(
        "sandbox_prepare",
        Failed(reason="OOMKilled", message="", lost=True),
        Failed(reason="Killed", message="", lost=True),
        Failed(reason="OOMKilled", message="", lost=True),
        Prepared(commit="base"),
    )
    stage.on("tool_call", Called(ok=True, changed=True, preview="write"))
    stage.on("checkpoint", CheckpointTaken(commit="c", changed=True))
    assert stage.run_agent()["status"] == "Finished"


def test_a_step_that_fills_the_integration_sandbox_says_so(stage) -> None:
    stage.happy()
    stage.on("gates", Failed(reason="DiskFull", message="Pod x was evicted", lost=True))
    report = stage.run()
    assert (report.phase, report.reason) == (Phase.FAILED, "DiskFull")
    final = stage.status()
    assert "spec.sandbox.resources.disk" in final.message


# ---------------------------------------------------------------- Pods that wait


def test_a_pod_that_waits_for_something_is_told_once_and_its_reason_goes_when_it_runs(stage) -> None:
    stage.happy()
    looks = iter(range(100))
    pulls = Ensured(phase="Starting", reason="ImagePullBackOff", message="no such host", tells=True)
    door = stage.door()

    def ensure(_: Given) -> Ensured:
        number = next(looks)
        if number > 3:
            door.wait(10)
        return pulls if number < 5 else Ensured(phase="Ready", isolation="test")

    stage.on("sandbox_ensure", ensure)
    stage.start()
    shown = stage.until(lambda: (s := stage.status()).waiting_for == "pod" and s)
    assert shown.reason == "ImagePullBackOff"
    assert "no such host" in shown.message
    door.set()
    report = stage.report()
    assert (report.phase, report.reason) == (Phase.SUCCEEDED, "Published")
    assert report.notes == ["sandbox_ensure waited 1 s: ImagePullBackOff"]


def git_pod(reason: str, *, retry_after: float = 0) -> Failed:
    return Failed(
        reason=reason, message="git Pod x", kind="RemoteUnavailable", retryable=True, retry_after=retry_after
    )


def test_a_git_pod_that_waited_long_for_a_node_may_still_be_lost_once(stage) -> None:
    stage.happy()
    found = Preflight(base_branch="main", base_commit="base")
    stage.on("preflight", *[git_pod("GitPodWaiting")] * 45, git_pod("GitPodLost"), found)
    assert stage.run().phase is Phase.SUCCEEDED


def test_a_git_pod_on_its_way_is_nothing_to_tell_and_one_that_waits_is(stage) -> None:
    stage.happy()
    found = Preflight(base_branch="main", base_commit="base")
    waits = [git_pod(reason, retry_after=0.05) for reason in ("GitPodStarting", "GitPodWaiting")]
    stage.on("preflight", *waits, found)
    report = stage.run()
    assert report.phase is Phase.SUCCEEDED
    assert report.notes == ["preflight waited 0.05 s: GitPodWaiting"]
