from __future__ import annotations

import difflib

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from swarmrun.agents.patch_apply import apply_hunks
from swarmrun.agents.patch_format import parse_patch
from swarmrun.errors import ToolRejected
from swarmrun.ports import Profile


@pytest.fixture
def patch(bench):
    bench.profile = Profile("gpt", edit_tool="apply_patch")
    return lambda text, **more: bench.call("apply_patch", {"patch": text}, **more)


def update(text: str, body: str) -> str:
    (change,) = parse_patch(f"*** Begin Patch\n*** Update File: a\n{body}\n*** End Patch")
    return apply_hunks("a", text, change.hunks).text


def test_a_patch_adds_updates_moves_and_deletes(bench, patch):
    bench.put("a.py", "def f():\n    return 1\n\n\ndef g():\n    return 1\n")
    bench.put("b.py", "b = 1\n")
    bench.put("run.sh", "#!/bin/sh\necho hi\n")
    (bench.tree / "run.sh").chmod(0o755)

    outcome = patch(
        "*** Begin Patch\n"
        "*** Update File: a.py\n"
        "@@ def g():\n"
        "-    return 1\n"
        "+    return 2\n"
        "*** Add File: new/c.py\n"
        "+c = 1\n"
        "+\n"
        "*** Delete File: b.py\n"
        "*** Update File: run.sh\n"
        "*** Move to: bin/run.sh\n"
        "@@\n"
        "-echo hi\n"
        "+echo ho\n"
        "*** End Patch\n"
    )

    assert outcome.ok, outcome.text
    assert outcome.changed
    assert bench.get("a.py") == "def f():\n    return 1\n\n\ndef g():\n    return 2\n"
    assert bench.get("new/c.py") == "c = 1\n\n"
    assert not (bench.tree / "b.py").exists()
    assert not (bench.tree / "run.sh").exists()
    assert bench.get("bin/run.sh") == "#!/bin/sh\necho ho\n"
    assert (bench.tree / "bin/run.sh").stat().st_mode & 0o111
    assert "L6:     return 2" in outcome.text
    assert "run.sh: moved to bin/run.sh" in outcome.text


def test_one_file_that_does_not_fit_leaves_all_files_alone(bench, patch):
    bench.put("a.py", "a = 1\n")
    bench.put("b.py", "\tb = 1\n")

    outcome = patch(
        "*** Begin Patch\n*** Update File: a.py\n-a = 1\n+a = 2\n"
        "*** Update File: b.py\n-    b = 1\n+    b = 2\n*** End Patch"
    )

    assert not outcome.ok
    assert "b.py: these lines are not in the file; nothing applied. Closest, lines 1-1" in outcome.text
    assert "4 spaces, the file has a tab" in outcome.text
    assert bench.get("a.py") == "a = 1\n"


def test_what_the_sandbox_refuses_half_way_is_undone(bench, patch):
    bench.put("a.py", "a = 1\n")
    bench.put("old.py", "o = 1\n")
    outcome = patch(
        "*** Begin Patch\n*** Update File: a.py\n-a = 1\n+a = 2\n"
        "*** Update File: old.py\n*** Move to: moved.py\n-o = 1\n+o = 2\n"
        "*** Add File: fresh.py\n+x\n"
        "*** Add File: .git/inner\n+x\n*** End Patch"
    )

    assert not outcome.ok
    assert "nothing applied" in outcome.text
    assert bench.get("a.py") == "a = 1\n"
    assert bench.get("old.py") == "o = 1\n"
    assert sorted(p.name for p in bench.tree.iterdir() if p.name != ".git") == ["a.py", "old.py"]


def test_a_patch_made_again_after_a_crash_gives_the_same_answer(bench, patch):
    bench.put("a.py", "a = 1\n")
    stored: dict[str, bytes] = {}
    text = "*** Begin Patch\n*** Update File: a.py\n-a = 1\n+a = 2\n*** Add File: b.py\n+b\n*** End Patch"

    first = patch(text, key="patch-again", once=stored.setdefault)
    second = patch(text, key="patch-again", once=stored.setdefault)

    assert first == second
    assert first.ok
    assert bench.get("a.py") == "a = 2\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("just words", "no `*** Begin Patch`"),
        ("*** Begin Patch\n*** Update File: a\n-x", "seems cut off"),
        ("*** Begin Patch\n*** End Patch", "names no file"),
        ("*** Begin Patch\nhello\n*** End Patch", "before any file"),
        ("*** Begin Patch\n*** Update File: a\n*** End Patch", "no changed line"),
        ("*** Begin Patch\n*** Update File: a\nxyz\n*** End Patch", "starts with a space, - or +"),
        ("*** Begin Patch\n*** Add File: a\nxyz\n*** End Patch", "starts with +"),
        ("*** Begin Patch\n*** Delete File: a\n-x\n*** End Patch", "nothing may follow"),
        ("*** Begin Patch\n*** Delete File: a\n*** Update File: a\n-x\n*** End Patch", "named twice"),
    ],
)
def test_a_malformed_patch_is_told(text, told):
    with pytest.raises(ToolRejected, match=told.replace("*", r"\*").replace("+", r"\+")):
        parse_patch(text)


