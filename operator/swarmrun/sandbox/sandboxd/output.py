"""What a command prints: head and tail in memory, the rest in a file up to a cap."""

from __future__ import annotations

import contextlib
import os
from typing import IO, Optional, Tuple

KEPT = 64 * 1024
"""Bytes of head and of tail held in memory; no answer shows more."""
FILE_CAP = 64 * 1024**2
"""Bytes of one command's output on disk (arbitrary: enough for a verbose build's log)."""


class Output:
    """Takes bytes as they come, in any amount, with bounded memory and disk."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.total = 0
        self._head = bytearray()
        self._tail = bytearray()
        self._file: Optional[IO[bytes]] = None
        self._filed = 0
        self._broken = False
        self._ended = False

    def add(self, chunk: bytes) -> None:
        self.total += len(chunk)
        room = KEPT - len(self._head)
        if room > 0:
            self._head += chunk[:room]
            chunk = chunk[room:]
        if not chunk:
            return
        if self._file is None and not self._broken:
            self._open()
        self._to_file(chunk)
        self._tail += chunk[-KEPT:]
        if len(self._tail) > 4 * KEPT:
            del self._tail[:-KEPT]

    def _open(self) -> None:
        try:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            self._file = open(self.path, "wb", buffering=0)  # noqa: SIM115
        except OSError:
            self._broken = True
        self._to_file(bytes(self._head))

    def _to_file(self, chunk: bytes) -> None:
        if self._file is None or self._broken:
            return
        try:
            if self._filed + len(chunk) > FILE_CAP:
                chunk = chunk[: FILE_CAP - self._filed] + b"\n[this file ends here: output is capped]\n"
                self._broken = True
            self._file.write(chunk)
            self._filed += len(chunk)
        except OSError:
            self._broken = True  # A full disk must not stop the command.

    def shown(self, cap: int) -> Tuple[str, int, str]:
        """Text of at most `cap` bytes (a line in its middle says what is missing), bytes omitted, file."""
        cap = max(0, min(cap, 2 * KEPT))
        tail = bytes(self._tail[-KEPT:])
        if self.total <= cap:
            return (bytes(self._head) + tail)[: self.total].decode("utf-8", "replace"), 0, ""
        first, last = cap // 2, cap - cap // 2
        everything = bytes(self._head) if self.total <= KEPT else tail
        if self.total > KEPT and len(tail) < last:
            everything = bytes(self._head) + tail
        head = bytes(self._head[:first]).decode("utf-8", "ignore")
        end = everything[len(everything) - last :].decode("utf-8", "ignore")
        omitted = self.total - cap
        path = self._whole()
        where = f": see {path}" if path else ""
        return f"{head}\n[{omitted} bytes omitted{where}]\n{end}", omitted, path

    def _whole(self) -> str:
        if self._file is None and not self._broken:
            self._open()
            if self._ended:
                self.close()
        return self.path if self._file is not None else ""

    def close(self) -> None:
        """Nothing more comes."""
        self._ended = True
        if self._file is not None:
            self._file.close()
            self._broken = True

    def discard(self) -> None:
        """Removes the file: the command was long ago."""
        self.close()
        with contextlib.suppress(OSError):
            os.unlink(self.path)
