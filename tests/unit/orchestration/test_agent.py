"""One agent on the real engine: how it ends, what it is told, and what a lost sandbox costs."""

from __future__ import annotations

import threading

import pytest

from swarmrun.steps import (
    GONE,
    BoxRef,
    Brief,
    Called,
    CheckpointTaken,
    Ensured,
    Failed,
    Finished,
    Nothing,
    Prepared,
    TurnDone,
)

KEY = "coder/a/1"
REPLACED = "@sandbox-replaced"


@pytest.fixture(autouse=True)
def sandboxes(stage):
    stage.on("sandbox_ensure", Ensured(phase="Ready", isolation="test"))
    stage.on("sandbox_prepare", lambda g: Prepared(commit=g["commit"]))
    stage.on("sandbox_release", Nothing())


def told(stage) -> dict[int, list[str]]:
    """Turn → the news of the call that was paid for it."""
    news: dict[int, list[str]] = {}
    for given in stage.inputs("model_turn"):
        news.setdefault(given["turn"], given["news"])
    return {turn: texts for turn, texts in news.items() if texts}


def generations(stage, step: str) -> list[int]:
    return [g["generation"] for g in stage.inputs(step)]


def once(hook):
    """Answers the first time only."""
    left = [True]

    def body(given):
        if left and (said := hook(given)) is not None:
            left.clear()
            return said
        return None

    return body


# ---------------------------------------------------------------- the end


def test_an_agent_that_writes_and_finishes(stage):
    stage.agent(KEY, "read search", "write", "finish")
    result = stage.run_agent()
    assert (result["status"], result["verified"], result["commit"]) == ("Finished", True, f"{KEY}!")
    assert (result["turns"], result["tool_calls"]) == (3, 4)
    assert [(u["calls"], u["cost"]) for u in result["usage"]] == [(3, "0.03")]
    (finish,) = stage.inputs("finish")
    assert finish["since"] == f"{KEY}@2"
    # Only the turn that changed something is checkpointed.
    assert [c["turn"] for c in stage.inputs("checkpoint")] == [2]


def test_a_phantom_is_nudged_twice_then_its_attempt_fails(stage):
    stage.agent(KEY, *["read finish"] * 3)
    stage.on(
        "finish", Finished(accepted=False, empty=True, checkpoint="base", problems=["the diff is empty"])
    )
    result = stage.run_agent()
    assert (result["status"], result["reason"]) == ("Failed", "PhantomAgent")
    assert len(stage.inputs("finish")) == 3


def test_without_guards_an_empty_diff_is_what_it_claims_to_be(stage):
    stage.agent(KEY, "finish")
    stage.on("finish", Finished(accepted=True, empty=True, commit="base"))
    assert stage.run_agent(guards=False)["status"] == "Finished"


def test_text_without_a_call_is_nudged_twice_then_what_there_is_is_looked_at(stage):
    stage.agent(KEY, "write", "", "", "")
    result = stage.run_agent()
    assert result["status"] == "Finished"
    assert told(stage) == {3: ["@no-call 1"], 4: ["@no-call 2"]}
    (finish,) = stage.inputs("finish")
    assert (finish["index"], finish["final"]) == (-1, True)


def test_a_planner_that_never_submits_has_no_plan(stage):
    stage.agent("planner/a/1", "", "", "")
    stage.on("finish", Finished(accepted=False, problems=["no plan was submitted"]))
    result = stage.run_agent(role="planner", box=None, unverified_goes_on=False, must_write=False)
    assert (result["status"], result["reason"]) == ("Failed", "NoFinish")


def test_the_third_time_it_is_not_refused_but_goes_on_unverified_with_the_evidence(stage):
    stage.agent(KEY, "write finish", "write finish", "write finish")

    def look(given):
        problems = [f"Stubs left: {given['turn']}"]
        return Finished(
            accepted=given["final"], commit="c", checkpoint=f"k{given['turn']}", problems=problems
        )

    stage.on("finish", look)
    result = stage.run_agent()
    assert (result["status"], result["verified"]) == ("Finished", False)
    assert result["refused"] == ["Stubs left: 1", "Stubs left: 2"]
    assert result["message"] == "Stubs left: 3"
    assert [(g["refusals"], g["final"], g["since"]) for g in stage.inputs("finish")] == [
        (0, False, "base"),
        (1, False, "k1"),
        (2, True, "k2"),
    ]


