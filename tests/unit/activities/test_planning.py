"""Plans are refused with reasons, scaffolds must stand, contracts change once."""

from __future__ import annotations

import json

import pytest

from swarmrun.errors import BadModelOutput
from swarmrun.ports import Usage
from swarmrun.steps import (
    AMEND,
    FINISH,
    GIVEN_PLAN,
    SCAFFOLD,
    Amend,
    Brief,
    ContractIssue,
    RunRef,
    Scaffold,
    Scaffolded,
)


@pytest.fixture
def planner(lab):
    base = lab.start()
    return lab.agent("planner", "plan", Brief(base=base))


def changed(plan: dict, **tasks: dict) -> dict:
    plan = json.loads(json.dumps(plan))
    for each in plan["tasks"]:
        each.update(tasks.get(each["id"], {}))
    return plan


def scaffold(lab, plan: str, **more) -> Scaffolded:
    ref = more.pop("ref", None) or lab.box_only()
    return lab.ok(SCAFFOLD, Scaffold(**ref.model_dump(), plan=plan, base=lab.base))


# ---------------------------------------------------------------- plans


def test_an_accepted_plan_is_stored_and_its_tasks_are_told(lab, planner):
    planner.says(("submit_plan", lab.PLAN))
    end = planner.looked_at()
    assert (end.accepted, [t.id for t in end.plan.tasks]) == (True, ["sums", "facts"])
    assert lab.world.plan(end.plan.artifact).summary == "Sums."
    assert end.plan.status.hash
    assert planner.result() == "The plan was accepted."


def test_a_plan_with_a_cycle_goes_back_with_every_error_and_the_next_action(lab, planner):
    bad = changed(lab.PLAN, sums={"dependsOn": ["facts"], "ownedPaths": []}, facts={"dependsOn": ["sums"]})
    planner.says(("submit_plan", bad))
    end = planner.looked_at()
    assert (end.accepted, end.plan) == (False, None)
    told = planner.result()
    assert "in a ring" in told
    assert "owns no paths" in told
    assert "call submit_plan again" in told


@pytest.mark.parametrize("name", ["integration", "plan", "judge", "integrate-a", "fix-1"])
def test_a_task_cannot_take_a_name_of_the_runs_own(lab, planner, name):
    plan = json.loads(json.dumps(lab.PLAN).replace('"sums"', f'"{name}"'))
    planner.says(("submit_plan", plan))
    assert any("reserved" in p for p in planner.looked_at().problems)


def test_what_is_no_plan_is_told(lab, planner):
    planner.says(("submit_plan", {"plan": "not json"}))
    assert not planner.looked_at().accepted
    assert "not JSON" in planner.result()


def test_one_that_never_submits_has_none(lab, planner):
    planner.turn = 1
    assert lab.ok(FINISH, planner.finish(-1)).problems == ["no plan was submitted"]


def test_a_replan_keeps_what_had_started(lab, planner):
    kept = lab.plan()
    again = {
        "tasks": [
            lab.PLAN["tasks"][0] | {"instructions": "changed behind its back"},
            lab.PLAN["tasks"][0] | {"id": "more", "ownedPaths": ["more.py"], "provides": [], "uses": ["add"]},
        ],
        "contracts": lab.PLAN["contracts"],
    }
    planner.brief = Brief(base=lab.base, plan=kept, kept=["sums"])
    planner.says(("submit_plan", again))
    end = planner.looked_at()
    assert end.accepted, end.problems
    assert [t.id for t in end.plan.tasks] == ["sums", "more"]
    plan = lab.world.plan(end.plan.artifact)
    assert plan.tasks[0].instructions == "Write add()."


def test_a_given_plan_that_does_not_hold_is_the_users_to_mend(lab):
    lab.start()
    lab.spec(plan={"tasks": changed(lab.PLAN, sums={"dependsOn": ["nobody"]})["tasks"]})
    failure = lab.failed(GIVEN_PLAN, RunRef(run=lab.run))
    assert failure.reason == "InvalidPlan"
    assert "nobody" in failure.message


def test_a_plan_that_a_newer_version_has_stored_is_worked_on(lab):
    lab.start()
    key = lab.plan()
    written = json.loads(lab.world.store.get(key))
    written["tasks"][0]["tomorrow"] = written["tomorrow"] = 1
    lab.world.put(key, written)
    lab.another_process()
    assert scaffold(lab, key).commit


