import pytest

from shortener import cli
from shortener.models import Link


class FakeStorage:
    links: dict = {}

    def __init__(self, path):
        self.path = path

    def add(self, url, code=None):
        if not url.startswith("http"):
            raise ValueError("not a web address")
        self.links[code or "fake1"] = Link(code or "fake1", url)
        return self.links[code or "fake1"]

    def all(self):
        return list(self.links.values())


@pytest.fixture(autouse=True)
def storage(monkeypatch):
    FakeStorage.links = {}
    monkeypatch.setattr(cli, "Storage", FakeStorage)


def test_add_prints_the_code(capsys):
    assert cli.main(["add", "https://example.org"]) == 0
    assert capsys.readouterr().out == "fake1\n"


def test_a_bad_address_is_told(capsys):
    assert cli.main(["add", "ftp://example.org"]) == 2
    assert "not a web address" in capsys.readouterr().err


def test_list_and_stats(capsys):
    cli.main(["add", "https://example.org"])
    cli.main(["list"])
    cli.main(["stats"])
    assert "fake1  https://example.org" in capsys.readouterr().out
