"""What `kubectl swarm`'s words write, when they are refused, and how a run is drawn. No cluster."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from swarmrun.api.run import SwarmRun
from swarmrun.cli.kubectl import verbs
from swarmrun.cli.kubectl.cluster import explained, parsed
from swarmrun.cli.kubectl.pods import _pod, of_task
from swarmrun.cli.kubectl.tree import run_tree
from swarmrun.controller.wanted import wanted
from swarmrun.errors import Conflict, InvalidResource, NotFound, PermissionDenied

UID = "6a6f1ef2-1a50-4f4b-b6ee-7191db4fc90f"
NOW = datetime(2030, 1, 1, tzinfo=UTC)
HASH = "a" * 64
COMMIT = "b" * 40


def run(
    reason: str = "Running", *, phase: str = "", notes: dict[str, str] | None = None, **spec: Any
) -> SwarmRun:
    ended = phase in ("Succeeded", "Failed", "Cancelled")
    body = {
        "apiVersion": "swarmrun.dev/v1alpha1",
        "kind": "SwarmRun",
        "metadata": {"name": "demo", "namespace": "team", "uid": UID, "annotations": notes or {}},
        "spec": {"goal": "x", "repository": {"url": "https://h.invalid/x.git"}, **spec},
        "status": {
            "run": f"{UID}-1",
            "phase": phase or ("AwaitingApproval" if "Approval" in reason else "Running"),
            "conditions": [{"type": "Ready", "status": "True" if ended else "False", "reason": reason}],
            "plan": {
                "hash": HASH,
                "tasks": [
                    {"id": "storage", "title": "Storage"},
                    {"id": "api", "title": "API", "dependsOn": ["storage"]},
                ],
            },
            "result": {"baseCommit": "c" * 40, "commit": COMMIT},
        },
    }
    return parsed(body)


def test_a_resource_of_newer_crds_is_read():
    body = {"metadata": {"name": "shop"}, "spec": {"goal": "Build.", "repository": {"url": "https://a.b/c"}}}
    body["spec"]["tomorrow"] = {"a": 1}
    assert parsed(body).spec.goal == "Build."


# ---------------------------------------------------------------- what is written


def test_an_approval_is_bound_to_what_waits_at_that_moment():
    word = verbs.approve(run("AwaitingPlanApproval"), "plan")
    assert word.annotations == {"swarmrun.dev/approve-plan": HASH}
    word = verbs.approve(run("AwaitingPublishApproval"), "publish")
    assert word.annotations == {"swarmrun.dev/approve-publish": COMMIT}
    assert not word.heard(run("AwaitingPublishApproval").status)
    assert word.heard(run("Publishing").status)


def test_an_approval_takes_an_old_rejection_back():
    """Of two answers the rejection counts."""
    notes = {"swarmrun.dev/reject-plan": "0" * 64}
    word = verbs.approve(run("AwaitingPlanApproval", notes=notes), "plan")
    assert word.annotations["swarmrun.dev/reject-plan"] is None


def test_a_rejection_says_why_on_one_line():
    word = verbs.reject(run("AwaitingPlanApproval"), "plan", "too\nlarge ")
    assert word.annotations == {"swarmrun.dev/reject-plan": f"{HASH} too large"}
    assert (
        verbs.reject(run("AwaitingPlanApproval"), "plan", "").annotations["swarmrun.dev/reject-plan"] == HASH
    )


def test_a_resume_is_later_than_the_suspend_whatever_the_clocks():
    for suspended in (NOW, NOW + timedelta(hours=3)):
        there = run("Suspended", notes={"swarmrun.dev/suspend": suspended.isoformat()})
        word = verbs.resume(there, NOW)
        after = run("Suspended", notes={**there.metadata.annotations, **word.annotations})
        assert not wanted(after).suspended
        # And a suspend after that counts again.
        again = verbs.suspend(after, NOW + timedelta(hours=4))
        assert wanted(run(notes={**after.metadata.annotations, **again.annotations})).suspended


def test_the_next_attempt_is_not_ended_by_what_was_said_to_the_last():
    notes = {
        "swarmrun.dev/attempt": "1",
        "swarmrun.dev/cancel": "enough",
        "swarmrun.dev/reject-publish": COMMIT,
        "swarmrun.dev/approve-plan": HASH,
        "swarmrun.dev/suspend": NOW.isoformat(),
        "team": "mine",
    }
    word = verbs.rerun(run("Cancelled", phase="Cancelled", notes=notes), "task/api")
    assert word.annotations == {
        "swarmrun.dev/attempt": "2",
        "swarmrun.dev/rerun-from": "task/api",
        "swarmrun.dev/cancel": None,
        "swarmrun.dev/reject-publish": None,
        "swarmrun.dev/suspend": None,
    }
    left = {k: v for k, v in (notes | word.annotations).items() if v is not None}
    asked = wanted(run(notes=left))
    assert (asked.attempt, asked.cancelled, asked.suspended) == (2, None, False)
    assert not word.heard(run().status)
    assert word.heard(run().status.model_copy(update={"run": f"{UID}-2"}))


# ---------------------------------------------------------------- what makes no sense

SUSPENDED = {"swarmrun.dev/suspend": NOW.isoformat()}


@pytest.mark.parametrize(
    ("there", "word", "reason", "says"),
    [
        (run("Running"), lambda r: verbs.approve(r, "plan"), "NothingWaits", "it is at Running"),
        (
            run("AwaitingPlanApproval"),
            lambda r: verbs.approve(r, "publish"),
            "NothingWaits",
            "its plan waits",
        ),
        (
            run("Suspended", phase="AwaitingApproval"),
            lambda r: verbs.approve(r, "plan"),
            "Suspended",
            "resume",
        ),
        (run("Published", phase="Succeeded"), lambda r: verbs.reject(r, "plan", ""), "HasEnded", "Succeeded"),
        (run("Published", phase="Succeeded"), lambda r: verbs.cancel(r, ""), "HasEnded", "Succeeded"),
        (
            run(notes={"swarmrun.dev/cancel": ""}),
            lambda r: verbs.cancel(r, ""),
            "AlreadyCancelled",
            "already",
        ),
        (run(notes=SUSPENDED), lambda r: verbs.suspend(r, NOW), "AlreadySuspended", "already"),
        (run(), lambda r: verbs.resume(r, NOW), "NotSuspended", "not suspended"),
        (run(suspend=True), lambda r: verbs.resume(r, NOW), "SuspendedBySpec", "spec.suspend"),
        (run(), lambda r: verbs.rerun(r, "plan"), "StillRunning", "has not ended"),
        (
            run("Failed", phase="Failed", notes={"swarmrun.dev/attempt": "2"}),
            lambda r: verbs.rerun(r, "plan"),
            "AlreadyAsked",
            "attempt 2",
        ),
        (
            run("Cancelled", phase="Cancelled", cancel=True),
            lambda r: verbs.rerun(r, "plan"),
            "CancelledBySpec",
            "spec",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_state(there, word, reason, says):
    with pytest.raises(Conflict) as caught:
        word(there)
    assert caught.value.reason == reason
    assert says in str(caught.value)


def test_a_place_to_begin_from_is_checked_before_anything_is_written():
    failed = run("Failed", phase="Failed")
    for place in ("plan", "work", "judge", "publish", "task/storage"):
        assert verbs.rerun(failed, place).annotations["swarmrun.dev/rerun-from"] == place
    with pytest.raises(NotFound, match="did you mean storage"):
        verbs.rerun(failed, "task/storge")
    for place in ("merge", "task/", ""):
        with pytest.raises(InvalidResource, match="one of plan"):
            verbs.rerun(failed, place)


def test_what_is_approved_is_shown():
    assert "storage  coder  Storage" in verbs.question(run("AwaitingPlanApproval"), "plan")
    shown = verbs.question(run("AwaitingPublishApproval"), "publish")
    assert f"commit {COMMIT}, onto cccccccccccc" in shown
    assert "swarmrun diff demo -n team" in shown


# ---------------------------------------------------------------- refusals of the API server


@pytest.mark.parametrize(
    ("message", "mend"),
    [
        (
            'swarmruns.swarmrun.dev "x" is forbidden: User "ann" cannot patch resource "swarmruns" in API group '
            '"swarmrun.dev" in the namespace "team"',
            "ask for the verb `patch` on swarmruns.swarmrun.dev in namespace team",
        ),
        (
            'swarmruns.swarmrun.dev is forbidden: User "ann" cannot list resource "swarmruns" in API group '
            '"swarmrun.dev" at the cluster scope',
            "ask for the verb `list` on swarmruns.swarmrun.dev in all namespaces",
        ),
        (
            'pods "x" is forbidden: User "ann" cannot get resource "pods/log" in API group "" in the namespace "t"',
            "ask for the verb `get` on pods/log in namespace t",
        ),
    ],
)
def test_a_refusal_names_the_right_that_is_missing(message, mend):
    said = explained(PermissionDenied(message, reason="OperatorNotAllowed"))
    assert (said.mend, said.reason, said.message) == (mend, "Forbidden", message)


def test_a_refused_approval_names_its_own_verb():
    denied = (
        "ValidatingAdmissionPolicy 'p' denied request: approving … need the verb approve on this SwarmRun"
    )
    assert "verb `approve`" in explained(PermissionDenied(denied, reason="PolicyDenied")).mend


# ---------------------------------------------------------------- drawn


def pod(task: str, name: str, *, labels: dict[str, str] | None = None, **state: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/component": "sandbox", **(labels or {})},
            "annotations": {"swarmrun.dev/sandbox": f"{UID}-1-{task}-a1-g2"},
        },
        "status": {"phase": "Pending", "containerStatuses": [{"state": state}]},
    }


def test_a_pod_is_known_by_its_whole_sandbox_id():
    """Labels are cut where a task's id is long; a task may itself end like an attempt."""
    found = _pod(pod("fix-a1-g1", "p", running={}), f"{UID}-1")
    assert (found.task, found.phase, found.speaks) == ("fix-a1-g1", "Pending", True)
    waiting = _pod(pod("api", "p", waiting={"reason": "ErrImagePull"}), f"{UID}-1")
    assert (waiting.phase, waiting.speaks) == ("ErrImagePull", False)
    assert _pod(pod("api", "p"), f"{UID}-2") is None
    git = _pod(pod("x", "g", labels={"app.kubernetes.io/component": "git"}), f"{UID}-1")
    assert git.task == ""