def test_a_result_that_must_not_go_on_unverified_is_refused_for_good(stage):
    stage.agent("integrator/a/1", "finish", "finish", "finish")
    stage.on("finish", Finished(accepted=False, problems=["restored one side"]))
    result = stage.run_agent(role="integrator", unverified_goes_on=False)
    assert (result["status"], result["reason"], result["message"]) == (
        "Failed",
        "Refused",
        "restored one side",
    )
    assert not any(g["final"] for g in stage.inputs("finish"))


def test_turns_are_counted_and_end(stage):
    stage.agent(KEY, *["write"] * 3)
    result = stage.run_agent(max_turns=3)
    assert (result["reason"], result["turns"], result["checkpoint"]) == ("TurnsExhausted", 3, f"{KEY}@3")


def test_the_same_call_again_and_again_is_broken_off(stage):
    stage.agent(KEY, "read", "read")
    stage.on("tool_call", lambda g: Called(ok=True, repeated=4 + g["turn"] - 1))
    result = stage.run_agent()
    assert (result["reason"], result["message"]) == ("RepeatedCalls", "read was called 5 times in a row")


def test_reads_of_one_turn_go_side_by_side_and_writes_in_order(stage):
    stage.agent(KEY, "read search write write", "finish")
    together = threading.Barrier(2, timeout=5)
    running, most = [], [0]

    def call(given):
        name = stage.turns[KEY][given["turn"] - 1][given["index"]]
        if name in ("read", "search"):
            together.wait()
        else:
            running.append(name)
            most[0] = max(most[0], len(running))
            running.remove(name)
        return Called(ok=True, changed=name == "write")

    stage.on("tool_call", call)
    stage.run_agent()
    assert [g["index"] for g in stage.inputs("tool_call")][2:] == [2, 3]
    assert most == [1]


def test_a_call_after_the_end_of_the_same_turn_is_not_run(stage):
    stage.agent(KEY, "write finish write finish")
    stage.run_agent()
    assert [g["index"] for g in stage.inputs("tool_call")] == [0, 2]
    assert [g["index"] for g in stage.inputs("finish")] == [1]


# ---------------------------------------------------------------- failures


def test_a_rate_limit_is_waited_out_by_timers_and_what_it_cost_is_counted(stage):
    stage.agent(KEY, "finish")
    limited = Failed(
        reason="RateLimited", kind="RateLimited", message="429", retryable=True, retry_after=0.01
    )
    garbage = Failed(
        reason="BadModelOutput", message="cut off", retryable=True, retry_after=0, usage=stage.usage(7)
    )
    stage.on("model_turn", limited, limited, garbage, stage._model_turn)
    result = stage.run_agent()
    assert result["status"] == "Finished"
    assert sum(u["input"] for u in result["usage"]) == 17
    assert "waited 0.01 s: RateLimited" in result["notes"]
    assert len(stage.inputs("model_turn")) == 4


def test_rate_limits_take_nothing_from_the_tries_of_a_useless_answer(stage):
    stage.agent(KEY, "finish")
    limited = Failed(reason="RateLimited", kind="RateLimited", message="429", retryable=True, retry_after=0)
    garbage = Failed(reason="Empty", kind="BadModelOutput", message="empty", retryable=True, retry_after=0)
    stage.on("model_turn", *[limited] * 6, *[garbage] * 4, stage._model_turn)
    assert stage.run_agent()["status"] == "Finished"
    assert len(stage.inputs("model_turn")) == 11


def test_garbage_for_ever_ends_the_attempt_and_every_answer_is_paid(stage):
    stage.agent(KEY)
    stage.on(
        "model_turn",
        Failed(reason="BadModelOutput", message="cut", retryable=True, retry_after=0, usage=stage.usage(7)),
    )
    result = stage.run_agent()
    assert result["reason"] == "BadModelOutput"
    assert sum(u["input"] for u in result["usage"]) == 7 * len(stage.inputs("model_turn"))


def test_an_activity_that_fails_as_a_bug_fails_the_attempt_and_says_so(stage):
    stage.agent(KEY, "write")

    def broken(given):
        raise RuntimeError("off by one")

    stage.on("tool_call", broken)
    result = stage.run_agent()
    assert result["reason"] == "InternalError"
    assert "off by one" in result["message"]


def test_each_call_is_reserved_against_what_is_left(stage):
    stage.agent(KEY, "read", "read", "finish")
    stage.run_agent(tokens=1000, cost="1")
    assert [(g["tokens_left"], g["cost_left"]) for g in stage.inputs("model_turn")] == [
        (1000, "1.000000"),
        (990, "0.990000"),
        (980, "0.980000"),
    ]


