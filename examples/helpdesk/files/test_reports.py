import csv
from datetime import timedelta
from io import StringIO

import pytest

from helpdesk import reports
from helpdesk.models import Comment, Visibility


class FakePolicy:
    """The contract, with a day for everything: the real one is another task's."""

    def due_at(self, ticket):
        return ticket.opened_at + timedelta(days=1)

    def overdue(self, ticket, now):
        return now > self.due_at(ticket)


@pytest.fixture(autouse=True)
def comments(monkeypatch):
    said = [("public", Visibility.PUBLIC), ("secret", Visibility.INTERNAL)]

    def visible(ticket, *, internal=False):
        return [
            Comment("kim", text, ticket.opened_at, visibility)
            for text, visibility in said
            if internal or visibility is Visibility.PUBLIC
        ]

    monkeypatch.setattr(reports, "visible", visible)


@pytest.fixture()
def exported(desk, clock):
    """Opens a ticket, lets two days pass, and gives what `to_csv` makes of it."""

    def export(subject="Printer", customer="Zoë"):
        desk.open(subject, customer=customer)
        clock.forward(days=2)
        return reports.to_csv(desk.tickets(), FakePolicy(), clock.now)

    return export


def rows(text):
    return list(csv.reader(StringIO(text.removeprefix(reports.BOM), newline=""), delimiter=";"))


def test_all_words_must_be_there_in_any_case(desk):
    desk.open("Printer on FIRE", customer="Ada")
    desk.open("Printer jam", customer="Bo")
    assert [t.id for t in reports.find(desk.tickets(), "printer")] == [1, 2]
    assert [t.id for t in reports.find(desk.tickets(), "fire ada")] == [1]
    assert reports.find(desk.tickets(), "  ") == []


def test_internal_comments_are_searched_for_the_team_only(desk):
    desk.open("Printer", customer="Ada")
    assert len(reports.find(desk.tickets(), "public")) == 1
    assert reports.find(desk.tickets(), "secret") == []
    assert len(reports.find(desk.tickets(), "secret", internal=True)) == 1


def test_the_file_is_as_accounting_takes_it(exported):
    text = exported()
    assert text.startswith("\ufeffid;customer;subject;")
    assert text.endswith("\r\n")
    assert "2025-03-01T09:30:00Z;2025-03-02T09:30:00Z;;yes" in text
    assert "Zoë" in text


@pytest.mark.parametrize("sign", "=+-@")
def test_a_cell_that_a_spreadsheet_would_run_is_defused(exported, sign):
    assert rows(exported(subject=f"{sign}HYPERLINK()"))[1][2] == f"'{sign}HYPERLINK()"


def test_comments_are_not_exported(exported):
    assert "secret" not in exported()
    assert "public" not in exported()


def test_the_command_line_writes_the_file(helpdesk, tmp_path, monkeypatch):
    monkeypatch.setattr("helpdesk.cli.Policy", FakePolicy)
    helpdesk("open", "Printer", "--customer", "Zoë")
    target = tmp_path / "report.csv"
    assert helpdesk("export", str(target)) == (0, f"1 ticket in {target}\n", "")
    data = target.read_bytes()
    assert data.startswith(b"\xef\xbb\xbfid;")
    assert data.count(b"\r\n") == data.count(b"\n") == 2


def test_the_command_line_finds(helpdesk):
    helpdesk("open", "Printer", "--customer", "Ada")
    assert "Printer" in helpdesk("find", "printer")[1]
    assert helpdesk("find", "nothing") == (0, "no ticket holds nothing\n", "")
