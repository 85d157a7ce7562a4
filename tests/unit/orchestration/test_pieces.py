"""What can be looked at without an engine."""

from __future__ import annotations

import json
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest

from swarmrun.api.status import (
    AgentStatus,
    GateStatus,
    Judgement,
    MergedFile,
    MergeHow,
    MergeStatus,
    PlannedContract,
    PlannedTask,
    PlanStatus,
)
from swarmrun.orchestration import budget
from swarmrun.orchestration.agent import groups
from swarmrun.orchestration.budget import Allowance
from swarmrun.orchestration.flow import Flow, Race, Until, beside, settle
from swarmrun.orchestration.inputs import add_usage
from swarmrun.orchestration.mail import Mail
from swarmrun.orchestration.perform import (
    LONGEST_WAIT,
    OTHER_TRIES,
    OUTAGE_TRIES,
    RATE_LIMIT_TRIES,
    STARTING_TRIES,
    perform,
    read,
    wait_before_retry,
    waiting,
)
from swarmrun.orchestration.sandboxes import MAX_POLLS
from swarmrun.orchestration.size import LIMIT, fitted, size
from swarmrun.report import AgentRecord, RunReport
from swarmrun.steps import SAVE_REPORT, CallRef, Failed, Result, SaveReport, TaskRef, UsageRecord

# ---------------------------------------------------------------- flows


class Facts:
    def __init__(self) -> None:
        self.true: set[str] = set()

    def until(self, name: str) -> Until:
        return Until(lambda: name in self.true)


def test_a_flow_goes_on_once_its_fact_holds_and_not_before():
    facts, log = Facts(), []

    def work() -> Any:
        yield facts.until("a")
        log.append("a")
        yield facts.until("b")
        return "done"

    flow = Flow(work())
    settle([flow])
    assert (flow.done, log) == (False, [])
    facts.true.add("a")
    settle([flow])
    assert (flow.done, log) == (False, ["a"])
    facts.true.add("b")
    settle([flow])
    assert flow.value == "done"


def test_one_flows_step_makes_anothers_fact_true_in_either_order():
    for swapped in (False, True):
        facts = Facts()

        def first(facts: Facts = facts) -> Any:
            yield facts.until("go")
            facts.true.add("next")

        def second(facts: Facts = facts) -> Any:
            yield facts.until("next")
            return "both"

        flows = [Flow(first()), Flow(second())]
        settle(flows)
        facts.true.add("go")
        settle(flows[::-1] if swapped else flows)
        assert flows[1].value == "both"


def test_a_flow_that_never_waits_is_done_when_it_is_made():
    def work() -> Any:
        return 3
        yield

    assert Flow(work()).value == 3


def test_beside_gives_results_in_the_order_given_whoever_ends_first():
    facts = Facts()

    def wait(name: str) -> Any:
        yield facts.until(name)
        return name

    flow = Flow(beside(wait("slow"), wait("fast"), wait("none")))
    for name in ("fast", "none", "slow"):
        facts.true.add(name)
        settle([flow])
    assert flow.value == ["slow", "fast", "none"]


def test_beside_nothing_ends_at_once():
    assert Flow(beside()).value == []


def test_a_failure_in_one_flow_ends_all_that_stand_beside_it():
    facts = Facts()

    def fails() -> Any:
        yield facts.until("go")
        raise ValueError("broken")

    def waits() -> Any:
        yield facts.until("never")

    flow = Flow(beside(waits(), fails()))
    facts.true.add("go")
    with pytest.raises(ValueError, match="broken"):
        settle([flow])


def test_a_race_is_won_by_a_nested_flow_or_by_its_fact():
    facts = Facts()

    def inner() -> Any:
        yield facts.until("inner")

    def outer() -> Any:
        yield Race([Flow(inner())])

    def races() -> Any:
        yield Race([Flow(outer())], lambda: "fact" in facts.true)
        return "moved"

    for name in ("inner", "fact"):
        facts.true.clear()
        flow = Flow(races())
        settle([flow])
        assert not flow.done
        facts.true.add(name)
        settle([flow])
        assert flow.value == "moved", name


# ---------------------------------------------------------------- waits and results


def failed(kind: str, **more: Any) -> Failed:
    return Failed(reason=kind, message="m", retryable=True, kind=kind, **more)


def test_waits_honour_the_other_side_else_they_double_up_to_a_bound():
    assert wait_before_retry(failed("RateLimited", retry_after=7.5), 1) == 7.5
    assert wait_before_retry(failed("RateLimited", retry_after=-1), 1) == 0
    waits = [wait_before_retry(failed("ModelUnavailable"), n) for n in range(1, 12)]
    assert waits == [1, 2, 4, 8, 16, 32, 64, LONGEST_WAIT, LONGEST_WAIT, LONGEST_WAIT, LONGEST_WAIT]


