"""Logging of the operator's processes, set up in one place: text for people, or one JSON object a line.

| variable | meaning | default |
| --- | --- | --- |
| `SWARMRUN_LOG` | level of our own loggers; everybody else's is `WARNING` | `INFO` |
| `SWARMRUN_LOG_FORMAT` | `text` or `json` | `text` |

A line carries where in which run it was written (`place.Place`). No prompt, tool output or secret is ever logged:
nothing here logs contents, foreign loggers that would (an SDK's at DEBUG) are kept at WARNING, an exception's
message is cut short, and what looks like a key is taken out of every line.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from pydantic import ValidationError

from swarmrun.errors import InvalidResource
from swarmrun.observability.place import here
from swarmrun.observability.secrets import held, scrub

OURS = ("swarmrun", "kopf")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
MESSAGE = 300
"""Characters of an exception's message: strangers' errors quote what they choked on. A choice."""

_Exception = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def set_up(env: Mapping[str, str], stream: Any = None) -> None:
    """Of the whole process; a second call replaces the first. Raises InvalidResource that names the variable."""
    level = (env.get("SWARMRUN_LOG") or "INFO").upper()
    form = env.get("SWARMRUN_LOG_FORMAT") or "text"
    if level not in LEVELS:
        raise InvalidResource(f"SWARMRUN_LOG is {level!r}", mend=f"one of {', '.join(LEVELS)}")
    if form not in ("text", "json"):
        raise InvalidResource(f"SWARMRUN_LOG_FORMAT is {form!r}", mend="text or json")
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter((JsonLines if form == "json" else TextLines)(held(env)))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in OURS:
        logging.getLogger(name).setLevel(level)
    # A line for each event of each resource, and two for each probe.
    for chatty in ("kopf.objects", "kopf.activities.probe"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level)))


class _Lines(logging.Formatter):
    """`known`: values that are taken out wherever they stand."""

    def __init__(self, known: tuple[str, ...] = ()) -> None:
        super().__init__()
        self._known = known

    def format(self, record: logging.LogRecord) -> str:
        error = self.formatException(record.exc_info) if record.exc_info else ""
        message = scrub(record.getMessage(), self._known)
        return self.line(
            record, datetime.fromtimestamp(record.created, UTC), message, scrub(error, self._known)
        )

    def line(self, record: logging.LogRecord, time: datetime, message: str, error: str) -> str:
        raise NotImplementedError

    def formatException(self, ei: _Exception) -> str:
        """Where it came from and what it was, outermost last; without local values."""
        lines: list[str] = []
        error = ei[1]
        while error is not None:
            where = "".join(traceback.format_list(traceback.extract_tb(error.__traceback__)))
            lines.insert(0, f"{where}{type(error).__name__}: {said(error)}")
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "\n".join(lines)


class TextLines(_Lines):
    def line(self, record: logging.LogRecord, time: datetime, message: str, error: str) -> str:
        place = " ".join(f"{k}={v}" for k, v in here().known().items())
        stamp = time.strftime("%Y-%m-%d %H:%M:%S,") + f"{time.microsecond // 1000:03d}"
        line = f"{stamp} {record.levelname} {record.name} {message}"
        return "\n".join(filter(None, [f"{line} [{place}]" if place else line, error]))


class JsonLines(_Lines):
    def line(self, record: logging.LogRecord, time: datetime, message: str, error: str) -> str:
        fields: dict[str, Any] = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": message,
            **here().known(),
        }
        return json.dumps(fields | ({"error": error} if error else {}), ensure_ascii=False)


def said(error: BaseException) -> str:
    """An exception's message as it may be logged."""
    if isinstance(error, ValidationError):
        # Its text quotes the values that do not fit.
        wrong = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False)]
        return f"{error.title}: {'; '.join(wrong)}"[:MESSAGE]
    return str(error)[:MESSAGE]
