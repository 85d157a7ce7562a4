"""How git proves who it is. A secret travels in the environment of the one git process, never in an argument."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path

from swarmrun.errors import InvalidResource
from swarmrun.git.urls import RepositoryUrl


@dataclass(frozen=True)
class UserGit:
    """The user's own git: their configuration, credential helpers and ssh agent (one's own machine)."""


@dataclass(frozen=True)
class Token:
    """A token for https. GitHub, GitLab, Azure DevOps and Gitea take personal tokens with any user name;
    a deploy token needs its own, in `username` or in the address."""

    token: str = field(repr=False)
    username: str = "x-access-token"

    def __post_init__(self) -> None:
        if not self.token or any(ord(c) < 0x21 for c in self.token):
            raise InvalidResource("the git token is empty or holds white space", mend="check the Secret")


@dataclass(frozen=True)
class AskpassFile:
    """A program that git runs to ask for user name and password (`GIT_ASKPASS`)."""

    path: Path


@dataclass(frozen=True)
class Anonymous:
    """No credential: public repositories, and git's own configuration alone."""


@dataclass(frozen=True)
class SshKey:
    """A private key and the hosts' keys (a `known_hosts` file), both as files. Unknown hosts are refused."""

    key: Path
    known_hosts: Path


Credential = UserGit | Token | AskpassFile | Anonymous | SshKey


@dataclass(frozen=True)
class Access:
    """What `command.git` needs to know for one remote and one credential."""

    user_config: bool = False
    env: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    config: dict[str, str] = field(default_factory=dict[str, str])
    secrets: tuple[str, ...] = field(default=(), repr=False)


# Answers only when git asks for the host it was set for, so no other host is ever given the token.
_HELPER = (
    '!f() { test "$1" = get && '
    'printf "username=%s\\npassword=%s\\n" "$SWARMRUN_GIT_USERNAME" "$SWARMRUN_GIT_PASSWORD"; }; f'
)


def access(url: RepositoryUrl, credential: Credential) -> Access:
    """A password in the address is used as a token. Raises InvalidResource when the two do not fit."""
    if url.password:
        credential = Token(url.password, url.user)
    match credential:
        case UserGit():
            return Access(user_config=True)
        case Token(token, username):
            if url.scheme not in ("https", "http"):
                raise InvalidResource(
                    f"a token cannot be used with {url}",
                    mend="use the repository's https address",
                    field="repository",
                )
            return Access(
                env={"SWARMRUN_GIT_USERNAME": url.user or username, "SWARMRUN_GIT_PASSWORD": token},
                # The empty value drops every other helper.
                config={"credential.helper": "", f"credential.{url.origin}.helper": _HELPER},
                secrets=(token,),
            )
        case Anonymous():
            return Access(config={"credential.helper": ""})
        case SshKey(key, known_hosts):
            if url.scheme != "ssh":
                raise InvalidResource(
                    f"an ssh key cannot be used with {url}",
                    mend="use the repository's ssh address, or a token",
                    field="repository",
                )
            line = (
                f"ssh -F /dev/null -i {shlex.quote(str(key))} -o IdentitiesOnly=yes -o BatchMode=yes "
                f"-o StrictHostKeyChecking=yes -o UserKnownHostsFile={shlex.quote(str(known_hosts))}"
            )
            return Access(env={"GIT_SSH_COMMAND": line})
        case AskpassFile(path):
            return Access(env={"GIT_ASKPASS": str(path), "SSH_ASKPASS": str(path)})