@pytest.mark.parametrize(
    ("kind", "tries"),
    [
        ("RateLimited", RATE_LIMIT_TRIES),
        ("ModelUnavailable", OUTAGE_TRIES),
        ("RemoteUnavailable", OUTAGE_TRIES),
        ("BadModelOutput", OTHER_TRIES),
    ],
)
def test_every_kind_of_failure_has_an_end(kind, tries):
    assert wait_before_retry(failed(kind), tries - 1) is not None
    assert wait_before_retry(failed(kind), tries) is None


def test_a_git_pod_may_take_as_long_to_start_as_a_sandbox():
    starting = Failed(
        reason="GitPodStarting", kind="RemoteUnavailable", message="m", retryable=True, retry_after=1
    )
    assert wait_before_retry(starting, MAX_POLLS - 1) == 1
    assert wait_before_retry(starting, MAX_POLLS) is None
    assert "url" not in waiting("preflight", 1, starting)


class Tries:
    """Stands in for the engine's context: each try of a step meets the next of these failures, then it works."""

    def __init__(self, *failures: Failed) -> None:
        self.failures = list(failures)
        self.pauses: list[float] = []

    def call_activity(self, *_: Any, **__: Any) -> Any:
        said = {"ok": {"artifact": "report.json"}}
        if self.failures:
            said = {"failed": self.failures.pop(0).model_dump(mode="json")}
        return SimpleNamespace(is_failed=False, get_result=lambda: said)

    def create_timer(self, pause: Any) -> None:
        self.pauses.append(pause.total_seconds())

    def result(self) -> Result[Any]:
        work = perform(self, SAVE_REPORT, SaveReport(run="r", report={}))  # type: ignore[arg-type]
        while True:
            try:
                next(work)
            except StopIteration as ended:
                return ended.value


def git_pod(reason: str, **more: Any) -> Failed:
    return failed("RemoteUnavailable", **more).model_copy(update={"reason": reason})


@pytest.mark.parametrize(
    ("waited", "then"),
    [
        ([git_pod("GitPodWaiting", retry_after=1)] * 100, git_pod("GitPodGone")),
        ([git_pod("GitPodWaiting", retry_after=1)] * 100, git_pod("GitPodLost")),
        ([git_pod("GitPodStarting", retry_after=1)] * 100, git_pod("ApiServerUnavailable")),
        ([failed("RateLimited", retry_after=1)] * 100, failed("BadModelOutput")),
        ([failed("RateLimited", retry_after=1)] * 100, failed("ModelUnavailable")),
        ([failed("ModelUnavailable", retry_after=1)] * 30, failed("StorageUnavailable")),
        ([git_pod("WorkerOfAnotherVersion", retry_after=1)] * 30, git_pod("RemoteUnavailable")),
    ],
)
def test_what_was_waited_for_one_kind_of_failure_is_not_held_against_another(waited, then):
    tries = Tries(*waited, then, then)
    assert tries.result().failed is None
    assert tries.pauses == [1.0] * len(waited) + [1.0, 2.0]


def test_a_kind_that_comes_again_goes_on_where_it_was():
    outage, limited = failed("ModelUnavailable"), failed("RateLimited", retry_after=9)
    tries = Tries(outage, outage, limited, outage)
    assert tries.result().failed is None
    assert tries.pauses == [1, 2, 9, 4]


@pytest.mark.parametrize(
    ("kinds", "ends_with", "tries"),
    [
        ([failed("RateLimited"), failed("BadModelOutput")], "BadModelOutput", 2 * OTHER_TRIES),
        ([failed("RateLimited"), failed("ModelUnavailable")], "ModelUnavailable", 2 * OUTAGE_TRIES),
        ([git_pod("GitPodGone"), git_pod("GitPodStarting")], "GitPodGone", 2 * OUTAGE_TRIES - 1),
        ([git_pod("GitPodGone"), git_pod("GitPodLost")], "GitPodLost", OUTAGE_TRIES),
        ([git_pod("GitPodStarting"), git_pod("GitPodWaiting")], "GitPodWaiting", STARTING_TRIES),
    ],
)
def test_kinds_that_take_turns_for_ever_end_when_one_of_them_has_had_its_tries(kinds, ends_with, tries):
    given = Tries(*kinds * 1000)
    ended = given.result().failed
    assert ended is not None
    assert ended.reason == ends_with
    assert len(given.pauses) + 1 == tries


