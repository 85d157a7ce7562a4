import pytest

from helpdesk import comments
from helpdesk.desk import Desk, HelpdeskError
from helpdesk.models import Visibility


@pytest.fixture()
def ticket(desk):
    return desk.open("Printer", customer="Ada")


def test_comments_stand_in_the_order_in_which_they_came(desk, ticket, clock):
    comments.add(desk, ticket.id, "kim", "On it.")
    clock.forward(minutes=5)
    ticket = comments.add(desk, ticket.id, "Ada", "Thanks!")
    assert [(c.author, c.text) for c in comments.visible(ticket)] == [("kim", "On it."), ("Ada", "Thanks!")]
    assert ticket.comments[1].at == clock.now


def test_internal_comments_are_for_the_team(desk, ticket):
    ticket = comments.add(desk, ticket.id, "kim", "He broke it.", Visibility.INTERNAL)
    assert comments.visible(ticket) == []
    assert [c.text for c in comments.visible(ticket, internal=True)] == ["He broke it."]


def test_comments_are_kept_in_the_file(desk, store, clock, ticket):
    ticket = comments.add(desk, ticket.id, "kim", "On it.", Visibility.INTERNAL)
    assert Desk(store, clock).get(ticket.id) == ticket


@pytest.mark.parametrize(("author", "text"), [("", "x"), ("kim", "  ")])
def test_author_and_text_are_needed(desk, ticket, author, text):
    with pytest.raises(HelpdeskError, match="author and a text"):
        comments.add(desk, ticket.id, author, text)


def test_an_unknown_ticket_is_told(desk):
    with pytest.raises(HelpdeskError, match="#7"):
        comments.add(desk, 7, "kim", "x")


def test_show_keeps_internal_comments_back_unless_asked(helpdesk):
    helpdesk("open", "Printer", "--customer", "Ada")
    assert helpdesk("note", "1", "He broke it.", "--by", "kim", "--internal")[0] == 0
    assert helpdesk("note", "1", "We are on it.", "--by", "kim") == (0, "#1 has 2 comments\n", "")
    shown = helpdesk("show", "1")[1]
    assert "kim: We are on it." in shown
    assert "broke" not in shown
    assert "kim (internal): He broke it." in helpdesk("show", "1", "--internal")[1]
