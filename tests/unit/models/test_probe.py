from __future__ import annotations

import asyncio

import pytest

from swarmrun.models.client import OpenAIModel
from swarmrun.models.probe import probe
from swarmrun.models.profiles import profile_for

CALL = [("c1", "report_number", '{"number": 7}')]
JSON = '{"colour": "blue", "count": 3}'


def findings(server, profile):
    async def go():
        client = OpenAIModel(profile, endpoint=server.url)
        found = await probe(client)
        await client.close()
        return found

    return {finding.check: finding for finding in asyncio.run(go())}


def test_a_model_that_does_everything_has_nothing_to_mend(server, profile):
    server.play(server.says(text="ready"), server.says(calls=CALL), server.says(text=JSON))
    found = findings(server, profile)
    assert list(found) == ["reachable", "key", "answers", "usage", "tools", "json"]
    assert all(f.ok and not f.mend for f in found.values())


def test_reasoning_is_played_back_to_a_model_that_has_it(server):
    says = server.says
    server.play(says(text="ready"), says(reasoning="hm", calls=CALL), says(text="ok"), says(text=JSON))
    found = findings(server, profile_for("deepseek-v4"))
    assert found["reasoning"].ok
    assert server.seen[2]["messages"][2]["reasoning_content"] == "hm"


@pytest.mark.parametrize(
    ("status", "check"), [(401, "key"), (500, "reachable"), (429, "reachable"), (404, "answers")]
)
def test_the_first_hopeless_finding_ends_it_and_names_the_mend(server, profile, status, check):
    server.play(server.status(status, "no"))
    found = findings(server, profile)
    assert not found[check].ok
    assert found[check].mend
    assert len(server.seen) == 1


def test_a_server_without_tools_and_without_schemas_is_told_apart(server):
    server.play(
        server.chunks({"content": "ready"}),
        server.status(400, "some-model does not support tools"),
        server.status(400, "response_format is not supported"),
        server.says(text=JSON),
    )
    found = findings(server, profile_for("some-model"))
    assert not found["usage"].ok
    assert not found["tools"].ok
    assert "tool calling" in found["tools"].mend
    assert found["json"].ok
    assert "jsonSchema: none" in found["json"].mend


def test_a_model_that_only_talks_about_calling_is_found_out(server, profile):
    server.play(server.says(text="ready"), server.says(text="I called it!"), server.says(text="blue, 3"))
    found = findings(server, profile)
    assert not found["tools"].ok
    assert not found["json"].ok
