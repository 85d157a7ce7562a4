"""Keeps the server's own process closed to the agent's commands, which run under the same uid.

A process that is not dumpable is closed to its equals: its memory, environment and descriptors below /proc, ptrace,
`process_vm_writev`, `pidfd_getfd` (prctl(2), ptrace(2) "access mode checking"). So an agent can neither hold the server
still nor read a request's token, nor write to the server's standard output, which is the container's log. What the
server starts is dumpable again from its execve on.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_DUMPABLE = 4
"""linux/prctl.h."""


def keep_apart() -> None:
    """Before anything of an agent runs. Raises OSError when the kernel will not; on others than Linux there is nothing
    to be done."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, "prctl(PR_SET_DUMPABLE): " + os.strerror(error))
