"""A recording of a server is played back and gives the same answers. The server is a cassette itself."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import httpx
import pytest

from swarmrun.cassette.format import load
from swarmrun.cassette.record import RecordingProxy
from swarmrun.cassette.server import CassetteServer
from swarmrun.errors import Conflict, InvalidResource, RateLimited
from swarmrun.models.client import OpenAIModel
from swarmrun.models.profiles import profile_for
from swarmrun.observability.secrets import HIDDEN, scrub

ENTRIES = [
    {
        "role": "coder",
        "task": "storage",
        "turn": 1,
        "reasoning": "let me see",
        "text": "I write two lines.",
        "faults": [{"status": 429, "retry_after": 0.5}],
        "calls": [
            {"name": "write_file", "arguments": {"path": "a.py", "content": "import os\n\nx = 1\n"}},
            {"name": "write_file", "arguments": "{broken"},
        ],
        "usage": {"input": 100, "cached": 50, "output": 9},
    },
    {"role": "coder", "task": "storage", "turn": 2, "text": "done"},
]
PROFILES = [profile_for("deepseek-v4"), profile_for("gpt-5-mini")]


async def run(url, req, profile, key=None):
    client = OpenAIModel(profile, endpoint=url, key=key)
    replies = []
    for turn in (1, 1, 2):
        try:
            replies.append(await client.turn(req(turn)))
        except RateLimited as exc:
            replies.append(exc.retry_after)
    await client.close()
    return replies


@pytest.mark.parametrize("profile", PROFILES, ids=["chat", "responses"])
def test_a_recording_plays_back_what_was_said(write, req, tmp_path, profile):
    out = tmp_path / "recorded.yaml"
    with CassetteServer(write(*ENTRIES)) as real, RecordingProxy(real.url, out) as proxy:
        heard = asyncio.run(run(proxy.url, req, profile))
    with CassetteServer(out) as played:
        again = asyncio.run(run(played.url, req, profile))
    assert heard[0] == again[0] == 0.5
    for one, other in zip(heard[1:], again[1:], strict=True):
        assert replace(one, messages=()) == replace(other, messages=())
    assert "|" in out.read_text(), "texts of several lines stay readable"
    assert load(out).entries[0].expect.tools == ["write_file"]


def test_a_recording_holds_no_secret(write, req, tmp_path):
    key = "my-private-key-123456"
    leaks = f"The key is {key}, also sk-proj-AbCdEfGh12345678IjKl and ghp_{'a1' * 18}"
    out = tmp_path / "recorded.yaml"

    async def source():
        return key

    cassette = write({"role": "coder", "turn": "*", "text": leaks})
    with CassetteServer(cassette) as real, RecordingProxy(real.url, out) as proxy:
        asyncio.run(run(proxy.url, req, PROFILES[0], source))
    text = out.read_text()
    assert HIDDEN in text
    for secret in (key, "sk-proj", "ghp_"):
        assert secret not in text


@pytest.mark.parametrize(
    "innocent",
    ["token = secrets.token_urlsafe(32)", "sk-folding-cube-of-the-page", "/items?key=a", "Bearer of bad news",
     "d41d8cd98f00b204e9800998ecf8427e", "password: str = Field(min_length=8)"],
)  # fmt: skip
def test_program_text_is_no_secret(innocent):
    assert scrub(innocent) == innocent


# Put together here, so that the repository itself holds nothing that looks like one.
SECRETS = [
    "sk-" + "ant-api03-AAAA1111BBBB2222",
    "AKIA" + "IOSFODNN7EXAMPLE",
    "https://h/x?api-key=" + "abcdef123456",
    "Bearer " + "abcdefgh12345678",
    "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0In0." + "dozjgNryP4J3jVmNHl0w5N",
    "glpat-" + "abcdefghij1234567890",
    "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_what_looks_like_a_key_is_removed(secret):
    assert HIDDEN in scrub(f"before {secret} after")
    assert secret not in scrub(f"before {secret} after")


def test_a_recording_never_overwrites(tmp_path):
    out = tmp_path / "there.yaml"
    out.write_text("mine")
    with pytest.raises(Conflict):
        RecordingProxy("http://127.0.0.1:1/v1", out)
    with pytest.raises(InvalidResource):
        RecordingProxy("localhost", tmp_path / "new.yaml")


def test_an_upstream_that_is_gone_closes_the_connection_and_records_nothing(tmp_path, capsys):
    out = tmp_path / "o.yaml"
    with RecordingProxy("http://127.0.0.1:9/v1", out) as proxy, pytest.raises(httpx.HTTPError):
        httpx.post(f"{proxy.url}/responses", json={})
    assert "upstream" in capsys.readouterr().err
    assert not out.exists()
