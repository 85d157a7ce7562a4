import io
import json

from shortener.api import make_app
from shortener.formats import valid_code
from shortener.models import Link


class FakeStorage:
    """The contract, in memory: storage itself is another task's."""

    def __init__(self):
        self.links = {}

    def add(self, url, code=None):
        if not url.startswith("http"):
            raise ValueError("not a web address")
        link = Link(code or "fake1", url)
        self.links[link.code] = link
        return link

    def hit(self, code):
        return self.links[code]


def call(app, method, path, body=None):
    data = json.dumps(body).encode() if body is not None else b""
    seen = {}

    def start_response(status, headers):
        seen["status"], seen["headers"] = status, dict(headers)

    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "CONTENT_LENGTH": str(len(data)),
        "wsgi.input": io.BytesIO(data),
    }
    answer = json.loads(b"".join(app(environ, start_response)))
    return seen["status"], seen["headers"], answer


def test_a_link_is_made():
    app = make_app(FakeStorage(), "http://s.example")
    status, _, answer = call(app, "POST", "/links", {"url": "https://example.org"})
    assert status == "201 Created"
    assert answer == {"code": "fake1", "short": "http://s.example/fake1"}


def test_a_code_redirects():
    storage = FakeStorage()
    storage.add("https://example.org", "abcd")
    status, headers, _ = call(make_app(storage, ""), "GET", "/abcd")
    assert status == "302 Found"
    assert headers["Location"] == "https://example.org"


def test_unknown_codes_and_bad_bodies_are_told():
    app = make_app(FakeStorage(), "")
    assert call(app, "GET", "/nope")[0] == "404 Not Found"
    assert call(app, "POST", "/links", {"url": "javascript:x"})[0] == "400 Bad Request"
    assert call(app, "POST", "/links", ["no"])[0] == "400 Bad Request"


def test_codes_are_letters_and_digits():
    assert valid_code("abcd") and not valid_code("ab") and not valid_code("a/b/c")


def test_odd_characters_are_quoted():
    assert Link("a b", "https://example.org").short_url("http://s.example") == "http://s.example/a%20b"
