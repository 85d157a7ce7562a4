"""What a sandbox is told of the network that it stands in: its proxy and the certificates to trust. Pure."""

from __future__ import annotations

from swarmrun.kube.options import EgressProxy, NetworkOptions, PodOptions
from swarmrun.ports import SandboxSpec

CA_DIRECTORY = "/etc/swarmrun/ca"
"""Where the class's ConfigMap is mounted."""
CA_FILE = f"{CA_DIRECTORY}/ca.crt"

_ADDS: tuple[str, ...] = ("NODE_EXTRA_CA_CERTS", "DENO_CERT")
"""Variables whose file is trusted besides the system's."""
_REPLACES: tuple[str, ...] = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
)
"""Variables whose file is trusted instead of the system's: they name the one that the server joins."""

_NEVER_BY_PROXY = ("localhost", "127.0.0.1", "::1")


def proxy_of(spec: SandboxSpec, net: NetworkOptions) -> EgressProxy | None:
    """The proxy that this sandbox's open egress is, if there is one."""
    return net.proxy if spec.egress else None


def proxy_variables(proxy: EgressProxy | None) -> dict[str, str]:
    """In both spellings: curl reads `http_proxy` in lower case only, others the upper case."""
    if proxy is None:
        return {}
    direct = ",".join([*_NEVER_BY_PROXY, *proxy.no_proxy])
    named = {"HTTP_PROXY": proxy.url, "HTTPS_PROXY": proxy.url, "NO_PROXY": direct}
    return named | {name.lower(): value for name, value in named.items()}


def ca_variables(options: PodOptions, joined: str) -> dict[str, str]:
    """`joined`: the file with the system's roots and the class's."""
    if not options.ca_config_map:
        return {}
    return dict.fromkeys(_ADDS, CA_FILE) | dict.fromkeys(_REPLACES, joined)
