"""The operator, its classes and its runs under Argo CD, with client-side and with server-side apply.

Everything is what examples/argocd says, on a repository of the test's own. This process must reach the forge, and
Pods as well (see ../../conftest.py).
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import Any

import pytest
from argo import PATIENCE, Application, quiet

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(os.environ.get("SWARMRUN_TEST_ARGOCD") != "1", reason="needs SWARMRUN_TEST_ARGOCD=1"),
    pytest.mark.skipif(
        not os.environ.get("SWARMRUN_TEST_FORGE"), reason="needs SWARMRUN_TEST_FORGE and its token"
    ),
]


BUDGET = {"tokens": 1_000_000}


def healths(application: Application) -> list[str]:
    """One after the other, as they were seen."""
    found: list[str] = []
    for row in application.seen():
        if row.sync == "Synced" and row.health not in found[-1:]:
            found.append(row.health)
    return found


def say(shop: Any, run: str, word: str, value: str = "") -> None:
    shop.kubectl("annotate", "swarmrun", run, f"swarmrun.dev/{word}={value or datetime.now(UTC).isoformat()}")


def annotations(shop: Any, run: str) -> dict[str, str]:
    found = shop.kubectl.run(run)["metadata"]["annotations"]
    return {k.removeprefix("swarmrun.dev/"): v for k, v in found.items() if k.startswith("swarmrun.dev/")}


def pods(shop: Any, run: str) -> list[str]:
    return shop.kubectl("get", "pods", "-l", f"swarmrun.dev/run={run}", "-o", "name").split()


def test_chart_and_classes_stay_in_sync_when_everything_is_looked_at_anew(shop: Any) -> None:
    for name in ("operator", "classes"):
        application = shop.applications[name]
        application.refresh()
        assert quiet(application), application.seen()
        application.sync()
        application.until("Healthy")
    labels = json.loads(shop.kubectl("get", "namespace", shop.system.namespace, "-o", "json"))["metadata"]
    assert labels["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_a_run_goes_from_progressing_to_healthy_in_one_sync(shop: Any) -> None:
    application = shop.runs("plain", shop.run("plain"))
    application.until("Healthy", within=300)
    assert shop.kubectl.status("plain")["phase"] == "Succeeded"
    assert healths(application) == ["Progressing", "Healthy"]
    assert quiet(application), application.seen()


def test_a_refused_run_is_degraded_and_an_edit_in_git_mends_it(shop: Any) -> None:
    application = shop.runs("refused", shop.run("refused", parallelism=99))
    application.until("Degraded")
    assert shop.kubectl.reason("refused") == "AboveCeiling"
    assert quiet(application), application.seen()
    shop.repository.push({"refused/refused.yaml": shop.run("refused", approval=True)})
    application.until("Suspended", within=300)
    # Ended on purpose: over, and nothing to mend.
    say(shop, "refused", "cancel", "not wanted")
    application.until("Healthy")
    assert shop.kubectl.status("refused")["phase"] == "Cancelled"


def test_an_approval_by_annotation_is_not_reverted(shop: Any) -> None:
    application = shop.runs("asks", shop.run("asks", approval=True))
    application.until("Suspended", within=300)
    plan = shop.kubectl.status("asks")["plan"]["hash"]
    say(shop, "asks", "approve-plan", plan)
    application.until("Healthy", within=300)
    application.refresh()
    assert annotations(shop, "asks") == {"approve-plan": plan}
    assert [h for h in healths(application) if h != "Progressing"] == ["Suspended", "Healthy"]
    assert quiet(application), application.seen()


def test_whatever_argo_cd_does_a_run_at_work_goes_on_as_the_same(shop: Any) -> None:
    """Its model does not answer, so it works for as long as the test wants."""
    application = shop.runs("busy", shop.run("busy", task="outage", budget=BUDGET))
    shop.outage("busy")
    application.until("Progressing")
    begun = shop.started("busy")
    assert len(begun) == 4, begun

    say(shop, "busy", "suspend")
    application.until("Suspended")
    application.refresh()
    assert quiet(application), application.seen()
    application.sync()
    assert annotations(shop, "busy").keys() == {"suspend"}
    application.until("Suspended")

    say(shop, "busy", "resume")
    application.until("Progressing")
    # Self-heal puts a field of git's back: a new generation, and no new run.
    generation = shop.kubectl.run("busy")["metadata"]["generation"]
    shop.kubectl("patch", "swarmrun", "busy", "--type=merge", "-p", '{"spec": {"budget": {"tokens": 5000}}}')
    shop.kubectl.until(lambda: shop.kubectl.run("busy")["spec"]["budget"] == BUDGET)
    assert shop.kubectl.run("busy")["metadata"]["generation"] == generation + 2
    application.until("Progressing")

    shop.applications["operator"].change(podAnnotations={"upgraded": "yes"})
    upgraded = "jsonpath={.items[*].metadata.annotations.upgraded}"
    shop.kubectl.until(lambda: shop.system("get", "pods", "-o", upgraded) == "yes", within=300)
    shop.applications["operator"].until("Healthy", within=300)
    application.until("Progressing")
    assert shop.started("busy") == begun
    say(shop, "busy", "cancel", "enough")
    application.until("Healthy")
    assert shop.started("busy") == begun
    assert annotations(shop, "busy").keys() == {"suspend", "resume", "cancel"}


def test_what_is_left_of_an_ended_run_goes_and_nothing_begins_again(shop: Any) -> None:
    application = shop.runs("short", shop.run("short", ttlSecondsAfterFinished=1))
    application.until("Healthy", within=300)
    shop.kubectl.until(lambda: len(shop.started("short")) == 3)
    ended, paid = shop.started("short"), shop.asked(shop.kubectl.status("short")["run"])
    application.refresh()
    application.sync()
    application.until("Healthy")
    assert shop.started("short") == ended
    assert shop.asked(shop.kubectl.status("short")["run"]) == paid > 0


def test_a_cluster_rebuilt_from_git_does_not_run_a_published_run_again(shop: Any) -> None:
    application = shop.runs("again", shop.run("again"))
    application.until("Healthy", within=300)
    first = shop.kubectl.run("again")
    shop.kubectl("delete", "swarmrun", "again")

    def rebuilt() -> dict[str, Any] | None:
        found = shop.found("again")
        over = found.get("status", {}).get("phase") == "Succeeded"
        return found if over and found["metadata"]["uid"] != first["metadata"]["uid"] else None

    second = shop.kubectl.until(rebuilt, within=300)
    assert shop.kubectl.reason("again") == "AlreadyPublished"
    assert second["status"]["result"]["commit"] == first["status"]["result"]["commit"]
    assert second["status"]["usage"]["tokens"] == 0
    assert shop.asked(second["status"]["run"]) == 0 < shop.asked(first["status"]["run"])
    application.until("Healthy")


def test_a_mistyped_field_is_refused_by_name_with_server_side_apply(shop: Any) -> None:
    if not shop.server_side:
        pytest.skip("client-side apply drops it in silence: the example applies server-side")
    application = shop.runs("typo", shop.run("typo", paralelism=2))
    message = shop.kubectl.until(
        lambda: "paralelism" in json.dumps(found := application.status().get("operationState", {})) and found
    )
    assert message["phase"] != "Succeeded"
    assert not shop.found("typo")
    application.delete(cascade=False)


def test_a_run_that_goes_from_git_goes_from_the_cluster(shop: Any) -> None:
    both = [shop.run(name, task="outage") for name in ("goes", "stays")]
    application = shop.runs("pruned", *both)
    for name in ("goes", "stays"):
        shop.kubectl.until(lambda name=name: pods(shop, name), within=300)
    shop.repository.push({"pruned/goes.yaml": None})
    shop.kubectl.until(lambda: not shop.found("goes"), within=PATIENCE)
    shop.kubectl.until(lambda: not pods(shop, "goes"))
    assert "deletionTimestamp" not in shop.found("stays")["metadata"]
    # Deleted with everything: nothing holds it up, and nothing of the run is left.
    application.delete(cascade=True)
    assert not shop.found("stays")
    shop.kubectl.until(lambda: not pods(shop, "stays"))


def test_the_operator_goes_with_its_application_and_the_runs_stay(shop: Any) -> None:
    """The last one of the module."""
    application = shop.runs("left", shop.run("left", parallelism=99))
    application.until("Degraded")
    shop.applications["operator"].delete(cascade=True)
    assert not shop.system("get", "deployments", "-o", "name")
    assert shop.system("get", "persistentvolumeclaims", "-o", "name").strip()
    assert shop.kubectl.reason("left") == "AboveCeiling"
    # Without an operator, too, nothing holds a run up that is to go.
    application.delete(cascade=True)
    assert not shop.found("left")
