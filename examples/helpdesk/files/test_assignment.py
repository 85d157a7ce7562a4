import pytest

from helpdesk.assignment import assign, take
from helpdesk.desk import HelpdeskError
from helpdesk.models import Priority
from helpdesk.sla import Policy, prioritise


def test_a_ticket_is_given_and_taken_back(desk):
    desk.open("Printer", customer="Ada")
    assert assign(desk, 1, " kim ").assignee == "kim"
    assert assign(desk, 1, "lee").assignee == "lee"
    assert assign(desk, 1, "").assignee == ""


def test_a_closed_ticket_is_nobodys(desk):
    desk.open("Printer", customer="Ada")
    desk.close(1)
    with pytest.raises(HelpdeskError, match="closed"):
        assign(desk, 1, "kim")


def test_the_ticket_that_is_due_first_is_taken(desk, clock):
    desk.open("old, normal", customer="Ada")
    clock.forward(hours=1)
    desk.open("new, urgent", customer="Bo")
    prioritise(desk, 2, Priority.URGENT)
    assert [take(desk, "kim", Policy()).id, take(desk, "lee", Policy()).id] == [2, 1]
    with pytest.raises(HelpdeskError, match="has its agent"):
        take(desk, "kim", Policy())


def test_tickets_due_at_once_are_taken_by_number(desk):
    desk.open("a", customer="Ada")
    desk.open("b", customer="Bo")
    assert take(desk, "kim", Policy()).id == 1


def test_the_command_line_gives_and_takes(helpdesk):
    helpdesk("open", "Printer", "--customer", "Ada")
    assert helpdesk("assign", "1", "kim") == (0, "#1 is with kim\n", "")
    assert "kim" in helpdesk("show", "1")[1]
    assert helpdesk("take", "lee") == (1, "", "error: every open ticket has its agent\n")
    assert helpdesk("assign", "1", "") == (0, "#1 is with nobody\n", "")
    assert helpdesk("take", "lee") == (0, "#1 is with lee\n", "")
