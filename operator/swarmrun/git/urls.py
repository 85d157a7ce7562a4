"""Addresses of repositories: what is taken, in which form git gets it, how it is shown."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

from swarmrun.errors import InvalidResource

Scheme = Literal["https", "http", "ssh", "file"]

_SCP = re.compile(r"(?:(?P<user>[A-Za-z0-9._-]+)@)?(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*):(?P<path>[^/:].*|/.*)")
# Names and addresses as DNS has them. Anything else (a backslash, `%2f`, another script's full stop) can be read as
# another host by the next program; names in other scripts are written in punycode.
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*|[0-9A-Fa-f:.]+")
_SSH_USER = re.compile(r"[A-Za-z0-9._-]+")
_MEND = "write https://host/owner/name, ssh://git@host/owner/name, git@host:owner/name or a local path"


@dataclass(frozen=True)
class RepositoryUrl:
    """One address, taken apart. `password` never shows."""

    scheme: Scheme
    git: str
    """The argument for git: no password in it."""
    host: str = ""
    port: int | None = None
    path: str = ""
    """On the host, without leading and trailing `/` and without `.git`; for `file` the absolute path."""
    user: str = ""
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return self.git

    @property
    def origin(self) -> str:
        """`scheme://host[:port]`, as the web and REST interfaces of an https or http address have it."""
        return f"{self.scheme}://{_in_address(self.host)}" + (f":{self.port}" if self.port else "")


def parse(url: str) -> RepositoryUrl:
    """Raises InvalidResource: helpers (`ext::`), unknown schemes, options, control characters, no path."""
    if not url or url.startswith("-") or any(ord(c) < 0x20 or ord(c) == 0x7F for c in url) or "::" in url:
        raise InvalidResource(f"repository {url!r} is not an address that is taken", mend=_MEND)
    if url.startswith(("/", "./", "../", "~")) or url in (".", ".."):
        path = str(Path(url).expanduser().absolute().resolve())
        return RepositoryUrl("file", path, path=path)
    if "://" not in url:
        match = _SCP.fullmatch(url)
        if not match:
            raise InvalidResource(f"repository {url!r} is not an address that is taken", mend=_MEND)
        return RepositoryUrl(
            "ssh", url, host=match["host"], path=_name(match["path"]), user=match["user"] or ""
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise InvalidResource(f"repository address cannot be read: {exc}", mend=_MEND) from exc
    host, path = parts.hostname or "", unquote(parts.path)
    if parts.scheme == "file" and host in ("", "localhost") and path.strip("/"):
        return RepositoryUrl("file", path, path=path)
    user = unquote(parts.username or "")
    # Quoted again: a user `stranger/` put in front of `@host` as it is would make the stranger the host.
    shown = f"{parts.scheme}://{quote(user, safe='') + '@' if user else ''}{_in_address(host)}"
    shown += f"{f':{port}' if port else ''}{parts.path}"
    named = _HOST.fullmatch(host) and "\\" not in parts.netloc and not user.startswith("-") and _name(path)
    if parts.scheme == "ssh" and user and not _SSH_USER.fullmatch(user):
        named = None  # git decodes an ssh address as a whole before it looks for the host
    if parts.scheme not in ("https", "http", "ssh") or not named or parts.query or parts.fragment:
        raise InvalidResource(f"repository {shown!r} is not an address that is taken", mend=_MEND)
    scheme: Scheme = "ssh" if parts.scheme == "ssh" else "https" if parts.scheme == "https" else "http"
    return RepositoryUrl(scheme, shown, host, port, _name(path), user, unquote(parts.password or ""))


def _in_address(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _name(path: str) -> str:
    return path.strip("/").removesuffix(".git").rstrip("/")