def test_a_budget_that_is_used_up_keeps_what_the_last_turn_wrote(stage):
    stage.agent(KEY, "write")
    asked = threading.Event()

    def checkpoint(given):
        assert asked.wait(5)
        return CheckpointTaken(commit="late", changed=True)

    def turn(given):
        if given["turn"] == 2:
            asked.set()
            return Failed(reason="BudgetExceeded", message="4 tokens are left")
        return stage._model_turn(given)

    stage.on("checkpoint", checkpoint)
    stage.on("model_turn", turn)
    result = stage.run_agent()
    assert (result["reason"], result["checkpoint"]) == ("BudgetExceeded", "late")


def test_a_sandbox_that_is_refused_fails_the_attempt_before_a_token_is_spent(stage):
    stage.on("sandbox_prepare", Failed(reason="SetupFailed", message="pip ended with 1"))
    result = stage.run_agent()
    assert (result["reason"], stage.inputs("model_turn")) == ("SetupFailed", [])


# ---------------------------------------------------------------- lost sandboxes


def test_a_sandbox_lost_in_a_tool_call_is_replaced_from_the_last_checkpoint_and_the_turn_replayed(
    stage, lost
):
    stage.agent(KEY, "write", "write write", "finish")
    stage.before("tool_call", once(lambda g: lost if (g["turn"], g["index"]) == (2, 1) else None))
    result = stage.run_agent()
    assert (result["status"], result["generation"]) == ("Finished", 2)
    assert stage.paid == {f"{KEY}/{n}": 1 for n in (1, 2, 3)}
    assert generations(stage, "sandbox_ensure") == [1, 2]
    assert [p["commit"] for p in stage.inputs("sandbox_prepare")] == ["base", f"{KEY}@1"]
    # Both calls of the turn run again, in the new sandbox; the one after it is told.
    again = [(g["turn"], g["index"], g["box"]["generation"]) for g in stage.inputs("tool_call")]
    assert again == [(1, 0, 1), (2, 0, 1), (2, 1, 1), (2, 0, 2), (2, 1, 2)]
    assert stage.replies[f"{KEY}/3"][1] == [REPLACED]
    assert result["tool_calls"] == 4
    assert sum(u["calls"] for u in result["usage"]) == 3


def test_a_sandbox_lost_during_a_checkpoint_beside_the_next_model_call(stage, lost):
    stage.agent(KEY, "write", "write", "write", "finish")
    stage.before("checkpoint", once(lambda g: lost if g["turn"] == 2 else None))
    result = stage.run_agent()
    assert result["status"] == "Finished"
    # Turn 3 had been asked already: its reply stands, turn 2 runs again, and turn 4 hears of it.
    assert stage.paid == {f"{KEY}/{n}": 1 for n in (1, 2, 3, 4)}
    assert [(g["turn"], g["box"]["generation"]) for g in stage.inputs("tool_call")] == [
        (1, 1),
        (2, 1),
        (2, 2),
        (3, 2),
    ]
    assert [stage.replies[f"{KEY}/{n}"][1] for n in (3, 4)] == [[], [REPLACED]]
    assert [p["commit"] for p in stage.inputs("sandbox_prepare")] == ["base", f"{KEY}@1"]
    assert sum(u["calls"] for u in result["usage"]) == 4


def test_a_sandbox_lost_during_finish_is_looked_at_again_in_its_successor(stage, lost):
    stage.agent(KEY, "write", "finish")
    stage.before("finish", once(lambda g: lost))
    result = stage.run_agent()
    assert (result["status"], result["generation"]) == ("Finished", 2)
    assert [g["box"]["generation"] for g in stage.inputs("finish")] == [1, 2]
    assert stage.paid == {f"{KEY}/1": 1, f"{KEY}/2": 1}


def test_edits_of_a_turn_whose_finish_could_not_be_read_survive_a_loss(stage, lost):
    stage.agent(KEY, "write finish", "read", "finish")
    stage.on("finish", Finished(accepted=False, problems=["finish: summary is missing"]), stage._finish)
    stage.before("tool_call", once(lambda g: lost if g["turn"] == 2 else None))
    result = stage.run_agent()
    assert result["status"] == "Finished"
    assert [p["commit"] for p in stage.inputs("sandbox_prepare")] == ["base", f"{KEY}@1"]


def test_a_call_that_ended_its_sandbox_twice_is_told_as_an_error(stage, lost):
    stage.agent(KEY, "write_bomb", "finish")
    stage.before("tool_call", lambda g: None if g["poisoned"] else lost)
    result = stage.run_agent()
    assert (result["status"], result["generation"]) == ("Finished", 3)
    assert [g["poisoned"] for g in stage.inputs("tool_call")] == [False, False, True]
    told = [note.partition(":")[0] for note in result["notes"]]
    assert told == ["sandbox 1 of attempt 1 was lost", "sandbox 2 of attempt 1 was lost"]
    # Two losses, one word of it.
    assert stage.replies[f"{KEY}/2"][1] == [REPLACED]


