"""Every error this project raises on purpose, drawn as a tree; each class says whether a retry can help.

SwarmRunError
├── TransientError              a retry may help: the durable engine retries
│   ├── RateLimited             … not before `retry_after` seconds have passed
│   ├── ModelUnavailable        time-out, 5xx, connection refused, stream cut off
│   ├── RemoteUnavailable       the git remote or its host does not answer
│   ├── StorageUnavailable      artifact store or disk (a full disk is found here)
│   ├── EngineUnreachable       the durable engine does not answer the controller
│   └── WaitingForCapacity      a cap on sandboxes: the run starts when others have ended
├── SandboxLost                 this sandbox will not come back: replace it, do not retry
└── PermanentError              a retry cannot help: told to the user, work stops
    ├── InvalidResource         what the user wrote; `field` names the place
    ├── NotFound                a lookup that missed (run, task, role, tool, contract, file …)
    ├── Conflict                it exists, or is held by somebody else
    ├── PermissionDenied        key, token or right refused
    ├── ModelRefused            the endpoint rejects this request for good (400, no tools, no schema)
    ├── BadModelOutput          an answer that cannot be used; `feedback` is what the model is told
    ├── BudgetExceeded          tokens, money, time or turns are used up
    ├── ToolRejected            a tool call that must not or cannot run; the text goes to the model
    ├── SandboxRefused          this sandbox cannot start here (isolation missing, wrong version, set-up)
    ├── GitError                git said no; carries what it printed
    ├── PublishRefused          the remote refused the branch (protected, moved, hook)
    └── EngineError             the durable engine: state from a newer version, file in use
"""

from __future__ import annotations

from typing import Any


class SwarmRunError(Exception):
    """Base of all. `message` names the thing, `mend` what the reader can do about it.

    `reason` is a CamelCase word for conditions and JSON output; by default the class's name.
    """

    retryable: bool = False
    exit_code: int = 1

    def __init__(self, message: str, *, mend: str = "", reason: str = "") -> None:
        # An empty message would be taken for success by the engine (see durable/).
        super().__init__(message or type(self).__name__)
        self.message = message or type(self).__name__
        self.mend = mend
        self.reason = reason or type(self).__name__

    def __str__(self) -> str:
        return f"{self.message} ({self.mend})" if self.mend else self.message


class TransientError(SwarmRunError):
    """A retry may help."""

    retryable = True
    retry_after: float | None = None
    """Seconds to wait before the next try, when the other side named them."""

    def __init__(
        self, message: str, *, retry_after: float | None = None, mend: str = "", reason: str = ""
    ) -> None:
        super().__init__(message, mend=mend, reason=reason)
        self.retry_after = retry_after


class RateLimited(TransientError):
    """The model's server said 429 (or 503 with Retry-After)."""


class ModelUnavailable(TransientError):
    """The model's server did not give a whole answer."""


class RemoteUnavailable(TransientError):
    """The git remote or the host's REST interface does not answer."""


class StorageUnavailable(TransientError):
    """An artifact could not be written or read back."""


class EngineUnreachable(TransientError):
    """The durable engine does not answer the controller."""


class WaitingForCapacity(TransientError):
    """No sandboxes are free for another run."""


class SandboxLost(SwarmRunError):
    """The sandbox is gone or is not the one that was asked for; it must be replaced."""


class PermanentError(SwarmRunError):
    """A retry cannot help."""


class InvalidResource(PermanentError):
    """What the user wrote cannot be accepted. `field` is the path, e.g. `spec.budget.tokens`."""

    exit_code = 2

    def __init__(self, message: str, *, field: str = "", mend: str = "", reason: str = "") -> None:
        super().__init__(message, mend=mend, reason=reason)
        self.field = field


class NotFound(PermanentError):
    """A lookup missed. Lookups raise this; they never return None."""


class Conflict(PermanentError):
    """The thing exists already, or somebody else holds it."""


class PermissionDenied(PermanentError):
    """A key, token or right was refused."""


class ModelRefused(PermanentError):
    """The endpoint rejects this kind of request for good."""


class BadModelOutput(PermanentError):
    """The model's answer cannot be used. `feedback` is written for the model, `usage` is what was paid."""

    def __init__(
        self, message: str, *, feedback: str = "", usage: Any = None, mend: str = "", reason: str = ""
    ) -> None:
        super().__init__(message, mend=mend, reason=reason)
        self.feedback = feedback or message
        self.usage = usage
        """`ports.Usage` of the calls that were made for it: a useless answer is paid for all the same."""


class BudgetExceeded(PermanentError):
    """Tokens, money, wall time or turns are used up."""

    exit_code = 4


class ToolRejected(PermanentError):
    """A tool call that is refused; the message goes to the model and ends with the next action to take."""


class SandboxRefused(PermanentError):
    """A sandbox of this kind cannot run here."""


class GitError(PermanentError):
    """git failed; `output` is what it printed (secrets removed)."""

    def __init__(self, message: str, *, output: str = "", mend: str = "", reason: str = "") -> None:
        super().__init__(message, mend=mend, reason=reason)
        self.output = output


class PublishRefused(PermanentError):
    """The remote refused the branch or the pull request."""


class EngineError(PermanentError):
    """The durable engine cannot go on with this state."""
