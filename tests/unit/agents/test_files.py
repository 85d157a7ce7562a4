from __future__ import annotations

import pytest


def test_a_file_is_read_with_line_numbers_and_says_how_to_go_on(bench):
    bench.put("a.py", "".join(f"x{n} = {n}\n" for n in range(1, 913)))

    first = bench.call("read_file", {"path": "a.py"})
    second = bench.call("read_file", {"path": "a.py", "start": 801})

    assert first.ok
    assert not first.changed
    assert first.text.startswith("L1: x1 = 1\nL2: x2 = 2\n")
    assert first.text.endswith("\n[lines 1-400 of 912; next start=401]")
    assert second.text.endswith("L912: x912 = 912\n[lines 801-912 of 912]")


def test_a_short_file_is_read_without_a_footer(bench):
    bench.put("a.py", "one\n\ntwo")
    assert bench.call("read_file", {"path": "a.py"}).text == "L1: one\nL2: \nL3: two"


def test_very_long_lines_are_cut_and_the_result_is_capped(bench):
    bench.put("min.js", "\n".join(["x" * 19_000] * 100))

    outcome = bench.call("read_file", {"path": "min.js"})

    assert len(outcome.text) < 70_000
    assert "[17000 characters more]" in outcome.text
    assert "next start=" in outcome.text


def test_a_missing_file_names_similar_ones_and_what_to_do(bench):
    bench.put("app/storage.py", "")

    outcome = bench.call("read_file", {"path": "app/storge.py"})

    assert not outcome.ok
    assert "app/storage.py" in outcome.text
    assert "list_files" in outcome.text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"path": "bin"}, "binary"),
        ({"path": "dir"}, "directory"),
        ({"path": "../outside"}, "outside the repository"),
        ({"path": "a.txt", "start": 9}, "Read from start=1"),
    ],
)
def test_what_cannot_be_read_is_told(bench, arguments, told):
    bench.put("bin", b"\0\1\2")
    bench.put("dir/x", "")
    bench.put("a.txt", "1\n2\n")

    outcome = bench.call("read_file", arguments)

    assert not outcome.ok
    assert told in outcome.text


def test_a_file_that_is_not_utf8_is_shown_all_the_same(bench):
    bench.put("latin.txt", "grüße\n".encode("latin-1"))
    assert bench.call("read_file", {"path": "latin.txt"}).text == "L1: gr??e"


def test_search_gives_rows_and_says_how_many_there_are(bench):
    bench.put("a.py", "hit\n" * 60)
    bench.put("b.txt", "hit\n")

    every = bench.call("search", {"pattern": "hit", "glob": "*.py"})
    one = bench.call("search", {"pattern": "^hit$", "path": "b.txt"})
    none = bench.call("search", {"pattern": "miss"})

    assert every.text.startswith("a.py:1: hit\n")
    assert every.text.endswith("[50 of 60; narrow path or glob]")
    assert one.text == "b.txt:1: hit"
    assert none.text.startswith("no match")


def test_a_broken_pattern_is_told_and_not_raised(bench):
    outcome = bench.call("search", {"pattern": "("})
    assert not outcome.ok
    assert "regular expression" in outcome.text


def test_files_are_listed(bench):
    bench.put("app/deep/er/x.py", "")
    bench.put("README.md", "")
    assert bench.call("list_files").text.split("\n") == ["README.md", "app/", "app/deep/"]
    assert bench.call("list_files", {"glob": "*.py"}).text == "app/deep/er/x.py"
    assert "no such directory" in bench.call("list_files", {"path": "nope"}).text


def test_a_file_is_written_with_its_directories(bench):
    outcome = bench.call("write_file", {"path": "app/new.py", "content": "x = 1\n"})

    assert outcome.ok
    assert outcome.changed
    assert outcome.text == "app/new.py: written, 1 lines."
    assert bench.get("app/new.py") == "x = 1\n"


def test_an_existing_file_is_not_overwritten_by_accident(bench):
    bench.put("a.py", "1\n2\n3\n")

    refused = bench.call("write_file", {"path": "a.py", "content": "x = 1\n"})
    meant = bench.call("write_file", {"path": "a.py", "content": "x = 1\n", "overwrite": True})

    assert refused.text == "a.py exists (3 lines): use edit_file or overwrite=true."
    assert meant.text.startswith("a.py: replaced")
    assert bench.get("a.py") == "x = 1\n"


def test_an_empty_file_may_be_filled(bench):
    bench.put("pkg/__init__.py", "")
    assert bench.call("write_file", {"path": "pkg/__init__.py", "content": "x = 1\n"}).ok


def test_a_written_file_that_does_not_parse_is_told(bench):
    outcome = bench.call("write_file", {"path": "a.py", "content": "def f(:\n"})
    assert outcome.ok
    assert "New syntax errors in a.py" in outcome.text
    assert "line 1:" in outcome.text


def test_paths_are_moved_and_deleted(bench):
    bench.put("old.py", "x = 1\n")

    moved = bench.call("move_path", {"from": "old.py", "to": "pkg/new.py"})
    gone = bench.call("delete_path", {"path": "old.py"})
    deleted = bench.call("delete_path", {"path": "pkg"})

    assert moved.ok
    assert "search for them" in moved.text
    assert not gone.ok
    assert "list_files" in gone.text
    assert deleted.ok
    assert not (bench.tree / "pkg").exists()


def test_a_change_outside_of_the_tasks_paths_is_remarked_not_refused(bench):
    outside = bench.call("write_file", {"path": "b.py", "content": ""}, owned=("app/", "a*.py"))
    inside = bench.call("write_file", {"path": "app/x/y.py", "content": ""}, owned=("app/", "a*.py"))

    assert outside.ok
    assert "b.py is not among this task's paths" in outside.text
    assert "Note" not in inside.text


def test_a_researcher_writes_its_notes_and_nothing_else(bench):
    notes = bench.call("write_file", {"path": "notes/storage.md", "content": "x"}, role="researcher")
    code = bench.call("write_file", {"path": "app.py", "content": "x"}, role="researcher")
    others = bench.call("write_file", {"path": "notes/../app.py", "content": "x"}, role="researcher")

    assert notes.ok
    assert not code.ok
    assert "notes/storage.md only" in code.text
    assert not others.ok
    assert not (bench.tree / "app.py").exists()
