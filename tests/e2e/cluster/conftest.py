"""Whole runs on a cluster, by kubectl and helm alone: whatever KUBECONFIG names, from nothing. `make e2e` runs them.

| variable | meaning | default |
| --- | --- | --- |
| `SWARMRUN_TEST_CLUSTER=1` | the cluster is one for tests: namespaces are made and deleted in it | skipped |
| `SWARMRUN_TEST_OPERATOR_IMAGE` | loaded there | `localhost/swarmrun-operator:dev` |
| `SWARMRUN_TEST_SANDBOX_IMAGE` | loaded there | `localhost/swarmrun-sandbox:dev` |
| `SWARMRUN_TEST_OTHER_OPERATOR_IMAGE` | one of another commit, for the upgrade of a run in flight | skipped |
| `SWARMRUN_TEST_KILL_APISERVER` | shell command that kills the API server and brings it back | not killed |
| `SWARMRUN_E2E_KILLS`, `SWARMRUN_E2E_SEED` | how many kills, and of which moments | 20, random and told |
| `SWARMRUN_E2E_RUNS` | runs that are applied at once | 50 |

A failure shows the operator's last 100 lines, the Events and the Pods.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# In importlib mode a test's own directory is not on the path.
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from expected import tree_of_the_example
from kubectl import RESTRICTED, Kubectl, Release
from place import Place
from servers import Git, example, serve

PLACES = ("demo", "kills", "many", "upgrade", "ending", "hostile")
"""Namespaces that the operator watches, one a module."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ready = os.environ.get("SWARMRUN_TEST_CLUSTER") == "1" and os.environ.get("KUBECONFIG")
    missing = [program for program in ("kubectl", "helm") if not shutil.which(program)]
    why = f"needs {', '.join(missing)}" if missing else ""
    why = why if ready else "needs a cluster: set KUBECONFIG and SWARMRUN_TEST_CLUSTER=1"
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            if why:
                item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def release() -> Iterator[Release]:
    name = f"swarmrun-e2e-{secrets.token_hex(3)}"
    places = [Kubectl(f"{name}-{place}") for place in PLACES]
    it = Release(name, [place.namespace for place in places])
    try:
        for place in places:  # the chart's rights go there, so they come first
            place.create_namespace(RESTRICTED)
        it.install()
        yield it
    finally:
        it.uninstall()
        for each in (it.kubectl, *places):
            each.delete_namespace()


@pytest.fixture(scope="module")
def place(release: Release, request: pytest.FixtureRequest) -> Iterator[Place]:
    """The namespace of the module, named in its `PLACE`."""
    kubectl = Kubectl(release.kubectl.namespace.removesuffix("system") + request.module.PLACE)
    resources = example(kubectl.namespace)
    serve(kubectl, resources)
    yield Place(release, kubectl, Git(kubectl), resources)
    kubectl("delete", "swarmclass", kubectl.namespace, "--ignore-not-found")


@pytest.fixture(scope="session")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tree of the example's branch, from a run on this machine."""
    return tree_of_the_example(tmp_path_factory.mktemp("local"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if report.failed and call.when == "call":
        # Not of a set-up that failed: helm's own failure tells the same.
        given = getattr(item, "funcargs", {})
        if isinstance(found := given.get("place"), Place):
            report.sections.append(("Pods and Events", found.kubectl.state()))
        if isinstance(found := given.get("release") or getattr(found, "release", None), Release):
            report.sections.append(("the operator's last lines", found.log()))
    return report
