from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmrun.agents.edit import Edit, apply_edits
from swarmrun.errors import ToolRejected


def refused(text: str, *edits: Edit) -> str:
    with pytest.raises(ToolRejected) as caught:
        apply_edits(text, list(edits))
    return str(caught.value)


def test_several_edits_are_applied_in_order_and_shown_with_their_surroundings(bench):
    bench.put("a.py", "".join(f"x{n} = {n}\n" for n in range(1, 41)))

    outcome = bench.call(
        "edit_file",
        {
            "path": "a.py",
            "edits": [
                {"old": "x10 = 10\n", "new": "x10 = 'ten'\ny = 0\n"},
                {"old": "x30 = 30", "new": "x30 = 'thirty'"},
            ],
        },
    )

    assert outcome.ok
    assert outcome.changed
    lines = outcome.text.split("\n")
    assert lines[0] == "a.py: 2 places changed."
    assert lines[1] == "L6: x6 = 6"
    assert "L10: x10 = 'ten'" in lines
    assert "L15: x14 = 14" in lines
    assert "…" in lines
    assert lines[-1] == "L35: x34 = 34"
    assert bench.get("a.py").splitlines()[9:11] == ["x10 = 'ten'", "y = 0"]


def test_one_edit_that_does_not_fit_leaves_the_file_alone(bench):
    bench.put("a.py", "def f():\n\treturn 1\n\n\ndef g():\n\treturn 2\n")
    before = bench.get("a.py")

    outcome = bench.call(
        "edit_file",
        {
            "path": "a.py",
            "edits": [
                {"old": "return 1", "new": "return 3"},
                {"old": "def g():\n    return 2", "new": "def g():\n    return 4"},
            ],
        },
    )

    assert not outcome.ok
    assert not outcome.changed
    assert outcome.text.startswith(
        "edit 2 of 2: old not found; nothing applied. Closest, lines 5-6:\nL5: def g():"
    )
    assert "first difference line 6: 4 spaces, the file has a tab" in outcome.text
    assert "Next:" in outcome.text
    assert bench.get("a.py") == before


def test_an_ambiguous_text_names_its_lines():
    text = "\n".join(["a = 1", "b", "c", "a = 1", ""])
    assert refused(text, Edit(old="a = 1", new="a = 2")).startswith(
        "old occurs at lines 1, 4; nothing applied. Add context"
    )
    assert apply_edits(text, [Edit(old="a = 1", new="a = 2", replace_all=True)]).text.count("a = 2") == 2


def test_lines_are_those_of_the_file_as_it_stays():
    edits = [Edit(old="b", new="b\nb2\nb3"), Edit(old="a = 1", new="a = 2")]
    with pytest.raises(ToolRejected, match="edit 2 of 2: old occurs at lines 1, 4;"):
        apply_edits("a = 1\nb\nc\na = 1\n", edits)


def test_an_edit_that_was_made_already_says_where():
    assert "new is already there at line 2" in refused("a\nb = 2\n", Edit(old="b = 1", new="b = 2"))


def test_line_numbers_of_read_file_are_recognised():
    told = refused("def f():\n    return 1\n", Edit(old="L2:     return 1", new="    return 2"))
    assert "Do not copy the `L12: `" in told
    assert "Closest, lines 2-2" in told


@pytest.mark.parametrize(
    ("text", "old", "told"),
    [
        ("a\n", "", "old is empty"),
        ("", "", "use write_file"),
        ("a\n", "a", "the same"),
        ("return 1  \n", "return 1\n", "white space at the end of the line"),
        (
            "value = compute(1)\n",
            "value = compute(2)",
            "'value = compute(2)', the file has 'value = compute(1)'",
        ),
        ("a\nb", "b\nc", "'c', the file has ended"),
        ("", "zzz", "Nothing in the file is near it"),
    ],
)
def test_each_way_not_to_fit_has_its_own_text(text, old, told):
    assert told.lower() in refused(text, Edit(old=old, new="a" if told == "the same" else "n")).lower()


