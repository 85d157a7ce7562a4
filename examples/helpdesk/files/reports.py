"""Finding tickets, and the file that accounting imports (docs/reporting.md)."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from datetime import datetime, timezone
from io import StringIO
from typing import Optional

from helpdesk.comments import visible
from helpdesk.models import Ticket
from helpdesk.sla import Policy

COLUMNS = ("id", "customer", "subject", "status", "priority", "opened", "due", "closed", "overdue")
BOM = "\ufeff"


def find(tickets: Iterable[Ticket], words: str, *, internal: bool = False) -> list[Ticket]:
    """Tickets that hold all the words, in any case: in subject, customer, or comments that may be seen."""
    wanted = words.casefold().split()
    return [t for t in tickets if wanted and all(word in _text(t, internal) for word in wanted)]


def _text(ticket: Ticket, internal: bool) -> str:
    said = [c.text for c in visible(ticket, internal=internal)]
    return "\n".join([ticket.subject, ticket.customer, *said]).casefold()


def to_csv(tickets: Iterable[Ticket], policy: Policy, now: datetime) -> str:
    """As accounting's program takes it. Comments stay here: some are internal."""
    out = StringIO()
    writer = csv.writer(out, delimiter=";", lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for ticket in tickets:
        writer.writerow(_row(ticket, policy, now))
    return BOM + out.getvalue()


def _row(ticket: Ticket, policy: Policy, now: datetime) -> list[str]:
    return [
        str(ticket.id),
        ticket.customer,
        ticket.subject,
        ticket.status.value,
        ticket.priority.value,
        _time(ticket.opened_at),
        _time(policy.due_at(ticket)),
        _time(ticket.closed_at),
        "yes" if policy.overdue(ticket, now) else "no",
    ]


def _time(when: Optional[datetime]) -> str:
    return when.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ") if when else ""
