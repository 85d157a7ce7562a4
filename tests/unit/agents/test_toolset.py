from __future__ import annotations

import json

import pytest
from agent_framework import FunctionMiddleware

from swarmrun.agents.roles import role, roles
from swarmrun.agents.tool import ToolOutcome, plain_schema
from swarmrun.agents.toolset import ENDS, EXECUTABLE, READ_ONLY, execute, names, preview, specs
from swarmrun.errors import NotFound, SandboxLost
from swarmrun.ports import Profile, ToolCall

PROFILE = Profile("m")


def test_every_role_is_shown_tools_that_can_be_carried_out():
    for name in roles():
        for profile in (PROFILE, Profile("gpt", edit_tool="apply_patch")):
            shown = [spec.name for spec in specs(name, profile)]
            assert set(shown) <= EXECUTABLE
            assert len(shown) == len(set(shown))
            assert shown == list(names(name, profile))


def test_the_edit_tool_is_the_profiles():
    assert "edit_file" in names("coder", PROFILE)
    assert "apply_patch" in names("coder", Profile("gpt", edit_tool="apply_patch"))
    assert "edit_file" not in names("coder", Profile("gpt", edit_tool="apply_patch"))


def test_roles_have_the_subset_they_need():
    assert names("judge", PROFILE) == ()
    assert set(names("planner", PROFILE)) == READ_ONLY | {"submit_plan"}
    assert names("planner", PROFILE, empty_repository=True) == ("submit_plan",)
    assert "exec" not in names("researcher", PROFILE)
    assert names("coder", PROFILE) == names("solo", PROFILE) == names("fixer", PROFILE)


def test_schemas_are_plain_json_schema_without_references():
    for name in roles():
        for spec in specs(name, PROFILE):
            text = json.dumps(spec.parameters)
            assert "$ref" not in text
            assert "$defs" not in text
            assert spec.parameters["type"] == "object"


def test_a_property_called_title_survives_the_stripping_of_titles():
    (plan,) = specs("planner", PROFILE, empty_repository=True)
    task = plan.parameters["properties"]["tasks"]["items"]
    assert "title" in task["properties"]
    assert "title" in task["required"]
    assert "title" not in task
    assert plain_schema({"title": "T", "properties": {"$defs": {"title": "x", "type": "string"}}}) == {
        "properties": {"$defs": {"type": "string"}}
    }


def test_an_unknown_argument_names_the_nearest_and_nothing_runs(bench):
    outcome = bench.call("write_file", {"path": "a", "contents": "x"})

    assert not outcome.ok
    assert "unknown argument 'contents'; did you mean 'content'?" in outcome.text
    assert "content is missing" in outcome.text
    assert outcome.text.endswith("Call it again as write_file(path, content, overwrite=False)")
    assert not (bench.tree / "a").exists()


def test_an_unknown_argument_inside_a_list_names_the_nearest(bench):
    outcome = bench.call("edit_file", {"path": "a", "edits": [{"old": "x", "new": "y", "replaceall": True}]})
    assert "unknown argument 'edits.0.replaceall'; did you mean 'replace_all'?" in outcome.text


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("read_file", {"path": 5}, "path: Input should be a valid string, not 5"),
        ("read_file", {"path": "a", "start": 0}, "greater than or equal to 1"),
        ("read_file", {"path": "a", "start": "many"}, "valid integer"),
        ("run_checks", {"which": "all"}, "'acceptance', 'tests' or 'lint'"),
        ("edit_file", {"path": "a", "edits": []}, "at least 1 item"),
        ("edit_file", {"path": "a", "edits": "not json"}, "valid list"),
        ("move_path", {"to": "b"}, "from is missing"),
    ],
)
def test_arguments_that_do_not_fit_are_told_with_the_calls_shape(bench, name, arguments, told):
    outcome = bench.call(name, arguments)
    assert not outcome.ok
    assert told in outcome.text
    assert f"Call it again as {name}(" in outcome.text


def test_numbers_written_as_text_are_taken(bench):
    bench.put("a", "1\n2\n3\n")
    assert bench.call("read_file", {"path": "a", "start": "2", "limit": "1"}).text.startswith("L2: 2")


def test_an_unknown_tool_names_the_nearest(bench):
    outcome = bench.call("read_fil", {"path": "a"})
    assert not outcome.ok
    assert "did you mean 'read_file'?" in outcome.text


def test_a_tool_of_another_role_is_refused(bench):
    outcome = bench.call("exec", {"command": "touch x"}, role="planner")
    assert not outcome.ok
    assert "exec is not for a planner" in outcome.text
    assert not (bench.tree / "x").exists()


