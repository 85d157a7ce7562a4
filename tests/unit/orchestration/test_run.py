"""Whole runs on the real engine, with scripted activities."""

from __future__ import annotations

from swarmrun.api.status import AgentPhase, Phase


def test_a_goal_goes_in_and_a_branch_comes_out(stage, coder):
    stage.happy(coder("a"), coder("b"), coder("c", "a", "b"))
    report = stage.run()
    assert (report.phase, report.reason) == (Phase.SUCCEEDED, "Published")
    assert report.result.branch == "swarm/x"
    assert {m.task for m in report.merges} == {"a", "b", "c"}
    # c starts from the integration branch that holds what it needs, with their summaries.
    (first,) = stage.inputs("model_turn", task="c", turn=1)
    assert "+a" in first["brief"]["base"]
    assert "+b" in first["brief"]["base"]
    assert set(first["brief"]["notes"]) == {"a", "b"}
    assert {r.status.phase for r in report.agents if r.status.role == "coder"} == {AgentPhase.MERGED}
    # Planner 1, coders 2 each, judge 1.
    assert sum(u.calls for r in report.agents for u in r.usage) == 7
    assert sum(u.calls for u in report.usage) == 1
    assert stage.inputs("sandbox_release")[-1]["task"] == ""
