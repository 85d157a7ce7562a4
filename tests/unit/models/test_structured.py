from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmrun.errors import BadModelOutput, ModelRefused
from swarmrun.models.profiles import profile_for
from swarmrun.models.structured import loads, mend, read_json, strict_schema, values_in, without_thoughts

PLAN = {
    "type": "object",
    "properties": {
        "tasks": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "id": {"type": "string"},
                    "role": {"enum": ["coder", "test-writer"]},
                    "needs": {"type": "array", "items": {"type": "string"}},
                    "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                    "size": {"type": "integer"},
                },
                "required": ["id", "role"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["tasks"],
    "additionalProperties": False,
}
GOOD = {"tasks": [{"id": "a", "role": "coder"}]}
STRICT = profile_for("some-model", {"json_schema": "strict"})


def says(value):
    return json.dumps(value)


@pytest.mark.parametrize(
    "text",
    [
        says(GOOD),
        f"```json\n{says(GOOD)}\n```",
        f"<think>maybe {says({'tasks': []})}</think>Here: {says(GOOD)} Good luck!",
        f"thinking out loud</think>{says(GOOD)}",
        f"First {says({'tasks': [{'id': 'b', 'role': 'coder'}]})}, no, rather {says(GOOD)}",
        f"{says(GOOD)}\n\nAs an aside, {{}} is an empty object and {{x}} is none.",
    ],
)
def test_the_last_object_that_fits_is_the_answer(text):
    assert read_json(text, PLAN) == (GOOD, [])


def test_what_is_wrong_in_form_only_is_mended_and_noted():
    sloppy = {
        "tasks": {"id": 1, "role": "Test_Writer", "needs": 2, "note": None, "size": "3", "mood": "great"},
    }
    value, notes = read_json(says(sloppy), PLAN)
    assert value == {"tasks": [{"id": "1", "role": "test-writer", "needs": ["2"], "note": None, "size": 3}]}
    assert any("$.tasks[0].id" in note for note in notes)
    assert any("mood" in note for note in notes)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (says({"tasks": [{"id": "a", "role": "wizard"}]}), "$.tasks[0].role"),
        (says({"tasks": [{"role": "coder"}]}), "'id' is a required property"),
        ("no JSON here", "no whole JSON"),
        ("", "no whole JSON"),
        ('{"tasks": [{"id": "a", "role"', "no whole JSON"),
        ("{" * 50_000, "no whole JSON"),
        ('{"a":' * 50_000, "no whole JSON"),
        ("[" * 100_000, "no whole JSON"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_place(text, place):
    with pytest.raises(BadModelOutput) as caught:
        read_json(text, PLAN)
    assert place in caught.value.feedback


LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
NAMES = st.sampled_from(["tasks", "id", "role", "needs", "note", "size", "x"])


@given(
    st.recursive(
        LEAVES, lambda v: st.lists(v, max_size=3) | st.dictionaries(NAMES, v, max_size=3), max_leaves=9
    )
)
def test_mending_never_raises_and_leaves_its_input_alone(value):
    before = json.dumps(value)
    mend(value, PLAN)
    assert json.dumps(value) == before


@given(st.text(max_size=200))
def test_any_text_is_either_read_or_refused(text):
    without_thoughts(text)
    values_in(text, "{[")
    with pytest.raises(BadModelOutput):
        read_json(text, PLAN)


@pytest.mark.parametrize("text", ["NaN", '{"a": Infinity}', '"\\ud800"', "1" * 5000, "[" * 100_000])
def test_json_that_cannot_be_stored_is_not_json(text):
    with pytest.raises(ValueError):
        loads(text)


def test_optional_fields_become_nullable_for_strict_mode():
    task = strict_schema(PLAN)["properties"]["tasks"]["items"]
    assert task["required"] == list(task["properties"])
    assert {"type": "null"} in task["properties"]["size"]["anyOf"]
    assert strict_schema({"type": "object", "additionalProperties": {"type": "string"}}) is None


def test_strict_mode_asks_with_a_schema_and_its_nulls_are_taken_out(server, ask):
    answer = {"tasks": [{"id": "a", "role": "coder", "needs": None, "note": None, "size": None}]}
    server.play(server.says(text=says(answer)))
    reply = ask(server, STRICT, tools=(), response_schema=PLAN)
    assert reply.value == {"tasks": [{"id": "a", "role": "coder", "note": None}]}
    assert server.seen[0]["response_format"]["json_schema"]["strict"] is True


def test_a_server_without_schemas_is_asked_for_an_object_then_for_text_and_that_is_remembered(
    server, ask, profile
):
    from dataclasses import replace

    strict = replace(profile, json_schema="strict")
    refusals = ["response_format json_schema is not supported", "response_format: unknown value json_object"]
    word = "response_format" if profile.api == "chat" else "text.format"
    server.play(
        *[server.status(400, r.replace("response_format", word)) for r in refusals],
        server.says(text=f"Sure! {says(GOOD)}"),
        server.says(text=says(GOOD)),
    )
    request = ask.request(tools=(), response_schema=PLAN)
    first, second = ask.turns(server, strict, request, request)
    assert first.value == second.value == GOOD
    assert len([note for note in first.notes if note.startswith("JSON by")]) == 2
    assert len(server.seen) == 4
    last = json.dumps(server.seen[3])
    assert "json_schema" not in last
    assert "must fit this JSON schema" in last


def test_a_schema_refused_at_the_last_is_told_with_its_mend(server, ask):
    from dataclasses import replace

    server.play(server.status(400, "json mode is off"))
    with pytest.raises(ModelRefused) as caught:
        ask(server, replace(STRICT, json_schema="none"), tools=(), response_schema=PLAN)
    assert "jsonSchema" in caught.value.mend


def test_an_answer_that_does_not_fit_carries_feedback_and_cost(server, ask, profile):
    server.play(server.says(text=says({"tasks": [{"id": "a", "role": "wizard"}]})))
    with pytest.raises(BadModelOutput, match="schema") as caught:
        ask(server, profile, tools=(), response_schema=PLAN)
    assert "$.tasks[0].role" in caught.value.feedback
    assert caught.value.usage.input == 100
