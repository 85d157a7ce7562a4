"""What a run may ask of the network, held against its class."""

from __future__ import annotations

from typing import Any

import pytest

from swarmrun.api.resolve import resolve
from swarmrun.api.run import SwarmRun
from swarmrun.api.swarmclass import SwarmClass
from swarmrun.errors import InvalidResource


def resolved(asked: dict[str, Any], granted: dict[str, Any], **more: Any) -> Any:
    run = SwarmRun.model_validate(
        {
            "metadata": {"name": "run"},
            "spec": {
                "goal": "g",
                "repository": {"url": "https://git.example.com/o/r"},
                "sandbox": {"egress": asked},
            },
        }
    )
    cls = SwarmClass.model_validate(
        {
            "metadata": {"name": "narrow"},
            "spec": {"models": {"standard": {"model": "m"}}, "sandbox": {"egress": granted}},
        }
    )
    return resolve(run, cls, instance="i", **more).sandbox.egress


def rules(*found: tuple[str, list[int]]) -> dict[str, Any]:
    return {"allow": [{"cidr": cidr, "ports": ports} for cidr, ports in found]}


@pytest.mark.parametrize(
    ("asked", "granted", "field"),
    [
        ({"enabled": True}, {}, "enabled"),
        ({"enabled": True}, {"dns": True, **rules(("10.0.0.0/8", []))}, "enabled"),
        ({"dns": True}, {}, "dns"),
        (rules(("0.0.0.0/0", [])), {}, "allow[0]"),
        # Open egress leaves private ranges out; a rule must not let them in again.
        (rules(("10.252.0.1/32", [443])), {"enabled": True}, "allow[0]"),
        (rules(("10.1.0.0/16", [443]), ("10.0.0.0/7", [443])), rules(("10.0.0.0/8", [443])), "allow[1]"),
        (rules(("10.1.0.0/16", [])), rules(("10.0.0.0/8", [443])), "allow[0]"),
        (rules(("10.1.0.0/16", [443, 22])), rules(("10.0.0.0/8", [443])), "allow[0]"),
        (rules(("fc00::/8", [443])), rules(("10.0.0.0/8", [443])), "allow[0]"),
        (rules(("10.1.0.0/99", [443])), rules(("10.0.0.0/8", [443])), "allow[0].cidr"),
        (rules(("300.0.0.0/8", [])), rules(("10.0.0.0/8", [])), "allow[0].cidr"),
    ],
)
def test_what_the_class_does_not_grant_is_refused_by_field(
    asked: dict[str, Any], granted: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidResource) as refused:
        resolved(asked, granted)
    assert refused.value.field == f"spec.sandbox.egress.{field}"
    assert refused.value.mend


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        ({"dns": True}, {"enabled": True}),
        (rules(("10.1.0.0/16", [443])), rules(("10.0.0.0/8", [443, 80]))),
        (rules(("10.1.0.0/16", [443])), rules(("10.0.0.0/8", []))),
        (rules(("fc00::/8", [])), rules(("fc00::/7", []))),
    ],
)
def test_a_run_may_narrow_what_its_class_grants(asked: dict[str, Any], granted: dict[str, Any]) -> None:
    assert resolved(asked, granted).allow == resolved(asked, asked).allow


def test_on_ones_own_machine_nobody_is_asked() -> None:
    assert resolved({"enabled": True}, {}, own_machine=True).enabled


@pytest.mark.parametrize(("asked", "granted"), [({"setupOnly": True}, {}), ({}, {"setupOnly": True})])
def test_what_either_grants_for_set_up_only_holds_for_set_up_only(
    asked: dict[str, Any], granted: dict[str, Any]
) -> None:
    rule = rules(("10.1.0.0/16", [443]))
    for mine in (asked, asked | rule):
        found = resolved(mine, granted | rule)
        assert (found.setup_only, [r.cidr for r in found.allow]) == (True, ["10.1.0.0/16"])