# ---------------------------------------------------------------- scaffold


def test_the_scaffold_is_one_commit_that_says_what_is_to_be_filled(lab):
    lab.start()
    key = lab.plan()
    first = scaffold(lab, key)
    assert "NotImplementedError" in lab.file(first.commit, "sums.py")
    assert list(lab.world.repo.parents(first.commit)) == [lab.base]
    lab.another_process()
    assert scaffold(lab, key) == first


def test_a_scaffold_that_does_not_import_goes_back(lab):
    lab.start()
    plan = json.loads(json.dumps(lab.PLAN))
    plan["contracts"][0]["declaration"] = "from calc import two\n\ndef add(a: int, b: int) -> int: ..."
    done = scaffold(lab, lab.plan(plan))
    assert done.commit == lab.base
    assert done.errors
    assert "sums.py" in done.errors[0]


def test_an_import_that_never_ends_is_killed_and_goes_back(lab, monkeypatch):
    monkeypatch.setattr("swarmrun.activities.planning.COLLECT_SECONDS", 1)
    lab.start({**lab.FILES, "calc.py": "import time\ntime.sleep(500)\n\ndef one() -> int:\n    return 1\n"})
    plan = json.loads(json.dumps(lab.PLAN))
    plan["contracts"][0]["declaration"] = "from calc import one\n\ndef add(a: int, b: int) -> int: ..."
    ref = lab.box_only()
    done = scaffold(lab, lab.plan(plan), ref=ref)
    assert done.errors == ["an import does not end within 1 s (sums.py)"]
    assert lab.exec(ref, "pgrep -fc 'python3 -c' || true").strip() in ("0", "1")  # pgrep's own shell


def test_an_empty_repository_is_set_up_by_the_first_scaffold_that_stands(lab):
    lab.start({})
    lab.spec(sandbox={"setup": ["test -f sums.py", "echo once >> ~/log"]})
    bad = json.loads(json.dumps(lab.PLAN))
    model = "class Sum:\n    value = not_a_name\n"
    bad["contracts"].append({"id": "m", "kind": "data-model", "path": "models.py", "declaration": model})
    bad["tasks"][0]["provides"] = ["add", "m"]
    ref = lab.box_only()
    assert scaffold(lab, lab.plan(bad), ref=ref).errors
    done = scaffold(lab, lab.plan(), ref=ref)
    assert done.errors == []
    assert lab.exec(ref, "cat ~/log") == "once\n"


# ---------------------------------------------------------------- amendments


def amend(lab, proposal: str, **more) -> Amend:
    issue = ContractIssue(contract="add", problem="p", proposal=proposal)
    fields = {"plan": lab.plan(), "task": "sums", "issue": issue, "number": 1, "planner_calls_left": 1}
    return Amend(run=lab.run, **(fields | more))


def test_an_additive_change_joins_the_contract_without_a_model(lab):
    done = lab.ok(AMEND, amend(lab, "def add(a: int, b: int, c: int = 0) -> int: ..."))
    assert (done.outcome, done.planner_called, done.usage) == ("additive", False, None)
    assert "c: int = 0" in done.news
    assert "c: int = 0" in lab.world.plan(done.plan).contracts[0].declaration


def test_a_breaking_change_is_asked_once_and_paid_once(lab):
    lab.model.will({"accept": True, "why": "needed"})
    given = amend(lab, "def add(a: float) -> float: ...")
    done = lab.ok(AMEND, given)
    assert (done.outcome, done.planner_called, done.usage.calls) == ("revised", True, 1)
    lab.another_process()
    assert lab.ok(AMEND, given) == done
    assert len(lab.model.asked) == 1


def test_a_breaking_change_that_is_turned_down_or_comes_too_late_changes_nothing(lab):
    lab.model.will({"accept": False, "why": "no"})
    proposal = "def add(a: float) -> float: ..."
    for given in (amend(lab, proposal), amend(lab, proposal, number=2, planner_calls_left=0), amend(lab, "")):
        done = lab.ok(AMEND, given)
        assert (done.outcome, done.plan) == ("refused", given.plan)


def test_a_useless_answer_about_a_contract_is_the_planners_to_pay(lab):
    lab.model.will(BadModelOutput("?", usage=Usage(input=5)))
    failure = lab.failed(AMEND, amend(lab, "def add(a: float) -> float: ..."))
    assert (failure.retryable, failure.usage.total, failure.usage.tier) == (True, 5, "premium")
