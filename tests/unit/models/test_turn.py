from __future__ import annotations

import json

import pytest

from swarmrun.cassette.render import event
from swarmrun.errors import BadModelOutput, PermanentError
from swarmrun.models.profiles import profile_for
from swarmrun.models.wire import guard_tools
from swarmrun.ports import Usage

WRITE = json.dumps({"path": "a.py", "content": "print('hello')\n" * 20})


def test_a_whole_answer_comes_with_calls_usage_and_messages_that_can_be_sent_back(server, ask, profile):
    server.play(server.says(text="I write.", calls=[("c1", "write_file", WRITE)]), server.says(text="done"))
    first = ask.request()
    reply = ask.turns(server, profile, first)[0]
    assert reply.text == "I write."
    assert [(c.call_id, c.name, c.arguments["path"], c.problem) for c in reply.calls] == [
        ("c1", "write_file", "a.py", "")
    ]
    assert reply.usage == Usage(input=100, cached=40, output=10, reasoning=3)
    assert reply.finish_reason == "tool_calls"

    stored = json.loads(json.dumps(reply.messages))
    assert stored == reply.messages, "a stored reply reads back as it was"
    again = ask(server, profile, messages=[*first.messages, *stored, ask.results(reply)])
    assert again.text == "done"
    sent = server.seen[1]
    if profile.api == "chat":
        roles = [m["role"] for m in sent["messages"]]
        assert roles == ["system", "user", "assistant", "tool"]
        assert sent["messages"][2]["tool_calls"][0]["function"]["arguments"] == WRITE
        assert sent["messages"][3]["tool_call_id"] == "c1"
    else:
        kinds = [item.get("type") for item in sent["input"]]
        assert "function_call" in kinds
        assert kinds[-1] == "function_call_output"


def test_messages_round_trip_through_the_framework(server, ask, profile):
    from agent_framework import Message

    server.play(server.says(text="a", reasoning="b", calls=[("c1", "read_file", '{"path": "x"}')]))
    for stored in ask(server, profile).messages:
        assert Message.from_dict(stored).to_dict() == stored


def test_every_request_says_who_asks_streams_and_is_capped(server, ask, profile):
    server.play(server.says(text="hi"))
    ask(server, profile)
    sent, headers = server.seen[0], server.headers[0]
    assert {k: v for k, v in headers.items() if k.startswith("x-swarmrun-")} == {
        "x-swarmrun-run": "run-1",
        "x-swarmrun-role": "coder",
        "x-swarmrun-task": "storage",
        "x-swarmrun-attempt": "1",
        "x-swarmrun-turn": "3",
    }
    assert sent["stream"] is True
    assert sent.get("max_tokens", sent.get("max_output_tokens")) == 1000
    assert "temperature" not in sent
    if profile.api == "responses":
        assert sent["store"] is False
        assert sent["prompt_cache_key"] == "run-1"
        assert "include" not in sent, "a model without reasoning rejects the wish for encrypted reasoning"
    else:
        assert not {"store", "prompt_cache_key"} & set(sent), "strict servers refuse what they do not know"


def test_openai_models_on_chat_get_openai_s_own_parameters(server, ask):
    server.play(server.says(text="hi"))
    ask(server, profile_for("gpt-4.1-mini"))
    sent = server.seen[0]
    assert (sent["store"], sent["prompt_cache_key"], sent["max_completion_tokens"]) == (
        False,
        "run-1",
        16_384,
    )


def test_the_other_name_of_the_cap_is_tried_once_and_remembered(server, ask):
    wants = (
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'."
    )
    server.play(server.status(400, wants), server.says(text="hi"), server.says(text="hi"))
    ask.turns(server, profile_for("my-deployment"), ask.request(), ask.request())
    assert ["max_completion_tokens" in sent for sent in server.seen] == [False, True, True]


def test_odd_characters_in_a_key_do_not_break_the_request(server, ask, profile):
    from swarmrun.ports import CallKey

    server.play(server.says(text="hi"))
    ask(server, profile, key=CallKey("r", "coder", "größe\n1", 1, 1))
    assert server.headers[0]["x-swarmrun-task"] == "gr%C3%B6%C3%9Fe%0A1"


# ---------------------------------------------------------------- ends that are none


def test_an_answer_cut_at_its_cap_is_asked_again_with_twice_the_cap_and_less_effort(server, ask):
    server.play(server.says(text="too l", finish="length"), server.says(text="short"))
    reply = ask(server, profile_for("gpt-5-mini", {"reasoning_effort": "high", "max_output": 1000}))
    assert reply.text == "short"
    assert [sent["max_output_tokens"] for sent in server.seen] == [1000, 2000]
    assert [sent["reasoning"]["effort"] for sent in server.seen] == ["high", "medium"]
    assert reply.usage.output == 20, "both calls are paid"
    assert "asked again" in reply.notes[0]