def test_a_call_that_came_broken_is_not_run_and_shows_what_was_sent(bench):
    outcome = bench.call("exec", {}, problem="arguments are not valid JSON", raw='{"command": "ls')
    assert not outcome.ok
    assert "exec was not run: arguments are not valid JSON" in outcome.text
    assert '{"command": "ls' in outcome.text


@pytest.mark.parametrize("name", sorted(ENDS))
def test_calls_that_end_an_agent_are_not_carried_out_as_tools(bench, name):
    with pytest.raises(ValueError, match="ends an agent"):
        bench.call(name, {}, role="planner" if name == "submit_plan" else "coder")


class Broken:
    id = "broken"

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def read(self, path: str, **_: object) -> bytes:
        raise self.error


@pytest.mark.parametrize("error", [SandboxLost("gone"), KeyError("a bug"), TypeError("a bug")])
def test_a_lost_sandbox_and_our_own_bugs_reach_the_caller(bench, error):
    call = ToolCall(0, "c", "read_file", {"path": "a"})
    with pytest.raises(type(error)):
        bench.runner.run(execute(call, sandbox=Broken(error), key="k", context=bench.context()))  # type: ignore[arg-type]


def test_middleware_around_a_call_does_not_skip_the_validation(bench):
    seen = []

    class Watch(FunctionMiddleware):
        async def process(self, context, call_next):
            seen.append((context.function.name, dict(context.arguments)))
            await call_next()
            seen.append(context.result)

    call = ToolCall(0, "c", "list_files", {})
    bad = ToolCall(0, "c", "list_files", {"deep": 3})
    for one in (call, bad):
        last = bench.runner.run(
            execute(one, sandbox=bench.sandbox, key="k", context=bench.context(), middleware=[Watch()])
        )

    assert seen[0] == ("list_files", {})
    assert isinstance(seen[1], ToolOutcome)
    assert len(seen) == 3
    assert not last.ok


def test_previews_are_one_short_line():
    def shown(name, **arguments):
        return preview(ToolCall(0, "c", name, arguments))

    assert shown("exec", command="pytest -q") == "exec pytest -q"
    assert shown("exec", command="a\n  b\tc") == "exec a b c"
    assert shown("move_path", **{"from": "a", "to": "b"}) == "move_path a to b"
    assert (
        shown("apply_patch", patch="*** Begin Patch\n*** Delete File: a.py\n*** End Patch")
        == "apply_patch a.py"
    )
    assert shown("submit_plan", tasks=[]) == "submit_plan"
    assert shown("nonsense", a=1) == 'nonsense {"a": 1}'
    assert len(shown("exec", command="x" * 500)) == 100
    assert shown("read_file", path={"not": "text"}).startswith("read_file")


def test_roles_and_skills_fold_their_names_and_name_the_nearest():
    from swarmrun.agents.skills import repository_skills, skill

    assert role("Test_Writer") is role("test-writer") is role(" TEST WRITER ")
    with pytest.raises(NotFound, match="did you mean 'coder'"):
        role("codr")
    with pytest.raises(NotFound, match="did you mean 'debugging'"):
        skill("debuging")
    own = repository_skills({".swarmrun/skills/debugging.md": "Ours.", "other.md": "x"})
    assert skill("Debugging", own).text == "Ours."
    assert skill("python_tests", own).description


def test_roles_agree_with_the_class_on_tiers_and_cover_all_roles():
    from swarmrun.api.swarmclass import DEFAULT_ROLES

    assert {name: spec.tier for name, spec in roles().items()} == {
        r.value: t.value for r, t in DEFAULT_ROLES.items()
    }
    assert all(spec.prompt for spec in roles().values())
    assert {n for n, s in roles().items() if s.must_write} == {
        "coder", "test-writer", "researcher", "solo", "integrator", "fixer",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "told"),
    [("---\na: 1\n", "has no end"), ("---\n: {\n---\n", "not YAML"), ("---\n- a\n---\n", "mapping")],
)
def test_broken_front_matter_names_its_file(text, told):
    from swarmrun.agents.markdown import front_matter
    from swarmrun.errors import InvalidResource

    with pytest.raises(InvalidResource, match=f"x.md: .*{told}"):
        front_matter(text, name="x.md")


@pytest.mark.parametrize(("name", "who"), [("finish", "coder"), ("submit_plan", "planner")])
def test_a_broken_call_to_end_is_told_like_any_other(bench, name, who):
    outcome = bench.call(name, {}, role=who, problem="arguments are not valid JSON", raw="{")
    assert not outcome.ok
    assert f"{name} was not run" in outcome.text


def test_an_agent_without_a_sandbox_is_told_so(bench):
    call = ToolCall(0, "c", "read_file", {"path": "a"})
    outcome = bench.runner.run(execute(call, sandbox=None, key="k", context=bench.context("planner")))
    assert not outcome.ok
    assert "no sandbox here" in outcome.text
    assert "Call submit_plan" in outcome.text
