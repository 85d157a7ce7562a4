from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmrun.models.calls import calls_in_text, parse_arguments
from swarmrun.ports import ToolSpec

READ = ToolSpec(
    "read_file", "", {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
)


@pytest.mark.parametrize(
    ("given_arguments", "arguments"),
    [
        ('{"a": 1}', {"a": 1}),
        ({"a": 1}, {"a": 1}),
        ("", {}),
        (None, {}),
        ("null", {}),
        ('[{"a": 1}]', {"a": 1}),
        ('"{\\"a\\": 1}"', {"a": 1}),
    ],
)
def test_sloppy_arguments_are_unwrapped(given_arguments, arguments):
    assert parse_arguments(given_arguments)[0::2] == (arguments, "")


@pytest.mark.parametrize(
    "raw", ['{"a": ', "[1, 2]", "7", '"text"', '{"a": NaN}', "9" * 6000, '{"a": "\\ud800"}']
)
def test_what_is_no_object_is_a_problem_with_its_raw_text(raw):
    arguments, kept, problem, _ = parse_arguments(raw)
    assert (arguments, kept) == ({}, raw)
    assert "call again" in problem.lower()
    assert len(problem) < 500


def test_where_arguments_break_is_told_once():
    *_, problem, _ = parse_arguments('{"path": "a.py, "content')
    assert " at character " in problem
    assert "at at" not in problem


def test_several_calls_in_one_text_keep_their_order_and_the_prose():
    text = (
        "First this:\n```json\n"
        + '{"name": "read_file", "arguments": {"path": "a"}}'
        + "\n```\nthen\n```json\n"
        '{"name": "read_file", "arguments": {"path": "b"}}' + "\n```"
    )
    calls, rest = calls_in_text(text, [READ])
    assert [arguments["path"] for _, arguments in calls] == ["a", "b"]
    assert rest.startswith("First this:")


def test_a_fence_that_never_closes_is_read():
    calls, _ = calls_in_text('```json\n{"name": "read_file", "arguments": {"path": "a"}}', [READ])
    assert calls == [("read_file", {"path": "a"})]


@given(st.text(alphabet='{}[]":,`<>/ntool_cajsrgume\n', max_size=300))
def test_no_text_breaks_the_reader(text):
    calls_in_text(text, [READ])
