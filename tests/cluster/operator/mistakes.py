"""What people get wrong, one case each: what is applied, and what is told of it. For the tests, and for the bench that
measures how soon it is told.

The repository is on a forge that asks for a token: SWARMRUN_TEST_FORGE, SWARMRUN_TEST_FORGE_TOKEN.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

FORGE = os.environ.get("SWARMRUN_TEST_FORGE", "").rstrip("/")
TOKEN = os.environ.get("SWARMRUN_TEST_FORGE_TOKEN", "")
HOST = urlsplit(FORGE).hostname or ""

PLAN = {
    "tasks": [
        {
            "id": "a",
            "title": "A",
            "instructions": "Write a file.",
            "ownedPaths": ["a.txt"],
            "acceptance": [{"description": "It is there.", "command": "test -f a.txt"}],
        }
    ]
}
"""Given, so that only a sandbox stands between a run and its first model call."""


def credential(name: str, keys: dict[str, Any]) -> dict[str, Any]:
    meta = {
        "name": name,
        "labels": {"swarmrun.dev/git-credential": "true"},
        "annotations": {"swarmrun.dev/allowed-hosts": HOST},
    }
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": keys}


@dataclass(frozen=True)
class Wrong:
    """One mistake and what is said of it."""

    name: str
    reason: str
    words: tuple[str, ...]
    """All of them in the message: what is wrong, the field, the mend."""
    run: dict[str, Any] = field(default_factory=dict)
    pods: dict[str, Any] = field(default_factory=dict)
    """Of the class."""
    cls: dict[str, Any] = field(default_factory=dict)
    before: tuple[dict[str, Any], ...] = ()
    """What is in the namespace."""
    secret: dict[str, Any] | None = None
    """Keys of the Secret `wrong`, used as the credential; None: the right one."""
    by: str = "class"
    """Who tells: `class` (or the API server, when the first Pod is made), `pod` (its status or Events), `git` (its
    server, once it is ready), `sandbox` (its server, once it is)."""
    waits: bool = False
    """Something may still come: Reconciling, not Stalled."""

    def __str__(self) -> str:
        return self.name


def quota(**hard: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "q"},
        "spec": {"hard": {k.replace("_", "/"): v for k, v in hard.items()}},
    }


LIMITS = {
    "apiVersion": "v1",
    "kind": "LimitRange",
    "metadata": {"name": "l"},
    "spec": {"limits": [{"type": "Container", "max": {"memory": "2Gi"}}]},
}
HUGE = {"resources": {"memory": "4Gi"}}

WRONG = [
    # Told by the class.
    Wrong(
        "no class",
        "SwarmClassNotFound",
        ("none-such", "spec.className"),
        {"className": "none-such"},
        waits=True,
    ),
    Wrong(
        "host",
        "RepositoryNotAllowed",
        ("spec.repository.url", "elsewhere.example.com", "allowed:"),
        {"repository": {"url": "https://elsewhere.example.com/a/b", "credential": None}},
        cls={"repositories": {"hosts": ["git.example.com"]}},
    ),
    Wrong(
        "scheme",
        "RepositoryNotAllowed",
        ("spec.repository.url", "'ssh'", "allowed:"),
        {"repository": {"url": "git@git.example.com:a/b", "credential": None}},
    ),
    Wrong("ceiling", "AboveCeiling", ("spec.parallelism", "use 2 or less"), {"parallelism": 9}),
    Wrong(
        "egress",
        "EgressNotGranted",
        ("spec.sandbox.egress.dns", "ask for a class"),
        {"sandbox": {"egress": {"dns": True}}},
    ),
    Wrong(
        "egress proxy",
        "InvalidClass",
        ("egressProxy.url names a host", "cidr of one address"),
        pods={"egressProxy": {"url": "http://proxy.example.com:3128", "cidr": "10.0.0.0/8"}},
    ),
    Wrong(
        "cycle",
        "InvalidPlan",
        ("depend", "a"),
        {
            "plan": {
                "tasks": [
                    PLAN["tasks"][0] | {"dependsOn": ["b"]},
                    PLAN["tasks"][0] | {"id": "b", "dependsOn": ["a"], "ownedPaths": ["b"]},
                ]
            }
        },
    ),
    # Told by the API server when a Pod is made.
    Wrong("quota", "QuotaExceeded", ("exceeded quota", "spec.sandbox.resources"), before=(quota(pods="0"),)),
    Wrong(
        "quota of sandboxes",
        "QuotaExceeded",
        ("exceeded quota", "spec.sandbox.resources"),
        {"sandbox": HUGE},
        before=(quota(**{"limits.memory": "3Gi"}),),
    ),
    Wrong(
        "limit range",
        "LimitRangeViolated",
        ("maximum memory usage", "spec.sandbox.resources"),
        {"sandbox": HUGE},
        before=(LIMITS,),
    ),
    Wrong(
        "pod security",
        "PodSecurityDenied",
        ("violates PodSecurity", "spec.pods"),
        pods={"annotations": {"container.apparmor.security.beta.kubernetes.io/git": "unconfined"}},
    ),
    Wrong(
        "runtime class",
        "RuntimeClassNotFound",
        ("none-such", "spec.pods.runtimeClass"),
        pods={"runtimeClass": "none-such"},
    ),
    Wrong(
        "priority class",
        "PriorityClassNotFound",
        ("none-such", "spec.pods.priorityClass"),
        pods={"priorityClass": "none-such"},
    ),
    Wrong(
        "account",
        "ServiceAccountNotFound",
        ("none-such", "spec.pods.serviceAccount"),
        pods={"serviceAccount": "none-such"},
    ),
    Wrong("label", "Invalid", ("bad value", "spec.pods"), pods={"labels": {"a": "bad value"}}),
    # Told by the git Pod.
    Wrong(
        "no secret", "SecretMissing", ("Secret wrong", "spec.repository.credential.name"), secret={}, by="git"
    ),
    Wrong(
        "wrong key", "SecretKeyMissing", ("no key password", "it has pass"), secret={"pass": "x"}, by="git"
    ),
    Wrong(
        "wrong host",
        "SecretHostNotAllowed",
        ("not for", "`hosts`"),
        secret={"token": TOKEN, "hosts": "a.example.com"},
        by="git",
    ),
    Wrong(
        "wrong token",
        "PushDenied",
        ("give the credential write access",),
        secret={"token": "wrong"},
        by="git",
    ),
    Wrong(
        "no repository",
        "RepositoryNotFound",
        ("no such repository", "check the address"),
        {"repository": {"url": f"{FORGE}/swarm/none-such.git"}},
        by="git",
    ),
    Wrong(
        "no branch",
        "BranchNotFound",
        ("none-such", "spec.repository.branch"),
        {"repository": {"branch": "none-such"}},
        by="git",
    ),
    Wrong(
        "remote down",
        "WaitingForRemote",
        ("cannot read", "url right?"),
        {"repository": {"url": f"http://{HOST}:9/a/b.git"}},
        waits=True,
        by="git",
    ),
    Wrong(
        "no ca",
        "VolumeSourceMissing",
        ('"none-such" not found', "spec.pods.caConfigMap"),
        pods={"caConfigMap": "none-such"},
        by="pod",
    ),
    # Told by the sandbox's Pod.
    Wrong(
        "image name",
        "InvalidImageName",
        ("NOT/an image", "spec.sandbox.image"),
        {"sandbox": {"image": "NOT/an image"}},
        by="pod",
    ),
    Wrong(
        "image",
        "ImagePullBackOff",
        ("localhost/none-such:1",),
        {"sandbox": {"image": "localhost/none-such:1"}},
        waits=True,
        by="pod",
    ),
    Wrong(
        "no node",
        "GitPodWaiting",
        ("Unschedulable",),
        pods={"nodeSelector": {"no": "node"}},
        waits=True,
        by="pod",
    ),
    Wrong(
        "storage class",
        "StorageClassNotFound",
        ("none-such", "spec.pods.storageClass"),
        pods={"storageClass": "none-such"},
        by="pod",
    ),
    Wrong(
        "set-up",
        "SetupFailed",
        ("'exit 3'", "ended with 3", "spec.sandbox.setup"),
        {"sandbox": {"setup": ["exit 3"]}},
        by="sandbox",
    ),
]


def resources(name: str, url: str, models: str, wrong: Wrong) -> list[dict[str, Any]]:
    tier = {"endpoint": models, "model": "m", "auth": {"type": "none"}}
    spec = {
        "models": {"standard": tier},
        "parallelism": 2,
        "repositories": {"schemes": ["http", "https"]},
        "sandbox": {"resources": {"cpu": "500m", "memory": "4Gi", "disk": "1Gi"}},
        "pods": wrong.pods,
    }
    cls = {
        "apiVersion": "swarmrun.dev/v1alpha1",
        "kind": "SwarmClass",
        "metadata": {"name": name, "labels": {"test": name.rpartition("-")[0]}},
        "spec": spec | wrong.cls,
    }
    credential = "forge" if wrong.secret is None else "wrong"
    repository = {"url": url, "credential": {"name": credential}}
    sandbox = {"resources": {"cpu": "100m", "memory": "256Mi"}}
    asked: dict[str, Any] = {"goal": "Write a file.", "className": name, "plan": PLAN}
    given = dict(wrong.run)
    repository |= given.pop("repository", {})
    asked |= {"repository": {k: v for k, v in repository.items() if v is not None}}
    asked |= {"sandbox": sandbox | given.pop("sandbox", {})}
    run = {
        "apiVersion": "swarmrun.dev/v1alpha1",
        "kind": "SwarmRun",
        "metadata": {"name": "bad"},
        "spec": asked | given,
    }
    return [cls, run]
