"""What git prints when a remote says no, translated. The texts are git's own (LC_ALL=C) and the hosts'."""

from __future__ import annotations

import re

from swarmrun.errors import GitError, NotFound, PermissionDenied, RemoteUnavailable, SwarmRunError

# In this order: a host's answer often ends in git's general "make sure you have the correct access rights".
_UNREACHABLE = re.compile(
    r"Could not resolve host|Couldn't connect|Failed to connect|Connection (?:refused|reset|timed out|closed)"
    r"|Operation timed out|Operation too slow|Network is unreachable|No route to host|early EOF|Empty reply"
    r"|unexpected disconnect|the remote end hung up unexpectedly\Z|RPC failed|returned error: (?:429|5\d\d)"
    r"|transfer closed|Recv failure|Temporary failure in name resolution|kex_exchange_identification",
    re.MULTILINE,
)
_REDIRECT = re.compile(r"returned error: 30\d|unable to update url base from redirection")
_TLS = re.compile(
    r"SSL certificate|server certificate verification failed|certificate verify failed|SSL_connect"
)
_HOST_KEY = re.compile(r"Host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED")
_OWNER = re.compile(r"detected dubious ownership")
_DENIED = re.compile(
    r"Authentication failed|could not read (?:Username|Password)|Permission denied|HTTP Basic: Access denied"
    r"|returned error: (?:401|403)|Permission to \S+ denied|not allowed to push|marked as read only|is read-only"
    r"|archived|TF40\d+|not authorized|access denied|Access denied|Unauthorized|insufficient (?:scope|permission)"
)
_MISSING = re.compile(
    r"[Rr]epository .*not found|does not appear to be a git repository|Repository not found|not found$|does not exist"
    r"|project you were looking for could not be found|returned error: 404|No such file or directory",
    re.MULTILINE,
)
_PROTOCOL = re.compile(r"transport '\S+' not allowed")


def translate(exc: GitError, url: str, doing: str) -> SwarmRunError:
    """The error to raise for a git command that talked to `url`; `doing` completes "cannot …"."""
    said = words(exc.output)
    cannot = f"cannot {doing} {url}: {said or exc.message}"
    text = exc.output
    if exc.reason == "TimedOut":
        return RemoteUnavailable(f"{url} did not answer in time while trying to {doing} it")
    if _REDIRECT.search(text):
        return GitError(
            f"{url} answers with a redirect, and redirects are not followed",
            output=text,
            mend="write the address it moved to; some hosts want the .git at the end",
            reason="Redirected",
        )
    if _HOST_KEY.search(text):
        return PermissionDenied(
            cannot, mend="add the host's key to known_hosts after checking it", reason="HostKey"
        )
    if _TLS.search(text):
        return GitError(
            cannot,
            output=text,
            mend="name the CA bundle (GIT_SSL_CAINFO here; in a cluster spec.pods.gitCaConfigMap of the class) "
            "or mend the certificate",
            reason="TLS",
        )
    if _OWNER.search(text):
        return PermissionDenied(
            f"{url} belongs to another user of this machine",
            mend="git config --global --add safe.directory …",
        )
    if _PROTOCOL.search(text):
        return PermissionDenied(cannot, mend="its scheme is not allowed here")
    if _DENIED.search(text):
        return PermissionDenied(cannot, mend="check the credential and its rights on this repository")
    if _MISSING.search(text):
        return NotFound(
            f"no such repository: {url} ({said})" if said else f"no such repository: {url}",
            mend="check the address; hosts say the same of a private repository that the credential may not see",
            reason="RepositoryNotFound",
        )
    if _UNREACHABLE.search(text):
        return RemoteUnavailable(cannot)
    return GitError(cannot, output=text)


def words(output: str) -> str:
    """What the remote itself said (`remote: …` lines), else git's last `fatal:` or `error:` line."""
    remote = [
        line.removeprefix("remote:").strip() for line in output.splitlines() if line.startswith("remote:")
    ]
    told = [line for line in remote if line and not re.fullmatch(r"[-=*\s]+", line)]
    if told:
        return " ".join(told)[:1000]
    ours = [line for line in output.splitlines() if line.startswith(("fatal:", "error:", "ERROR:"))]
    return ours[0].split(":", 1)[1].strip()[:1000] if ours else ""
