from __future__ import annotations

import json
from itertools import pairwise

import pytest
from agent_framework import Content, Message
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmrun.agents.transcript import (
    NOT_RUN,
    ResultRecord,
    TurnRecord,
    assemble,
    repeated,
    size_of,
    user_message,
)
from swarmrun.ports import Profile, ToolCall

PREFIX = [user_message("do it")]


def reply(*calls: tuple[str, dict], turn: int = 1, reasoning: str = "hm") -> list[dict]:
    contents = [Content.from_text_reasoning(id=f"rs_{turn}", text=reasoning)]
    contents += [
        Content.from_function_call(f"c{turn}-{n}", name, arguments=json.dumps(arguments))
        for n, (name, arguments) in enumerate(calls)
    ]
    return [Message("assistant", contents).to_dict()]


def record(
    turn: int, *calls: tuple[str, dict], text: str = "ok", tokens: int = 0, news: tuple[str, ...] = ()
):
    results = [ResultRecord(index=n, call_id=f"c{turn}-{n}", text=text) for n in range(len(calls))]
    return TurnRecord(
        turn=turn, news=list(news), messages=reply(*calls, turn=turn), results=results, input_tokens=tokens
    )


def results_of(messages: list[dict]) -> dict[str, str]:
    return {
        c["call_id"]: c["result"] for m in messages for c in m["contents"] if c["type"] == "function_result"
    }


def test_news_reply_and_results_stand_in_this_order():
    records = [
        record(1, ("exec", {"command": "ls"}), news=("first", "second")),
        TurnRecord(turn=2, news=["third"]),
    ]

    messages = assemble(PREFIX, records, profile=Profile("m"))

    assert [m["role"] for m in messages] == ["user", "user", "assistant", "tool", "user"]
    assert messages[1]["contents"][0]["text"] == "first\n\nsecond"
    assert messages[3]["contents"][0]["result"] == "ok"
    assert messages[4]["contents"][0]["text"] == "third"
    assert [Message.from_dict(m).to_dict() for m in messages] == messages


def test_every_call_gets_a_result_even_one_that_was_not_run():
    one = record(1, ("a", {}), ("b", {}), ("c", {}))
    one = one.model_copy(update={"results": [one.results[1]]})

    messages = assemble(PREFIX, [one, TurnRecord(turn=2)], profile=Profile("m"))

    assert results_of(messages) == {"c1-0": NOT_RUN, "c1-1": "ok", "c1-2": NOT_RUN}


def test_a_record_survives_its_way_through_json():
    one = record(3, ("exec", {"command": "ls"}), tokens=12, news=("n",))
    again = TurnRecord.model_validate_json(one.model_dump_json())
    assert again == one
    assert assemble(PREFIX, [again], profile=Profile("m")) == assemble(PREFIX, [one], profile=Profile("m"))


def big(turns: int, *, window_tokens: int = 0) -> list[TurnRecord]:
    return [
        record(n, ("read_file", {"path": f"f{n}.py"}), text=f"line of {n}\n" * 400)
        for n in range(1, turns + 1)
    ]


def test_a_full_window_is_emptied_in_one_step_and_stays_as_it_is():
    profile = Profile("m", context_window=20_000)
    previous: list[dict] = []
    rewritten = []
    for turns in range(1, 60):
        messages = assemble(PREFIX, [*big(turns), TurnRecord(turn=turns + 1)], profile=profile)
        assert size_of(messages) / 4 <= 0.8 * 20_000 + 1
        if messages[: len(previous)] != previous:
            rewritten.append(turns)
        previous = messages
    # Between two compactions the beginning of the request is what the server has cached.
    assert 3 <= len(rewritten) <= 12
    assert all(b - a >= 4 for a, b in pairwise(rewritten))


def test_old_outputs_become_one_line_oldest_first_and_calls_keep_their_reasoning():
    profile = Profile("m", context_window=20_000)
    messages = assemble(PREFIX, [*big(30), TurnRecord(turn=31)], profile=profile)

    found = results_of(messages)
    stubs = [k for k, text in found.items() if text.startswith("[")]
    assert stubs == list(found)[: len(stubs)]
    assert stubs
    assert all("\n" not in found[k] for k in stubs)
    assert "line of 30\nline of 30" in found["c30-0"]
    kinds = [[c["type"] for c in m["contents"]] for m in messages if m["role"] == "assistant"]
    assert all(kind == ["text_reasoning", "function_call"] for kind in kinds)
    calls = [c["call_id"] for m in messages for c in m["contents"] if c["type"] == "function_call"]
    assert calls == list(found)


