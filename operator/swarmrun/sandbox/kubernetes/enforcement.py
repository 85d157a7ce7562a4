"""Whether the network around a sandbox is closed: tried from inside, before an agent's first command."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from swarmrun.ports import ExecResult

WAIT = 0.4
"""Seconds in which an address inside of a cluster answers, many times over (a handshake takes milliseconds;
a lost first packet is repeated after 1 s, which counts as closed). A choice: every new sandbox pays it."""

_TRY = f"""
import select, socket, sys, time
tried = {{}}
for address in sys.argv[1:]:
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


def answered(result: ExecResult) -> list[str] | None:
    """Addresses that answered; None when the trial itself did not work."""
    lines = result.stdout.split("\n")
    if result.exit_code != 0 or "tried" not in lines:
        return None
    return [line.removeprefix("answered ") for line in lines if line.startswith("answered ")]