def test_a_sandbox_that_ended_with_its_process_is_nobodys_fault(stage):
    stage.agent(KEY, "write", "finish")
    gone = Failed(reason=GONE, message="ended with the process", lost=True)
    stage.before("tool_call", lambda g: gone if g["box"]["generation"] <= 10 else None)
    result = stage.run_agent()
    assert (result["status"], result["generation"]) == ("Finished", 11)
    assert not any(g["poisoned"] for g in stage.inputs("tool_call"))


def test_a_machine_that_loses_every_sandbox_ends_the_attempt(stage, lost):
    stage.agent(KEY, "write", "write")
    stage.on("checkpoint", lost)
    stage.turns[KEY] *= 2
    result = stage.run_agent()
    assert (result["status"], result["reason"]) == ("Failed", "SandboxLost")


def test_sandboxes_that_are_lost_before_they_are_ready_end_the_attempt(stage):
    stage.on("sandbox_ensure", Ensured(phase="Lost", message="gone"))
    result = stage.run_agent()
    assert (result["reason"], generations(stage, "sandbox_ensure")) == ("SandboxLost", [1, 2, 3, 4, 5, 6])


def test_a_sandbox_that_is_still_starting_is_asked_again(stage, monkeypatch):
    from datetime import timedelta

    monkeypatch.setattr("swarmrun.orchestration.sandboxes.POLL", timedelta(milliseconds=5))
    stage.agent(KEY, "finish")
    ready = Ensured(phase="Ready")
    stage.on("sandbox_ensure", Ensured(phase="Starting"), Ensured(phase="Starting"), ready)
    assert stage.run_agent()["status"] == "Finished"
    assert generations(stage, "sandbox_ensure") == [1, 1, 1]


def test_a_second_loss_is_told_although_a_replayed_turn_had_heard_of_the_first(stage, lost):
    stage.agent(KEY, "write", "write", "write", "finish")
    first = once(lambda g: lost if g["turn"] == 1 else None)
    stage.before("tool_call", first)
    # Turn 2 is asked with the news of the first loss, then lost itself and replayed with the same news at hand.
    stage.before("checkpoint", once(lambda g: lost if g["turn"] == 2 else None))
    stage.run_agent()
    assert [stage.replies[f"{KEY}/{n}"][1] for n in (2, 3, 4)] == [[REPLACED], [], [REPLACED]]


# ---------------------------------------------------------------- news


def test_news_reaches_the_next_turn_once(stage):
    stage.agent(KEY, "read", "read", "finish")
    inside, door = threading.Event(), stage.door()

    def wait(given):
        if given["turn"] == 1:
            inside.set()
            door.wait(10)

    stage.before("model_turn", wait)
    stage.start_agent()
    assert inside.wait(5)
    for _ in range(2):
        stage.mail("news", instance="r1:a:1", id="n1", text="a field was added")
    stage.mail("news", instance="r1:a:1", id="n2", text="another one")
    door.set()
    stage.output("r1:a:1")
    assert told(stage) == {2: ["a field was added", "another one"]}


def test_news_that_comes_while_a_turn_is_replayed_waits_for_a_turn_that_can_hear_it(stage, lost):
    stage.agent(KEY, "write", "write", "write", "finish")
    inside, door = threading.Event(), stage.door()

    def loses(given):
        inside.set()
        door.wait(10)
        return lost

    stage.before("checkpoint", once(loses))  # of turn 1, beside turn 2
    stage.start_agent()
    assert inside.wait(5)
    stage.mail("news", instance="r1:a:1", id="n1", text="a field was added")
    stage.until(lambda: stage.paid[f"{KEY}/2"])
    door.set()
    stage.output("r1:a:1")
    # Turns 1 and 2 have their replies; whoever reads first is turn 3.
    assert stage.replies[f"{KEY}/3"][1] == [REPLACED, "a field was added"]
    assert stage.replies[f"{KEY}/4"][1] == []


# ---------------------------------------------------------------- long lives