def test_an_answer_cut_twice_is_a_failed_turn_and_carries_what_it_cost(server, ask, profile):
    half = ("c1", "write_file", WRITE[:30])
    server.play(*[server.says(calls=[half], finish="length") for _ in range(2)])
    with pytest.raises(BadModelOutput) as caught:
        ask(server, profile)
    assert caught.value.reason == "CutOffAtCap"
    assert caught.value.usage.output == 20
    assert len(server.seen) == 2


@pytest.mark.parametrize("said", ["", "   \n", "<think>hm, well</think>", "<think>never ends"])
def test_an_empty_answer_is_a_failed_turn(server, ask, profile, said):
    server.play(server.says(text=said))
    with pytest.raises(BadModelOutput) as caught:
        ask(server, profile)
    assert caught.value.reason == "EmptyAnswer"
    assert caught.value.usage.input == 100


def test_no_choices_at_all_is_a_failed_turn(server, ask):
    server.play(server.chunks(finish="stop"))
    with pytest.raises(BadModelOutput):
        ask(server, profile_for("local"))


def test_an_answer_stopped_by_the_filter_is_a_failed_turn(server, ask, profile):
    server.play(server.says(text="I would", finish="content_filter"))
    with pytest.raises(BadModelOutput) as caught:
        ask(server, profile)
    assert caught.value.reason == "ContentFilter"


def test_an_unknown_finish_reason_is_noted(server, ask):
    server.play(server.chunks({"content": "fine"}, finish="because"))
    reply = ask(server, profile_for("local"))
    assert reply.text == "fine"
    assert any("because" in note for note in reply.notes)


def test_a_runaway_is_stopped_before_it_fills_the_memory(server, ask, profile):
    server.play(server.says(text="7" * 200_000))
    with pytest.raises(BadModelOutput) as caught:
        ask(server, profile)
    assert caught.value.reason == "Runaway"
    assert caught.value.usage.output > 0


def test_missing_usage_is_estimated_and_said(server, ask):
    server.play(server.chunks({"content": "words " * 40}))
    reply = ask(server, profile_for("local"))
    assert reply.usage.output == 60
    assert any("estimated" in note for note in reply.notes)


# ---------------------------------------------------------------- calls


def test_broken_arguments_are_told_and_never_sent_back(server, ask, profile):
    broken = '{"path": "a.py", "content": "unterminated'
    server.play(server.says(calls=[("c1", "write_file", broken)]), server.says(text="sorry"))
    reply = ask(server, profile)
    call = reply.calls[0]
    assert call.arguments == {}
    assert call.raw == broken
    assert "not valid JSON" in call.problem
    ask(server, profile, messages=[ask.text("user", "go"), *reply.messages, ask.results(reply)])
    assert "unterminated" not in json.dumps(server.seen[1])


def test_calls_under_one_id_stay_two_calls(server, ask, profile):
    server.play(
        server.says(calls=[("same", "read_file", '{"path": "a"}'), ("same", "read_file", '{"path": "b"}')])
    )
    reply = ask(server, profile)
    assert [(c.call_id, c.arguments) for c in reply.calls] == [
        ("same", {"path": "a"}),
        ("same-2", {"path": "b"}),
    ]
    stored = [c["call_id"] for m in reply.messages for c in m["contents"]]
    assert stored == ["same", "same-2"]


def test_an_id_that_an_earlier_turn_used_is_replaced(server, ask, profile):
    server.play(*[server.says(calls=[("call_0", "read_file", '{"path": "a"}')]) for _ in range(2)])
    first = ask(server, profile)
    history = [ask.text("user", "go"), *first.messages, ask.results(first)]
    assert ask(server, profile, messages=history).calls[0].call_id == "call_0-2"


def test_an_unknown_tool_is_answered_with_the_nearest(server, ask, profile):
    server.play(server.says(calls=[("c", "reed_file", "{}"), ("d", "functions.read_file", '{"path": "x"}')]))
    unknown, prefixed = ask(server, profile).calls
    assert "did you mean read_file" in unknown.problem
    assert (prefixed.name, prefixed.problem) == ("read_file", "")


def piece(index, arguments, call_id=None, name=None):
    given = {"index": index, "function": {"arguments": arguments}}
    if index is None:
        del given["index"]
    if name:
        given["function"]["name"] = name
        given["id"] = call_id
    return {"tool_calls": [given]}


