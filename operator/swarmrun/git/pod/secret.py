"""The mounted git Secret: which credential it holds, and for which hosts.

| key | meaning |
| --- | --- |
| `hosts` | optional: host names it may be used for, white space or commas between; `*.example.com` takes subdomains |
| `token`, or `username` and `password` | for https (`kubernetes.io/basic-auth` has the latter two) |
| `ssh-privatekey` and `known_hosts` | for ssh (`kubernetes.io/ssh-auth` has the first) |

Whoever may make a SwarmRun could otherwise send the Secret to a host of their own. The chart's admission policy holds
runs to the Secret's annotation `swarmrun.dev/allowed-hosts`; `hosts` is checked here besides, when the Secret is used,
also where that policy is off or the Secret was changed after the run was made. The operator itself reads no Secrets.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

from swarmrun.errors import PermissionDenied
from swarmrun.git.credentials import Anonymous, Credential, SshKey, Token
from swarmrun.git.urls import RepositoryUrl


def credential(mounted: Path, name: str, url: RepositoryUrl) -> Credential:
    """`name` is the Secret's, empty for none. Raises PermissionDenied `SecretMissing`, `SecretKeyMissing`,
    `SecretHostNotAllowed`."""
    if not name:
        return Anonymous()
    keys = _keys(mounted)
    if not keys:
        raise missing(name)
    _check_host(mounted, keys, name, url)
    if url.scheme == "ssh":
        _need(keys, name, "ssh-privatekey", "known_hosts")
        return SshKey(mounted / "ssh-privatekey", mounted / "known_hosts")
    if "token" in keys:
        return Token(_text(mounted / "token"))
    _need(keys, name, "password")
    user = _text(mounted / "username") if "username" in keys else ""
    return Token(_text(mounted / "password"), user) if user else Token(_text(mounted / "password"))


def is_there(mounted: Path) -> bool:
    return bool(_keys(mounted))


def missing(name: str) -> PermissionDenied:
    return PermissionDenied(
        f"Secret {name} is not there, or is empty",
        mend="make it in the namespace of the SwarmRun, or correct spec.repository.credential.name",
        reason="SecretMissing",
    )


def _keys(mounted: Path) -> set[str]:
    return {file.name for file in mounted.iterdir() if file.is_file()} if mounted.is_dir() else set()


def api_token(mounted: Path, name: str) -> str:
    """The token for pull requests. Raises PermissionDenied `PullRequestTokenMissing`."""
    for key in ("token", "password"):
        if name and (mounted / key).is_file():
            return _text(mounted / key)
    raise PermissionDenied(
        "no token for pull requests" + (f" in Secret {name}" if name else ""),
        mend="put one into the Secret of spec.repository.credential, as key `token`",
        reason="PullRequestTokenMissing",
    )


def _check_host(mounted: Path, keys: set[str], name: str, url: RepositoryUrl) -> None:
    if "hosts" not in keys:
        return
    allowed = [h for h in re.split(r"[\s,]+", _text(mounted / "hosts").lower()) if h]
    if not any(fnmatchcase(url.host.lower(), host) for host in allowed):
        raise PermissionDenied(
            f"Secret {name} is not for {url.host}",
            mend=f"its key `hosts` names {', '.join(allowed) or 'none'}",
            reason="SecretHostNotAllowed",
        )


def _need(keys: set[str], name: str, *wanted: str) -> None:
    missing = [key for key in wanted if key not in keys]
    if missing:
        raise PermissionDenied(
            f"Secret {name} has no key {' and no key '.join(missing)}",
            mend=f"it has {', '.join(sorted(keys))}",
            reason="SecretKeyMissing",
        )


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace").strip()