def test_forty_five_turns_are_three_lives_and_nothing_is_lost_or_doubled(stage):
    stage.agent(KEY, *["write"] * 44, "finish")
    stage.start_agent()
    seen = set()
    for n in range(0, 40, 7):
        stage.until(lambda n=n: stage.paid[f"{KEY}/{n + 1}"])
        stage.mail("news", instance="r1:a:1", id=f"n{n}", text=f"news {n}")
        seen.add(f"news {n}")
    result = stage.output("r1:a:1")
    assert (result["turns"], result["tool_calls"]) == (45, 45)
    assert sum(u["calls"] for u in result["usage"]) == 45
    assert max(stage.paid.values()) == 1
    heard = [text for _, news in stage.replies.values() for text in news]
    assert sorted(heard) == sorted(seen)
    assert len(stage.inputs("checkpoint")) == 44
    assert generations(stage, "sandbox_ensure") == [1]
    # The last life holds the last turns alone.
    assert len(stage.engine.history("r1:a:1")) < 200


def test_suspended_before_and_resumed_after_it_would_have_continued_as_new(stage):
    stage.agent(KEY, *["read"] * 24, "finish")
    inside, door = threading.Event(), stage.door()

    def wait(given):
        if given["turn"] == 20:
            inside.set()
            door.wait(10)

    stage.before("model_turn", wait)
    stage.start_agent()
    assert inside.wait(10)
    stage.mail("suspend", instance="r1:a:1")
    door.set()
    stage.until(lambda: stage.progress("r1:a:1").phase == "Suspended")
    assert stage.paid[f"{KEY}/21"] == 0
    stage.mail("suspend", instance="r1:a:1")
    stage.mail("resume", instance="r1:a:1")
    assert stage.output("r1:a:1")["turns"] == 25


def test_a_lost_sandbox_at_the_end_of_a_life_is_replayed_in_it(stage, lost):
    stage.agent(KEY, *["write"] * 22, "finish")
    stage.before("checkpoint", once(lambda g: lost if g["turn"] == 20 else None))
    result = stage.run_agent()
    assert (result["turns"], result["generation"]) == (23, 2)
    assert max(stage.paid.values()) == 1


def test_cancelled_in_the_middle_it_ends_at_once_and_keeps_the_checkpoint_under_way(stage):
    stage.agent(KEY, "write", "read")
    inside, door = threading.Event(), stage.door()
    leave = stage.door()

    def wait_in_turn(given):
        if given["turn"] == 2:
            inside.set()
            leave.wait(10)

    def slow(given):
        door.wait(10)

    stage.before("model_turn", wait_in_turn)
    stage.before("checkpoint", slow)
    stage.start_agent()
    assert inside.wait(5)
    stage.mail("cancel", instance="r1:a:1", reason="Cancelled", message="by ann")
    stage.mail("cancel", instance="r1:a:1")
    door.set()
    result = stage.output("r1:a:1")
    assert (result["status"], result["reason"], result["message"]) == ("Cancelled", "Cancelled", "by ann")
    assert result["checkpoint"] == f"{KEY}@1"
    assert sum(u["calls"] for u in result["usage"]) == 1


def test_an_agent_without_a_sandbox_only_asks(stage):
    stage.plan = stage.a_plan()
    stage.agent("planner/a/1", "read", "submit_plan")
    result = stage.run_agent(role="planner", box=None, brief=Brief(empty=True))
    assert (result["status"], stage.inputs("sandbox_ensure"), stage.inputs("checkpoint")) == (
        "Finished",
        [],
        [],
    )


def test_its_progress_is_there_while_it_works(stage):
    stage.agent(KEY, "read", "write", "finish")
    door = stage.door()
    stage.before("finish", lambda g: door.wait(10) and None)
    stage.start_agent()
    progress = stage.until(lambda: (p := stage.progress("r1:a:1")).phase == "Finishing" and p)
    assert (progress.turns, progress.tool_calls, progress.tokens, progress.last_tool) == (3, 3, 30, "finish")
    door.set()
    stage.output("r1:a:1")


def test_a_reply_of_an_earlier_life_of_the_engine_is_taken_and_news_it_did_not_hear_waits(stage):
    """The engine lost everything, the store did not: the first turn's reply is there already."""
    stage.agent(KEY, "read", "finish")
    stored = TurnDone.model_validate(stage._model_turn({"turn": 1, "news": ["old"], **_me()}))
    assert stored.calls
    result = stage.run_agent(news=["new"])
    assert result["status"] == "Finished"
    assert stage.paid == {f"{KEY}/1": 1, f"{KEY}/2": 1}
    assert stage.replies[f"{KEY}/2"][1] == ["new"]


def _me() -> dict[str, object]:
    return {"role": "coder", "task": "a", "attempt": 1, "box": BoxRef(run="r1", task="a").model_dump()}
