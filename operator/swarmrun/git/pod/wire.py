"""Values and errors on the wire between the brain and a git Pod."""

from __future__ import annotations

import json
from typing import Any

from swarmrun import errors
from swarmrun.errors import GitError, InvalidResource, SwarmRunError, TransientError

Json = dict[str, Any]

MAX_BODY = 2 * 1024**3 + 64 * 1024
"""A history of `repo.MAX_HISTORY` bytes and a line."""


def pack(head: Json, payload: bytes = b"") -> bytes:
    return json.dumps(head, ensure_ascii=False).encode() + b"\n" + payload


def unpack(body: bytes) -> tuple[Json, bytes]:
    """Raises ValueError."""
    line, _, payload = body.partition(b"\n")
    head = json.loads(line or b"{}")
    if not isinstance(head, dict):
        raise ValueError("the first line is no JSON object")  # noqa: TRY004  (told to a stranger)
    return head, payload


def error(exc: SwarmRunError) -> Json:
    told: Json = {
        "kind": type(exc).__name__,
        "message": exc.message,
        "mend": exc.mend,
        "reason": exc.reason,
    }
    if isinstance(exc, TransientError):
        told["retry_after"] = exc.retry_after
    if isinstance(exc, GitError):
        told["output"] = exc.output
    if isinstance(exc, InvalidResource):
        told["field"] = exc.field
    return {"error": told}


def raised(told: Json) -> SwarmRunError:
    """The error that `error` made this of; a kind that is not known here is a GitError."""
    kind = getattr(errors, str(told.get("kind", "")), None)
    if not (isinstance(kind, type) and issubclass(kind, SwarmRunError)):
        kind = GitError
    more = {}
    if issubclass(kind, TransientError):
        more["retry_after"] = told.get("retry_after")
    if kind is GitError:
        more["output"] = str(told.get("output", ""))
    if kind is InvalidResource:
        more["field"] = str(told.get("field", ""))
    return kind(
        str(told.get("message", "")),
        mend=str(told.get("mend", "")),
        reason=str(told.get("reason", "")),
        **more,
    )
