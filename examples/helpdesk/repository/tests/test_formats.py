from datetime import datetime, timedelta, timezone

import pytest

from helpdesk import formats

NOW = datetime(2025, 3, 1, 9, 30, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("minutes", "text"), [(0, "0 min ago"), (59, "59 min ago"), (60, "1 h ago"), (3000, "2 d ago")]
)
def test_how_long_ago(minutes, text):
    assert formats.ago(NOW - timedelta(minutes=minutes), NOW) == text


def test_long_texts_are_shortened():
    assert formats.shorten("one\n two", 20) == "one two"
    assert formats.shorten("a long subject", 8) == "a long…"


def test_times_are_told_in_utc():
    assert formats.stamp(NOW.astimezone(timezone(timedelta(hours=2)))) == "2025-03-01 09:30"


def test_columns_are_aligned():
    assert formats.table(("id", "x"), [("1", "a"), ("100", "b")]) == "id   x\n1    a\n100  b"


def test_wide_characters_take_two_columns():
    """A terminal shows 田中 four columns wide."""
    assert formats.table(("who", "x"), [("田中", "a"), ("Ada", "b")]) == "who   x\n田中  a\nAda   b"
