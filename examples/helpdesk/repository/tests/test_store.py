import json

import pytest

from helpdesk.desk import Desk


def test_what_is_saved_is_read_again(desk, store, clock):
    desk.open("Umlaut ä", customer="Ada")
    desk.open("b", customer="Bo")
    desk.close(2)
    assert Desk(store, clock).tickets() == desk.tickets()


def test_rows_of_an_older_version_are_read(store, tmp_path):
    row = {"id": 1, "subject": "a", "customer": "Ada", "opened_at": "2024-01-01T00:00:00+00:00"}
    (tmp_path / "tickets.json").write_text(json.dumps([row]))
    assert store.load()[0].closed_at is None


def test_another_file_is_refused(store, tmp_path):
    (tmp_path / "tickets.json").write_text("{}")
    with pytest.raises(ValueError, match="no list of tickets"):
        store.load()
