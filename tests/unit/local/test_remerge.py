"""Merging by hand after a run has ended: real git, real sandboxes, the command line; no engine, no model."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from swarmrun.api.plan import Contract, Plan, Task
from swarmrun.api.run import Gate, ObjectMeta, Publish, Repository, SwarmRun
from swarmrun.api.run import SwarmRunSpec as Spec
from swarmrun.api.status import (
    AgentPhase,
    AgentStatus,
    MergeHow,
    MergeStatus,
    Phase,
    PlannedTask,
    PlanStatus,
    ResultStatus,
    SwarmRunStatus,
)
from swarmrun.controller.projection import project
from swarmrun.git import trailers
from swarmrun.git.remote import Remote
from swarmrun.local.default_class import default_class
from swarmrun.local.directory import RunDirectory
from swarmrun.local.repository import open_artifacts, open_repo
from swarmrun.local.runs import Runs
from swarmrun.report import AgentRecord, RunReport
from swarmrun.settings import settings

PRICES = 'LABEL = "net"\n\n\ndef total(items):\n    return sum(items)\n'
TAXED, CUT, BOTH = (PRICES.replace("net", word) for word in ("gross", "reduced", "gross, reduced"))
PYTEST = "python3 -m pytest -q -rfE"
DISCOUNT = "def discounted(price: float) -> float:\n    return price * 0.9\n"
TEST = "from prices import total\n\n\ndef test_nothing_costs_nothing():\n    assert total([]) == 0\n"


def git(*words: str) -> str:
    who = {f"GIT_{r}_{p}": "t" for r in ("AUTHOR", "COMMITTER") for p in ("NAME", "EMAIL")}
    env = {**os.environ, **who, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(["git", *words], capture_output=True, text=True, env=env)
    assert done.returncode == 0, f"git {' '.join(words)}: {done.stderr}{done.stdout}"
    return done.stdout.strip()


def commit(work: Path, files: dict[str, str | None], onto: str = "", message: str = "work") -> str:
    """A commit in a work tree, on top of `onto`; None deletes a file."""
    if onto:
        git("-C", str(work), "checkout", "-q", "--detach", onto)
    for path, text in files.items():
        place = work / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink() if text is None else place.write_text(text)
    git("-C", str(work), "add", "-A")
    git("-C", str(work), "commit", "-q", "-m", message)
    return git("-C", str(work), "rev-parse", "HEAD")


@dataclass
class Done:
    code: int
    out: str
    err: str


@dataclass
class Ended:
    """A run of two tasks: `tax` is merged, `discount` was parked since it conflicts with it."""

    directory: RunDirectory
    remote: Path
    work: Path
    base: str
    integration: str
    discount: str
    swarmrun: Callable[..., Done]

    def merge(self, *words: str, expect: int = 0) -> Done:
        done = self.swarmrun("merge", "shop", "discount", *words)
        assert done.code == expect, f"{done.out}\n{done.err}"
        return done

    @property
    def status(self) -> SwarmRunStatus:
        return self.directory.status()

    def heads(self) -> dict[str, str]:
        rows = git(
            "-C", str(self.remote), "for-each-ref", "--format=%(refname:short) %(objectname)"
        ).splitlines()
        return dict(row.split(" ") for row in rows)

    def marks(self) -> dict[str, str]:
        return trailers.parse(git("-C", str(self.remote), "log", "-1", "--format=%B", "swarm/shop"))

    def published(self, path: str) -> str:
        return git("-C", str(self.remote), "show", f"swarm/shop:{path}")

    def edited(self, files: dict[str, str | None], onto: str = "") -> Path:
        """A human's clone, on top of the agent's work or of `onto`."""
        clone = self.work.with_name("mine")
        git("clone", "-q", str(self.work), str(clone))
        git("-C", str(clone), "fetch", "-q", str(self.work), onto or self.discount)
        commit(clone, files, onto or self.discount)
        return clone


@pytest.fixture
def swarmrun(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    from swarmrun.cli.main import run

    monkeypatch.setenv("SWARMRUN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    settings.cache_clear()

    def call(*words: str) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run(list(words))
        said = capsys.readouterr()
        return Done(int(ended.value.code or 0), said.out, said.err)

    yield call
    settings.cache_clear()


@pytest.fixture
def make(tmp_path: Path, swarmrun: Any) -> Callable[..., Ended]:
    def ended(*, third: bool = False, gate: str = "python3 -m py_compile prices.py", **publish: Any) -> Ended:
        remote, work = tmp_path / "shop.git", tmp_path / "work"
        git("init", "-q", "--bare", "-b", "main", str(remote))
        git("init", "-q", "-b", "main", str(work))
        base = commit(work, {"prices.py": PRICES, "test_prices.py": TEST, "conftest.py": ""})
        git("-C", str(work), "push", "-q", str(remote), "main")
        integration = commit(work, {"prices.py": TAXED}, base)
        discount = commit(work, {"prices.py": CUT, "discount.py": DISCOUNT}, base)

        tasks = [
            Task(id="tax", title="Tax", instructions="Add tax.", owned_paths=["tax.py"]),
            Task(
                id="discount",
                title="Discount",
                instructions="Cut prices.",
                owned_paths=["discount.py"],
                provides=["discounted"],
            ),
        ]
        if third:
            tasks.append(Task(id="ship", title="Shipping", instructions="Ship.", owned_paths=["ship.py"]))
        contract = Contract(
            id="discounted", path="discount.py", declaration="def discounted(price: float) -> float: ..."
        )
        run = SwarmRun(
            metadata=ObjectMeta(name="shop"),
            spec=Spec(
                goal="Prices with tax and discount.",
                repository=Repository(url=str(remote)),
                publish=Publish(**publish),
                gates=[Gate(name="tests", command=gate)],
            ),
        )
        cls = default_class({}, model="m", endpoint="http://127.0.0.1:9/v1")
        directory = Runs(tmp_path / "home").start(run, cls, source_dir=tmp_path)
        repo, store = open_repo(directory), open_artifacts(directory)
        for head in (base, integration):
            Remote(str(work), schemes=("file",)).fetch(repo, head)
            repo.record(head)
        # As an agent's checkpoint is kept: recorded, and not taken in before somebody wants it.
        fetched = tmp_path / "discount.bundle"
        git("-C", str(work), "update-ref", "refs/heads/x", discount)
        git("-C", str(work), "bundle", "create", "-q", str(fetched), "refs/heads/x", f"^{base}")
        repo.keep_bundle(fetched.read_bytes(), commit=discount, since=[base])
        plan = Plan(tasks=tasks, contracts=[contract], criteria=[])
        store.put("plans/p.json", json.dumps(plan.dump()).encode())
        store.put("gates/baseline.json", b"[]")
        planned = [PlannedTask(id=t.id) for t in tasks]
        agents = [
            AgentStatus(task="tax", phase=AgentPhase.MERGED, commit=integration),
            AgentStatus(task="discount", phase=AgentPhase.PARKED, reason="Parked", commit=discount),
        ]
        if third:
            agents.append(AgentStatus(task="ship", phase=AgentPhase.SKIPPED, reason="DependencyFailed"))
        now = datetime.now(UTC)
        report = RunReport(
            run=directory.file().instance,
            name="shop",
            phase=Phase.FAILED,
            reason="Incomplete",
            message="not in the result: discount (parked)",
            started_at=now,
            finished_at=now,
            base_branch="main",
            base_commit=base,
            integration=integration,
            plan=PlanStatus(artifact="plans/p.json", tasks=planned),
            agents=[AgentRecord(status=a) for a in agents],
            merges=[
                MergeStatus(task="tax", how=MergeHow.CLEAN, commit=integration),
                MergeStatus(task="discount", how=MergeHow.PARKED, reason="conflicts in prices.py"),
            ],
            result=ResultStatus(base_commit=base, commit=integration),
        )
        directory.save_report(report)
        directory.save_status(project(report, {}, previous=None, now=now))
        return Ended(directory, remote, work, base, integration, discount, swarmrun)

    return ended


# ---------------------------------------------------------------- what comes of it


def test_what_conflicts_still_is_named_and_nothing_is_published(make: Any) -> None:
    run = make()
    done = run.merge(expect=1)
    assert "prices.py: content" in done.err
    assert "swarmrun merge shop discount --checkout DIR" in done.err
    assert run.heads() == {"main": run.base}
    (parked,) = [m for m in run.status.merges if m.task == "discount"]
    assert (parked.how, parked.files[0].path) == (MergeHow.PARKED, "prices.py")
    assert run.status.result.commit == run.integration
    assert '+LABEL = "reduced"' in run.swarmrun("diff", "shop", "discount").out


def test_a_checkout_is_edited_and_handed_back_and_the_whole_is_published(make: Any, tmp_path: Path) -> None:
    run = make()
    mine = tmp_path / "my copy"
    lent = run.merge("--checkout", str(mine))
    assert git("-C", str(mine), "branch", "--show-current") == "swarm-tasks/shop/discount"
    assert git("-C", str(mine), "rev-parse", "HEAD", "integration").split() == [run.discount, run.integration]
    assert git("-C", str(mine), "remote", "get-url", "origin") == str(run.remote)
    assert f"swarmrun merge shop discount --from '{mine}'" in lent.out
    # As a human does it: merges what the run has in, and resolves what conflicts.
    git("-C", str(mine), "config", "user.name", "Me")
    git("-C", str(mine), "config", "user.email", "me@example.org")
    merging = subprocess.run(["git", "-C", str(mine), "merge", "-q", "integration"], capture_output=True)
    assert merging.returncode == 1, merging.stderr
    commit(mine, {"prices.py": BOTH})
    done = run.merge("--from", str(mine))

    assert run.published("prices.py") == BOTH.strip()
    assert run.published("discount.py") == DISCOUNT.strip()
    assert set(run.heads()) == {"main", "swarm/shop"}
    status = run.status
    assert (status.phase, status.progress, status.result.branch) == (Phase.SUCCEEDED, "2/2", "swarm/shop")
    (merged,) = [m for m in status.merges if m.task == "discount"]
    assert merged.how is MergeHow.CLEAN
    assert merged.reason == ""
    assert "not judged again" in " ".join(status.notes)
    assert status.condition("Succeeded").status == "True"
    assert "shop: Succeeded (Published), 2/2 tasks merged" in done.out
    assert "run  published  swarm/shop" in run.swarmrun("logs", "shop").out
    marks = run.marks()
    assert marks[trailers.TASK] == "discount"
    assert marks[trailers.RUN] == run.directory.file().instance
    assert marks[trailers.SPEC_HASH] == run.directory.snapshot().spec_hash
    assert list(run.directory.sandboxes.glob("*")) == []


def test_the_same_again_changes_nothing(make: Any) -> None:
    run = make()
    mine = run.edited({"prices.py": PRICES})  # gives way to the tax
    run.merge("--from", str(mine))
    before, heads = run.status, run.heads()
    again = run.merge("--from", str(mine))
    assert "is in the result, which is published" in again.out
    assert (run.status, run.heads()) == (before, heads)


def test_a_branch_that_was_pushed_is_found_by_itself(make: Any) -> None:
    run = make()
    mine = run.edited({"prices.py": PRICES})
    git("-C", str(mine), "push", "-q", str(run.remote), "HEAD:refs/heads/swarm-tasks/shop/discount")
    done = run.merge()
    assert "branch swarm-tasks/shop/discount of" in done.out
    assert run.published("prices.py") == TAXED.strip()
    assert run.published("discount.py") == DISCOUNT.strip()


@pytest.mark.parametrize("named", ["commit", "branch"])
def test_a_commit_of_the_run_or_any_branch_of_the_remote_can_be_named(make: Any, named: str) -> None:
    run = make()
    given = run.discount
    if named == "branch":
        mine = run.edited({"prices.py": PRICES})
        git("-C", str(mine), "push", "-q", str(run.remote), "HEAD:refs/heads/fix")
        given = "fix"
    done = run.merge("--from", given, expect=0 if named == "branch" else 1)
    assert ("merged" in done.out) if named == "branch" else ("prices.py: content" in done.err)


def test_commits_of_others_on_the_published_branch_are_never_overwritten(make: Any) -> None:
    run = make()
    theirs = commit(run.work, {"theirs.txt": "x\n"}, run.base)
    git("-C", str(run.work), "push", "-q", str(run.remote), "HEAD:refs/heads/swarm/shop")
    run.merge("--from", str(run.edited({"prices.py": PRICES})))
    assert run.heads()["swarm/shop"] == theirs
    assert run.status.result.beside is True
    assert run.status.result.branch == "swarm/shop-2"


def test_a_result_that_was_published_in_part_is_moved_forward(make: Any) -> None:
    run = make(partial=True)
    git("-C", str(run.work), "push", "-q", str(run.remote), f"{run.integration}:refs/heads/swarm/shop")
    report = run.directory.report()
    report.result = ResultStatus(base_commit=run.base, commit=run.integration, branch="swarm/shop")
    run.directory.save_report(report)
    run.merge("--from", str(run.edited({"prices.py": PRICES})))
    assert git("-C", str(run.remote), "merge-base", run.integration, "swarm/shop") == run.integration
    assert (run.status.result.branch, run.status.result.beside) == ("swarm/shop", False)


# ---------------------------------------------------------------- what is refused


def test_conflict_markers_that_were_committed_are_refused(make: Any) -> None:
    """The merge itself is clean then: the human's merge holds both sides."""
    run = make()
    marked = f'<<<<<<< HEAD\nLABEL = "reduced"\n=======\n{TAXED}>>>>>>> integration\n'
    mine = run.edited({"discount.py": DISCOUNT, "prices.py": marked}, onto=run.integration)
    done = run.merge("--from", str(mine), expect=1)
    assert "prices.py" in done.err
    assert "marker" in done.err
    assert run.heads() == {"main": run.base}


