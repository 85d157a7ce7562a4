"""What the operator's read interface and its clients agree on.

It is reached through the API server's service proxy, which takes the `Authorization` header away; so a token comes in
a header of ours. It is a ServiceAccount's, requested for the audience `AUDIENCE`: nobody else takes it.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from swarmrun.api import GROUP
from swarmrun.errors import InvalidResource

AUDIENCE: Final = GROUP
TOKEN: Final = "X-Swarmrun-Token"
SERVED: Final = "X-Swarmrun-Read"
"""Header of every answer: without it the API server speaks, or a stranger."""
VERSION: Final = "1"
ACCOUNT: Final = "swarmrun-reader"
"""ServiceAccount of a run's namespace that stands for its people, where they are no ServiceAccounts themselves."""
SERVICE: Final = "swarmrun-system/swarmrun-read"
"""Namespace and Service of an operator that was installed as the documentation says."""
PORT: Final = "read"
"""The Service's port, by name."""

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def run_path(namespace: str, name: str) -> str:
    return f"/v{VERSION}/namespaces/{quote(label(namespace))}/swarmruns/{quote(label(name))}"


def label(name: str) -> str:
    """A name that can be part of a path. Raises InvalidResource."""
    if not _LABEL.fullmatch(name):
        raise InvalidResource(f"{name[:80]!r} is no name of Kubernetes", mend="a-z, 0-9 and -, at most 63")
    return name
