from __future__ import annotations

import pytest

from swarmrun.api.swarmclass import PodSettings
from swarmrun.kube.from_class import network_options, pod_options, toleration
from swarmrun.kube.options import NetworkOptions, PodOptions


@pytest.mark.parametrize(
    ("taint", "expected"),
    [
        ("agents", {"key": "agents", "operator": "Exists"}),
        ("agents:NoSchedule", {"key": "agents", "operator": "Exists", "effect": "NoSchedule"}),
        (
            "example.com/pool=gpu:NoExecute",
            {"key": "example.com/pool", "operator": "Equal", "value": "gpu", "effect": "NoExecute"},
        ),
    ],
)
def test_a_taint_is_tolerated_as_kubectl_writes_it(taint, expected):
    assert toleration(taint) == expected


def test_a_silent_class_leaves_the_operators_options_as_they_are():
    options = PodOptions("i", image_pull_secrets=("pull",))
    assert pod_options(options, PodSettings()) == options
    network = NetworkOptions("ns", {"a": "b"})
    assert network_options(network, PodSettings()) == network
    assert network_options(network, PodSettings(waive_network_policy=True)).waive_enforcement


def test_a_class_that_speaks_is_heard():
    given = PodSettings.model_validate(
        {"runtimeClass": "kata", "imagePullSecrets": ["own"], "nodeSelector": {"pool": "agents"}}
    )
    made = pod_options(PodOptions("i", image_pull_secrets=("pull",)), given)
    assert (made.runtime_class, made.image_pull_secrets, made.image) == ("kata", ("own",), "i")
    assert made.node_selector == {"pool": "agents"}
