"""Whether the network around a sandbox is closed: tried from inside, before an agent's first command."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from swarmrun.kube.options import NetworkOptions
from swarmrun.ports import ExecResult, SandboxSpec
from swarmrun.sandbox.kubernetes.surroundings import proxy_of

WAIT = 0.4
"""Seconds in which an address inside of a cluster answers, many times over (a handshake takes milliseconds;
a lost first packet is repeated after 1 s, which counts as closed). A choice: every new sandbox pays it."""

RESOLVERS, REACHED = "resolvers", "reached"
"""Words that stand for addresses which only the sandbox knows: its name servers, and whatever its connections
went to since a minute or so (proc(5), /proc/net/tcp; those that were ended stay for 60 s)."""

_TRY = f"""
import contextlib, ipaddress, select, socket, sys, time
def resolvers():
    with open("/etc/resolv.conf") as file:
        return [w[1] + ":53" for w in map(str.split, file) if len(w) > 1 and w[0] == "nameserver"]
def end(text):
    host, port = text.split(":")
    words = [bytes.fromhex(host[i:i + 8])[::-1] for i in range(0, len(host), 8)]
    it = ipaddress.ip_address(b"".join(words))
    return getattr(it, "ipv4_mapped", None) or it, int(port, 16)
def reached():
    rows = []
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open("/proc/net/" + name) as file:
            rows += [row.split()[1:4] for row in list(file)[1:]]
    served = {{end(mine)[1] for mine, _, state in rows if state == "0A"}}
    own = {{end(mine)[0] for mine, _, _ in rows}}
    # Neither listening nor still being opened; not to the server here, not to ourselves.
    rows = [row for row in rows if row[2] not in ("0A", "02", "03") and end(row[0])[1] not in served]
    far = {{end(yours) for _, yours, _ in rows}}
    return ["%s:%d" % it for it in sorted(far, key=str) if it[0] not in own and not it[0].is_loopback][:50]
tried = {{}}
for word in sys.argv[1:]:
    for address in {{"{RESOLVERS}": resolvers, "{REACHED}": reached}}.get(word, lambda: [word])():
        host, _, port = address.rpartition(":")
        s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        s.setblocking(False)
        s.connect_ex((host.strip("[]"), int(port)))
        tried[s] = address
ends = time.monotonic() + {WAIT}
while tried and time.monotonic() < ends:
    for s in select.select([], list(tried), [], max(0, ends - time.monotonic()))[1]:
        address = tried.pop(s)
        if s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            print("answered", address)
print("tried")
"""


def command(addresses: Iterable[str]) -> str:
    """For the shell of the sandbox. The API server is tried besides: Kubernetes tells every container its address."""
    words = [shlex.quote(address) for address in addresses]
    words.append('"$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT"')
    return f"python3 -I -c {shlex.quote(_TRY)} {' '.join(words)}"


def closed_again(spec: SandboxSpec, net: NetworkOptions) -> list[str]:
    """What set-up could reach and agents cannot: addresses that can be told beforehand, and what set-up went to.
    Where nothing of it ever answered, the trial of it says nothing."""
    found = [RESOLVERS] if spec.dns else []
    if proxy := proxy_of(spec, net):
        host = proxy.address or (proxy.host if _is_address(proxy.host) else "")
        found += [_pair(host, proxy.port)] if host else []
    for rule in spec.allow:
        wide = ip_network(rule.cidr, strict=False)
        if wide.num_addresses == 1:
            found += [_pair(str(wide.network_address), port) for port in rule.ports]
    return [*found, REACHED]


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _pair(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def answered(result: ExecResult) -> list[str] | None:
    """Addresses that answered; None when the trial itself did not work."""
    lines = result.stdout.split("\n")
    if result.exit_code != 0 or "tried" not in lines:
        return None
    return [line.removeprefix("answered ") for line in lines if line.startswith("answered ")]