def test_what_a_humans_merge_has_lost_is_named_and_may_be_meant(make: Any) -> None:
    run = make()
    mine = run.edited(
        {"discount.py": "def rebate(price):\n    return price\n", "prices.py": BOTH}, run.integration
    )
    done = run.merge("--from", str(mine), expect=1)
    assert "discounted" in done.err
    assert "--despite-findings" in done.err
    assert run.heads() == {"main": run.base}
    run.merge("--from", str(mine), "--despite-findings")
    assert "rebate" in run.published("discount.py")
    (merged,) = [m for m in run.status.merges if m.task == "discount"]
    assert "discounted" in merged.reason


def test_a_gate_that_fails_with_it_only_stops_it(make: Any) -> None:
    run = make(gate=PYTEST)
    mine = run.edited({"prices.py": PRICES, "test_discount.py": "def test_it():\n    assert False\n"})
    done = run.merge("--from", str(mine), expect=1)
    assert "gate tests: test_discount.py::test_it" in done.err
    assert "despite" not in done.err
    assert run.heads() == {"main": run.base}
    assert run.status.result.commit == run.integration
    assert run.status.progress == "1/2"


def test_a_gate_that_failed_before_keeps_it_from_being_published_only(make: Any) -> None:
    run = make(gate="grep -q tests /nowhere")
    mine = run.edited({"prices.py": PRICES})
    done = run.merge("--from", str(mine), expect=1)
    assert "is merged, but the result is not published" in done.err
    assert run.heads() == {"main": run.base}
    assert (run.status.progress, run.status.condition("Ready").reason) == ("2/2", "GatesFailed")
    assert run.status.result.commit != run.integration
    assert "NotPublished" in run.merge("--from", str(mine), "-o", "json", expect=1).err


