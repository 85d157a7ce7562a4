"""What is said about a ticket, and who may read it."""

from __future__ import annotations

from dataclasses import replace

from helpdesk.desk import Desk, HelpdeskError
from helpdesk.models import Comment, Ticket, Visibility


def add(
    desk: Desk, ticket_id: int, author: str, text: str, visibility: Visibility = Visibility.PUBLIC
) -> Ticket:
    """Also to a closed ticket: customers answer late."""
    ticket = desk.get(ticket_id)
    if not author.strip() or not text.strip():
        raise HelpdeskError("a comment needs an author and a text")
    comment = Comment(author.strip(), text.strip(), desk.now(), visibility)
    return desk.save(replace(ticket, comments=(*ticket.comments, comment)))


def visible(ticket: Ticket, *, internal: bool = False) -> list[Comment]:
    """The oldest first. `internal`: for the team, which sees all; others see public ones only."""
    return [c for c in ticket.comments if internal or c.visibility is Visibility.PUBLIC]
