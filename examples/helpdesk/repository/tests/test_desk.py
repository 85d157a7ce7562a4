import pytest

from helpdesk.desk import HelpdeskError
from helpdesk.models import Status


def test_tickets_are_numbered(desk):
    assert [desk.open("a", customer="Ada").id, desk.open("b", customer="Bo").id] == [1, 2]


def test_a_ticket_is_opened_now(desk, clock):
    assert desk.open("  Printer ", customer="Ada").opened_at == clock.now


@pytest.mark.parametrize(("subject", "customer"), [("", "Ada"), ("x", " ")])
def test_subject_and_customer_are_needed(desk, subject, customer):
    with pytest.raises(HelpdeskError, match="subject and a customer"):
        desk.open(subject, customer=customer)


def test_a_ticket_is_closed_once(desk, clock):
    desk.open("a", customer="Ada")
    clock.forward(hours=2)
    closed = desk.close(1)
    assert (closed.status, closed.closed_at) == (Status.CLOSED, clock.now)
    with pytest.raises(HelpdeskError, match="closed already"):
        desk.close(1)


def test_an_unknown_ticket_is_told(desk):
    with pytest.raises(HelpdeskError, match="#7"):
        desk.get(7)


def test_tickets_of_one_status(desk):
    desk.open("a", customer="Ada")
    desk.open("b", customer="Bo")
    desk.close(1)
    assert [t.id for t in desk.tickets(Status.OPEN)] == [2]
    assert [t.id for t in desk.tickets()] == [1, 2]
