"""Who works on which ticket."""

from __future__ import annotations

from dataclasses import replace

from helpdesk.desk import Desk, HelpdeskError
from helpdesk.models import Status, Ticket
from helpdesk.sla import Policy


def assign(desk: Desk, ticket_id: int, agent: str) -> Ticket:
    """Gives an open ticket to an agent, whoever had it before. An empty name takes it back."""
    ticket = desk.get(ticket_id)
    if ticket.status is Status.CLOSED:
        raise HelpdeskError(f"ticket #{ticket_id} is closed: nobody need work on it")
    return desk.save(replace(ticket, assignee=agent.strip()))


def take(desk: Desk, agent: str, policy: Policy) -> Ticket:
    """Gives an agent the ticket that is due first of those that nobody has."""
    if not agent.strip():
        raise HelpdeskError("whose is it to be? Name an agent")
    free = [t for t in desk.tickets(Status.OPEN) if not t.assignee]
    if not free:
        raise HelpdeskError("every open ticket has its agent")
    first = min(free, key=lambda t: (policy.due_at(t), t.id))
    return assign(desk, first.id, agent)
