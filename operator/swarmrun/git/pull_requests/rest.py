"""One host's REST interface over httpx: redirects off, errors translated, the token in no message."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from swarmrun.errors import PermissionDenied, PublishRefused, RemoteUnavailable, SwarmRunError
from swarmrun.git.command import scrub

EXISTS = "PullRequestExists"
"""`reason` of the PublishRefused that a host gives when such a pull request is open already."""

# A host that says nothing for this long is taken for down (arbitrary).
_TIMEOUT = httpx.Timeout(30, connect=10)
# What a host may tell us of a failure, in characters (arbitrary).
_WORDS = 600


class Rest:
    """`api` is the interface's base address, `headers` carry the token, `secret` is scrubbed from messages."""

    def __init__(self, api: str, *, headers: Mapping[str, str], secret: str) -> None:
        self.api = api.rstrip("/")
        self._headers = {"User-Agent": "swarmrun", "Accept": "application/json", **headers}
        self._secret = secret

    async def call(
        self, method: str, path: str, *, params: Mapping[str, str | int] | None = None, json: Any = None
    ) -> Any:
        """The answer's JSON. Raises PermissionDenied, PublishRefused, RemoteUnavailable."""
        where = f"{method} {self.api}{path}"
        try:
            async with httpx.AsyncClient(
                headers=self._headers, timeout=_TIMEOUT, follow_redirects=False
            ) as client:
                answer = await client.request(method, f"{self.api}{path}", params=params, json=json)
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise RemoteUnavailable(self._clean(f"{where}: {exc or type(exc).__name__}")) from exc
        if answer.status_code not in (200, 201):
            raise self._refusal(answer, where)
        try:
            return answer.json()
        except ValueError as exc:
            raise PublishRefused(
                f"{where} answered with something that is not JSON",
                mend="check that the address is the host's own",
            ) from exc

    def look(self, path: str) -> Any:
        """The answer's JSON of a GET, without an event loop. None when the host does not give it: a hint, no more."""
        try:
            answer = httpx.get(
                f"{self.api}{path}", headers=self._headers, timeout=_TIMEOUT, follow_redirects=False
            )
            return answer.json() if answer.status_code == 200 else None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):
            return None

    def _refusal(self, answer: httpx.Response, where: str) -> SwarmRunError:
        status = answer.status_code
        said = self._clean(f"{where} answered {status}: {_words(answer)}")
        wait = _retry_after(answer)
        if status == 429 or status >= 500 or (status == 403 and wait is not None):
            return RemoteUnavailable(said, retry_after=wait)
        # Azure DevOps answers 203 or 302 with a sign-in page when it does not take the token.
        if status in (203, 302) and "signin" in (answer.text + answer.headers.get("Location", "")).lower():
            return PermissionDenied(
                f"{where}: the token is not taken", mend="make a new one with the right to write code"
            )
        if status in (401, 403):
            return PermissionDenied(said, mend="give the token the right to write code and pull requests")
        if status == 404:
            return PermissionDenied(
                said, mend="check the repository's address; hosts say the same when the token may not see it"
            )
        if 300 <= status < 400:
            return PublishRefused(
                f"{where} answered with a redirect, and redirects are not followed",
                mend="write the address the repository moved to",
            )
        if status == 409 or "already exists" in said:
            return PublishRefused(said, reason=EXISTS)
        return PublishRefused(said, mend="open the pull request by hand from the published branch")

    def _clean(self, text: str) -> str:
        return scrub(text, (self._secret,))


def _words(answer: httpx.Response) -> str:
    try:
        body: Any = answer.json()
    except ValueError:
        return answer.reason_phrase
    if not isinstance(body, dict):
        return str(body)[:_WORDS]
    parts = [body.get("message") or body.get("error"), *(body.get("errors") or [])]
    told = [str(p.get("message") or p) if isinstance(p, dict) else str(p) for p in parts if p]
    return "; ".join(told)[:_WORDS] or answer.reason_phrase


def _retry_after(answer: httpx.Response) -> float | None:
    """Seconds to wait, when the host named them (Retry-After, or GitHub's x-ratelimit-reset)."""
    value = answer.headers.get("Retry-After", "")
    now = datetime.now(UTC)
    try:
        if value:
            return (
                float(value)
                if value.isdigit()
                else max(0.0, (parsedate_to_datetime(value) - now).total_seconds())
            )
        if answer.headers.get("x-ratelimit-remaining") == "0":
            return max(0.0, float(answer.headers.get("x-ratelimit-reset", "60")) - now.timestamp())
    except (ValueError, TypeError):
        pass
    return None