def test_without_the_other_tasks_nothing_is_published_unless_it_is_wanted(make: Any) -> None:
    run = make(third=True)
    mine = run.edited({"prices.py": PRICES})
    done = run.merge("--from", str(mine))
    assert "not in the result: ship; nothing is published before" in done.out
    assert run.heads() == {"main": run.base}
    assert (run.status.phase, run.status.progress) == (Phase.FAILED, "2/3")
    run.merge("--from", str(mine), "--partial")
    assert run.published("prices.py") == TAXED.strip()
    assert (run.status.phase, run.status.condition("Ready").reason) == (Phase.FAILED, "Incomplete")
    assert run.marks()[trailers.PARTIAL] == "Incomplete"
    commit(run.work, {"ship.py": "def ship():\n    return 'shipped'\n"}, run.base)
    run.swarmrun("merge", "shop", "ship", "--from", str(run.work))
    assert run.status.phase is Phase.SUCCEEDED
    assert set(run.heads()) == {"main", "swarm/shop"}
    assert trailers.PARTIAL not in run.marks()


def test_a_skipped_task_can_be_handed_in_by_who_has_written_it(make: Any) -> None:
    run = make(third=True)
    run.merge("--from", str(run.edited({"prices.py": PRICES})))
    nothing = run.swarmrun("merge", "shop", "ship")
    assert nothing.code == 1
    assert "its agent left no commit" in nothing.err
    commit(run.work, {"ship.py": "def ship():\n    return 'shipped'\n"}, run.base)
    done = run.swarmrun("merge", "shop", "ship", "--from", str(run.work))
    assert done.code == 0, done.err
    assert run.status.phase is Phase.SUCCEEDED
    assert "shipped" in run.published("ship.py")


