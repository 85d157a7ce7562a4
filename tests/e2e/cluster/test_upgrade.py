"""The operator is upgraded while a run is in flight, to an image whose orchestration takes other steps."""

from __future__ import annotations

import os

import pytest
from kubectl import IMAGE, RUNS
from place import BRANCH, NAME, Place
from servers import of_kind

PLACE = "upgrade"
OTHER = os.environ.get("SWARMRUN_TEST_OTHER_OPERATOR_IMAGE", "")


def image(name: str) -> dict[str, str]:
    repository, _, tag = name.rpartition(":")
    return {"image__repository": repository, "image__tag": tag}


@pytest.mark.timeout(3600)
@pytest.mark.skipif(not OTHER, reason="needs SWARMRUN_TEST_OTHER_OPERATOR_IMAGE (see other/Dockerfile)")
def test_a_run_that_another_version_began_goes_on_after_the_upgrade(place: Place, expected: str) -> None:
    kubectl = place.kubectl
    place.release.upgrade(**image(OTHER))
    try:
        kubectl.apply(*of_kind(place.resources, "SwarmClass", "SwarmRun"))
        kubectl.until(
            lambda: kubectl.status(NAME).get("progress", "") >= "1/4", "one task is merged", patience=300
        )
    finally:
        place.release.upgrade(**image(IMAGE))
    assert "finishedAt" not in kubectl.status(NAME)
    kubectl.wait("condition=Finished", f"{RUNS}/{NAME}", within=600)
    status = kubectl.status(NAME)
    assert (status["phase"], status["progress"]) == ("Succeeded", "4/4"), status
    heads = place.git.heads(NAME)
    assert (set(heads), heads[BRANCH]) == ({"main", BRANCH}, expected)
    assert place.git.pushes(NAME, BRANCH) == 1
    place.clean()
