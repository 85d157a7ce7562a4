from __future__ import annotations

import json
from dataclasses import replace

import pytest

from swarmrun.errors import ModelRefused
from swarmrun.models.profiles import profile_for

READ = [("c1", "read_file", '{"path": "a.py"}')]
GPT = profile_for("gpt-5-mini")


def after(ask, reply, *more):
    """The next request of the same conversation."""
    messages = [ask.text("user", "go"), *json.loads(json.dumps(reply.messages)), *more]
    if reply.calls:
        messages.append(ask.results(reply))
    return ask.request(messages=messages)


def test_reasoning_content_goes_back_beside_the_call_it_belongs_to(server, ask):
    deepseek = profile_for("deepseek-v4")
    server.play(server.says(reasoning="let me look", calls=READ), server.says(text="done"))
    reply = ask(server, deepseek)
    ask.turns(server, deepseek, after(ask, reply))
    assistant = server.seen[1]["messages"][2]
    assert assistant["reasoning_content"] == "let me look"
    assert not assistant["content"], "thoughts are not content"


def test_a_call_without_reasoning_still_carries_the_field_that_the_server_wants(server, ask):
    kimi = profile_for("kimi-k2-thinking")
    server.play(server.says(calls=READ), server.says(text="done"))
    ask.turns(server, kimi, after(ask, ask(server, kimi)))
    assert server.seen[1]["messages"][2]["reasoning_content"] == ""


def test_reasoning_is_dropped_where_the_profile_says_so(server, ask, profile):
    server.play(server.says(reasoning="secret thoughts", text="hi", calls=READ), server.says(text="done"))
    reply = ask(server, profile)
    ask.turns(server, profile, after(ask, reply))
    assert "secret thoughts" not in json.dumps(server.seen[1])


def test_streamed_reasoning_details_go_back_whole(server, ask):
    routed = profile_for("anthropic/claude-sonnet-4.5")
    pieces = [
        {"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "one ", "signature": None}]},
        {"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "two", "signature": "sig"}]},
        {"reasoning_details": [{"type": "reasoning.encrypted", "index": 1, "data": "zzz"}]},
        {
            "tool_calls": [
                {"index": 0, "id": "c", "function": {"name": "read_file", "arguments": '{"path": "x"}'}}
            ]
        },
    ]
    server.play(server.chunks(*pieces, finish="tool_calls"), server.says(text="done"))
    reply = ask(server, routed)
    ask.turns(server, routed, after(ask, reply))
    assert server.seen[1]["messages"][2]["reasoning_details"] == [
        {"type": "reasoning.text", "index": 0, "text": "one two", "signature": "sig"},
        {"type": "reasoning.encrypted", "index": 1, "data": "zzz"},
    ]


def test_a_call_s_thought_signature_goes_back_with_it(server, ask):
    gemini = profile_for("gemini-3-pro")
    extra = {"google": {"thought_signature": "abc"}}
    call = {
        "index": 0,
        "id": "c",
        "function": {"name": "read_file", "arguments": "{}"},
        "extra_content": extra,
    }
    server.play(server.chunks({"tool_calls": [call]}, finish="tool_calls"), server.says(text="done"))
    reply = ask(server, gemini)
    ask.turns(server, gemini, after(ask, reply))
    assert server.seen[1]["messages"][2]["tool_calls"][0]["extra_content"] == extra


def test_encrypted_reasoning_goes_back_before_its_call(server, ask):
    server.play(server.says(reasoning="hm", calls=READ), server.says(text="done"))
    ask.turns(server, GPT, after(ask, ask(server, GPT)))
    assert server.seen[0]["include"] == ["reasoning.encrypted_content"]
    sent = server.seen[1]["input"]
    kinds = [item.get("type") for item in sent]
    at = kinds.index("reasoning")
    assert kinds[at + 1] == "function_call"
    assert sent[at]["encrypted_content"].startswith("enc_")
    assert sent[at + 1]["id"].startswith("fc_")


@pytest.mark.parametrize(
    "error",
    [
        {"message": "The encrypted content could not be verified.", "code": "invalid_encrypted_content"},
        {"message": "Item 'fc_1' of type 'function_call' was provided without its required 'reasoning' item"},
    ],
)
def test_refused_reasoning_is_left_out_once_together_with_the_item_ids(server, ask, error):
    server.play(server.says(reasoning="hm", calls=READ), server.status(400, error), server.says(text="done"))
    reply = ask.turns(server, GPT, after(ask, ask(server, GPT)))[0]
    assert reply.text == "done"
    assert any("reasoning refused" in note for note in reply.notes)
    sent = server.seen[2]["input"]
    assert not [item for item in sent if item.get("type") == "reasoning"]
    assert [("id" in item, item["call_id"]) for item in sent if item.get("type") == "function_call"] == [
        (False, "c1")
    ]


def test_reasoning_refused_twice_is_told(server, ask):
    error = {"message": "no", "code": "invalid_encrypted_content"}
    server.play(server.says(reasoning="hm", calls=READ), server.status(400, error), server.status(400, error))
    reply = ask(server, GPT)
    with pytest.raises(ModelRefused) as caught:
        ask.turns(server, GPT, after(ask, reply))
    assert "reasoningReplay" in caught.value.mend
    assert len(server.seen) == 3


def test_reasoning_without_its_seal_is_left_out_instead_of_refused_by_the_framework(server, ask):
    server.play(server.says(reasoning="hm", calls=READ), server.says(text="done"))
    reply = ask(server, GPT)
    for message in reply.messages:
        for content in message["contents"]:
            content.pop("protected_data", None)
    assert ask.turns(server, GPT, after(ask, reply))[0].text == "done"
    assert "reasoning" not in [item.get("type") for item in server.seen[1]["input"]]


def test_a_history_made_on_one_interface_can_go_on_at_the_other(server, ask):
    server.play(server.says(reasoning="hm", text="so", calls=READ), server.says(text="done"))
    reply = ask(server, GPT)
    local = replace(profile_for("local"), max_output=1000)
    assert ask.turns(server, local, after(ask, reply))[0].text == "done"
    assert [m["role"] for m in server.seen[1]["messages"]] == ["system", "user", "assistant", "tool"]