def test_what_a_retry_cannot_mend_is_not_tried_again():
    assert wait_before_retry(None, 1) is None
    assert wait_before_retry(Failed(reason="NotFound", message="m"), 1) is None


@pytest.mark.parametrize("raw", [None, "text", [], {}, {"ok": {"key": 1}}, {"failed": {"reason": 3}}])
def test_a_result_that_is_none_is_a_failure_and_not_an_exception(raw):
    done = SimpleNamespace(is_failed=False, get_result=lambda: raw)
    result = read(SAVE_REPORT, done)  # type: ignore[arg-type]
    assert result.failed is not None
    assert result.failed.reason == "InternalError"


# ---------------------------------------------------------------- calls


def calls(*names: str) -> list[CallRef]:
    return [CallRef(index=i, name=n, read_only=n.startswith("r")) for i, n in enumerate(names)]


def test_neighbouring_reads_go_together_and_nothing_else():
    names = [[c.name for c in g] for g in groups(calls("r1", "r2", "w1", "w2", "r3"))]
    assert names == [["r1", "r2"], ["w1"], ["w2"], ["r3"]]
    assert groups([]) == []


# ---------------------------------------------------------------- mail


class Events:
    """Stands in for the engine's context: hands out waits, in order."""

    def __init__(self) -> None:
        self.queue: list[Any] = []

    def wait_for_external_event(self, _: str) -> Any:
        events = self

        class Wait:
            @property
            def is_complete(self) -> bool:
                return bool(events.queue)

            def get_result(self) -> Any:
                return events.queue.pop(0)

        return Wait()


def test_news_that_arrives_twice_is_read_once_and_the_same_words_may_come_again():
    events = Events()
    mail = Mail(events)  # type: ignore[arg-type]
    first = {"kind": "news", "id": "1", "text": "A is now B"}
    events.queue += [first, first, {"kind": "news", "id": "2", "text": "A is now B"}]
    assert mail.take()
    assert mail.news == ["A is now B", "A is now B"]
    mail.news.clear()
    carried = json.loads(json.dumps(mail.close()))
    events.queue.append(first)
    again = Mail(events, carried)  # type: ignore[arg-type]
    again.take()
    assert again.news == []


def test_words_of_strangers_are_passed_over():
    events = Events()
    events.queue += [
        "hello",
        None,
        3,
        ["cancel"],
        {},
        {"kind": "cancle"},
        {"kind": "news"},
        {"kind": "grant"},
    ]
    mail = Mail(events)  # type: ignore[arg-type]
    mail.take()
    carried = mail.close()
    assert carried == {
        "cancelled": None,
        "suspended": False,
        "granted": 0,
        "answers": {},
        "news": [],
        "known": [],
    }


def test_the_last_word_on_suspension_and_approval_counts_and_the_first_on_cancelling():
    events = Events()
    events.queue += [{"kind": k} for k in ("suspend", "resume", "suspend")]
    events.queue += [{"kind": "approve", "what": "plan"}, {"kind": "reject", "what": "plan", "reason": "no"}]
    events.queue += [{"kind": "cancel", "reason": "BudgetExceeded"}, {"kind": "cancel"}]
    mail = Mail(events)  # type: ignore[arg-type]
    mail.take()
    assert mail.suspended
    assert mail.answers["plan"]["kind"] == "reject"
    assert mail.cancelled == {"kind": "cancel", "reason": "BudgetExceeded"}


# ---------------------------------------------------------------- budget


def used(tokens: int, cost: str | None = None) -> UsageRecord:
    return UsageRecord(tier="standard", input=tokens, cost=cost)


def test_thirty_per_cent_are_held_back_and_the_rest_follows_the_estimates():
    pool = budget.for_tasks(Allowance(1000, "10"))
    assert pool == Allowance(700, "7.000000")
    tasks = [TaskRef(id="a", estimate=30), TaskRef(id="b", estimate=5)]
    assert budget.share(tasks[0], tasks, pool) == Allowance(600, "6.000000")
    assert budget.share(tasks[1], tasks, pool) == Allowance(100, "1.000000")


def test_what_is_spent_or_promised_is_not_given_twice_and_nothing_goes_below_zero():
    whole = Allowance(1000, "1")
    assert budget.left(whole, [used(100, "0.1")], [Allowance(300, "0.5")]) == Allowance(600, "0.400000")
    assert budget.left(whole, [used(5000, "5")]) == Allowance(0, "0.000000")
    assert budget.left(Allowance(1000, None), [used(10, "99")]) == Allowance(990, None)