def test_files_that_exist_or_do_not_are_told(bench, patch):
    bench.put("a.py", "a = 1\n")
    exists = patch("*** Begin Patch\n*** Add File: a.py\n+x\n*** End Patch")
    missing = patch("*** Begin Patch\n*** Update File: no.py\n-x\n+y\n*** End Patch")
    outside = patch("*** Begin Patch\n*** Add File: ../x\n+y\n*** End Patch")
    assert "exists (1 lines); nothing applied" in exists.text
    assert "no.py: not found; nothing applied" in missing.text
    assert "outside the repository" in outside.text


def test_a_here_document_and_a_fence_around_a_patch_are_put_up_with():
    text = "apply_patch <<'EOF'\n*** Begin Patch\n*** Delete File: a\n*** End Patch\nEOF\n"
    assert [c.path for c in parse_patch(text)] == ["a"]


def test_a_hunk_that_fits_twice_needs_an_anchor():
    text = "class A:\n    x = 1\n\nclass B:\n    x = 1\n"
    with pytest.raises(ToolRejected, match="occur at lines 2, 5"):
        update(text, "-    x = 1\n+    x = 2")
    assert update(text, "@@ class B:\n-    x = 1\n+    x = 2") == text[::-1].replace("1", "2", 1)[::-1]


def test_nested_anchors_go_deeper():
    text = "class A:\n    def f(self):\n        return 1\n\nclass B:\n    def f(self):\n        return 1\n"
    done = update(text, "@@ class B:\n@@     def f(self):\n-        return 1\n+        return 2")
    assert done.endswith("class B:\n    def f(self):\n        return 2\n")
    assert "return 1" in done


def test_an_anchor_may_be_repeated_as_context_and_unified_line_numbers_are_ignored():
    text = "def f():\n    a\n\ndef g():\n    a\n"
    assert update(text, "@@ def g():\n def g():\n-    a\n+    b").endswith("def g():\n    b\n")
    assert update(text, "@@ -4,2 +4,2 @@ def g():\n-    a\n+    b").endswith("def g():\n    b\n")
    with pytest.raises(ToolRejected, match="no line `def h"):
        update(text, "@@ def h():\n-    a\n+    b")


def test_lines_without_context_go_behind_their_anchor_or_to_the_end():
    text = "import a\n\nx = 1\n"
    assert update(text, "@@ import a\n+import b") == "import a\nimport b\n\nx = 1\n"
    assert update(text, "+y = 2") == "import a\n\nx = 1\ny = 2\n"
    assert update("x = 1", "+y = 2") == "x = 1\ny = 2\n"


def test_the_end_of_the_file_can_be_meant():
    text = "a\nb\na\nb\n"
    assert update(text, " a\n-b\n+c\n*** End of File") == "a\nb\na\nc\n"


def test_white_space_at_the_end_and_typography_may_differ_and_the_files_own_bytes_stay():
    text = "say = “hi”  \nx = 1\n"
    assert update(text, ' say = "hi"\n-x = 1\n+x = 2') == "say = “hi”  \nx = 2\n"


def test_windows_line_ends_and_a_missing_last_one_are_kept():
    assert update("a\r\nb\r\nc\r\n", " a\n-b\n+x\n+y") == "a\r\nx\r\ny\r\nc\r\n"
    assert update("a\nb\nc", "-a\n+x\n b") == "x\nb\nc"


def test_hunks_out_of_order_say_so():
    with pytest.raises(ToolRejected, match="does occur further up"):
        update("a\nb\nc\nd\n", "-c\n+C\n@@\n-a\n+A")


words = st.lists(st.sampled_from(["a", "b", "c", "    d", "", "}", "é"]), max_size=14)


@settings(max_examples=300, deadline=None)
@given(before=words, after=words, whole=st.booleans())
def test_a_patch_written_from_two_texts_gives_the_second_or_is_refused(before, after, whole):
    """Hunks with three lines of context, as models write them; ambiguity may refuse, never misplace."""
    assume(before != after)
    rows = list(difflib.unified_diff(before, after, lineterm="", n=20 if whole else 3))[2:]
    text = "".join(f"{line}\n" for line in before)
    body = "\n".join("@@" if row.startswith("@@") else row for row in rows)
    assume(before or after)
    try:
        done = update(text, body)
    except ToolRejected:
        done = ""
        assert not whole, "with the whole file as context a hunk fits in one place only"
    if whole:
        assert done == "".join(f"{line}\n" for line in after)
    assert set(done.split("\n")) <= {*before, *after, ""}


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_no_text_at_all_crashes_the_parser(text):
    for patch in (text, f"*** Begin Patch\n*** Update File: a\n{text}\n*** End Patch"):
        try:
            for change in parse_patch(patch):
                apply_hunks("a", "a\nb\n", change.hunks)
        except ToolRejected:
            continue
