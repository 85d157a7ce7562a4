"""GitHub, GitLab and Azure DevOps against servers written from their documentation (their paths, fields, status
codes and refusals); none of the three real hosts was asked. Gitea is tested against a real one in tests/forge."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from swarmrun.errors import InvalidResource, PermissionDenied, PublishRefused, RemoteUnavailable
from swarmrun.git.pull_requests import for_remote

TOKEN = "s3cr3t-t0ken"
Answer = tuple[int, Any] | tuple[int, Any, dict[str, str]]


@dataclass
class Asked:
    method: str
    path: str
    query: dict[str, str]
    body: dict[str, Any]
    headers: dict[str, str]


@dataclass
class FakeHost:
    """`answer` decides; everything asked is kept."""

    answer: Callable[[Asked], Answer] = lambda asked: (500, {})
    asked: list[Asked] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def host() -> Iterator[FakeHost]:
    fake = FakeHost()

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            asked = Asked(
                self.command,
                parts.path,
                {k: v[0] for k, v in parse_qs(parts.query).items()},
                json.loads(self.rfile.read(length) or b"{}"),
                {k.lower(): v for k, v in self.headers.items()},
            )
            fake.asked.append(asked)
            status, body, *headers = fake.answer(asked)
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in (headers[0] if headers else {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_PUT = _any

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield fake
    server.shutdown()
    server.server_close()


class Documented:
    """A host that keeps pull requests as the documentation says; `race` opens one behind our back."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.rows: list[dict[str, Any]] = []
        self.race = False

    def row(self, number: int, head: str, base: str, title: str, body: str) -> dict[str, Any]:
        match self.kind:
            case "github":
                page = f"https://github.example/o/r/pull/{number}"
                return {
                    "number": number, "html_url": page, "title": title, "body": body,
                    "head": {"ref": head}, "base": {"ref": base},
                }  # fmt: skip
            case "gitlab":
                page = f"https://gitlab.example/g/s/r/-/merge_requests/{number}"
                return {
                    "iid": number, "id": number + 9000, "web_url": page, "title": title, "description": body,
                    "source_branch": head, "target_branch": base, "source_project_id": 1, "target_project_id": 1,
                }  # fmt: skip
            case _:
                return {
                    "pullRequestId": number, "url": f"https://rest.example/{number}", "title": title,
                    "description": body, "sourceRefName": head, "targetRefName": base,
                }  # fmt: skip

    def __call__(self, asked: Asked) -> Answer:
        body, query = asked.body, asked.query
        match self.kind, asked.method:
            case "github", "GET":
                head = query["head"].removeprefix("o:")
                return 200, [
                    r for r in self.rows if r["head"]["ref"] == head and r["base"]["ref"] == query["base"]
                ]
            case "gitlab", "GET":
                wanted = (query["source_branch"], query["target_branch"])
                return 200, [r for r in self.rows if (r["source_branch"], r["target_branch"]) == wanted]
            case _, "GET":
                wanted = (query["searchCriteria.sourceRefName"], query["searchCriteria.targetRefName"])
                found = [r for r in self.rows if (r["sourceRefName"], r["targetRefName"]) == wanted]
                return 200, {"value": found, "count": len(found)}
            case _, "POST":
                heads = ("head", "source_branch", "sourceRefName")
                bases = ("base", "target_branch", "targetRefName")
                head = next(body[k] for k in heads if k in body)
                base = next(body[k] for k in bases if k in body)
                text = body.get("body") or body.get("description")
                self.rows.append(self.row(len(self.rows) + 7, head, base, body["title"], text))
                if self.race:
                    self.race = False
                    return self.exists()
                return 201, self.rows[-1]
            case _:
                number = int(asked.path.rsplit("/", 1)[-1])
                row = next(
                    r for r in self.rows if number in (r.get("number"), r.get("iid"), r.get("pullRequestId"))
                )
                row.update(body)
                return 200, row

    def exists(self) -> Answer:
        match self.kind:
            case "github":
                error = {
                    "resource": "PullRequest",
                    "code": "custom",
                    "message": "A pull request already exists for o:b.",
                }
                return 422, {"message": "Validation Failed", "errors": [error]}
            case "gitlab":
                return 409, {
                    "message": ["Another open merge request already exists for this source branch: !7"]
                }
            case _:
                return 409, {
                    "message": "TF401179: An active pull request for the source and target branch already exists."
                }


KINDS = {
    "github": ("/o/r.git", "/api/v3/repos/o/r/pulls"),
    "gitlab": ("/g/s/r.git", "/api/v4/projects/g/s/r/merge_requests"),
    "azure-devops": ("/org/my%20project/_git/r", "/org/my project/_apis/git/repositories/r/pullrequests"),
}


