"""Lines for people on the server's own standard output: the container's log, where no agent writes (`apart.py`)."""

from __future__ import annotations

import os
import threading
from typing import Sequence

STDOUT = 1


class Voice:
    """Says one thing at a time. Whoever comes while a reader keeps us waiting is not heard: else a pipe that nobody
    empties would take all workers."""

    def __init__(self, descriptor: int = STDOUT) -> None:
        self._descriptor = descriptor
        self._busy = threading.Lock()

    def say(self, lines: Sequence[str]) -> bool:
        """True when all of it was taken."""
        if not self._busy.acquire(blocking=False):
            return False
        try:
            left = "".join(line + "\n" for line in lines).encode("utf-8", "replace")
            while left:
                left = left[os.write(self._descriptor, left) :]
            return True
        except OSError:
            return False
        finally:
            self._busy.release()
