import pytest

from shortener.models import Link
from shortener.storage import Storage


def test_a_link_is_found_by_its_code():
    storage = Storage()
    link = storage.add("https://example.org/a", "abcd")
    assert storage.get("abcd") == link == Link("abcd", "https://example.org/a", 0)


def test_a_random_code_is_made():
    assert len(Storage().add("https://example.org").code) == 7


def test_hits_are_counted():
    storage = Storage()
    storage.add("https://example.org", "abcd")
    storage.hit("abcd")
    assert storage.hit("abcd").hits == 2


@pytest.mark.parametrize("url", ["javascript:alert(1)", "", "https://a b"])
def test_other_addresses_are_refused(url):
    with pytest.raises(ValueError):
        Storage().add(url)


def test_a_taken_code_is_refused():
    storage = Storage()
    storage.add("https://example.org", "abcd")
    with pytest.raises(ValueError):
        storage.add("https://example.org/b", "abcd")


def test_an_unknown_code_is_an_error():
    with pytest.raises(KeyError):
        Storage().get("nope")


def test_the_base_may_end_in_a_slash():
    assert Link("abcd", "https://example.org").short_url("http://s.example/") == "http://s.example/abcd"
