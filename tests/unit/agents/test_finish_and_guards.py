from __future__ import annotations

import pytest

from swarmrun.agents import finish, guard
from swarmrun.agents.finish import Problem, from_findings, refusal
from swarmrun.agents.roles import role
from swarmrun.agents.toolset import EXECUTABLE, names, specs
from swarmrun.errors import PermanentError
from swarmrun.merging.guards.finding import Finding
from swarmrun.ports import Profile, ToolSpec

PROFILE = Profile("m")


def test_a_refusal_says_the_most_important_first_and_the_next_action_last():
    text = refusal(
        [
            Problem("test", "tests/test_a.py::test_x fails", "AssertionError"),
            Problem("stub", "app/a.py:3: `f` raises NotImplementedError"),
            Problem("parse", "app/b.py:1: expected ':'"),
        ],
        refusals_left=2,
    )
    assert text.startswith("Not finished: 3 problems found in your work tree.\n## Does not parse")
    assert text.index("## Stubs left") < text.index("## Tests that fail")
    assert "    AssertionError" in text
    assert text.split("\n")[-1].startswith("Next: mend these from the top")
    assert "2 times more" in text


def test_a_refusal_is_capped_but_never_empty():
    long = [Problem("test", f"test_{n} fails", "E\n" * 5000) for n in range(50)]
    text = refusal(long, refusals_left=1)
    assert len(text) < 20_000
    assert "characters omitted" in text
    assert "more; they show when these are mended" in text
    assert 2_000 < len(refusal([Problem("test", "x" * 50_000)])) < 5_000


@pytest.mark.parametrize(
    ("left", "told"), [(0, "The next finish ends the task"), (1, "once more"), (None, "3 refusals")]
)
def test_what_is_left_is_told(left, told):
    assert told in refusal([Problem("lint", "x")], refusals_left=left)


def test_an_undone_resolution_is_told_as_undone():
    assert "conflicted again" in refusal([Problem("tamper", "x")], undone=True)


def test_only_hard_findings_refuse_and_their_kinds_are_sorted():
    findings = [
        Finding("a.py", "test-deleted", "a.py: test_x is gone. Put it back.", "hard"),
        Finding("b.py", "stub", "`f` has no body. Write it.", "hard", line=4),
        Finding("c.py", "ownership", "outside", "escalate"),
        Finding("d.py", "duplicate", "`f` twice", "hard"),
    ]
    problems = from_findings(findings)
    assert [(p.kind, p.text) for p in finish.ordered(problems)] == [
        ("stub", "b.py:4: `f` has no body. Write it."),
        ("tamper", "a.py: test_x is gone. Put it back."),
        ("guard", "d.py: `f` twice"),
    ]
    assert problems[0].head == "Tests or code weakened: a.py: test_x is gone. Put it back."


def test_kinds_named_here_are_kinds_of_the_guards():
    from swarmrun.merging import guards

    assert all(f"`{kind}`" in (guards.__doc__ or "") for kind in finish._KINDS)


def test_an_agent_whose_tools_are_in_order_passes():
    for name in ("coder", "planner", "judge"):
        guard.check_tools(specs(name, PROFILE), EXECUTABLE, expected=names(name, PROFILE))


@pytest.mark.parametrize(
    ("shown", "expected", "told"),
    [
        ([], ["exec"], "missing: exec"),
        ([ToolSpec("exce", "", {})], [], "not executable: exce"),
        ([ToolSpec("exec", "", {})] * 2, ["exec"], "shown twice: exec"),
    ],
)
def test_an_agent_without_its_tools_is_not_asked_to_work(shown, expected, told):
    with pytest.raises(PermanentError, match=told) as caught:
        guard.check_tools(shown, EXECUTABLE, expected=expected)
    assert caught.value.reason == "PhantomAgent"


def test_a_role_that_must_write_and_did_not_is_found():
    assert guard.ends_without_work(role("coder"), [])
    assert not guard.ends_without_work(role("coder"), ["a.py"])
    assert not guard.ends_without_work(role("planner"), [])
    assert guard.ends_without_work(role("researcher"), ["app.py"], task="facts")
    assert not guard.ends_without_work(role("researcher"), ["notes/facts.md"], task="facts")
