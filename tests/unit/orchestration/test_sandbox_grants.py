"""No more sandboxes than were granted are held at once; what is granted later is used at once."""

from __future__ import annotations

from swarmrun.api.status import Phase


def test_no_more_agents_work_at_once_than_sandboxes_were_granted(stage, coder):
    stage.happy(*(coder(i) for i in "abcde"))
    at_work: set[str] = set()
    most = [0]

    def begins(given):
        at_work.add(given["task"])
        most[0] = max(most[0], len(at_work - {"plan"}))

    stage.before("model_turn", begins)
    stage.before("finish", lambda given: at_work.discard(given["task"]))
    report = stage.run(parallelism=4, granted=2)
    assert report.phase is Phase.SUCCEEDED
    assert most == [1]
    assert (report.granted, report.sandboxes) == (2, 1)


def test_a_later_grant_starts_further_agents_while_the_first_still_works(stage, coder):
    stage.happy(coder("a"), coder("b"), coder("c"))
    door = stage.door()
    stage.before("model_turn", lambda g: door.wait(20) and None if g["task"] != "plan" else None)
    stage.start(parallelism=4, granted=2)
    stage.until(lambda: stage.inputs("model_turn", task="a"))
    stage.until(lambda: stage.status().sandboxes == 2)
    assert not stage.inputs("model_turn", task="b")
    stage.mail("grant", sandboxes=5)
    stage.until(lambda: stage.inputs("model_turn", task="c"))
    # Three tasks, and the integration sandbox.
    stage.until(lambda: (stage.status().granted, stage.status().sandboxes) == (5, 4))
    # A grant is never taken back by an older word, nor by one that is none.
    stage.mail("grant", sandboxes=3)
    stage.mail("grant", sandboxes="many")
    door.set()
    report = stage.report()
    assert (report.phase, report.granted) == (Phase.SUCCEEDED, 5)


def test_a_run_keeps_its_two_while_its_plan_waits_for_an_approval_and_uses_what_it_is_handed_then(
    stage, coder
):
    stage.happy(coder("a"), coder("b"), coder("c"))
    door = stage.door()
    stage.before("model_turn", lambda g: door.wait(20) and None if g["task"] != "plan" else None)
    stage.start(parallelism=4, granted=2, plan_approval=True)
    shown = stage.until(lambda: (s := stage.status()).waiting_for == "plan" and s)
    assert (shown.granted, shown.sandboxes) == (2, 2)
    stage.mail("approve", what="plan", bound="h1")
    stage.until(lambda: stage.inputs("model_turn", task="a"))
    assert not stage.inputs("model_turn", task="b")
    stage.mail("grant", sandboxes=5)
    stage.until(lambda: stage.inputs("model_turn", task="b") and stage.inputs("model_turn", task="c"))
    stage.until(lambda: (stage.status().granted, stage.status().sandboxes) == (5, 4))
    door.set()
    assert stage.report().phase is Phase.SUCCEEDED


def test_while_its_result_waits_for_an_approval_a_run_needs_no_sandbox(stage, coder):
    stage.happy(coder("a"))
    stage.start(publish_approval=True)
    stage.until(lambda: stage.status().waiting_for == "publish")
    assert stage.status().sandboxes == 0
    stage.mail("approve", what="publish")
    assert stage.report().phase is Phase.SUCCEEDED