def test_who_has_no_sandbox_of_its_own_works_in_the_integration_sandbox():
    status = run().status
    pods = [_pod(pod(t, t, running={}), f"{UID}-1") for t in ("storage", "integration")]
    assert [p.name for p in of_task(pods, "storage", status)] == ["storage"]
    assert [p.name for p in of_task(pods, "fix-1", status)] == ["integration"]
    # A task of the plan that has not begun does not.
    assert of_task(pods, "api", status) == []


def test_a_run_is_drawn_as_its_plan_with_agents_and_pods():
    it = run()
    it.status.agents = parsed(
        {
            **it.model_dump(by_alias=True, mode="json", exclude_none=True),
            "status": {
                "agents": [
                    {"task": "plan", "role": "planner", "phase": "Finished", "turns": 1},
                    {
                        "task": "storage",
                        "phase": "Running",
                        "turns": 3,
                        "attempts": 2,
                        "lastTool": "exec pytest",
                    },
                ]
            },
        }
    ).status.agents
    pods = [_pod(pod(t, f"demo-{t}", running={}), f"{UID}-1") for t in ("storage", "integration")]
    assert run_tree(it, pods).splitlines() == [
        "demo  Running",
        "  storage  Storage  [coder Running, attempt 2, 3 turns, exec pytest]  pod demo-storage Pending",
        "  └─ api  API  [coder Pending]",
        "  plan  [planner Finished, 1 turn]",
        "  integration  pod demo-integration Pending",
    ]


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['kubectl-swarm', '--help']\n"
        "from swarmrun.cli.kubectl.main import run\n"
        "try: run()\n"
        "except SystemExit: pass\n"
        "heavy = {'pydantic', 'rich', 'yaml', 'httpx', 'aiohttp', 'kubernetes', 'durabletask', 'asyncio', 'kopf'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "[]"
    assert "approve" in done.stdout
