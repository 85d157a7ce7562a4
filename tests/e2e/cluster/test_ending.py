"""What ends while runs are at work ends at once: a run's resource, a namespace, the operator itself."""

from __future__ import annotations

import pytest
from kubectl import RESTRICTED, RUNS, Kubectl
from place import NAME, Place
from servers import of_kind

PLACE = "ending"


@pytest.mark.timeout(3600)
def test_neither_a_run_nor_a_namespace_nor_an_uninstalled_operator_holds_anything_up(place: Place) -> None:
    kubectl = place.kubectl
    cls_and_run = of_kind(place.resources, "SwarmClass", "SwarmRun")

    def at_work() -> None:
        kubectl.apply(*cls_and_run)
        kubectl.until(
            lambda: kubectl.names("pods", "-l", "app.kubernetes.io/component=sandbox"), "a sandbox is there"
        )

    at_work()
    kubectl("delete", RUNS, NAME, "--timeout=20s")
    place.clean()

    at_work()
    place.release.uninstall()
    kubectl("delete", RUNS, NAME, "--timeout=20s")
    # Nobody is there to remove its Pods but Kubernetes itself.
    place.clean()

    place.release.install_again()
    at_work()
    kubectl.delete_namespace(wait=300)
    assert kubectl.namespace not in Kubectl("default").names("namespaces")
    # The release watches it: without it, the next upgrade has no place for its rights there.
    kubectl.create_namespace(RESTRICTED)
