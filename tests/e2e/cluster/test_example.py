"""The first example as a person applies it: everything in Pods, to the very tree that it has on one machine."""

from __future__ import annotations

import pytest
from kubectl import RUNS
from place import BRANCH, NAME, Place
from servers import of_kind

PLACE = "demo"


@pytest.mark.timeout(2400)
def test_the_example_in_pods_ends_with_the_tree_of_the_local_run(place: Place, expected: str) -> None:
    kubectl = place.kubectl
    kubectl.apply(*of_kind(place.resources, "SwarmClass", "SwarmRun"))
    kubectl.wait("condition=Finished", f"{RUNS}/{NAME}", within=600)

    heads = place.git.heads(NAME)
    assert set(heads) == {"main", BRANCH}
    assert heads[BRANCH] == expected
    assert place.git.pushes(NAME, BRANCH) == 1

    head, row = (line.split() for line in kubectl("get", "swr", NAME).splitlines())
    assert head == ["NAME", "PHASE", "PROGRESS", "SCORE", "READY", "AGE"]
    assert row[:5] == [NAME, "Succeeded", "4/4", "90", "True"]
    head, row = (line.split() for line in kubectl("get", "swr", NAME, "-o", "wide").splitlines())
    assert head[6:] == ["REASON", "REPOSITORY", "BRANCH", "TOKENS", "COST"]
    assert [row[6], row[7], row[8]] == ["Published", place.git.url(NAME), BRANCH]
    assert int(row[9]) > 100_000
    assert float(row[10]) > 0

    place.clean()


def test_describe_reads_as_a_story(place: Place) -> None:
    story = place.kubectl("describe", "swr", NAME)
    state, _, events = story.partition("\nEvents:\n")
    order = [events.index(f" {reason} ") for reason in ("Planned", "Merged", "Judged", "Published")]
    assert order == sorted(order), events
    for section in (
        "Conditions:",
        "Plan:",
        "Agents:",
        "Merges:",
        "Gates:",
        "Judgements:",
        "Usage:",
        "Result:",
    ):
        assert f"\n  {section}" in state, state
    assert "shortener/models.py equals ours although theirs changed it" in state
    assert place.git.url(NAME) in state
