"""The cassette is asked by the OpenAI SDK itself: what it serves is what a real server would."""

from __future__ import annotations

import concurrent.futures
import json
import socket
import urllib.request

import openai
import pytest

from swarmrun.cassette.server import CassetteServer
from swarmrun.errors import Conflict

HEADERS = {
    "x-swarmrun-run": "r",
    "x-swarmrun-role": "coder",
    "x-swarmrun-task": "storage",
    "x-swarmrun-attempt": "1",
    "x-swarmrun-turn": "1",
}
ENTRY = {
    "role": "coder",
    "task": "storage",
    "turn": 1,
    "reasoning": "hm " * 50,
    "text": "I write. " * 20,
    "calls": [{"name": "write_file", "arguments": {"path": "a.py", "content": "x = 1\n" * 30}}],
    "usage": {"input": 1200, "cached": 800, "output": 90, "reasoning": 12},
}
TOOL = {"name": "write_file", "parameters": {"type": "object", "properties": {}}}
CHAT_TOOLS = [{"type": "function", "function": TOOL}]


def client(server: CassetteServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url, api_key="x", max_retries=0, default_headers=HEADERS)


def chat(server, stream=False, messages=None, **more):
    more = {"tools": CHAT_TOOLS, **more}
    asked = messages or [{"role": "user", "content": "go"}]
    return client(server).chat.completions.create(model="m", messages=asked, stream=stream, **more)


def respond(server, stream=False, **more):
    more = {"tools": [{"type": "function", "strict": False, **TOOL}], "input": "go", **more}
    return client(server).responses.create(model="m", stream=stream, **more)


def test_chat_in_one_piece(write):
    with CassetteServer(write(ENTRY)) as server:
        answer = chat(server)
    choice = answer.choices[0]
    assert choice.message.content == ENTRY["text"]
    assert json.loads(choice.message.tool_calls[0].function.arguments) == ENTRY["calls"][0]["arguments"]
    assert (choice.finish_reason, answer.usage.prompt_tokens_details.cached_tokens) == ("tool_calls", 800)


def test_chat_as_a_stream(write):
    with CassetteServer(write(ENTRY)) as server:
        chunks = list(chat(server, stream=True, stream_options={"include_usage": True}))
    deltas = [c.choices[0].delta for c in chunks if c.choices]
    assert "".join(d.content or "" for d in deltas) == ENTRY["text"]
    assert "".join(getattr(d, "reasoning_content", "") for d in deltas) == ENTRY["reasoning"]
    arguments = "".join(d.tool_calls[0].function.arguments for d in deltas if d.tool_calls)
    assert json.loads(arguments) == ENTRY["calls"][0]["arguments"]
    assert chunks[-1].usage.completion_tokens_details.reasoning_tokens == 12


@pytest.mark.parametrize("stream", [False, True])
def test_responses(write, stream):
    with CassetteServer(write(ENTRY)) as server:
        answer = respond(server, stream, include=["reasoning.encrypted_content"])
        if stream:
            events = list(answer)
            assert [e.sequence_number for e in events] == list(range(len(events)))
            answer = events[-1].response
    assert answer.output_text == ENTRY["text"]
    reasoning, _, call = answer.output
    assert reasoning.encrypted_content
    assert json.loads(call.arguments) == ENTRY["calls"][0]["arguments"]
    assert answer.usage.input_tokens_details.cached_tokens == 800


def test_json_and_raw_arguments_go_out_as_they_stand(write):
    json_entry = {"role": "coder", "turn": "*", "json": {"score": 90}}
    raw = {
        "role": "coder",
        "task": "raw",
        "turn": 1,
        "calls": [{"name": "w", "arguments": "{broken", "id": 7}],
    }
    with CassetteServer(write(json_entry, raw)) as server:
        assert json.loads(chat(server).choices[0].message.content) == {"score": 90}
        call = chat(server, extra_headers={"x-swarmrun-task": "raw"}).choices[0].message.tool_calls[0]
    assert (call.id, call.function.arguments) == (7, "{broken")


def test_models_are_listed(write):
    with CassetteServer(write(ENTRY, model="demo")) as server:
        assert [m.id for m in client(server).models.list()] == ["demo"]


# ---------------------------------------------------------------- what does not fit


@pytest.mark.parametrize(
    ("expect", "said"),
    [
        ({"tools": ["write_file", "exec"]}, "expected tools exec; offered: write_file"),
        ({"messages_contain": ["TTL"]}, "expected 'TTL' in the messages"),
        ({"last_tool_result_contains": ["exit 0"]}, "no tool result came"),
    ],
)
@pytest.mark.parametrize("ask", [chat, respond])
def test_a_request_that_does_not_show_what_is_expected_is_refused_loudly(write, capsys, ask, expect, said):
    with CassetteServer(write({**ENTRY, "expect": expect})) as server:
        with pytest.raises(openai.BadRequestError) as caught:
            ask(server)
        assert caught.value.code == "cassette_mismatch"
        assert said in caught.value.message
        assert said in capsys.readouterr().err
        assert server.mismatches


