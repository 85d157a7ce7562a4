"""What a class says about the Pods of its runs, and where they stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Owner:
    """The resource that everything of a run belongs to: deleted with it."""

    api_version: str
    kind: str
    name: str
    uid: str


@dataclass(frozen=True)
class RunPlace:
    """Where the Pods of one run are made."""

    namespace: str
    run: str
    """The run's instance id."""
    name: str
    """For people: the first part of the Pods' names."""
    owner: Owner | None = None
    """None in tests only: nothing cleans up then."""


@dataclass(frozen=True)
class PodOptions:
    """Passed through to Pods. `image` is the default one, with the server in it."""

    image: str
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    service_account: str = ""
    """Its token is never mounted. Empty: the namespace's default."""
    runtime_class: str = ""
    priority_class: str = ""
    node_selector: Mapping[str, str] = field(default_factory=dict[str, str])
    tolerations: tuple[Mapping[str, Any], ...] = ()
    """Besides those that end a Pod 30 s after its node is gone."""
    affinity: Mapping[str, Any] = field(default_factory=dict[str, Any])
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    annotations: Mapping[str, str] = field(default_factory=dict[str, str])
    storage_class: str = ""
    """Sandboxes get a volume of this class (a generic ephemeral one); empty: `emptyDir`."""
    ca_config_map: str = ""
    """ConfigMap of the run's namespace whose `ca.crt` sandboxes trust besides their image's certificates."""
    cpu_request_share: float = 0.25
    """Requested part of the CPU limit. Agents mostly wait for models; a choice."""


PRIVATE_RANGES = (
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "fc00::/7",
    "fe80::/10",
)
"""Never part of an open egress: the cluster itself, its neighbours, the metadata address (RFC 1918, 6598, 3927,
4193, 4291). Grant them by CIDR."""


@dataclass(frozen=True)
class EgressProxy:
    """What open egress is where a class names a proxy: it decides about domains."""

    url: str
    """`http://host:port`."""
    cidr: str
    """Its addresses."""
    no_proxy: tuple[str, ...] = ()
    """Hosts and domains that clients are told to reach without it."""

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or (443 if self.url.startswith("https:") else 80)

    @property
    def address(self) -> str:
        """Its only address; empty where `cidr` is a range."""
        range_ = ip_network(self.cidr, strict=False)
        return str(range_.network_address) if range_.num_addresses == 1 else ""


@dataclass(frozen=True)
class NetworkOptions:
    """The brain's place in the network and what sandboxes may not reach."""

    brain_namespace: str
    brain_labels: Mapping[str, str]
    """Pods with these labels in that namespace may connect to sandboxes and git Pods. Nobody else may."""
    dns_namespace: str = "kube-system"
    dns_labels: Mapping[str, str] = field(default_factory=lambda: {"k8s-app": "kube-dns"})
    dns_cidrs: tuple[str, ...] = ()
    """Further places of DNS, e.g. a node-local cache (`169.254.20.10/32`)."""
    closed: tuple[str, ...] = PRIVATE_RANGES
    """Ranges that open egress leaves out."""
    forbidden: tuple[str, ...] = ("169.254.169.254:80",)
    """`host:port` that no sandbox may reach; tried before the first tool call, besides the API server."""
    proxy: EgressProxy | None = None
    """Open egress is this proxy and nothing else."""
    waive_enforcement: bool = False
    """Goes on where the cluster does not enforce NetworkPolicy: agents reach whatever the network lets them."""
