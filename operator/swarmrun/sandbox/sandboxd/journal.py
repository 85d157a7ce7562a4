"""Answers a repeated key instead of doing the work again.

What counts while the server lives is in memory; the file only says what an earlier server under the same
work tree did. A tool of the same user can write to that file: the journal guards against repetition and is
no evidence of anything.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from typing import Any, Awaitable, Callable, Dict, Optional, Tuple

from .failures import Failure


class Journal:
    """Append-only, one JSON object a line: `{"key", "call", "answer"}`; `answer` is null when work began."""

    def __init__(self, path: str) -> None:
        self._done: Dict[str, Tuple[str, Optional[Dict[str, Any]]]] = {}
        self._running: Dict[str, "asyncio.Task[Dict[str, Any]]"] = {}
        self._calls: Dict[str, str] = {}
        if os.path.exists(path):
            self._read(path)
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115  (as long as the server lives)

    def _read(self, path: str) -> None:
        with open(path, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    entry = json.loads(line)
                    answer = entry["answer"]
                    if answer is not None and not isinstance(answer, dict):
                        continue
                    self._done[str(entry["key"])] = (str(entry["call"]), answer)
                except (ValueError, KeyError, TypeError):
                    continue  # Cut off by a kill, or written by a tool.

    async def once(
        self, key: str, call: Dict[str, Any], work: Callable[[], Awaitable[Dict[str, Any]]]
    ) -> Dict[str, Any]:
        """The answer of `work`, done at most once a key; a call that comes meanwhile joins the first.

        Failures are not kept: they changed nothing.
        """
        name = hashlib.sha256(json.dumps(call, sort_keys=True).encode()).hexdigest()
        if self._calls.setdefault(key, name) != name or (key in self._done and self._done[key][0] != name):
            raise Failure("rejected", f"key {key!r} was used for another call; use a key once")
        if key in self._done:
            answer = self._done[key][1]
            if answer is None:
                raise Failure("interrupted", f"the call {key!r} was cut off when the sandbox restarted")
            return answer
        task = self._running.get(key)
        if task is None:
            self._write(key, name, None)
            task = asyncio.ensure_future(work())
            self._running[key] = task
            task.add_done_callback(lambda done: self._finished(key, done))
        # Shielded: a client that goes away must not undo a call that another one has joined.
        return await asyncio.shield(task)

    def _finished(self, key: str, task: "asyncio.Task[Dict[str, Any]]") -> None:
        del self._running[key]
        if task.cancelled() or task.exception() is not None:
            del self._calls[key]
        elif key not in self._done:
            self.keep(key, task.result())

    def keep(self, key: str, answer: Dict[str, Any]) -> None:
        """The answer from now on; a command's end replaces the note that it was started."""
        self._done[key] = (self._calls[key], answer)
        self._write(key, self._calls[key], answer)

    def _write(self, key: str, name: str, answer: Optional[Dict[str, Any]]) -> None:
        try:
            self._file.write(json.dumps({"key": key, "call": name, "answer": answer}) + "\n")
            self._file.flush()
        except OSError:
            pass  # A full disk: memory still guards while this server lives.