def run(host: FakeHost, kind: str, **changes: str):
    client = for_remote(host.url + KINDS[kind][0], TOKEN, kind, allow_http=True)
    wanted = {"head": "swarm/x", "base": "main", "title": "A title", "body": "The body"} | changes
    return asyncio.run(client.open_or_update(**wanted))


@pytest.mark.parametrize("kind", KINDS)
def test_a_pull_request_is_opened_once_and_updated_after(host, kind):
    host.answer = Documented(kind)
    first = run(host, kind)
    again = run(host, kind, body="Another body")
    assert (first.number, first.created) == (7, True)
    assert (again.number, again.created, again.url) == (7, False, first.url)
    assert len(host.answer.rows) == 1
    assert "Another body" in host.answer.rows[0].values()
    assert "rest.example" not in first.url
    assert unquote(host.asked[0].path) == KINDS[kind][1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_draft_is_opened_as_the_host_has_it(host, kind):
    host.answer = Documented(kind)
    client = for_remote(host.url + KINDS[kind][0], TOKEN, kind, allow_http=True, draft=True)
    asyncio.run(client.open_or_update(head="swarm/x", base="main", title="A title", body="b"))
    new = next(asked.body for asked in host.asked if asked.method == "POST")
    assert new.get("draft") or new.get("isDraft") or new["title"].startswith("Draft: ")


@pytest.mark.parametrize("kind", KINDS)
def test_another_base_is_another_pull_request(host, kind):
    host.answer = Documented(kind)
    run(host, kind)
    assert run(host, kind, base="develop").created


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_appears_between_looking_and_opening_is_updated(host, kind):
    host.answer = Documented(kind)
    host.answer.race = True
    assert run(host, kind).created is False


@pytest.mark.parametrize("kind", KINDS)
def test_the_token_is_sent_as_documented_and_is_in_no_message(host, kind):
    host.answer = lambda asked: (400, {"message": f"bad token {TOKEN} {asked.headers['authorization']}"})
    with pytest.raises(PublishRefused) as caught:
        run(host, kind)
    basic = base64.b64encode(f":{TOKEN}".encode()).decode()
    wanted = f"Basic {basic}" if kind == "azure-devops" else f"Bearer {TOKEN}"
    assert host.asked[0].headers["authorization"] == wanted
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((401, {"message": "Bad credentials"}), PermissionDenied),
        ((403, {"message": "Resource not accessible by personal access token"}), PermissionDenied),
        ((403, {"message": "rate limit"}, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"}), RemoteUnavailable),
        ((404, {"message": "Not Found"}), PermissionDenied),
        ((422, {"message": "Validation", "errors": [{"message": "No commits between a and b"}]}), PublishRefused),
        ((429, {}, {"Retry-After": "17"}), RemoteUnavailable),
        ((502, b"<html>bad gateway</html>"), RemoteUnavailable),
        ((200, b"<html>a login page</html>"), PublishRefused),
        ((203, b"<html>https://spsprodweu1.vssps.visualstudio.com/_signin</html>"), PermissionDenied),
        ((302, b"", {"Location": "https://app.vssps.visualstudio.com/_signin?realm=x"}), PermissionDenied),
        ((301, b"", {"Location": "http://127.0.0.1:9/elsewhere"}), PublishRefused),
    ],
)  # fmt: skip
def test_what_a_host_says_is_translated(host, kind, answer, error):
    host.answer = lambda asked: answer
    with pytest.raises(error) as caught:
        run(host, kind)
    assert len(host.asked) == 1
    if answer[0] == 429:
        assert caught.value.retry_after == 17
    if answer[0] == 422:
        assert "No commits between" in str(caught.value)


def test_a_host_that_is_down_can_be_retried():
    client = for_remote("http://127.0.0.1:9/o/r", TOKEN, "github", allow_http=True)
    with pytest.raises(RemoteUnavailable):
        asyncio.run(client.open_or_update(head="a", base="b", title="t", body="b"))


def test_a_body_that_is_too_long_for_the_host_is_cut_visibly(host):
    host.answer = Documented("azure-devops")
    run(host, "azure-devops", body="x" * 5000, title="a\nb")
    assert len(host.answer.rows[0]["description"]) <= 4000
    assert host.answer.rows[0]["description"].endswith("…")
    assert host.answer.rows[0]["title"] == "a b"


def test_a_fork_with_the_same_branch_name_is_not_ours(host):
    documented = Documented("gitlab")
    documented.rows.append({**documented.row(1, "swarm/x", "main", "t", "b"), "source_project_id": 2})
    host.answer = documented
    assert run(host, "gitlab").created


@pytest.mark.parametrize(
    ("kind", "answer", "may"),
    [
        ("github", (200, {"permissions": {"pull": True, "push": False}}), False),
        ("github", (200, {"permissions": {"push": True}}), True),
        (
            "gitlab",
            (200, {"permissions": {"project_access": {"access_level": 20}, "group_access": None}}),
            False,
        ),
        (
            "gitlab",
            (200, {"permissions": {"project_access": None, "group_access": {"access_level": 30}}}),
            True,
        ),
        ("gitlab", (200, {"permissions": {"project_access": None, "group_access": None}}), True),
        ("github", (404, {}), True),
        ("gitlab", (200, b"<html>"), True),
    ],
)
def test_the_right_to_push_is_asked_for_and_silence_is_no_refusal(host, kind, answer, may):
    host.answer = lambda asked: answer
    assert for_remote(host.url + KINDS[kind][0], TOKEN, kind, allow_http=True).may_push() is may


@pytest.mark.parametrize(
    ("url", "api"),
    [
        ("https://github.com/o/r.git", "https://api.github.com/repos/o/r/pulls"),
        ("git@github.com:o/r.git", "https://api.github.com/repos/o/r/pulls"),
        ("https://gitlab.com/g/s/r", "https://gitlab.com/api/v4/projects/g%2Fs%2Fr/merge_requests"),
        ("ssh://git@codeberg.org/o/r", "https://codeberg.org/api/v1/repos/o/r/pulls"),
        (
            "https://org@dev.azure.com/org/p/_git/r",
            "https://dev.azure.com/org/p/_apis/git/repositories/r/pullrequests",
        ),
        (
            "https://dev.azure.com/org/_git/r",
            "https://dev.azure.com/org/r/_apis/git/repositories/r/pullrequests",
        ),
        (
            "git@ssh.dev.azure.com:v3/org/p/r",
            "https://dev.azure.com/org/p/_apis/git/repositories/r/pullrequests",
        ),
        (
            "https://org.visualstudio.com/p/_git/r",
            "https://org.visualstudio.com/p/_apis/git/repositories/r/pullrequests",
        ),
    ],
)
def test_well_known_hosts_are_found_by_name(url, api):
    client: Any = for_remote(url, TOKEN)
    assert client._rest.api + client._path == api


@pytest.mark.parametrize(
    "url", ["https://git.example/o/r", "/srv/r.git", "https://github.com.evil.example/o/r"]
)
def test_an_unknown_host_is_a_clear_error(url):
    with pytest.raises(InvalidResource):
        for_remote(url, TOKEN)
    with pytest.raises(InvalidResource, match="bitbucket"):
        for_remote("https://git.example/o/r", TOKEN, "bitbucket")


def test_a_token_is_not_sent_in_the_clear():
    with pytest.raises(PermissionDenied, match="plain http"):
        for_remote("http://git.example/o/r", TOKEN, "gitea")
    with pytest.raises(PermissionDenied, match="token"):
        for_remote("https://github.com/o/r", "  ")


def test_gitea_is_asked_again_while_it_has_not_noticed_a_repositorys_first_push(host):
    empty = True

    def answer(asked: Asked) -> Answer:
        if asked.path.endswith("/pulls") and asked.method == "GET":
            return (404, {"message": "not found"}) if empty else (200, [])
        if asked.method == "POST":
            return 201, {"number": 1, "html_url": "u"}
        return 200, {"empty": empty}

    host.answer = answer
    pulls = for_remote(f"{host.url}/o/r", TOKEN, "gitea", allow_http=True)

    def opened() -> Any:
        return asyncio.run(pulls.open_or_update(head="h", base="b", title="t", body="x"))

    with pytest.raises(RemoteUnavailable) as early:
        opened()
    assert (early.value.reason, early.value.retry_after) == ("PushNotNoticed", 1.0)
    empty = False
    assert opened().number == 1
    host.answer = lambda asked: (404, {"message": "not found"})
    with pytest.raises(PermissionDenied):
        opened()


def test_a_push_that_gitea_notices_between_two_questions_is_no_refusal(host):
    """Seen: no pulls (404), and a moment later the repository counts as empty no more."""
    asked_for_pulls = 0

    def answer(asked: Asked) -> Answer:
        nonlocal asked_for_pulls
        if asked.path.endswith("/pulls") and asked.method == "GET":
            asked_for_pulls += 1
            return (404, {"message": "not found"}) if asked_for_pulls == 1 else (200, [])
        if asked.method == "POST":
            return 201, {"number": 1, "html_url": "u"}
        return 200, {"empty": False}

    host.answer = answer
    pulls = for_remote(f"{host.url}/o/r", TOKEN, "gitea", allow_http=True)
    assert asyncio.run(pulls.open_or_update(head="h", base="b", title="t", body="x")).number == 1