def test_when_stubs_are_not_enough_whole_turns_give_way_but_their_news_stays():
    profile = Profile("m", context_window=6_000)
    records = [
        record(n, ("write_file", {"path": f"f{n}", "content": "x" * 1500}), text="written")
        for n in range(1, 40)
    ]
    records[1] = records[1].model_copy(update={"news": ["contract store has changed"]})

    messages = assemble(PREFIX, [*records, TurnRecord(turn=40)], profile=profile)

    text = messages[1]["contents"][0]["text"]
    assert text.startswith("[Turns 1-")
    assert "× write_file" in text
    assert "contract store has changed" in text
    assert size_of(messages) / 4 < 6_000
    calls = [c["call_id"] for m in messages for c in m["contents"] if c["type"] == "function_call"]
    assert calls == list(results_of(messages))
    assert calls[-1] == "c39-0"


def test_the_servers_own_count_corrects_the_estimate():
    profile = Profile("m", context_window=20_000)
    records = big(8)
    assert not any(t.startswith("[") for t in results_of(assemble(PREFIX, records, profile=profile)).values())
    # The server counts a token for two bytes.
    fresh = [r.model_dump() | {"input_tokens": (200 + n * 4_900) // 2 + 1} for n, r in enumerate(records[:6])]
    records[:6] = [TurnRecord.model_validate(r) for r in fresh]
    found = results_of(assemble(PREFIX, [*records, TurnRecord(turn=9)], profile=profile))
    assert any(t.startswith("[") for t in found.values())


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 4000), st.integers(0, 3)), max_size=25),
    window=st.integers(2_000, 30_000),
)
def test_whatever_is_cut_calls_and_results_stay_matched_and_replays_are_the_same(sizes, window):
    records = [
        record(
            n,
            *[("write_file", {"n": k, "x": "y" * written}) for k in range(calls)],
            text="o" * output,
            tokens=(n * 700) if n % 3 else 0,
        )
        for n, (output, written, calls) in enumerate(sizes, 1)
    ]
    profile = Profile("m", context_window=window)
    messages = assemble(PREFIX, records, profile=profile)
    assert json.dumps(messages) == json.dumps(assemble(PREFIX, records, profile=profile))
    calls = [c["call_id"] for m in messages for c in m["contents"] if c["type"] == "function_call"]
    answered = [c["call_id"] for m in messages for c in m["contents"] if c["type"] == "function_result"]
    assert calls == answered
    assert messages[0] == PREFIX[0]
    newest = [r for r in records[-3:] if r.results]
    assert all(r.results[0].text == results_of(messages)[r.results[0].call_id] for r in newest)


def test_repeated_calls_in_a_row_are_counted_whatever_the_order_of_their_arguments():
    same = ("read_file", {"path": "a", "start": 1})
    records = [record(1, ("exec", {"command": "ls"})), record(2, same, same), record(3, same)]
    call = ToolCall(0, "x", "read_file", {"start": 1, "path": "a"})

    assert repeated(records, call) == 3
    assert repeated(records, call, turn=3) == 2
    assert repeated(records, ToolCall(1, "x", "read_file", {"path": "a", "start": 1}), turn=2) == 1
    assert repeated(records, ToolCall(0, "x", "read_file", {"path": "b"})) == 0
    assert repeated([*records, record(4, ("exec", {"command": "ls"}))], call) == 0
    assert repeated([], call) == 0


def test_polling_a_process_is_no_repetition():
    poll = ("process", {"id": "p1"})
    assert repeated([record(1, poll), record(2, poll)], ToolCall(0, "x", *poll)) == 0


@pytest.mark.parametrize("arguments", ['{"path": ', ""])
def test_broken_arguments_in_a_stored_reply_do_no_harm(arguments):
    one = TurnRecord(
        turn=1,
        messages=[
            Message("assistant", [Content.from_function_call("c", "exec", arguments=arguments)]).to_dict()
        ],
    )
    assert repeated([one], ToolCall(0, "x", "exec", {"command": "ls"})) == 0