# ---------------------------------------------------------------- bad input


def test_a_run_that_has_not_ended_is_left_alone(make: Any) -> None:
    run = make()
    status = run.status
    run.directory.save_status(status.model_copy(update={"phase": Phase.RUNNING}))
    done = run.merge(expect=1)
    assert "has not ended: Running" in done.err
    assert "swarmrun resume shop" in done.err


def test_a_process_at_work_is_not_disturbed(make: Any) -> None:
    from swarmrun.local.lock import Lock

    run = make()
    with Lock(run.directory.lock):
        assert f"process {os.getpid()} works on run shop" in run.merge(expect=1).err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("discont",), "did you mean discount?"),
        (("discount", "--from", "nowhere"), "no directory, no branch of"),
        (("discount", "--from", "deadbeef"), "no commit of this run"),
        (("discount", "--from", "/"), "not in a git repository"),
    ],
)
def test_what_is_not_there_is_named(make: Any, words: tuple[str, ...], told: str) -> None:
    run = make()
    done = run.swarmrun("merge", "shop", *words)
    assert done.code == 1
    assert told in done.err


def test_what_is_not_committed_is_not_forgotten(make: Any) -> None:
    run = make()
    mine = run.edited({"prices.py": PRICES})
    (mine / "prices.py").write_text("# more\n")
    done = run.merge("--from", str(mine), expect=1)
    assert "changes that are not committed: M prices.py" in done.err
    assert run.heads() == {"main": run.base}


def test_a_history_of_its_own_is_refused(make: Any, tmp_path: Path) -> None:
    run = make()
    other = tmp_path / "other"
    git("init", "-q", str(other))
    commit(other, {"a": "b"})
    assert "no commit in common" in run.merge("--from", str(other), expect=1).err


def test_a_checkout_never_overwrites(make: Any, tmp_path: Path) -> None:
    run = make()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine\n")
    assert "exists" in run.merge("--checkout", str(tmp_path / "full"), expect=1).err
    assert (tmp_path / "full" / "file").read_text() == "mine\n"
