"""What an operation may answer instead of a result. The client turns each code into one of its errors."""

from __future__ import annotations

import errno


class Failure(Exception):
    """`code` is one of: `rejected` (the caller must do something else), `not-found`, `git`,
    `interrupted` (an earlier call under this key was cut off), `unauthorized`, `unknown-op`."""

    status = 400

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def rejected(message: str) -> Failure:
    return Failure("rejected", message)


def from_os_error(exc: OSError, what: str) -> Failure:
    """The system's error as an answer that names the next action."""
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return rejected(f"{what}: the sandbox's disk is full; delete what is not needed")
    if exc.errno in (errno.EAGAIN, errno.ENOMEM):
        return rejected(
            f"{what}: the sandbox cannot start another process (its limit of processes or memory is "
            "reached); kill what still runs"
        )
    if exc.errno in (errno.EMFILE, errno.ENFILE):
        return rejected(f"{what}: too many open files; kill what still runs")
    return rejected(f"{what}: {exc.strerror or exc}")
