"""The whole way: made by HTTP, followed by HTTP, counted, seen on the command line."""

import io
import json

from shortener import cli
from shortener.api import make_app
from shortener.storage import Storage


def request(app, method, path, body=b""):
    seen = {}

    def start_response(status, headers):
        seen.update(status=status, headers=dict(headers))

    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
    }
    answer = json.loads(b"".join(app(environ, start_response)))
    return seen["status"], seen["headers"], answer


def test_a_link_is_made_followed_counted_and_listed(tmp_path, capsys):
    database = str(tmp_path / "links.db")
    app = make_app(Storage(database), "http://s.example/")
    status, _, made = request(app, "POST", "/links", b'{"url": "https://example.org/long"}')
    assert status == "201 Created"
    assert made["short"] == f"http://s.example/{made['code']}"
    for _ in range(3):
        status, headers, _ = request(app, "GET", f"/{made['code']}")
        assert (status, headers["Location"]) == ("302 Found", "https://example.org/long")
    assert cli.main(["--database", database, "stats"]) == 0
    assert capsys.readouterr().out.split() == ["3", made["code"]]


def test_a_stranger_gets_nowhere(tmp_path):
    app = make_app(Storage(str(tmp_path / "links.db")), "http://s.example")
    assert request(app, "GET", "/' OR 1=1 --")[0] == "404 Not Found"
    assert request(app, "POST", "/links", b'{"url": "javascript:alert(1)"}')[0] == "400 Bad Request"
    assert request(app, "POST", "/links", b"not json")[0] == "400 Bad Request"