def test_the_last_tool_result_is_what_came_since_the_model_spoke(write):
    expect = {"last_tool_result_contains": ["fresh"], "messages_contain": ["stale", "a.py"]}

    def call(n):
        function = {"name": "write_file", "arguments": '{"path": "a.py"}'}
        return {"role": "assistant", "tool_calls": [{"id": n, "type": "function", "function": function}]}

    def result(n, text):
        return {"role": "tool", "tool_call_id": n, "content": text}

    with CassetteServer(write({**ENTRY, "expect": expect}), quiet=True) as server:
        chat(server, messages=[call("1"), result("1", "stale"), call("2"), result("2", "fresh")])
        with pytest.raises(openai.BadRequestError):
            chat(server, messages=[call("1"), result("1", "fresh"), call("2"), result("2", "stale")])
        respond(
            server,
            input=[
                {
                    "type": "function_call",
                    "call_id": "1",
                    "name": "w",
                    "arguments": '{"path": "a.py", "x": "stale"}',
                },
                {
                    "type": "function_call_output",
                    "call_id": "1",
                    "output": [{"type": "input_text", "text": "fresh"}],
                },
            ],
        )


def test_a_stranger_without_headers_and_a_wrong_path_are_refused(write):
    with CassetteServer(write(ENTRY), quiet=True) as server:
        with pytest.raises(openai.BadRequestError, match="no entry for"):
            chat(server, extra_headers={"x-swarmrun-role": "thief"})
        with pytest.raises(openai.NotFoundError):
            client(server).embeddings.create(model="m", input="x")
        for body in (b"{not json", b"[]", b""):
            asked = urllib.request.Request(f"{server.url}/responses", data=body)
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(asked)
            assert caught.value.code == 400


# ---------------------------------------------------------------- faults and counts


def test_faults_come_in_order_and_then_the_answer(write):
    faults = [
        {"status": 429, "retry_after": 2, "times": 2},
        {"cut": "mid_call"},
        {"empty": True},
        {"finish": "length"},
    ]
    with CassetteServer(write({**ENTRY, "faults": faults})) as server:
        for _ in range(2):
            with pytest.raises(openai.RateLimitError) as caught:
                chat(server)
            assert caught.value.response.headers["retry-after"] == "2"
        with pytest.raises(openai.APIConnectionError):
            list(chat(server, stream=True))
        assert chat(server).choices[0].message.content is None
        assert chat(server).choices[0].finish_reason == "length"
        assert chat(server).choices[0].finish_reason == "tool_calls"
        assert server.requests() == {
            "r/coder/storage/1/1": {"429": 2, "cut": 1, "empty": 1, "length": 1, "answered": 1}
        }


@pytest.mark.parametrize("ask", [chat, respond])
@pytest.mark.parametrize("fault", [{"cut": "mid_call"}, {"cut_after_bytes": 700}, {"cut_after_bytes": 0}])
@pytest.mark.parametrize("arguments", [{"path": "a"}, {}, "x" * 200])
def test_a_cut_never_lets_a_whole_call_through(write, ask, fault, arguments):
    calls = [{"name": "write_file", "arguments": arguments}]
    with CassetteServer(write({**ENTRY, "calls": calls, "faults": [fault]})) as server:
        heard = []
        with pytest.raises((openai.APIConnectionError, json.JSONDecodeError)):
            heard.extend(ask(server, stream=True))
    assert "tool_calls" not in str(
        [getattr(c, "choices", [None])[:1] for c in heard if "finish_reason='" in str(c)]
    )
    assert "response.completed" not in [getattr(e, "type", "") for e in heard]


def test_counts_outlive_the_server_so_that_faults_are_planted_once(write, tmp_path):
    path = write({**ENTRY, "faults": [{"status": 429}]})
    log = tmp_path / "logs" / "requests.jsonl"
    with CassetteServer(path, log=log) as server, pytest.raises(openai.RateLimitError):
        chat(server)
    with log.open("a") as file:
        file.write('{"cut off by a ki')
    with CassetteServer(path, log=log) as server:
        chat(server)
        with urllib.request.urlopen(f"{server.address}/cassette/requests") as answer:
            assert json.load(answer) == {"r/coder/storage/1/1": {"429": 1, "answered": 1}}


def test_sixteen_agents_are_served_at_once(write):
    with CassetteServer(write({**ENTRY, "turn": "*", "delay": 0.05})) as server:

        def ask(turn):
            return chat(server, extra_headers={"x-swarmrun-turn": str(turn)}).choices[0].finish_reason

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            assert set(pool.map(ask, range(16))) == {"tool_calls"}
        assert len(server.requests()) == 16


def test_a_port_in_use_is_said_to_be(write):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        with pytest.raises(Conflict, match="cannot listen"):
            CassetteServer(write(ENTRY), port=held.getsockname()[1])


def test_an_answer_waits_for_what_it_comes_after(write):
    waiting = {**ENTRY, "turn": 2, "after": "coder/api/1/1"}
    path = write(waiting, {**ENTRY, "task": "api"})
    with CassetteServer(path) as server, concurrent.futures.ThreadPoolExecutor(1) as pool:
        held = pool.submit(chat, server, extra_headers={"x-swarmrun-turn": "2"})
        with pytest.raises(concurrent.futures.TimeoutError):
            held.result(timeout=0.2)
        chat(server, extra_headers={"x-swarmrun-task": "api"})
        assert held.result(timeout=20).choices[0].finish_reason == "tool_calls"


def test_waiting_in_vain_is_an_error_that_names_what_did_not_come(write):
    with CassetteServer(write({**ENTRY, "after": "coder/api/1/1"}), quiet=True) as server:
        server.patience = 0.05
        with pytest.raises(openai.BadRequestError, match=r"coder/api/1/1 was not asked in 0\.05 s"):
            chat(server)
