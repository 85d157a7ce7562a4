"""What happens to tickets: opened, changed, closed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from typing import Optional

from helpdesk.models import Status, Ticket
from helpdesk.store import Store


class HelpdeskError(Exception):
    """Something that the user can mend; the text says what."""


def _utc_now() -> datetime:
    return datetime.now(timezone.utc)


class Desk:
    """All tickets of one store. Every change is saved at once."""

    def __init__(self, store: Store, clock: Callable[[], datetime] = _utc_now) -> None:
        self._store = store
        self._clock = clock
        self._tickets = {t.id: t for t in store.load()}

    def now(self) -> datetime:
        return self._clock()

    def open(self, subject: str, *, customer: str) -> Ticket:
        if not subject.strip() or not customer.strip():
            raise HelpdeskError("a ticket needs a subject and a customer")
        number = max(self._tickets, default=0) + 1
        return self.save(Ticket(number, subject.strip(), customer.strip(), self.now()))

    def get(self, ticket_id: int) -> Ticket:
        try:
            return self._tickets[ticket_id]
        except KeyError:
            raise HelpdeskError(f"there is no ticket #{ticket_id}") from None

    def close(self, ticket_id: int) -> Ticket:
        ticket = self.get(ticket_id)
        if ticket.status is Status.CLOSED:
            raise HelpdeskError(f"ticket #{ticket_id} is closed already")
        return self.save(replace(ticket, status=Status.CLOSED, closed_at=self.now()))

    def tickets(self, status: Optional[Status] = None) -> list[Ticket]:
        """By number, the oldest first; all, or those of one status."""
        return [t for _, t in sorted(self._tickets.items()) if status in (None, t.status)]

    def save(self, ticket: Ticket) -> Ticket:
        """The ticket takes the place of the one with its number."""
        self._tickets[ticket.id] = ticket
        self._store.save(self.tickets())
        return ticket
