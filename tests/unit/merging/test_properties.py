"""What holds for any text and any bytes."""

from __future__ import annotations

import ast

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swarmrun.merging.cases import Case, lines_of, style
from swarmrun.merging.diff3 import diff3, matching, merged
from swarmrun.merging.guards.files import inspect
from swarmrun.merging.guards.finding import Versions
from swarmrun.merging.ladder import resolve
from swarmrun.merging.partial import partial
from swarmrun.merging.rungs import blocks, lexing
from swarmrun.merging.steps import steps_for

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
letters = st.lists(st.sampled_from("abcde"), max_size=12)

STATEMENTS = [
    "import os\n",
    "from a import b\n",
    "from a import b, c\n",
    "x = 1\n",
    "x = f(2)\n",
    "setup(name='x')\n",
    "setup(name='y')\n",
    "def f(a):\n    return a\n",
    "def f(a, b=1):\n    b += 1\n    return a\n",
    "def g():\n    if x:\n        return 1\n    return 2\n",
    "class C:\n    y = 1\n\n    def m(self):\n        return self.y\n",
    "class C:\n    def n(self):\n        return 3\n",
    "# a comment\n",
    "\n",
]
programs = st.lists(st.sampled_from(STATEMENTS), max_size=6).map("".join)
paths = st.sampled_from(
    ["m.py", "m.ts", "m.go", "m.json", "m.toml", "m.yaml", "m.txt", "CHANGES", "requirements.txt"]
)


@QUICK
@given(letters, letters)
def test_matching_finds_equal_items_in_ascending_order(a, b):
    last = (0, 0)
    for i, j, n in matching(a, b):
        assert a[i : i + n] == b[j : j + n]
        assert n > 0
        assert (i, j) >= last
        last = (i + n, j + n)


@QUICK
@given(letters, letters)
def test_merging_with_an_unchanged_side_is_the_identity(base, side):
    assert merged(base, side, base) == side
    assert merged(base, base, side) == side
    assert merged(base, side, side) == side


@QUICK
@given(letters, letters, letters)
def test_conflicts_are_the_same_whichever_side_is_called_ours(base, ours, theirs):
    one, other = diff3(base, ours, theirs), diff3(base, theirs, ours)
    assert [type(p) for p in one] == [type(p) for p in other]


@QUICK
@given(programs, programs, paths)
def test_every_rung_gives_an_unchanged_sides_other_text_back(base, side, path):
    for case in (
        Case(path, base.encode(), side.encode(), base.encode()),
        Case(path, base.encode(), base.encode(), side.encode()),
    ):
        for rung in steps_for(case):
            attempt = rung.resolve(case)
            if attempt is not None and rung.how in ("Rules", "Tokens"):
                assert attempt.text == side


@QUICK
@given(programs, programs, programs)
def test_a_resolved_python_file_parses(base, ours, theirs):
    found = resolve(Case("m.py", base.encode(), ours.encode(), theirs.encode()))
    if found is not None:
        ast.parse(found[0])


@QUICK
@given(programs, programs, programs)
def test_results_are_symmetric_up_to_order(base, ours, theirs):
    one = resolve(Case("m.py", base.encode(), ours.encode(), theirs.encode()))
    other = resolve(Case("m.py", base.encode(), theirs.encode(), ours.encode()))
    if one is not None and other is not None:
        keep = [sorted(line for line in r[0].split(b"\n") if line.strip()) for r in (one, other)]
        assert keep[0] == keep[1]
    assert (one is None) == (other is None)


@QUICK
@given(programs)
def test_blocks_joined_give_the_text_back(text):
    try:
        suite = blocks.python_blocks(text)
    except blocks.NoBlocks:
        return

    def flat(part: blocks.Suite) -> str:
        inner = "".join("".join(block.lead) + code(block) for block in part.blocks)
        return "".join(part.header) + inner + "".join(part.tail)

    def code(block: blocks.Block) -> str:
        return "".join(flat(s) for s in block.suites) if block.suites else "".join(block.lines)

    assert flat(suite) == text


@QUICK
@given(st.text(max_size=80), st.sampled_from(["python", "typescript", "go", "text"]))
def test_tokens_joined_give_the_text_back(text, tongue):
    assert "".join(t.space + t.text for t in lexing.lex(lines_of(text), tongue)) == text


pieces = st.sampled_from(
    [
        b"",
        b"x = 1\n",
        b"\xff\xfe",
        b"\0",
        b"\r\n",
        b"\r",
        b"\xef\xbb\xbf",
        b"def f():\n",
        b"    pass\n",
        b"<<<<<<< a\n",
        b"{",
        b'"a": 1',
        b"- a\n",
        b"\xe4",
        b"class",
        b"=======\n",
        b"\x0c",
        b"[a]\n",
        b"func f() {\n",
        b"`",
        b"'''",
    ]
)
any_bytes = st.one_of(st.binary(max_size=60), st.lists(pieces, max_size=8).map(b"".join))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(paths, st.none() | any_bytes, any_bytes, any_bytes, any_bytes)
def test_guards_and_ladder_never_crash_on_any_bytes(path, base, ours, theirs, result):
    inspect(Versions(path, base, ours, theirs, result))
    inspect(Versions(path, base, ours, None, result))
    case = Case(path, base, ours, theirs)
    resolve(case)
    partial(case, ("a", "b"))


@QUICK
@given(any_bytes)
def test_text_and_bytes_go_both_ways(data):
    case = Case("m.txt", data, data, data)
    if case.mergeable and style(data).newline != "\r\n":
        assert case.encode(case.texts[1]) == data


def test_ten_megabytes_are_bounded():
    huge = b"x = 1\n" * 1_700_000
    case = Case("m.py", huge, huge + b"y = 1\n", huge + b"z = 1\n")
    assert resolve(case) is None
    assert partial(case, ("a", "b"))[0] == case.ours
    inspect(Versions("m.py", case.base, case.ours, case.theirs, case.ours))


def test_deep_nesting_is_bounded():
    deep = b"x = " + b"(" * 5000 + b")" * 5000 + b"\n"
    many = b"".join(b" " * n + b"if a:\n" for n in range(90)) + b" " * 91 + b"pass\n"
    for data in (deep, many, b"[" * 2000):
        for path in ("m.py", "m.json", "m.yaml", "m.toml", "m.ts"):
            inspect(Versions(path, data, data + b"\na = 1\n", data + b"\nb = 1\n", data))
            resolve(Case(path, data, data + b"\na = 1\n", data + b"\nb = 1\n"))
