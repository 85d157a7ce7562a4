"""One model call, one tool call, one checkpoint: paid once, run once, stored before it is returned."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from swarmrun.errors import BadModelOutput, RateLimited
from swarmrun.ports import Profile, Usage
from swarmrun.steps import (
    CHECKPOINT,
    GONE,
    MODEL_TURN,
    TOOL_CALL,
    Brief,
    TakeCheckpoint,
)


def texts(request) -> str:
    """Everything a model reads."""
    return request.instructions + str(list(request.messages))


# ---------------------------------------------------------------- model turns


def test_a_turn_is_paid_once_and_its_stored_reply_returned(lab, coder):
    first = coder.says(("read_file", {"path": "sums.py"}))
    lab.another_process()
    again = lab.ok(MODEL_TURN, coder.asked())
    assert again == first.model_copy(update={"replayed": True})
    assert len(lab.model.asked) == 1
    assert (first.usage.input, first.usage.output, first.usage.cost) == (100, 10, "0.000120")
    assert [(c.name, c.read_only, c.ends) for c in first.calls] == [("read_file", True, False)]


def test_a_script_that_has_run_out_is_a_failure_and_no_answer(lab, coder):
    coder.turn = 1
    failure = lab.failed(MODEL_TURN, coder.asked())
    assert (failure.reason, failure.retryable) == ("InternalError", False)
    assert "asked once more" in failure.message


def test_an_answer_that_could_not_be_used_is_paid_told_and_asked_again(lab, coder):
    coder.turn = 1
    lab.model.will(
        BadModelOutput("cut off", feedback="the answer was cut off", usage=Usage(input=50, output=5))
    )
    failure = lab.failed(MODEL_TURN, coder.asked())
    assert (failure.reason, failure.retryable, failure.usage.total) == ("BadModelOutput", True, 55)
    coder.turn = 0
    coder.says(("read_file", {"path": "sums.py"}))
    assert "Your last answer could not be used: the answer was cut off" in texts(lab.model.asked[1])
    # It belongs to that turn alone.
    coder.runs()
    coder.says(("read_file", {"path": "calc.py"}))
    assert texts(lab.model.asked[2]).count("could not be used") == 1


def test_a_rate_limit_keeps_what_the_server_said(lab, coder):
    coder.turn = 1
    lab.model.will(RateLimited("429", retry_after=7))
    failure = lab.failed(MODEL_TURN, coder.asked())
    assert (failure.kind, failure.retryable, failure.retry_after, failure.usage) == (
        "RateLimited",
        True,
        7,
        None,
    )


def test_news_is_told_in_words_and_a_stored_turn_says_what_it_has_not_heard(lab, coder):
    coder.says(
        ("read_file", {"path": "sums.py"}), news=["@no-call 1", "@sandbox-replaced", "add takes a list"]
    )
    read = texts(lab.model.asked[0])
    assert "called no tool" in read
    assert "Your sandbox was replaced" in read
    assert "add takes a list" in read
    assert lab.ok(MODEL_TURN, coder.asked(news=["later"])).news_taken is False


def test_the_transcript_holds_what_was_called_and_told_and_survives_the_process(lab, coder):
    coder.calls("write_file", path="sums.py", content=lab.SUMS, overwrite=True)
    coder.calls("read_file", path="sums.py")
    lab.another_process()
    coder.says(("finish", {"summary": "x"}))
    messages = lab.model.asked[-1].messages
    assert [m["role"] for m in messages] == ["user", "assistant", "tool", "assistant", "tool"]
    assert "return a + b" in str(messages[-1])


def test_reads_side_by_side_after_a_restart_do_not_double_the_transcript(lab, coder):
    for _ in range(6):
        coder.calls("read_file", path="sums.py")
        coder.calls("read_file", path="calc.py")
    coder.says(
        *[("read_file", {"path": f}) for f in ("sums.py", "calc.py", "conftest.py", "tests/test_calc.py")]
    )
    lab.another_process()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(coder.runs, range(4)))
    coder.says(("finish", {"summary": "x"}))
    assert sum(m["role"] == "assistant" for m in lab.model.asked[-1].messages) == 13


def test_the_opening_stays_when_the_world_moves_on(lab, coder):
    coder.says(("read_file", {"path": "sums.py"}))
    coder.runs()
    lab.another_process()
    lab.spec(goal="Something else.")
    coder.says(("read_file", {"path": "sums.py"}))
    one, two = lab.model.asked
    assert one.instructions == two.instructions
    assert one.messages[0] == two.messages[0]


def test_a_call_reserves_its_prompt_and_its_output_beforehand(lab, coder):
    coder.turn = 1
    failure = lab.failed(MODEL_TURN, coder.asked(tokens_left=1500))
    assert (failure.reason, failure.retryable) == ("BudgetExceeded", False)
    assert "1500 are left" in failure.message
    assert not lab.model.asked
    failure = lab.failed(MODEL_TURN, coder.asked(cost_left="0.001"))
    assert failure.reason == "BudgetExceeded"
    assert "USD" in failure.message


def test_a_cap_in_dollars_needs_a_price(lab, coder):
    lab.model.profile = Profile("unpriced")
    coder.turn = 1
    assert lab.failed(MODEL_TURN, coder.asked(cost_left="5")).reason == "UnknownPrice"


# ---------------------------------------------------------------- tool calls


def test_a_call_that_is_made_twice_is_run_once(lab, coder):
    coder.says(("exec", {"command": "echo x >> log.txt; cat log.txt"}))
    assert coder.runs().changed
    said = coder.result()
    lab.another_process()
    coder.runs()
    assert coder.result() == said
    assert lab.exec(coder.box, "cat log.txt") == "x\n"


def test_in_a_replaced_sandbox_it_is_run_again_and_the_first_whole_answer_stands(lab, coder):
    coder.says(("exec", {"command": "echo $RANDOM$RANDOM | tee log.txt"}))
    coder.runs()
    said = coder.result()
    lab.kill(coder.box)
    coder.box = lab.box("sums", commit=coder.brief.base, generation=2)
    assert coder.runs().changed
    assert coder.result() == said
    assert lab.exec(coder.box, "cat log.txt").strip() not in said


def test_a_sandbox_that_dies_under_a_call_is_lost_and_one_nobody_has_seen_is_gone(lab, coder):
    coder.says(("exec", {"command": "sleep 60"}))
    lab.kill(coder.box)
    failure = lab.failed(TOOL_CALL, coder.call())
    assert (failure.lost, failure.retryable, failure.reason) == (True, False, "SandboxLost")
    lab.another_process()
    failure = lab.failed(TOOL_CALL, coder.call())
    assert (failure.lost, failure.reason) == (True, GONE)


def test_a_poisoned_call_is_told_and_not_run(lab, coder):
    coder.says(("exec", {"command": "echo x > log.txt"}))
    done = coder.runs(poisoned=True)
    assert (done.ok, done.changed) == (False, False)
    assert "ended the sandbox twice" in coder.result()
    assert "x" not in lab.exec(coder.box, "cat log.txt 2>&1 || true").replace("log.txt", "")


def test_the_same_call_five_times_in_a_row_is_not_run_any_more(lab, coder):
    repeated = [coder.calls("exec", command="echo x >> log.txt").repeated for _ in range(5)]
    assert repeated == [1, 2, 3, 4, 5]
    assert "Repeating it will not help" in coder.result(turn=3)
    assert lab.exec(coder.box, "wc -l < log.txt").strip() == "4"


def test_errors_of_the_model_are_told_to_it(lab, coder):
    done = coder.calls("read_file", path="../../etc/passwd")
    assert not done.ok
    done = coder.calls("no_such_tool", path="x")
    assert not done.ok
    assert "no_such_tool" in coder.result()


def test_run_checks_marks_what_the_base_had_and_kills_what_does_not_end(lab, coder, monkeypatch):
    monkeypatch.setattr("swarmrun.activities.checks.ACCEPTANCE_SECONDS", 0.5)
    plan = {**lab.PLAN, "tasks": [dict(lab.PLAN["tasks"][0])], "contracts": lab.PLAN["contracts"]}
    plan["tasks"][0]["acceptance"] = [
        {"description": "It ends.", "command": "echo begun; (echo $$ > pid; exec sleep 500)"}
    ]
    coder.brief = coder.brief.model_copy(update={"plan": lab.plan(plan)})
    coder.calls("run_checks", which="acceptance")
    assert "FAILED: It ends." in coder.result()
    assert "begun" in coder.result()
    assert lab.exec(coder.box, "kill -0 $(cat pid) 2>/dev/null && echo alive || echo dead") == "dead\n"
    assert coder.calls("run_checks", which="tests").ok
    assert "pytest: passed" in coder.result()


# ---------------------------------------------------------------- checkpoints


def test_a_checkpoint_is_in_the_brains_hands_when_it_is_told(lab, coder):
    coder.calls("write_file", path="sums.py", content=lab.SUMS, overwrite=True)
    taken = coder.takes_checkpoint()
    assert taken.changed
    lab.kill(coder.box)
    assert lab.file(taken.commit, "sums.py") == lab.SUMS
    # Its successor starts from it.
    ref = lab.box("sums", commit=taken.commit, generation=2)
    assert (lab.tree(ref) / "sums.py").read_text() == lab.SUMS


def test_a_checkpoint_without_a_change_is_the_last_one(lab, coder):
    coder.calls("read_file", path="sums.py")
    assert coder.takes_checkpoint().model_dump() == {"commit": coder.brief.base, "changed": False}


def test_a_checkpoint_of_a_lost_sandbox_says_so(lab, coder):
    coder.turn = 1
    lab.kill(coder.box)
    given = TakeCheckpoint(**coder.me(), turn=1, box=coder.box, since=coder.brief.base)
    assert lab.failed(CHECKPOINT, given).lost


def test_a_planner_of_an_empty_repository_has_nothing_to_read(lab):
    base = lab.start({})
    lab.model.will([("read_file", {"path": "x"})])
    brief = Brief(base=base, empty=True)
    given = {"role": "planner", "task": "plan", "turn": 1, "brief": brief.model_dump(), "tokens_left": 99999}
    assert lab.ok(MODEL_TURN, given).calls
    assert [t.name for t in lab.model.asked[0].tools] == ["submit_plan"]
    assert not lab.ok(TOOL_CALL, {**given, "index": 0}).ok
