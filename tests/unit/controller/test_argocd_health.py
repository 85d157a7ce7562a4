"""What Argo CD shows of the resources: its Lua, run by Lua 5.1 over statuses that the controller itself made."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from lupa.lua51 import LuaRuntime

from swarmrun.api.status import Phase, PlanStatus, SwarmRunStatus
from swarmrun.controller.projection import project
from swarmrun.controller.reconcile import Memory, Reconciler
from swarmrun.report import RunReport

EXAMPLES = Path(__file__).parents[3] / "examples/argocd"
NOW = datetime(2030, 1, 1, tzinfo=UTC)


def judged(kind: str, obj: dict[str, Any]) -> tuple[str, str]:
    """(health, message) as Argo CD asks for it: the object as the global `obj`, one table returned."""
    lua = LuaRuntime(unpack_returned_tuples=True)
    lua.globals().obj = lua.table_from(obj, recursive=True)
    found = lua.execute((EXAMPLES / f"health/{kind.lower()}.lua").read_text())
    return found["status"], found["message"]


def resource(status: SwarmRunStatus | None, *, generation: int = 1, **spec: Any) -> dict[str, Any]:
    """As the API server has it."""
    body: dict[str, Any] = {"metadata": {"name": "shop", "generation": generation}, "spec": spec}
    if status is not None:
        body["status"] = status.dump()
    return body


def shown(phase: Phase, **fields: Any) -> tuple[str, str]:
    given = RunReport(run="r-1", name="shop", phase=phase, **fields)
    return judged("SwarmRun", resource(project(given, {}, previous=None, now=NOW)))


@pytest.mark.parametrize("phase", [p for p in Phase if not p.terminal])
def test_a_run_at_work_is_progressing_in_every_phase(phase: Phase) -> None:
    assert shown(phase, message="two agents work") == ("Progressing", f"{phase}: two agents work")


@pytest.mark.parametrize("reason", ["model", "remote"])
def test_an_outage_that_is_waited_out_is_progressing(reason: str) -> None:
    health, message = shown(Phase.RUNNING, waiting_for=reason)
    assert (health, message.split(":")[0]) == ("Progressing", f"WaitingFor{reason.capitalize()}")


def test_a_published_run_is_healthy() -> None:
    said = "published as swarm/shop"
    assert shown(Phase.SUCCEEDED, reason="Published", message=said) == ("Healthy", f"Published: {said}")


@pytest.mark.parametrize("reason", ["Incomplete", "BudgetExceeded", "PlanRejected", "ScoreBelowThreshold"])
def test_a_failed_run_is_degraded_with_its_reason(reason: str) -> None:
    assert shown(Phase.FAILED, reason=reason, message="why") == ("Degraded", f"{reason}: why")


def test_a_cancelled_run_is_finished_not_broken() -> None:
    said = shown(Phase.CANCELLED, reason="Cancelled", message="cancelled on the resource")
    assert said == ("Healthy", "Cancelled: cancelled on the resource")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"waiting_for": "plan", "plan": PlanStatus(hash="a" * 64)}, "AwaitingPlanApproval"),
        ({"waiting_for": "publish", "integration": "c" * 40}, "AwaitingPublishApproval"),
        ({"suspended": True}, "Suspended"),
    ],
)
def test_a_run_that_waits_for_a_person_is_suspended(fields: dict[str, Any], reason: str) -> None:
    health, message = shown(Phase.AWAITING_APPROVAL, **fields)
    assert health == "Suspended"
    assert message.startswith(f"{reason}: ")


def test_a_run_that_has_ended_is_not_suspended_although_its_spec_still_says_so() -> None:
    given = RunReport(run="r-1", name="shop", phase=Phase.FAILED, reason="Incomplete", suspended=True)
    status = project(given, {}, previous=None, now=NOW)
    assert judged("SwarmRun", resource(status, suspend=True))[0] == "Degraded"


@pytest.mark.parametrize("status", [None, SwarmRunStatus()])
def test_a_run_that_the_operator_has_not_seen_is_progressing(status: SwarmRunStatus | None) -> None:
    # The API server's default status says generation -1.
    assert judged("SwarmRun", resource(status)) == ("Progressing", "the operator has not seen it yet")


@pytest.mark.parametrize("phase", [p for p in Phase if p.terminal])
def test_what_was_found_of_an_older_spec_counts_for_nothing(phase: Phase) -> None:
    status = project(RunReport(run="r-1", name="shop", phase=phase), {}, previous=None, now=NOW)
    health, message = judged("SwarmRun", resource(status, generation=2))
    assert (health, message) == ("Progressing", "the operator has not seen generation 2 yet")


def test_statuses_that_the_controller_writes_before_a_run_begins(
    engine: Any, worlds: Any, run_body: Any, class_body: Any
) -> None:
    def look(classes: dict[str, Any], **spec: Any) -> tuple[str, str]:
        body = run_body(**spec)
        outcome = Reconciler(engine, worlds).reconcile(Memory(body, SwarmRunStatus()), classes)
        return judged("SwarmRun", body | {"status": resource(outcome.status)["status"]})

    health, message = look({})
    assert health == "Progressing"
    assert "SwarmClass standard does not exist" in message
    refused = {"standard": class_body(allowedNamespaces=["other-*"])}
    health, message = look(refused)
    assert (health, message.split(":")[0]) == ("Degraded", "NamespaceNotAllowed")
    assert look({"standard": class_body()})[0] == "Progressing"


def test_a_class_is_healthy(class_body: Any) -> None:
    assert judged("SwarmClass", class_body()) == ("Healthy", "")


def test_the_config_map_holds_the_same_lua() -> None:
    data = yaml.safe_load((EXAMPLES / "argocd-cm.yaml").read_text())["data"]
    files = {
        f"resource.customizations.health.swarmrun.dev_{kind}": (EXAMPLES / f"health/{kind.lower()}.lua")
        for kind in ("SwarmRun", "SwarmClass")
    }
    assert data == {key: path.read_text() for key, path in files.items()}
