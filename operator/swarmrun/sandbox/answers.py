"""What a sandbox answers, read as data from a stranger: bounded in size, every value checked.

An agent owns its server's process (same uid): it can put anything at the other end of the wire. What it says there
may be false, which nothing that decides relies on; here it is kept from being endless, huge or of another shape.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

import httpx

from swarmrun.api.base import clip, legible
from swarmrun.errors import SandboxLost
from swarmrun.ports import ExecResult

MAX_HEAD = 2 * 1024**2
"""Bytes of an answer's first line: the longest true one is a command's output of 128 KiB with every byte escaped, or
256 KiB of rows. (Parsed JSON of nothing but brackets takes some thirty times its size.)"""
MAX_BUNDLE = 128 * 1024**2
"""Bytes of a checkpoint's bundle. Arbitrary: honest ones have kilobytes, one file may have 100 MB (sandboxd/
checkpoint.py), and the brain holds a bundle in memory while it stores it."""
MAX_MESSAGE = 2_000
"""Characters of an error's text: it goes to the model and to people."""
MAX_TEXT = 256 * 1024
"""Characters of any other text; a server of ours shows at most 128 KiB (sandboxd/output.py)."""

_ID = re.compile(r"[0-9a-f]{40}")
_PROCESS = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Nonsense(SandboxLost):
    """An answer that our server does not give."""

    def __init__(self, sandbox_id: str, op: str, why: str) -> None:
        super().__init__(
            f"sandbox {sandbox_id} answered {op} with {why}: something else took the place of its server",
            reason="ForeignAnswer",
        )


async def read(response: httpx.Response, sandbox_id: str, op: str, most: int) -> tuple[Answer, bytes]:
    """The JSON line and a payload of at most `most` bytes. The body is taken as it comes: nothing is unpacked."""
    body = bytearray()
    end = -1
    async for chunk in response.aiter_raw():
        start = len(body)
        body += chunk
        if end < 0:
            end = body.find(b"\n", start)
        if (end if end >= 0 else len(body)) > MAX_HEAD or (end >= 0 and len(body) - end - 1 > most):
            raise Nonsense(sandbox_id, op, f"more than {MAX_HEAD if end < 0 else most} bytes")
    head = body if end < 0 else body[:end]
    try:
        values = json.loads(bytes(head), parse_constant=_no_number)
    except (ValueError, RecursionError) as exc:
        raise Nonsense(sandbox_id, op, "something else than JSON") from exc
    if not isinstance(values, dict):
        raise Nonsense(sandbox_id, op, "something else than a JSON object")
    with memoryview(body) as view:
        payload = b"" if end < 0 else bytes(view[end + 1 :])
    return Answer(sandbox_id, op, values), payload


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


class Answer:
    """The values of one answer; each is asked for as what it must be. Raises SandboxLost (`ForeignAnswer`)."""

    def __init__(self, sandbox_id: str, op: str, values: dict[str, Any]) -> None:
        self.values = values
        self._sandbox_id = sandbox_id
        self._op = op

    def error(self) -> tuple[str, str] | None:
        """Code and message, where the server refused."""
        if "error" not in self.values:
            return None
        told = self.values["error"]
        if not isinstance(told, dict):
            raise self._wrong("error")
        code, message = (clip(legible(str(told.get(key, ""))), MAX_MESSAGE) for key in ("code", "message"))
        return code, message

    def text(self, name: str, most: int = MAX_TEXT) -> str:
        value = self.values.get(name)
        if not isinstance(value, str):
            raise self._wrong(name)
        return clip(legible(value), most)

    def number(self, name: str) -> float:
        value = self.values.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:
            raise self._wrong(name)
        return value if math.isfinite(value) else 0.0

    def flag(self, name: str) -> bool:
        value = self.values.get(name)
        if not isinstance(value, bool):
            raise self._wrong(name)
        return value

    def commit(self, name: str) -> str:
        value = self.values.get(name)
        if not isinstance(value, str) or not _ID.fullmatch(value):
            raise self._wrong(name)
        return value

    def rows(self, most: int) -> tuple[list[str], int]:
        """Rows of a list or a search, and how many there are in all."""
        rows = self.values.get("rows")
        if not isinstance(rows, list) or not all(isinstance(row, str) for row in rows):
            raise self._wrong("rows")
        return [clip(legible(row), MAX_TEXT) for row in rows[:most]], int(self.number("total"))

    def exit_code(self) -> int | None:
        """None while the command runs."""
        code = self.values.get("exit_code")
        if isinstance(code, bool) or not (code is None or (isinstance(code, int) and -256 < code < 256)):
            raise self._wrong("exit_code")
        return code

    def process(self) -> str:
        value = self.values.get("process")
        if not isinstance(value, str) or not _PROCESS.fullmatch(value):
            raise self._wrong("process")
        return value

    def result(self) -> ExecResult:
        code = self.exit_code()
        return ExecResult(
            exit_code=code,
            stdout=self.text("stdout"),
            omitted=int(self.number("omitted")),
            output_file=self.text("output_file", 4096),
            seconds=self.number("seconds"),
            process="" if code is not None else self.process(),
        )

    def _wrong(self, name: str) -> Nonsense:
        return Nonsense(self._sandbox_id, self._op, f"{name} {str(self.values.get(name))[:60]!r}")
