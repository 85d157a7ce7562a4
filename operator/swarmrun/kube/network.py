"""Rules that the policies of sandboxes and git Pods share. Pure."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from swarmrun.errors import InvalidResource
from swarmrun.kube.manifest import peer, tcp
from swarmrun.kube.options import NetworkOptions

Json = dict[str, Any]


def from_brain(network: NetworkOptions, port: int) -> list[Json]:
    return [{"from": [peer(network.brain_namespace, network.brain_labels)], "ports": tcp(port)}]


def to_dns(network: NetworkOptions) -> Json:
    ports = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    places = [peer(network.dns_namespace, network.dns_labels), *(block(c) for c in network.dns_cidrs)]
    return {"to": places, "ports": ports}


def to_anywhere(network: NetworkOptions, *ports: int) -> Json:
    """Both address families, less the closed ranges."""
    closed = [net(cidr) for cidr in network.closed]
    rule: Json = {
        "to": [
            {
                "ipBlock": {
                    "cidr": everything,
                    "except": [str(c) for c in closed if c.version == net(everything).version],
                }
            }
            for everything in ("0.0.0.0/0", "::/0")
        ]
    }
    return rule | ({"ports": tcp(*ports)} if ports else {})


def to_block(cidr: str, *ports: int) -> Json:
    rule: Json = {"to": [block(cidr)]}
    return rule | ({"ports": tcp(*ports)} if ports else {})


def block(cidr: str) -> Json:
    return {"ipBlock": {"cidr": str(net(cidr))}}


def net(cidr: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(cidr, strict=False)
    except ValueError as exc:
        raise InvalidResource(
            f"{cidr!r} is no address range", mend="write it as 10.0.0.0/8", reason="BadCidr"
        ) from exc