def test_the_lesser_of_two_allowances_is_the_lesser_in_both():
    assert budget.lesser(Allowance(5, "1"), Allowance(3, "2")) == Allowance(3, "1.000000")
    assert budget.lesser(Allowance(5, None), Allowance(7, None)) == Allowance(5, None)


def test_usage_adds_by_tier_and_an_unknown_cost_stays_unknown():
    total = add_usage([], used(10, "0.1"))
    total = add_usage(total, UsageRecord(tier="premium", output=5, calls=1, cost=None))
    total = add_usage(total, used(1, "0.2"))
    total = add_usage(total, UsageRecord(tier="premium", output=5, calls=1, cost="1"))
    assert [(u.tier, u.total, u.cost) for u in total] == [("standard", 11, "0.3"), ("premium", 10, None)]


# ---------------------------------------------------------------- size of the status


def a_large_report(tasks: int = 100) -> RunReport:
    words = "long words that nobody cut before " * 20
    ids = [f"task-with-a-rather-long-id-{n:03d}" for n in range(tasks)]
    report = RunReport(run="r" * 36, name="large", notes=[words[:300] + str(n) for n in range(50)])
    report.plan = PlanStatus(
        summary=words[:500],
        hash="0" * 64,
        tasks=[
            PlannedTask(
                id=i,
                title=words[:120],
                depends_on=ids[max(0, n - 5) : n],
                owned_paths=[f"src/some/package/module_{n}_{k}.py" for k in range(10)],
                provides=[f"contract-{n}-{k}" for k in range(3)],
                uses=[f"contract-{n - 1}-{k}" for k in range(3)],
            )
            for n, i in enumerate(ids)
        ],
        contracts=[
            PlannedContract(id=f"contract-{n}", path="a/b.py", signature=words[:160]) for n in range(200)
        ],
    )
    now = datetime(2026, 1, 1, 12, 30, 15, 123456)
    usage = [used(123456, "1.234567"), UsageRecord(tier="premium", input=99999, cost="0.5")]
    for i in ids:
        status = AgentStatus(task=i, branch=f"swarm-tasks/large/{i}", message=words[:512], commit="c" * 40)
        report.agents.append(
            AgentRecord(
                status=status, instance=f"{'r' * 36}:{i}:2", usage=usage, started_at=now, finished_at=now
            )
        )
        status = AgentStatus(task=f"integrate-{i}", role="integrator", message=words[:512], commit="c" * 40)
        report.agents.append(
            AgentRecord(
                status=status,
                instance=f"{'r' * 36}:integrate-{i}:2",
                usage=usage,
                started_at=now,
                finished_at=now,
            )
        )
        files = [MergedFile(path=f"src/f{n}.py", how=MergeHow.INTEGRATOR) for n in range(20)]
        report.merges.append(
            MergeStatus(
                task=i, how=MergeHow.INTEGRATOR, files=files, refused=[words[:300]] * 5, commit="c" * 40
            )
        )
    report.gates = [GateStatus(name=f"g{n}", new_failures=[words[:200]] * 20) for n in range(10)]
    report.judgements = [Judgement(round=n, score=1, complaints=[words[:512]] * 20) for n in range(11)]
    return report


def test_the_status_of_a_hundred_tasks_stays_within_its_bound_and_can_be_read():
    report = a_large_report()
    whole = report.model_dump(mode="json")
    shown = fitted(report)
    assert size(whole) > 2 * LIMIT
    assert size(shown) <= LIMIT
    back = RunReport.model_validate(shown)
    assert back.plan is not None
    assert [t.id for t in back.plan.tasks] == [t.id for t in report.plan.tasks]  # type: ignore[union-attr]
    # Nothing that was paid is lost on the way.
    paid = [u for a in back.agents for u in a.usage] + back.usage
    assert sum(u.total for u in paid) == sum(u.total for a in report.agents for u in a.usage)
    assert report.model_dump(mode="json") == whole


def test_a_status_of_usual_size_is_shown_whole():
    report = a_large_report(tasks=3)
    report.gates, report.judgements, report.merges = [], report.judgements[:1], []
    report.plan.contracts = report.plan.contracts[:5]  # type: ignore[union-attr]
    assert RunReport.model_validate(fitted(report)) == report


def test_a_wait_for_what_does_not_answer_says_what_to_look_at():
    gone = Failed(reason="ModelUnavailable", kind="ModelUnavailable", message="x" * 2000, retryable=True)
    line = waiting("model_turn", 2.0, gone)
    assert "is the endpoint right?" in line[:500]
    limited = Failed(reason="RateLimited", kind="RateLimited", message="429", retryable=True)
    assert waiting("model_turn", 2.0, limited) == "model_turn: RateLimited, next try in 2 s: 429"
