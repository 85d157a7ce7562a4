"""From what a class says to the options that Pods are made with. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from swarmrun.api.swarmclass import PodSettings
from swarmrun.kube.options import EgressProxy, NetworkOptions, PodOptions


def pod_options(operator: PodOptions, given: PodSettings) -> PodOptions:
    """`operator` has the images and what holds where the class is silent."""
    return replace(
        operator,
        image_pull_secrets=tuple(given.image_pull_secrets) or operator.image_pull_secrets,
        service_account=given.service_account,
        runtime_class=given.runtime_class,
        priority_class=given.priority_class,
        storage_class=given.storage_class,
        node_selector=given.node_selector,
        tolerations=tuple(toleration(taint) for taint in given.tolerations),
        labels=given.labels,
        annotations=given.annotations,
        ca_config_map=given.ca_config_map,
    )


def network_options(operator: NetworkOptions, given: PodSettings) -> NetworkOptions:
    it = given.egress_proxy
    proxy = EgressProxy(it.url.rstrip("/"), it.cidr, tuple(it.no_proxy)) if it else None
    return replace(operator, waive_enforcement=given.waive_network_policy, proxy=proxy)


def toleration(taint: str) -> dict[str, Any]:
    """`key`, `key:Effect` or `key=value:Effect`, as `kubectl taint` writes a taint."""
    name, _, effect = taint.partition(":")
    key, equals, value = name.partition("=")
    found = (
        {"key": key, "operator": "Equal", "value": value} if equals else {"key": key, "operator": "Exists"}
    )
    return found | ({"effect": effect} if effect else {})
