"""The git Pod of one run and the policy around it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # pyright: ignore[reportAttributeAccessIssue]

from swarmrun.git import urls
from swarmrun.kube import names, network
from swarmrun.kube.manifest import metadata, pod, policy, readiness
from swarmrun.kube.options import NetworkOptions, PodOptions, RunPlace

Json = dict[str, Any]

PORT = 8701
COMPONENT = "git"
UID = 65532
"""The user of the operator's image (ssh wants one that is in /etc/passwd)."""
CA = "/etc/swarmrun/ca"
CA_JOINED = "/work/ca-certificates.crt"
_PORTS = {"https": 443, "http": 80, "ssh": 22}


@dataclass(frozen=True)
class GitOptions:
    """What the run's repository and its class say. `pods.image` is the operator's image."""

    url: str
    pods: PodOptions
    secret: str = ""
    """Name of the Secret with the credential; empty: anonymous."""
    schemes: tuple[str, ...] = ("https", "ssh")
    provider: str = ""
    draft: bool = False
    cidrs: tuple[str, ...] = ()
    """Where the remote (or the proxy) is, when the class says so. Empty: anywhere, on the remote's port."""
    ca_config_map: str = ""
    """ConfigMap of the run's namespace with `ca.crt`: the certificates to trust."""
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    """E.g. HTTPS_PROXY."""
    memory_mb: int = 1024
    disk_mb: int = 10240


def git_name(place: RunPlace) -> str:
    return names.object_name(place, "git")


def git_pod(place: RunPlace, options: GitOptions, *, token_sha256: str) -> Json:
    env = {
        **options.env,
        "SWARMRUN_TOKEN_SHA256": token_sha256,
        "SWARMRUN_GIT_URL": str(urls.parse(options.url)),
        "SWARMRUN_GIT_SCHEMES": ",".join(options.schemes),
        "SWARMRUN_GIT_SECRET": options.secret,
        "SWARMRUN_GIT_PROVIDER": options.provider,
        "SWARMRUN_GIT_DRAFT": "true" if options.draft else "false",
        "SWARMRUN_PORT": str(PORT),
        "HOME": "/work",
        "TMPDIR": "/work/tmp",
    }
    volumes: list[Json] = [{"name": "work", "emptyDir": {"sizeLimit": f"{options.disk_mb}Mi"}}]
    mounts: list[Json] = [{"name": "work", "mountPath": "/work"}]
    if options.secret:
        # Optional: a missing one is then told by the server, in words, at once.
        source = {"secretName": options.secret, "optional": True, "defaultMode": 0o440}
        volumes.append({"name": "secret", "secret": source})
        mounts.append({"name": "secret", "mountPath": "/run/git-secret", "readOnly": True})
    if options.ca_config_map:
        # Its key by name: one that is missing is then told by an Event.
        items = [{"key": "ca.crt", "path": "ca.crt"}]
        volumes.append({"name": "ca", "configMap": {"name": options.ca_config_map, "items": items}})
        mounts.append({"name": "ca", "mountPath": CA, "readOnly": True})
        # Both replace what is trusted, so they name the file in which the server joins it with the image's.
        env |= {"GIT_SSL_CAINFO": CA_JOINED, "SSL_CERT_FILE": CA_JOINED, "SWARMRUN_CA": f"{CA}/ca.crt"}
    container: Json = {
        "name": "git",
        "image": options.pods.image,
        "command": ["python", "-I", "-m", "swarmrun.git.pod.server"],
        "workingDir": "/work",
        "env": [{"name": name, "value": value} for name, value in env.items()],
        "ports": [{"name": "git", "containerPort": PORT}],
        "resources": {
            "requests": {"cpu": "50m", "memory": "128Mi", "ephemeral-storage": "256Mi"},
            "limits": {
                "cpu": "1",
                "memory": f"{options.memory_mb}Mi",
                "ephemeral-storage": f"{options.disk_mb}Mi",
            },
        },
        "volumeMounts": mounts,
        "readinessProbe": readiness(PORT),
    }
    meta = metadata(place, git_name(place), COMPONENT, options=options.pods)
    return pod(meta, container, options.pods, uid=UID, volumes=volumes, restart="Never")


def git_policy(place: RunPlace, options: GitOptions, net: NetworkOptions) -> Json:
    """In: the brain. Out: the remote's port (or that of the proxy to it), at the ranges of the class or the
    address itself where the URL is one; a name's addresses change, so a name alone is held by the server, which
    follows no redirect."""
    url = urls.parse(options.url)
    host, port = peer_of(url, options.env)
    selects = {names.INSTANCE: names.label_value(place.run), names.COMPONENT: COMPONENT}
    if options.cidrs:
        egress = [network.to_block(cidr, port) for cidr in options.cidrs]
    elif literal := _address(host):
        egress = [network.to_block(literal, port)]
    else:
        # A company's host is often at a private address: only link-local ones are closed (metadata).
        egress = [network.to_anywhere(replace(net, closed=("169.254.0.0/16", "fe80::/10")), port)]
    if not _address(host):
        egress.append(network.to_dns(net))
    meta = metadata(place, git_name(place), COMPONENT)
    return policy(meta, selects, ingress=network.from_brain(net, PORT), egress=egress)


def peer_of(url: urls.RepositoryUrl, env: Mapping[str, str]) -> tuple[str, int]:
    """Host and port that git and the pull requests connect to: the proxy's, where `env` names one for this host
    (read as curl and Python do; ssh knows none)."""
    proxies = {
        name[: -len("_proxy")]: value
        for name, value in ((key.lower(), value) for key, value in env.items())
        if name.endswith("_proxy") and value
    }
    named = proxies.get(url.scheme) or proxies.get("all", "")
    if url.scheme in ("http", "https") and named and not proxy_bypass_environment(url.host, proxies):
        proxy = urlsplit(named if "://" in named else f"http://{named}")
        default = {"https": 443, "socks5": 1080, "socks5h": 1080}.get(proxy.scheme, 80)
        return proxy.hostname or "", proxy.port or default
    return url.host, url.port or _PORTS.get(url.scheme, 443)


def _address(host: str) -> str:
    try:
        return str(ip_address(host))
    except ValueError:
        return ""
