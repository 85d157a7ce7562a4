"""How soon a ticket must be solved, by its priority."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from helpdesk.desk import Desk, HelpdeskError
from helpdesk.models import Priority, Status, Ticket

HOURS = {Priority.URGENT: 4, Priority.HIGH: 8, Priority.NORMAL: 24, Priority.LOW: 72}


class Policy:
    """Hours until a ticket is due, day and night alike: the team works in shifts."""

    def __init__(self, hours: Mapping[Priority, int] = HOURS) -> None:
        self._hours = hours

    def due_at(self, ticket: Ticket) -> datetime:
        """When the ticket must be solved. It stays the same when the ticket is closed."""
        return ticket.opened_at + timedelta(hours=self._hours[ticket.priority])

    def overdue(self, ticket: Ticket, now: datetime) -> bool:
        """Whether an open ticket is late, or a closed one was."""
        return self.hours_left(ticket, now) < 0

    def hours_left(self, ticket: Ticket, now: datetime) -> float:
        """Until it is due; negative when late. A closed ticket's clock stands still."""
        closed = ticket.status is Status.CLOSED and ticket.closed_at
        return (self.due_at(ticket) - (closed or now)).total_seconds() / 3600


def prioritise(desk: Desk, ticket_id: int, priority: Priority) -> Ticket:
    ticket = desk.get(ticket_id)
    if ticket.status is Status.CLOSED:
        raise HelpdeskError(f"ticket #{ticket_id} is closed: its priority stays {ticket.priority.value}")
    return desk.save(replace(ticket, priority=priority))
