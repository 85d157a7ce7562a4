from __future__ import annotations

import pytest

from swarmrun.agents.checks import parse_finish, submitted_plan
from swarmrun.errors import ToolRejected
from swarmrun.ports import ToolCall


def test_a_command_shows_its_exit_code_and_output(bench):
    bench.put("sub/x", "")
    ok = bench.call("exec", {"command": "ls; echo $PAGER; cat", "workdir": "sub"})
    failed = bench.call("exec", {"command": "echo no >&2; exit 3"})
    silent = bench.call("exec", {"command": "true"})

    assert ok.text.startswith("exit 0 in ")
    assert ok.text.endswith(" s\nx\ncat")
    assert ok.changed
    assert failed.ok, "an exit code is a finding, not a failure of the tool"
    assert failed.text.startswith("exit 3 in ")
    assert failed.text.endswith("no")
    assert silent.text.endswith("no output")


def test_long_output_keeps_its_head_and_tail_and_says_where_the_rest_is(bench):
    outcome = bench.call("exec", {"command": "echo first; seq 1 40000; echo last"})
    assert outcome.text.split("\n")[1] == "first"
    assert outcome.text.endswith("last")
    assert "omitted: see /" in outcome.text
    assert len(outcome.text) < 10_500


def test_a_command_that_takes_longer_goes_on_as_a_process(bench):
    started = bench.call("exec", {"command": "echo up; sleep 60", "timeout_s": 0.2})
    assert "still running as " in started.text
    assert "poll or kill" in started.text
    name = started.text.split("still running as ")[1].split()[0]

    polled = bench.call("process", {"id": name, "action": "poll", "wait_s": 0})
    killed = bench.call("process", {"id": name, "action": "kill"})

    assert "still running" in polled.text
    assert killed.text.startswith("exit ")


def test_a_background_command_is_named_at_once(bench):
    started = bench.call("exec", {"command": "sleep 60", "background": True})
    assert started.text.startswith("started as ")
    bench.call("process", {"id": started.text.split("started as ")[1].split(":")[0], "action": "kill"})


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("exec", {"command": "  "}, "command is empty"),
        ("exec", {"command": "ls", "timeout_s": 3600}, "use background=true"),
        ("exec", {"command": "ls", "workdir": "nope"}, "nope"),
        ("exec", {"command": "ls", "workdir": ".."}, "outside"),
        ("process", {"id": "p99999"}, "p99999"),
    ],
)
def test_what_cannot_run_is_told(bench, name, arguments, told):
    outcome = bench.call(name, arguments)
    assert not outcome.ok
    assert told in outcome.text


def test_a_repeated_key_does_not_run_the_command_again(bench):
    for _ in range(2):
        outcome = bench.call("exec", {"command": "echo x >> log"}, key="the same")
    assert outcome.ok
    assert bench.get("log") == "x\n"


def test_checks_are_the_callers(bench):
    async def checks(which: str) -> str:
        return f"{which}: 1 new failure"

    assert bench.call("run_checks", {"which": "tests"}, run_checks=checks).text == "tests: 1 new failure"
    assert "no checks" in bench.call("run_checks", {"which": "lint"}).text


def finish(**arguments):
    return parse_finish(ToolCall(0, "c", "finish", arguments))


@pytest.mark.parametrize("issues", [None, [], "", "[]"])
def test_finish_takes_what_models_send_for_nothing(issues):
    asked = finish(summary="done", contract_issues=issues, blocked=None)
    assert asked.contract_issues == []
    assert asked.blocked == ""


def test_finish_takes_issues_in_every_wrapping():
    issue = {"contract": "store", "problem": "needs a clock", "severity": "high"}
    for wrapped in (issue, [issue], '[{"contract": "store", "problem": "needs a clock"}]'):
        (found,) = finish(summary="s", contract_issues=wrapped).contract_issues
        assert (found.contract, found.problem, found.proposal) == ("store", "needs a clock", "")


def test_a_finish_that_does_not_fit_says_how():
    with pytest.raises(ToolRejected, match=r"summary is missing.*finish\(summary"):
        finish()
    with pytest.raises(ToolRejected, match="did you mean 'summary'"):
        finish(summry="x")


def test_a_plan_is_unwrapped():
    plan = {"tasks": [{"id": 1}]}
    for arguments in (plan, {"plan": plan}, {"plan": '{"tasks": [{"id": 1}]}'}):
        assert submitted_plan(ToolCall(0, "c", "submit_plan", arguments)) == plan
    for broken in ({"plan": "{nope"}, {"plan": [1]}):
        with pytest.raises(ToolRejected, match="submit_plan"):
            submitted_plan(ToolCall(0, "c", "submit_plan", broken))
