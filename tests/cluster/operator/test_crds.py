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
    kubectl.wait("condition=Established", *(f"crd/{n}" for n in names), within=120)
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


def task(name: str, *needs: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "title": name, "instructions": "Do it.", "dependsOn": list(needs), **more}


def egress(**rule: Any) -> dict[str, Any]:
    return {"sandbox": {"egress": {"allow": [rule]}}}


GATE = {"name": "tests", "command": "pytest"}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"goal": ""}, "spec.goal"),
        ({"goal": "  \n "}, "is empty: say what is to be done"),
        ({"goal": "g" * 40_000}, "spec.goal: Too long"),
        ({"goal": None}, "spec.goal"),
        ({"parallelism": 0}, "spec.parallelism"),
        ({"parallelism": -3}, "spec.parallelism"),
        ({"parallelism": "two"}, "spec.parallelism"),
        ({"budget": {"cost": "a lot"}}, "spec.budget.cost"),
        ({"budget": {"cost": -1}}, "spec.budget.cost"),
        ({"budget": {"tokens": 5}}, "spec.budget.tokens"),
        ({"budget": {"duration": "soon"}}, "spec.budget.duration"),
        ({"budget": {"duration": "1.5h"}}, "spec.budget.duration"),
        ({"budget": {"duration": "0m"}}, "must be longer than nothing"),
        ({"ttlSecondsAfterFinished": -1}, "spec.ttlSecondsAfterFinished"),
        (
            {"mode": "Maybe"},
            'spec.mode: Unsupported value: "Maybe": supported values: "Auto", "Solo", "Swarm"',
        ),
        ({"gaol": "typo"}, "spec.gaol"),
        ({"sandbox": {"setUp": ["make"]}}, "spec.sandbox.setUp"),
        ({"className": "Not A Name"}, "spec.className"),
        ({"sandbox": {"resources": {"memory": "lots"}}}, "spec.sandbox.resources.memory"),
        ({"sandbox": {"resources": {"memory": "512m"}}}, "spec.sandbox.resources.memory"),
        ({"sandbox": {"resources": {"cpu": "-1"}}}, "spec.sandbox.resources.cpu"),
        ({"sandbox": {"env": [{"name": "NOT A NAME"}]}}, "spec.sandbox.env[0].name"),
        (
            {"sandbox": {"env": [{"name": "A"}, {"name": "A"}]}},
            '.spec.sandbox.env: duplicate entries for key [name="A"]',
        ),
        (egress(ports=[443]), "spec.sandbox.egress.allow[0].cidr: Required value"),
        (egress(cidr="example.com"), "spec.sandbox.egress.allow[0].cidr"),
        (egress(cidr="10.0.0.0/8", ports=[70000]), "spec.sandbox.egress.allow[0].ports[0]"),
        ({"gates": [GATE, GATE]}, '.spec.gates: duplicate entries for key [name="tests"]'),
        ({"gates": [GATE | {"timeoutSeconds": -5}]}, "spec.gates[0].timeoutSeconds"),
        ({"judge": {"threshold": 101}}, "spec.judge.threshold"),
        ({"plan": {"tasks": [task(f"t{i}") for i in range(101)]}}, "spec.plan.tasks: Too many: 101"),
        ({"plan": {"tasks": [task("a"), task("a")]}}, '.spec.plan.tasks: duplicate entries for key [id="a"]'),
        ({"plan": {"tasks": [task("a", "b")]}}, "spec.plan: Invalid value: tasks[].dependsOn names a task"),
        ({"plan": {"tasks": [task("a", "a")]}}, "a task cannot depend on itself"),
        ({"plan": {"contracts": [{"id": "c", "path": "c.py"}]}}, "contracts go with tasks of your own"),
        ({"plan": {"tasks": [task("A B")]}}, "spec.plan.tasks[0].id"),
    ],
)
def test_what_a_schema_can_say_is_refused_at_apply(kubectl: Any, spec: dict[str, Any], words: str) -> None:
    said = kubectl.apply(run(**spec), ok=False)
    assert words in said


@pytest.mark.parametrize(
    "url",
    [
        "",
        "not an address",
        "ext::sh -c evil",
        "ftp://git.example.com/a",
        "https://git.example.com",
        "--upload-pack=evil",
        "https://git.example.com/a b",
        "../shop",
    ],
)
def test_what_is_no_address_of_a_repository_is_refused(kubectl: Any, url: str) -> None:
    assert "spec.repository.url" in kubectl.apply(run(repository={"url": url}), ok=False)


@pytest.mark.parametrize(
    "url",
    [
        "https://git.example.com:8443/a/b.git",
        "ssh://git@git.example.com/a",
        "git@git.example.com:a/b.git",
        "http://[fd00::1]:3000/a/b",
        "/srv/git/a.git",
        "file:///srv/git/a.git",
    ],
)
def test_addresses_of_every_kind_are_taken(kubectl: Any, url: str) -> None:
    kubectl.apply(run(repository={"url": url}))


@pytest.mark.parametrize(
    "branch", ["a b", "a..b", "-a", "/a", "a/", "a//b", ".a", "a/.b", "a.lock", "a@{1}", "a."]
)
def test_what_git_takes_for_no_branch_is_refused(kubectl: Any, branch: str) -> None:
    said = kubectl.apply(run(publish={"branch": branch}), ok=False)
    assert "spec.publish.branch" in said
    assert "spec.repository.branch" in kubectl.apply(
        run(repository={"url": "https://git.example.com/a", "branch": branch}), ok=False
    )


def test_ordinary_branches_are_taken(kubectl: Any) -> None:
    for branch in ("main", "release/1.2", "feature/a-b_c", "v1.0.0", "user@host"):
        kubectl.apply(run(publish={"branch": branch}))


@pytest.mark.parametrize(
    ("pods", "words"),
    [
        (
            {"egressProxy": {"url": "http://user:secret@proxy:3128", "cidr": "10.0.0.1/32"}},
            "spec.pods.egressProxy.url",
        ),
        ({"egressProxy": {"url": "http://proxy", "cidr": "10.0.0.1/32"}}, "spec.pods.egressProxy.url"),
        ({"egressProxy": {"url": "http://proxy:3128"}}, "spec.pods.egressProxy.cidr"),
        ({"gitCidrs": ["git.example.com"]}, "spec.pods.gitCidrs[0]"),
        ({"tolerations": ["a b"]}, "spec.pods.tolerations[0]"),
    ],
)
def test_what_no_class_can_mean_is_refused(kubectl: Any, pods: dict[str, Any], words: str) -> None:
    spec = {"models": {"standard": {"model": "m"}}, "pods": pods}
    meta = {"name": kubectl.namespace, "labels": {"test": kubectl.namespace}}
    cls = {"apiVersion": "swarmrun.dev/v1alpha1", "kind": "SwarmClass", "metadata": meta, "spec": spec}
    assert words in kubectl.apply(cls, ok=False)


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
