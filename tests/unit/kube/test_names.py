from __future__ import annotations

import re

import pytest

from swarmrun.kube import names
from swarmrun.kube.options import Owner, RunPlace

PLACE = RunPlace("team", "7d4f0c9e-1111-2222-3333-444455556666-1", "url-shortener")


@pytest.mark.parametrize(
    ("task", "end"),
    [
        ("storage-a1-g1", "-a1-g1"),
        ("storage-a12-g34", "-a12-g34"),
        ("Über_Task.with/odd parts-a1-g2", "-a1-g2"),
        ("x" * 200 + "-a1-g1", "-a1-g1"),
        ("a1-g1", "-a1-g1"),
    ],
)
def test_a_pod_is_called_so_that_people_find_it(task, end):
    for name in ("url-shortener", "n" * 253, "1.2.3", "-"):
        place = RunPlace("team", PLACE.run, name)
        made = names.pod_name(place, f"{PLACE.run}-{task}")
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", made), made
        assert made.endswith(end)
    assert names.pod_name(PLACE, f"{PLACE.run}-storage-a1-g1").startswith("url-shortener-storage-")


def test_two_sandboxes_never_share_a_name():
    ids = [f"{PLACE.run}-{t}-a1-g1" for t in ("A_b", "a-b", "a.b", "x" * 60, "x" * 61)]
    ids += [f"another-run-{t}-a1-g1" for t in ("a-b",)]
    assert len({names.pod_name(PLACE, i) for i in ids}) == len(ids)


def test_labels_are_valid_whatever_the_names_are():
    for run, name in ((PLACE.run, "ok"), ("a:b/c", "x" * 253), ("-", "ünïcode")):
        for value in names.labels(RunPlace("team", run, name), "sandbox").values():
            assert re.fullmatch(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?", value), value
    assert names.label_value("a" * 70) != names.label_value("a" * 71)


def test_an_owner_is_named_so_that_deleting_it_deletes_and_nothing_holds_it_up():
    (reference,) = names.owner_references(Owner("swarmrun.dev/v1alpha1", "SwarmRun", "demo", "u"))
    assert reference["uid"] == "u"
    assert "blockOwnerDeletion" not in reference
    assert names.owner_references(None) == []
