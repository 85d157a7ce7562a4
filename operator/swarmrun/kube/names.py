"""Names and labels of what a run owns. Kubernetes allows 63 characters of a-z, 0-9 and `-` (RFC 1123)."""

from __future__ import annotations

import hashlib
import re

from swarmrun.kube.options import Owner, RunPlace

RUN = "swarmrun.dev/run"
"""Label: name of the SwarmRun, as far as a label holds it."""
INSTANCE = "swarmrun.dev/instance"
"""Label: the run's instance id (hashed where it is no label)."""
TASK = "swarmrun.dev/task"
SANDBOX = "swarmrun.dev/sandbox"
"""Annotation: the sandbox's whole id."""
EGRESS = "swarmrun.dev/egress"
"""Label: `setup` while a sandbox may reach what was granted for set-up only."""
COMPONENT = "app.kubernetes.io/component"

LONGEST = 63


def short_hash(text: str, length: int = 6) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def slug(text: str, longest: int) -> str:
    """`text` as part of a name; may be empty."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:longest].strip("-")


def label_value(text: str) -> str:
    """`text` where it is a label's value, else its beginning and a hash."""
    if re.fullmatch(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?", text):
        return text
    return f"{slug(text, 40) or 'x'}-{short_hash(text, 12)}"


def object_name(place: RunPlace, what: str) -> str:
    """Name of one thing of the run, e.g. its policy: `<name>-<what>-<hash of the instance>`."""
    tail = f"{what}-{short_hash(place.run)}"
    return f"{slug(place.name, LONGEST - 1 - len(tail)) or 'run'}-{tail}"


def pod_name(place: RunPlace, sandbox_id: str) -> str:
    """`<run>-<task>-<hash>-a<attempt>-g<generation>`; two ids never share one.

    The id's last part is kept whole: people tell a replaced sandbox from the one before by it.
    """
    rest = sandbox_id.removeprefix(place.run).strip("-")
    found = re.search(r"-?(a\d{1,6}-g\d{1,6})$", rest)
    end = found[1] if found else ""
    task = slug(rest[: found.start()] if found else rest, 24)
    tail = "-".join(part for part in (task, short_hash(sandbox_id), end) if part)
    return f"{slug(place.name, LONGEST - 1 - len(tail)) or 'run'}-{tail}"


def labels(place: RunPlace, component: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "swarmrun",
        "app.kubernetes.io/managed-by": "swarmrun",
        COMPONENT: component,
        RUN: label_value(place.name),
        INSTANCE: label_value(place.run),
    }


def selector(place: RunPlace) -> str:
    """Label selector of everything of the run."""
    return f"{INSTANCE}={label_value(place.run)}"


def owner_references(owner: Owner | None) -> list[dict[str, object]]:
    # controller: `kubectl drain` refuses Pods that nobody controls. No blockOwnerDeletion: it needs a right
    # on the owner's finalizers, and nothing here may hold up a deletion.
    if owner is None:
        return []
    return [
        {
            "apiVersion": owner.api_version,
            "kind": owner.kind,
            "name": owner.name,
            "uid": owner.uid,
            "controller": True,
        }
    ]
