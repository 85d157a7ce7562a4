from __future__ import annotations

import pytest

from swarmrun.cassette.format import load
from swarmrun.errors import InvalidResource, NotFound

KEY = {
    "run": "r",
    "role": "coder",
    "task": "storage",
    "attempt": "1",
    "turn": "2",
    "sample": "",
    "api": "chat",
}


def test_the_entry_with_fewer_wildcards_answers(write):
    cassette = load(
        write(
            {"role": "coder", "turn": "*", "text": "any turn"},
            {"role": "coder", "task": "storage", "turn": 2, "text": "this turn"},
            {"role": "coder", "task": "storage", "turn": 2, "attempt": 2, "text": "another attempt"},
            defaults=({"role": "*", "turn": "*", "text": "default"},),
        )
    )
    assert cassette.find(KEY).text == "this turn"
    assert cassette.find({**KEY, "attempt": "2"}).text == "another attempt"
    assert cassette.find({**KEY, "turn": "9"}).text == "any turn"
    assert cassette.find({**KEY, "role": "judge"}).text == "default"


def test_a_miss_names_the_nearest_entries(write):
    cassette = load(write({"role": "coder", "task": "storage", "turn": 1, "text": "x"}))
    with pytest.raises(NotFound, match=r"turn=2.*nearest: role=coder task=storage turn=1"):
        cassette.find(KEY)


def test_files_stand_in_for_their_text(write, tmp_path):
    (tmp_path / "fixtures").mkdir()
    (tmp_path / "fixtures" / "a.py").write_text("A = 1\n")
    include = {"file": "fixtures/a.py"}
    calls = [
        {"name": "write_file", "arguments": {"path": "a.py", "content": include}},
        {"name": "edit", "arguments": {"edits": [{"new": include}]}},
        {"name": "open", "arguments": {"file": "fixtures/a.py"}},
    ]
    entry = load(write({"role": "coder", "turn": 1, "text": include, "calls": calls})).entries[0]
    assert entry.text == "A = 1\n"
    assert entry.calls[0].arguments == {"path": "a.py", "content": "A = 1\n"}
    assert entry.calls[1].arguments == {"edits": [{"new": "A = 1\n"}]}
    assert entry.calls[2].arguments == {"file": "fixtures/a.py"}, "a tool may have an argument named file"


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "gone.py"])
def test_a_file_outside_or_missing_is_refused_with_its_entry(write, name):
    path = write(
        {"role": "a", "turn": 1, "text": "x"},
        {"role": "b", "turn": 1, "calls": [{"name": "w", "arguments": {"content": {"file": name}}}]},
    )
    with pytest.raises(InvalidResource, match=r"entries\[1\].*" + name.replace(".", r"\.")):
        load(path)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"role": "coder", "turn": 1, "text": "x", "txet": "y"}, "entries.0.txet"),
        ({"role": "coder", "turn": 1}, "no answer"),
        ({"role": "coder", "turn": "first", "text": "x"}, "entries.0.turn"),
        ({"role": "coder", "turn": 1, "json": {}, "text": "x"}, "json stands alone"),
        (
            {"role": "coder", "turn": 1, "text": "x", "faults": [{"status": 429, "empty": True}]},
            "exactly one of",
        ),
        ({"turn": 1, "text": "x"}, "entries.0.role"),
    ],
)
def test_a_wrong_entry_is_named(write, entry, said):
    with pytest.raises(InvalidResource) as caught:
        load(write(entry))
    assert said in caught.value.message
    assert "turn=" in caught.value.message


def test_two_entries_for_one_request_are_refused(write):
    entry = {"role": "coder", "turn": 1, "text": "x"}
    with pytest.raises(InvalidResource, match=r"entries\[1\].*repeats entries\[0\]"):
        load(write(entry, entry))


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(NotFound):
        load(tmp_path / "gone.yaml")
    for text in ("- a list", "entries: {", "\x00"):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(InvalidResource):
            load(tmp_path / "bad.yaml")
