from datetime import timedelta

import pytest

from helpdesk.desk import Desk, HelpdeskError
from helpdesk.models import Priority
from helpdesk.sla import Policy, prioritise


@pytest.fixture()
def ticket(desk):
    return desk.open("Printer", customer="Ada")


@pytest.mark.parametrize(
    ("priority", "hours"),
    [(Priority.URGENT, 4), (Priority.HIGH, 8), (Priority.NORMAL, 24), (Priority.LOW, 72)],
)
def test_each_priority_has_its_time(desk, ticket, priority, hours):
    ticket = prioritise(desk, ticket.id, priority)
    assert Policy().due_at(ticket) == ticket.opened_at + timedelta(hours=hours)


def test_a_ticket_is_late_only_after_its_time(ticket, clock):
    clock.forward(hours=24)
    assert not Policy().overdue(ticket, clock.now)
    clock.forward(seconds=1)
    assert Policy().overdue(ticket, clock.now)


def test_the_clock_of_a_closed_ticket_stands_still(desk, ticket, clock):
    clock.forward(hours=20)
    closed = desk.close(ticket.id)
    clock.forward(days=30)
    assert Policy().hours_left(closed, clock.now) == 4
    assert not Policy().overdue(closed, clock.now)


def test_a_priority_is_kept_in_the_file(desk, store, clock, ticket):
    prioritise(desk, ticket.id, Priority.URGENT)
    assert Desk(store, clock).get(ticket.id).priority is Priority.URGENT


def test_a_closed_ticket_keeps_its_priority(desk, ticket):
    desk.close(ticket.id)
    with pytest.raises(HelpdeskError, match="stays normal"):
        prioritise(desk, ticket.id, Priority.HIGH)


def test_the_command_line_shows_what_is_due(helpdesk):
    helpdesk("open", "Printer", "--customer", "Ada")
    assert helpdesk("prioritise", "1", "urgent") == (0, "#1 is urgent\n", "")
    assert "in 3 h" in helpdesk("list")[1]
    shown = helpdesk("show", "1")[1]
    assert "due" in shown
    assert "urgent" in shown


def test_an_unknown_priority_is_refused(helpdesk):
    with pytest.raises(SystemExit):
        helpdesk("prioritise", "1", "soon")
