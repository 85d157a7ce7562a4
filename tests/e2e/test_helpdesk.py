"""The second example: an existing repository with one red test, a planner that reads, agents beside each other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, git, tree

from swarmrun.merging import ladder

EXAMPLE = Path(__file__).parents[2] / "examples" / "helpdesk"
NAME, BRANCH = "helpdesk", "swarm/helpdesk"
RED = "tests/test_formats.py::test_wide_characters_take_two_columns"
TASKS = {
    "facts": "researcher",
    "sla": "coder",
    "comments": "coder",
    "reports": "coder",
    "assignment": "coder",
}


class Helpdesk:
    """One run of the example in a place of its own."""

    def __init__(self, root: Path) -> None:
        self.lab = Lab(root)
        example = shutil.copytree(EXAMPLE, root / "examples" / NAME)
        (root / "build" / "demo").mkdir(parents=True)
        self.bare = self.lab.repository(f"build/demo/{NAME}")
        subprocess.run([example / "prepare.sh", self.bare], check=True)
        self.base = git("-C", str(self.bare), "rev-parse", "main")
        self.done = self.lab.run("run", "-f", str(example / "run.yaml"), expect=None, patience=280)
        self.status: dict[str, Any] = json.loads(self.lab.run("get", NAME, "-o", "json").out)["status"]

    def agents(self) -> dict[str, dict[str, Any]]:
        return {agent["task"]: agent for agent in self.status["agents"]}


@pytest.fixture(scope="module")
def helpdesk(tmp_path_factory):
    one = Helpdesk(tmp_path_factory.mktemp("helpdesk"))
    yield one
    one.lab.close()


def pytest_in(work: Path) -> tuple[int, int, str]:
    """(passed, failed, output)."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider"],
        cwd=work,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    lines = done.stdout.splitlines()
    passed, failed = (sum(line.startswith(word) for line in lines) for word in ("PASSED ", "FAILED "))
    return passed, failed, done.stdout


def test_the_run_succeeds_and_the_published_branch_holds_only_the_old_failure(helpdesk, tmp_path):
    assert helpdesk.done.code == 0, helpdesk.done
    status = helpdesk.status
    assert (status["phase"], status["progress"]) == ("Succeeded", "5/5")
    assert status["result"]["branch"] == BRANCH
    assert status["result"]["baseCommit"] == helpdesk.base
    assert git("-C", str(helpdesk.bare), "rev-parse", BRANCH) == status["result"]["commit"]
    git("clone", "-q", "-b", BRANCH, str(helpdesk.bare), str(tmp_path / "result"))
    passed, failed, output = pytest_in(tmp_path / "result")
    assert failed == 1, output
    assert f"FAILED {RED}" in output
    assert passed == 52


def test_gates_are_found_in_the_repository_and_the_old_failure_does_not_count(helpdesk):
    gate = next(g for g in helpdesk.status["gates"] if g["name"] == "pytest")
    assert gate["passed"]
    assert gate["required"]
    assert gate["baselineFailures"] == [RED]
    assert not gate.get("newFailures")


def test_the_first_plan_is_refused_by_code_and_the_second_runs_as_a_swarm(helpdesk):
    plan = helpdesk.status["plan"]
    assert not plan["solo"]
    assert {task["id"]: task["role"] for task in plan["tasks"]} == TASKS
    assert {task["id"]: task.get("dependsOn", []) for task in plan["tasks"] if task.get("dependsOn")} == {
        "reports": ["facts"],
        "assignment": ["sla"],
    }
    owned = [path for task in plan["tasks"] for path in task.get("ownedPaths", [])]
    assert len(owned) == len(set(owned))
    assert "helpdesk/cli.py" not in owned
    refused = [note for note in helpdesk.status["notes"] if note.startswith("plan: refused at first")]
    assert any("unknown contract escalation" in note for note in refused)
    assert any("comments and reports may run at the same time" in note for note in refused)


def test_every_agent_took_the_turns_of_the_recording_and_is_verified(helpdesk):
    """The recording checks each tool result on the way: what it did not expect would have ended the run."""
    agents = helpdesk.agents()
    assert set(agents) == {"plan", *TASKS}
    turns = {"plan": 4, "facts": 3, "sla": 4, "comments": 5, "reports": 6, "assignment": 4}
    assert {task: agent["turns"] for task, agent in agents.items()} == turns
    assert all(agent["verified"] and agent["attempts"] == 1 for agent in agents.values())
    outcomes = [
        json.loads(line) for line in (helpdesk.lab.directory(NAME) / "cassette.log").read_text().splitlines()
    ]
    assert {row["outcome"] for row in outcomes} == {"answered"}
    assert len(outcomes) == len({row["key"] for row in outcomes})


def test_what_both_sides_added_to_a_module_of_nobody_is_merged_by_code(helpdesk):
    merges = {merge["task"]: merge for merge in helpdesk.status["merges"]}
    assert set(merges) == set(TASKS) - {"facts"}
    assert {merge["how"] for merge in merges.values()} <= {"Clean", "Rules", "Declarations"}
    by_code = [merge for merge in merges.values() if merge["how"] != "Clean"]
    assert len(by_code) >= 2
    assert {file["path"] for merge in by_code for file in merge["files"]} == {"helpdesk/cli.py"}


def test_a_change_of_a_contract_reaches_the_agent_that_uses_it_while_it_works(helpdesk):
    news = [note for note in helpdesk.status["notes"] if note.startswith("contract policy:")]
    assert news == ["contract policy: additive change by sla, told to reports"]
    assert "hours_left" in git("-C", str(helpdesk.bare), "show", f"{BRANCH}:helpdesk/reports.py")


def test_an_end_is_refused_by_acceptance_once(helpdesk):
    refused = [note for note in helpdesk.status["notes"] if ": refused at first: " in note]
    acceptance = [note for note in refused if "Acceptance not met" in note]
    assert acceptance
    assert all(note.startswith("comments: ") for note in acceptance)


def test_three_opinions_differ_and_the_majority_counts(helpdesk):
    (judgement,) = helpdesk.status["judgements"]
    assert judgement["spread"] > 0
    assert 70 <= judgement["score"] == helpdesk.status["score"] < 100
    assert [complaint.partition(":")[0] for complaint in judgement["complaints"]] == ["security"]


def test_money_is_counted_by_tier(helpdesk):
    usage = helpdesk.status["usage"]
    tiers = {tier["tier"]: float(tier["cost"]) for tier in usage["tiers"]}
    assert set(tiers) == {"premium", "standard", "light"}
    assert float(usage["cost"]) == pytest.approx(sum(tiers.values()))


def test_the_result_is_the_same_in_whichever_order_the_branches_are_merged(helpdesk, tmp_path):
    repository = tmp_path / "all.git"
    shutil.copytree(helpdesk.lab.directory(NAME) / "repo.git", repository)
    heads = {task: agent["commit"] for task, agent in helpdesk.agents().items() if agent["role"] == "coder"}
    scaffold = git("-C", str(repository), "merge-base", "--octopus", *heads.values())
    wanted = tree(helpdesk.bare, BRANCH)
    merged = {(): scaffold}
    for length in range(1, len(heads) + 1):
        for order in permutations(heads, length):
            outcome = ladder.merge(repository, merged[order[:-1]], heads[order[-1]], message=order[-1])
            assert outcome.resolved, f"{order}: {[c.path for c in outcome.conflicts]}"
            merged[order] = outcome.commit
    ends = {order: tree(repository, head) for order, head in merged.items() if len(order) == len(heads)}
    assert ends == dict.fromkeys(ends, wanted)
