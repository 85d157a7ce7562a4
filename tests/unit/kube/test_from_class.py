from __future__ import annotations

import pytest

from swarmrun.api.swarmclass import PodSettings
from swarmrun.kube.api import _FORBIDDEN
from swarmrun.kube.from_class import network_options, pod_options, toleration
from swarmrun.kube.loss import _REFUSED
from swarmrun.kube.mends import MENDS, with_mend
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


def test_a_classs_proxy_and_certificates_reach_its_pods():
    proxy = {"url": "http://proxy.example.com:3128/", "cidr": "10.1.2.3/32", "noProxy": ["a"]}
    given = PodSettings.model_validate({"caConfigMap": "ca", "egressProxy": proxy})
    assert pod_options(PodOptions("i"), given).ca_config_map == "ca"
    made = network_options(NetworkOptions("ns", {}), given).proxy
    assert (made.host, made.port, made.address) == ("proxy.example.com", 3128, "10.1.2.3")
    assert (made.url, made.no_proxy) == ("http://proxy.example.com:3128", ("a",))


# ------------------------------------------------------------ what mends a refusal


def test_a_mend_is_not_cut_off_by_a_long_message():
    said = with_mend("x" * 2000 + " the end", "RuntimeClassNotFound")
    assert len(said) <= 500
    assert said.endswith("(correct spec.pods.runtimeClass of the SwarmClass, or create that RuntimeClass)")
    assert "the end" in said
    assert with_mend("as it is", "SomethingElse") == "as it is"


def test_every_reason_that_tells_forbidden_apart_has_a_mend():
    assert {reason for _, reason in _FORBIDDEN} <= set(MENDS)
    assert set(_REFUSED.values()) - {"ContainerRefused"} <= set(MENDS)
