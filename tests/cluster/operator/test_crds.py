"""What the API server makes of the CRDs."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = pytest.mark.cluster


def run(**spec: Any) -> dict[str, Any]:
    wanted = {"goal": "Build a shop.", "repository": {"url": "https://git.example.com/shop.git"}, **spec}
    meta = {"name": "shop"}
    return {"apiVersion": "swarmrun.dev/v1alpha1", "kind": "SwarmRun", "metadata": meta, "spec": wanted}


def start(kubectl: Any) -> None:
    status = {"status": {"startedAt": "2030-01-01T00:00:00Z", "phase": "Running"}}
    kubectl("patch", "swarmrun", "shop", "--subresource=status", "--type=merge", "-p", json.dumps(status))


def test_the_schemas_are_taken_and_established(kubectl: Any) -> None:
    names = ("swarmruns.swarmrun.dev", "swarmclasses.swarmrun.dev")
    kubectl("wait", "--for=condition=Established", "--timeout=20s", *(f"crd/{n}" for n in names))
    for name in names:
        conditions = json.loads(kubectl("get", "crd", name, "-o", "json"))["status"]["conditions"]
        assert not [c for c in conditions if c["type"] == "NonStructuralSchema" and c["status"] == "True"]


def test_goal_repository_and_plan_may_change_until_the_run_has_started(kubectl: Any) -> None:
    kubectl.apply(run())
    kubectl.apply(run(goal="Build a bigger shop."))
    start(kubectl)
    said = kubectl.apply(run(goal="Build a bakery."), ok=False)
    assert "spec.goal cannot change once the run has started" in said
    said = kubectl.apply(
        run(goal="Build a bigger shop.", repository={"url": "https://x.example.com/y"}), ok=False
    )
    assert "spec.repository cannot change" in said
    said = kubectl.apply(
        run(
            goal="Build a bigger shop.", plan={"tasks": [{"id": "a", "title": "A", "instructions": "Do it."}]}
        ),
        ok=False,
    )
    assert "spec.plan cannot change" in said
    kubectl.apply(run(goal="Build a bigger shop.", suspend=True))


def test_cancel_never_goes_back(kubectl: Any) -> None:
    kubectl.apply(run(cancel=True))
    assert "spec.cancel cannot be taken back" in kubectl.apply(run(cancel=False), ok=False)


def test_a_large_plan_is_within_the_cost_budget(kubectl: Any) -> None:
    tasks = [{"id": f"t{i}", "title": f"Task {i}", "instructions": "x" * 500} for i in range(100)]
    kubectl.apply(run(goal="g" * 30000, plan={"tasks": tasks}))
    start(kubectl)
    kubectl("annotate", "swarmrun", "shop", "a=b")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"goal": ""}, "spec.goal"),
        ({"parallelism": 0}, "spec.parallelism"),
        ({"budget": {"cost": "a lot"}}, "spec.budget.cost"),
        ({"mode": "Maybe"}, "spec.mode"),
        ({"gaol": "typo"}, "spec.gaol"),
    ],
)
def test_what_a_schema_can_say_is_refused_at_apply(kubectl: Any, spec: dict[str, Any], words: str) -> None:
    assert words in kubectl.apply(run(**spec), ok=False)


def test_a_name_that_no_branch_or_pod_could_carry_is_refused(kubectl: Any) -> None:
    bad = run()
    bad["metadata"]["name"] = "shop.v2"
    assert "DNS label" in kubectl.apply(bad, ok=False)


def test_columns_and_explanations_are_there(kubectl: Any) -> None:
    kubectl.apply(run())
    head = kubectl("get", "swr", "-o", "wide").splitlines()[0].split()
    assert head[:6] == ["NAME", "PHASE", "PROGRESS", "SCORE", "READY", "AGE"]
    assert {"REASON", "REPOSITORY", "BRANCH", "TOKENS", "COST"} <= set(head)
    assert "US dollars" in kubectl("explain", "swarmrun.spec.budget.cost")
    assert "Namespaces whose runs may use this class" in kubectl(
        "explain", "swarmclass.spec.allowedNamespaces"
    )
    status = kubectl.status("shop")
    assert (status["observedGeneration"], status["phase"]) == (-1, "Pending")


def test_a_resource_applied_twice_is_unchanged(kubectl: Any) -> None:
    """Defaults inside items would make a GitOps tool apply for ever."""
    gates = [{"name": "tests", "command": "pytest"}]
    kubectl.apply(run(gates=gates))
    # The second time the API server stores the status that it had only shown.
    kubectl.apply(run(gates=gates))
    before = kubectl.run("shop")["metadata"]["resourceVersion"]
    kubectl.apply(run(gates=gates))
    assert kubectl.run("shop")["metadata"]["resourceVersion"] == before
