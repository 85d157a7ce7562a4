"""One mailbox per orchestration: every word from outside arrives as the event `mail`.

One persistent wait, re-armed only after it was taken: a new wait in every loop would lose events, and one
that was delivered to an armed wait is not carried over continue-as-new (so `close` drains it first).
"""

from __future__ import annotations

from typing import Any, cast

from durabletask import task

EVENT = "mail"


class Stopped(Exception):
    """The work must end now: cancelled by a person, or the wall time is used up."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Mail:
    """What has been said so far. Duplicates are harmless; the last word on suspension counts."""

    def __init__(self, ctx: task.OrchestrationContext, carried: dict[str, Any] | None = None) -> None:
        self._ctx = ctx
        carried = carried or {}
        self.cancelled: dict[str, Any] | None = carried.get("cancelled")
        self.suspended: bool = bool(carried.get("suspended"))
        self.granted: int = int(carried.get("granted") or 0)
        """Sandboxes that the run may hold at once, where more were granted than at its start."""
        self.answers: dict[str, dict[str, Any]] = dict(carried.get("answers") or {})
        """`plan` or `publish` → the last approval or rejection."""
        self.news: list[str] = list(carried.get("news") or [])
        """Not read yet; whoever reads them takes them out."""
        self._known: list[str] = list(carried.get("known") or [])
        """Ids of all news that ever came: an engine may deliver a word twice."""
        self.ended: dict[str, dict[str, Any]] = {}
        """Agent's instance id → the last end that was told of it."""
        self.wait: task.Task[Any] = ctx.wait_for_external_event(EVENT)

    def take(self) -> bool:
        """Files everything that has arrived. True when there was something."""
        got = False
        while self.wait.is_complete:
            self._file(self.wait.get_result())
            self.wait = self._ctx.wait_for_external_event(EVENT)
            got = True
        return got

    def close(self) -> dict[str, Any]:
        """For continue-as-new: what the next life must know."""
        self.take()
        return self.state()

    def state(self) -> dict[str, Any]:
        return {
            "cancelled": self.cancelled,
            "suspended": self.suspended,
            "granted": self.granted,
            "answers": self.answers,
            "news": list(self.news),
            "known": list(self._known),
        }

    def _file(self, received: Any) -> None:
        if not isinstance(received, dict):
            return  # not ours: a stranger with access to the engine
        message = cast(dict[str, Any], received)
        kind = message.get("kind")
        if kind == "cancel":
            self.cancelled = self.cancelled or message
        elif kind in ("suspend", "resume"):
            self.suspended = kind == "suspend"
        elif kind == "grant":
            number = message.get("sandboxes")
            self.granted = max(self.granted, number if isinstance(number, int) else 0)
        elif kind in ("approve", "reject"):
            self.answers[str(message.get("what"))] = message
        elif kind == "ended":
            self.ended[str(message.get("agent"))] = message
        elif kind == "news":
            text = str(message.get("text", ""))
            known = str(message.get("id") or text)
            if text and known not in self._known:
                self.news.append(text)
                self._known.append(known)
