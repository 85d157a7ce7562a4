"""Resources of CRDs that are newer than this program, and what a newer one has stored."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from swarmrun.api.plan import Plan
from swarmrun.api.resolve import spec_hash
from swarmrun.api.run import SwarmRun
from swarmrun.api.served import served, stored
from swarmrun.errors import StorageUnavailable


def body(**spec: Any) -> dict[str, Any]:
    repository = {"url": "https://git.example.com/o/r", "mirror": "tomorrow"}
    return {"metadata": {"name": "shop"}, "spec": {"goal": "Build.", "repository": repository, **spec}}


def test_fields_of_a_newer_crd_are_left_out_wherever_they_stand() -> None:
    given = body(
        tomorrow={"a": 1},
        sandbox={
            "egress": {
                "tomorrow": True,
                "allow": [{"cidr": "10.0.0.0/8", "tomorrow": 1}, {"cidr": "10.0.0.0/9"}],
            }
        },
        gates=[{"name": "tests", "command": "pytest", "tomorrow": []}],
    )
    run = served(SwarmRun, given)
    assert [rule.cidr for rule in run.spec.sandbox.egress.allow] == ["10.0.0.0/8", "10.0.0.0/9"]
    assert run.spec.gates[0].command == "pytest"
    # What the API server gave is not changed.
    assert given["spec"]["tomorrow"] == {"a": 1}


def test_a_check_without_a_command_is_the_same_as_one_with_an_empty_one() -> None:
    """The schema has no default in there; a resource of before has it written out."""

    def plan(**check: str) -> dict[str, Any]:
        task = {"id": "a", "title": "A", "instructions": "Write it.", "ownedPaths": ["a.py"]}
        return {"tasks": [task | {"acceptance": [{"description": "It is there.", **check}]}]}

    bare, written = (served(SwarmRun, body(plan=given)) for given in (plan(), plan(command="")))
    assert bare.spec.plan.tasks[0].acceptance[0].command == ""
    assert spec_hash(bare) == spec_hash(written)


def test_a_value_that_is_wrong_stays_an_error_beside_an_unknown_field() -> None:
    with pytest.raises(ValidationError, match="goal"):
        served(SwarmRun, body(goal="  ", tomorrow=1))


TASK = {"id": "a", "title": "A", "instructions": "Do.", "acceptance": [{"description": "It holds."}]}


def test_a_stored_plan_with_fields_of_the_future_is_read() -> None:
    new = {"tomorrow": 1}
    task = TASK | new | {"acceptance": [{"description": "It holds."} | new]}
    contract = {"id": "c", "path": "a.py"}
    written = {"tasks": [task], "contracts": [contract | new]} | new
    known = Plan.model_validate({"tasks": [TASK], "contracts": [contract]})
    assert stored(Plan, json.dumps(written).encode(), "plans/1.json") == known


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (json.dumps({"tasks": [TASK | {"role": "conductor", "tomorrow": 1}]}).encode(), "tasks.0.role"),
        (b"{", "Expecting"),
        (b"\xff", "codec"),
        (b"[]", "Plan"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_mend(data: bytes, why: str) -> None:
    with pytest.raises(StorageUnavailable) as caught:
        stored(Plan, data, "plans/1.json")
    assert "plans/1.json" in str(caught.value)
    assert why in str(caught.value)
    assert "another version of swarmrun" in str(caught.value)
