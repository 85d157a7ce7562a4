"""Which host an address belongs to."""

from __future__ import annotations

from typing import Literal, get_args

from swarmrun.errors import InvalidResource, PermissionDenied
from swarmrun.git import urls
from swarmrun.git.pull_requests.azure_devops import AzureDevOps
from swarmrun.git.pull_requests.base import Host
from swarmrun.git.pull_requests.gitea import Gitea
from swarmrun.git.pull_requests.github import GitHub
from swarmrun.git.pull_requests.gitlab import GitLab

Kind = Literal["github", "gitlab", "azure-devops", "gitea", "forgejo"]

_KINDS: dict[str, type[GitHub | GitLab | AzureDevOps | Gitea]] = {
    "github": GitHub,
    "gitlab": GitLab,
    "azure-devops": AzureDevOps,
    "gitea": Gitea,
    "forgejo": Gitea,
}
_HOSTS: dict[str, Kind] = {
    "github.com": "github",
    "ssh.github.com": "github",
    "gitlab.com": "gitlab",
    "dev.azure.com": "azure-devops",
    "ssh.dev.azure.com": "azure-devops",
    "codeberg.org": "forgejo",
    "gitea.com": "gitea",
}
# Hosts whose ssh address is not where the web and REST interfaces are.
_WEB = {
    "ssh.dev.azure.com": "dev.azure.com",
    "vs-ssh.visualstudio.com": "dev.azure.com",
    "ssh.github.com": "github.com",
}


def for_remote(
    url: str, token: str, kind: str | None = None, *, draft: bool = False, allow_http: bool = False
) -> Host:
    """The pull requests of the repository at `url` (a `ports.PullRequests`).

    `kind` is needed for a host of one's own; well-known ones are found by name. An ssh address is asked over https.
    `draft` holds for new ones.
    Raises InvalidResource (unknown host or kind, local path), PermissionDenied (no token; plain http not allowed).
    """
    address = urls.parse(url)
    if address.scheme == "file":
        raise InvalidResource(
            f"{address} is a directory: it has no pull requests", mend="set publish.pullRequest: false"
        )
    if address.scheme == "http" and not allow_http:
        raise PermissionDenied(f"{address}: a token is not sent over plain http", reason="SchemeNotAllowed")
    token = token.strip()
    if not token or any(ord(c) < 0x21 or ord(c) > 0x7E for c in token):
        raise PermissionDenied(
            f"no usable token for pull requests on {address.host}", mend="give one by Secret or environment"
        )
    host = _WEB.get(address.host, address.host)
    found = kind or _HOSTS.get(host) or ("azure-devops" if host.endswith(".visualstudio.com") else "")
    if found not in _KINDS:
        raise InvalidResource(
            f"unknown kind of host {found!r}" if found else f"{host} is not a host whose kind is known",
            mend=f"say which it is: {', '.join(get_args(Kind))}",
        )
    origin = f"https://{host}" if address.scheme == "ssh" else address.origin
    made = _KINDS[found](origin, address.path, token)
    made.draft = draft
    return made