def test_windows_line_ends_are_kept():
    done = apply_edits("a\r\nb\r\nc\r\n", [Edit(old="a\nb\n", new="x\ny\nz\n")])
    assert done.text == "x\r\ny\r\nz\r\nc\r\n"


def test_a_later_edit_may_build_on_an_earlier_one_and_places_move_along():
    done = apply_edits(
        "one\ntwo\nthree\n", [Edit(old="three", new="drei"), Edit(old="one\n", new="1\n2\n3\n")]
    )
    assert done.text == "1\n2\n3\ntwo\ndrei\n"
    assert sorted(done.places) == [(1, 3), (5, 5)]


def test_bytes_that_are_no_utf8_survive_an_edit(bench):
    bench.put("a.txt", b"\xff\xfe one\ntwo\n")
    assert bench.call("edit_file", {"path": "a.txt", "edits": [{"old": "two", "new": "2"}]}).ok
    assert (bench.tree / "a.txt").read_bytes() == b"\xff\xfe one\n2\n"


def test_only_syntax_errors_that_are_new_are_told(bench):
    bench.put("ok.py", "def f():\n    return 1\n")
    bench.put("red.py", "def f(:\n    return 1\n")

    broken = bench.call("edit_file", {"path": "ok.py", "edits": [{"old": "return 1", "new": "return ("}]})
    still = bench.call("edit_file", {"path": "red.py", "edits": [{"old": "return 1", "new": "return 2"}]})

    assert "New syntax errors in ok.py" in broken.text
    assert broken.ok
    assert "New syntax errors" not in still.text


def test_a_missing_file_points_to_write_file(bench):
    outcome = bench.call("edit_file", {"path": "no.py", "edits": [{"old": "a", "new": "b"}]})
    assert not outcome.ok
    assert "write_file" in outcome.text


@pytest.mark.parametrize("edits", ['[{"old": "a", "new": "b"}]', {"old": "a", "new": "b"}])
def test_edits_that_came_as_text_or_without_their_list_are_taken(bench, edits):
    bench.put("x", "a\n")
    assert bench.call("edit_file", {"path": "x", "edits": edits}).ok
    assert bench.get("x") == "b\n"


def test_a_call_made_again_after_a_crash_gives_the_same_answer(bench):
    bench.put("a.py", "x = 1\n")
    stored: dict[str, bytes] = {}
    arguments = {"path": "a.py", "edits": [{"old": "x = 1", "new": "x = 2"}]}

    first = bench.call("edit_file", arguments, key="again", once=stored.setdefault)
    second = bench.call("edit_file", arguments, key="again", once=stored.setdefault)

    assert first == second
    assert first.ok
    assert bench.get("a.py") == "x = 2\n"


lines = st.lists(st.sampled_from(["a", "b", "  a", "\ta", "", "x = 1", "é", "\x0c", "a\r"]), max_size=12).map(
    "\n".join
)


@settings(max_examples=300, deadline=None)
@given(
    text=lines,
    edits=st.lists(st.builds(Edit, old=lines, new=lines, replace_all=st.booleans()), min_size=1, max_size=4),
)
def test_an_edit_either_does_what_replacing_does_or_says_why(text, edits):
    crlf = "\r\n" in text and text.count("\r\n") == text.count("\n")
    try:
        done = apply_edits(text, edits)
    except ToolRejected:
        return
    expected = text
    for edit in edits:
        old, new = (
            (p.replace("\r\n", "\n").replace("\n", "\r\n") if crlf else p) for p in (edit.old, edit.new)
        )
        assert old
        assert edit.replace_all or expected.count(old) == 1
        expected = expected.replace(old, new)
    assert done.text == expected
    last = done.text.count("\n") + 1
    assert all(1 <= a <= b <= last for a, b in done.places)