@pytest.mark.parametrize("index", [0, None])
def test_parallel_calls_without_an_index_of_their_own_stay_apart(server, ask, index):
    server.play(
        server.chunks(
            piece(index, '{"path": ', "a", "read_file"),
            piece(index, '"one"}'),
            piece(index, '{"path": "two"}', "b", "read_file"),
            finish="tool_calls",
        )
    )
    reply = ask(server, profile_for("local"))
    assert [c.arguments for c in reply.calls] == [{"path": "one"}, {"path": "two"}]


def test_interleaved_parallel_calls_are_joined_by_index(server, ask):
    server.play(
        server.chunks(
            piece(0, '{"path": ', 11, "read_file"),
            piece(1, '{"path": ', 12, "read_file"),
            piece(0, '"one"}'),
            piece(1, '"two"}'),
            finish="stop",
        )
    )
    reply = ask(server, profile_for("local"))
    assert [(c.call_id, c.arguments) for c in reply.calls] == [
        ("11", {"path": "one"}),
        ("12", {"path": "two"}),
    ]


def test_a_call_without_an_id_gets_one(server, ask):
    server.play(server.chunks(piece(0, '{"path": "one"}', "", "read_file"), finish="tool_calls"))
    assert ask(server, profile_for("local")).calls[0].call_id == "call_3_0"


def test_a_call_that_comes_in_one_event_is_not_lost(server, ask):
    item = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "read_file", "arguments": '{"path": "x"}',
            "status": "completed"}  # fmt: skip
    done = {
        "id": "r",
        "object": "response",
        "status": "completed",
        "output": [item],
        "created_at": 0,
        "model": "m",
    }
    server.play(
        server.raw(
            event({"type": "response.output_item.done", "output_index": 0, "item": item})
            + event({"type": "response.completed", "response": done})
        )
    )
    assert ask(server, profile_for("m", {"api": "responses"})).calls[0].arguments == {"path": "x"}


@pytest.mark.parametrize(
    "said",
    [
        '```json\n{"name": "read_file", "arguments": {"path": "a.py"}}\n```',
        'I read it.\n{"name": "read_file", "arguments": {"path": "a.py"}}',
        '<think>which?</think>[{"name": "read_file", "parameters": {"path": "a.py"}}]',
        '<tool_call>\n{"name": "read_file", "arguments": "{\\"path\\": \\"a.py\\"}"}\n</tool_call>',
    ],
)
def test_a_call_written_as_text_is_taken_and_stands_as_a_call_in_the_history(server, ask, profile, said):
    server.play(server.says(text=said), server.says(text="done"))
    reply = ask(server, profile)
    assert [(c.name, c.arguments) for c in reply.calls] == [("read_file", {"path": "a.py"})]
    assert "tool call taken from text" in reply.notes
    ask(server, profile, messages=[ask.text("user", "go"), *reply.messages, ask.results(reply)])
    assert "call_3_0" in json.dumps(server.seen[1])


@pytest.mark.parametrize(
    "said",
    [
        '{"name": "read_file", "arguments": {"file": "a.py"}}',
        '{"name": "rm_rf", "arguments": {"path": "a.py"}}',
        'A call looks like {"name": "read_file", "arguments": {"path": "a"}} as you know.',
    ],
)
def test_text_that_only_resembles_a_call_stays_text(server, ask, profile, said):
    server.play(server.says(text=said))
    reply = ask(server, profile)
    assert (list(reply.calls), reply.text) == ([], said)


# ---------------------------------------------------------------- the phantom


@pytest.mark.parametrize(
    "sent",
    [{}, {"tools": [{"name": "read_file"}]}, {"tools": [{"name": "read_file"}, {"name": "write_file"}],
                                              "tool_choice": "none"}],
)  # fmt: skip
def test_a_call_that_would_go_out_without_its_tools_raises(sent):
    with pytest.raises(PermanentError) as caught:
        guard_tools(["read_file", "write_file"], sent)
    assert caught.value.reason == "PhantomAgent"


def test_the_guard_looks_at_what_is_really_sent(server, ask, profile, monkeypatch):
    import swarmrun.models.client as client

    options = client.OpenAIModel._options

    def without_tools(self, request, how):
        return {k: v for k, v in options(self, request, how).items() if k != "tools"}

    monkeypatch.setattr(client.OpenAIModel, "_options", without_tools)
    with pytest.raises(PermanentError) as caught:
        ask(server, profile)
    assert caught.value.reason == "PhantomAgent"
    assert server.seen == []
