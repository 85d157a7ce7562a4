"""A run's egress is held to its class's: a run may narrow what the class grants, never widen it. Pure."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network

from swarmrun.api.run import Egress, EgressRule
from swarmrun.errors import InvalidResource

FIELD = "spec.sandbox.egress"


def check_egress(asked: Egress, granted: Egress, class_name: str) -> None:
    """Raises InvalidResource for what `granted` does not hold.

    Open egress of a class (`enabled`) never grants a range by address: it leaves private ranges out, and a
    rule of a run would let them in again.
    """
    if asked.enabled and not granted.enabled:
        raise _refused("enabled", "grants no open egress", class_name)
    if asked.dns and not (granted.dns or granted.enabled):
        raise _refused("dns", "grants no resolving of names", class_name)
    for index, rule in enumerate(asked.allow):
        field = f"allow[{index}]"
        if not any(_within(rule, wide, field, class_name) for wide in granted.allow):
            raise _refused(field, f"does not grant {_told(rule)}", class_name)


def merged(asked: Egress, granted: Egress) -> Egress:
    """What holds for a run: its own grants where it names any, else the class's. Only for set-up where either
    says so: a run cannot lengthen what its class grants for set-up."""
    grants = asked if asked.enabled or asked.dns or asked.allow else granted
    return grants.model_copy(update={"setup_only": asked.setup_only or granted.setup_only})


def _within(rule: EgressRule, wide: EgressRule, field: str, class_name: str) -> bool:
    mine = _network(rule.cidr, f"{FIELD}.{field}.cidr")
    theirs = _network(wide.cidr, f"SwarmClass {class_name}: {FIELD}.allow")
    if not wide.ports:
        ports = True
    else:
        ports = bool(rule.ports) and set(rule.ports) <= set(wide.ports)
    if isinstance(mine, IPv4Network) and isinstance(theirs, IPv4Network):
        return ports and mine.subnet_of(theirs)
    if isinstance(mine, IPv6Network) and isinstance(theirs, IPv6Network):
        return ports and mine.subnet_of(theirs)
    return False


def _network(cidr: str, field: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(cidr, strict=False)
    except ValueError as exc:
        raise InvalidResource(
            f"{field}: {cidr!r} is no address range",
            field=field,
            mend="write it as 10.0.0.0/8",
            reason="BadCidr",
        ) from exc


def _told(rule: EgressRule) -> str:
    ports = ", ".join(str(port) for port in rule.ports)
    return f"{rule.cidr or 'a rule without cidr'}, {f'port {ports}' if ports else 'all ports'}"


def _refused(field: str, why: str, class_name: str) -> InvalidResource:
    return InvalidResource(
        f"{FIELD}.{field}: SwarmClass {class_name} {why}",
        field=f"{FIELD}.{field}",
        mend="leave it out, or ask for a class that grants it",
        reason="EgressNotGranted",
    )
