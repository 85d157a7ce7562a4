"""Words to a run, from what stands on its resource."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from swarmrun.api.status import PlanStatus
from swarmrun.controller.bodies import parse
from swarmrun.controller.wanted import Said, Wanted, instance_of, misses, uid_of, words
from swarmrun.errors import InvalidResource
from swarmrun.report import RunReport

HASH = "a" * 64
COMMIT = "0123456789abcdef0123456789abcdef01234567"

Body = Callable[..., dict[str, Any]]


def asked(body: dict[str, Any]) -> Wanted:
    return parse(body)[1]


def waiting(what: str = "") -> RunReport:
    return RunReport(run="r", name="shop", waiting_for=what, integration=COMMIT, plan=PlanStatus(hash=HASH))


def test_an_instance_leads_back_to_its_resource_and_an_agent_does_not() -> None:
    uid = "6a6f1ef2-1a50-4f4b-b6ee-7191db4fc90f"
    assert uid_of(instance_of(uid, 3)) == uid
    assert uid_of(f"{uid}-3:storage:1") == ""
    assert uid_of("url-shortener-1a2b3c") == ""


def test_an_approval_is_said_once_and_in_full(run_body: Body) -> None:
    said = Said()
    wanted = asked(run_body(annotations={"swarmrun.dev/approve-plan": HASH[:12]}))
    mail = {"kind": "approve", "what": "plan", "bound": HASH, "reason": ""}
    assert words(wanted, waiting("plan"), said) == [mail]
    assert words(wanted, waiting("plan"), said) == []


@pytest.mark.parametrize("value", ["", "true", "b" * 64, HASH[:11]])
def test_an_approval_that_names_no_plan_that_is_there_is_not_said(run_body: Body, value: str) -> None:
    wanted = asked(run_body(annotations={"swarmrun.dev/approve-plan": value}))
    assert words(wanted, waiting("plan"), Said()) == []


def test_an_approval_given_before_the_run_waits_is_said_when_it_does(run_body: Body) -> None:
    said = Said()
    wanted = asked(run_body(annotations={"swarmrun.dev/approve-publish": COMMIT}))
    assert words(wanted, waiting(), said) == []
    assert [m["bound"] for m in words(wanted, waiting("publish"), said)] == [COMMIT]


def test_a_rejection_carries_its_reason_and_comes_after_an_approval(run_body: Body) -> None:
    notes = {"swarmrun.dev/approve-plan": HASH, "swarmrun.dev/reject-plan": f"{HASH} too many tasks"}
    mails = words(asked(run_body(annotations=notes)), waiting("plan"), Said())
    assert [m["kind"] for m in mails] == ["approve", "reject"]
    assert mails[-1]["reason"] == "too many tasks"


@pytest.mark.parametrize(
    ("notes", "spec", "suspended"),
    [
        ({}, {}, False),
        ({"suspend": "2030-01-01T00:00:00Z"}, {}, True),
        ({"suspend": "2030-01-01T00:00:00Z", "resume": "2030-01-01T00:01:00Z"}, {}, False),
        ({"suspend": "2030-01-01T00:02:00Z", "resume": "2030-01-01T00:01:00Z"}, {}, True),
        ({"suspend": "please", "resume": "2030-01-01T00:01:00Z"}, {}, False),
        ({"suspend": "false"}, {}, False),
        ({"resume": "2030-01-01T00:01:00Z"}, {"suspend": True}, True),
    ],
)
def test_suspension_by_annotation_and_by_git(
    run_body: Body, notes: dict[str, str], spec: dict[str, Any], suspended: bool
) -> None:
    body = run_body(annotations={f"swarmrun.dev/{k}": v for k, v in notes.items()}, **spec)
    assert asked(body).suspended is suspended


def test_suspension_is_said_at_a_change_only_and_again_by_a_new_process(run_body: Body) -> None:
    said, on = Said(), asked(run_body(suspend=True))
    assert words(on, waiting(), said) == [{"kind": "suspend"}]
    assert words(on, waiting(), said) == []
    assert words(asked(run_body()), waiting(), said) == [{"kind": "resume"}]
    # A new process finds a run that is suspended, and a resource that asks for it no more.
    suspended = waiting().model_copy(update={"suspended": True})
    assert words(asked(run_body()), suspended, Said()) == [{"kind": "resume"}]


def test_cancel_is_said_once_with_its_reason(run_body: Body) -> None:
    said = Said()
    wanted = asked(run_body(annotations={"swarmrun.dev/cancel": "wrong repository"}))
    assert words(wanted, waiting(), said) == [{"kind": "cancel", "message": "wrong repository"}]
    assert words(wanted, waiting(), said) == []
    assert asked(run_body(cancel=True)).cancelled == ""


@pytest.mark.parametrize("text", ["0", "-1", "two", "99999", "１"])
def test_an_attempt_that_is_no_number_is_named(run_body: Body, text: str) -> None:
    with pytest.raises(InvalidResource, match=r"swarmrun\.dev/attempt"):
        asked(run_body(annotations={"swarmrun.dev/attempt": text}))


def test_an_approval_of_another_plan_is_told_with_the_one_that_waits(run_body: Body) -> None:
    wrong = asked(run_body(annotations={"swarmrun.dev/approve-plan": "b" * 64}))
    assert misses(wrong, waiting("plan")) == f"the approve annotation names another plan; {HASH} waits"
    # One that was given for the plan says nothing wrong while the result waits.
    assert misses(wrong, waiting("publish")) == ""
    assert misses(asked(run_body(annotations={"swarmrun.dev/approve-plan": HASH})), waiting("plan")) == ""
