"""What people write wrong in YAML, and what they are told."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmrun.api.load import dump, load, plain
from swarmrun.api.run import SwarmRun
from swarmrun.api.status import AgentStatus, GateStatus, SwarmRunStatus
from swarmrun.api.swarmclass import SwarmClass
from swarmrun.errors import InvalidResource

HEAD = "apiVersion: swarmrun.dev/v1alpha1\nkind: SwarmRun\nmetadata: {name: demo}\n"


def refused(text: str) -> str:
    with pytest.raises(InvalidResource) as caught:
        load(text, "run.yaml")
    return caught.value.message


def run_of(spec: str) -> SwarmRun:
    (run,) = load(HEAD + spec, "run.yaml")
    assert isinstance(run, SwarmRun)
    return run


def test_goal_and_repository_are_enough() -> None:
    run = run_of("spec: {goal: do it, repository: {url: /tmp/x}}")
    assert (run.metadata.namespace, run.spec.mode, run.spec.plan.max_tasks) == ("default", "Auto", 12)


def test_several_documents_come_in_order_and_foreign_kinds_are_noted() -> None:
    notes: list[str] = []
    text = (
        "apiVersion: swarmrun.dev/v1alpha1\nkind: SwarmClass\nmetadata: {name: c}\n"
        "spec: {models: {standard: {model: m}}}\n---\n"
        "apiVersion: v1\nkind: Secret\ndata: {a: b}\n---\n# only a comment\n---\n"
        + HEAD
        + "spec: {goal: g, repository: {url: u}}\n"
    )
    found = load(text, "run.yaml", note=notes.append)
    assert [type(r) for r in found] == [SwarmClass, SwarmRun]
    assert notes == ["run.yaml, document 2: Secret (v1) is not ours, skipped"]


def test_a_list_is_its_items_and_lines_still_count() -> None:
    text = (
        "apiVersion: v1\nkind: List\nitems:\n"
        "- apiVersion: swarmrun.dev/v1alpha1\n  kind: SwarmClass\n  metadata: {name: c}\n"
        "  spec: {models: {standard: {model: m}}}\n"
        "- apiVersion: swarmrun.dev/v1alpha1\n  kind: SwarmRun\n  metadata: {name: r}\n"
        "  spec: {goal: g, repository: {url: u}}\n"
    )
    assert [type(r) for r in load(text, "run.yaml")] == [SwarmClass, SwarmRun]
    assert "line 11: spec.gaol: unknown field" in refused(text.replace("goal", "gaol"))
    assert "a mapping with apiVersion and kind is wanted" in refused("apiVersion: v1\nkind: List\nitems: [1]")
    assert load("apiVersion: v1\nkind: List\nitems: []", "run.yaml") == []


def test_an_unknown_field_is_named_with_its_line_and_the_nearest_known_one() -> None:
    message = refused(HEAD + "spec:\n  goal: g\n  repository: {url: u}\n  paralelism: 3\n")
    assert message == "run.yaml, line 7: spec.paralelism: unknown field; did you mean parallelism?"


def test_python_names_are_unknown_fields_too() -> None:
    """A cluster would prune them silently."""
    message = refused(HEAD + "spec: {goal: g, repository: {url: u}, plan: {max_tasks: 3}}")
    assert "spec.plan.max_tasks: unknown field; did you mean maxTasks?" in message


def test_everything_wrong_is_said_at_once_in_the_order_of_lines() -> None:
    message = refused(
        HEAD
        + "spec:\n  goal: ''\n  repository: {url: 5}\n  mode: swarm\n  budget: {tokens: many}\n---\nkind: X\n"
    )
    lines = message.splitlines()
    assert lines[0] == "run.yaml: 5 problems"
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        "document 1, line 5",
        "document 1, line 6",
        "document 1, line 7",
        "document 1, line 8",
        "document 2, line 10",
    ]
    assert "spec.repository.url: a text is wanted, the number 5 was given; write it in quotes" in message
    assert "'swarm' is not one of Auto, Solo, Swarm; did you mean Swarm?" in message
    assert "spec.budget.tokens: a whole number is wanted, 'many' was given" in message


def test_the_error_carries_the_first_field_for_programs() -> None:
    with pytest.raises(InvalidResource) as caught:
        load(HEAD + "spec: {goal: g, repository: {url: u}, judge: {threshold: 101}}", "run.yaml")
    assert caught.value.field == "spec.judge.threshold"
    assert caught.value.exit_code == 2


def test_items_of_lists_are_named_by_their_place() -> None:
    message = refused(
        HEAD
        + "spec:\n  goal: g\n  repository: {url: u}\n  gates:\n  - {name: ok, command: x}\n  - name: Bad\n"
    )
    assert "line 9: spec.gates[1].command: missing" in message
    assert "line 9: spec.gates[1].name: 'Bad' does not match" in message


@pytest.mark.parametrize(
    ("goal", "told"),
    [
        ("'   '", "is empty: say what is to be done"),
        ("x" * 32769, "is 32769 bytes long, at most 32768 are taken"),
    ],
)
def test_a_goal_that_is_empty_or_too_long_is_refused_in_words(goal: str, told: str) -> None:
    assert told in refused(HEAD + f"spec: {{goal: {goal}, repository: {{url: u}}}}")


def test_a_key_written_twice_is_refused_with_both_lines() -> None:
    message = refused(HEAD + "spec:\n  goal: g\n  goal: h\n  repository: {url: u}\n")
    assert message == "run.yaml, line 6: spec.goal: written twice (first on line 5)"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: b: c", "line 1: not YAML"),
        ("apiVersion: [", "not YAML"),
        ("just words", "a mapping with apiVersion and kind is wanted, 'just words' was given"),
        ("- a", "a list was given"),
        ("kind: SwarmRun", "apiVersion: missing"),
        ("apiVersion: swarmrun.dev/v1\nkind: SwarmRun", "use swarmrun.dev/v1alpha1"),
        ("apiVersion: swarmrun.dev/v1alpha1\nkind: Swarmrun", "did you mean SwarmRun?"),
        ("x: !!python/object/apply:os.system [true]", "is not taken"),
        ("x: !!python/name:os.system", "is not taken"),
        ("a\x00b", "not YAML"),
        ("? [a, b]\n: c", "a key must be a plain word"),
        ("&a [*a]", "an alias contains itself"),
        ("x: *nowhere", "undefined alias"),
        ("x: !!int abc", "is no int"),
    ],
)
def test_what_is_no_resource_is_told_apart(text: str, told: str) -> None:
    assert told in refused(text)


def test_billion_laughs_are_refused_quickly() -> None:
    rows = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    begin = time.perf_counter()
    assert "values once its aliases are followed" in refused("\n".join(rows))
    assert time.perf_counter() - begin < 10


def test_deep_nesting_is_refused_before_anything_recurses() -> None:
    assert "nested deeper than 40 levels" in refused("[" * 100_000)
    assert "nested deeper than 40 levels" in refused("{a: " * 100_000)


def test_an_alias_may_not_lead_deeper_than_text_may() -> None:
    rows = ["a0: &a0 [x]", *(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 60))]
    assert "nests too deep" in refused("\n".join(rows))


def test_a_huge_file_is_refused_by_size() -> None:
    assert "larger than" in refused("a: " + "x" * 3_000_000)


def test_anchors_and_merge_keys_work_as_people_use_them() -> None:
    run = run_of(
        "spec:\n  goal: &g same\n  repository: {url: u}\n  plan:\n    tasks:\n"
        "    - &t {id: a, title: *g, instructions: x, estimate: 5}\n    - {<<: *t, id: b}\n"
    )
    assert [(t.id, t.title, t.estimate) for t in run.spec.plan.tasks] == [("a", "same", 5), ("b", "same", 5)]


def test_a_date_and_a_yes_are_what_yaml_says() -> None:
    assert run_of("spec: {goal: 2024-01-01, repository: {url: u}}").spec.goal == "2024-01-01"
    assert run_of("spec: {goal: g, suspend: yes, repository: {url: u}}").spec.suspend is True


@settings(max_examples=300, deadline=None)
@given(
    st.text(alphabet=st.characters(codec="utf-8"), max_size=60)
    | st.text("[]{}:&*!-\n ab'\"|>#%,?", max_size=60)
)
def test_any_text_loads_or_is_refused_in_words(text: str) -> None:
    with contextlib.suppress(InvalidResource):
        assert load(text, "s") == []


def test_dumping_leaves_defaults_out_and_writes_texts_as_blocks() -> None:
    run = run_of('spec: {goal: "a\\nb\\n", mode: Auto, repository: {url: u}}')
    assert dump(run) == (
        "apiVersion: swarmrun.dev/v1alpha1\nkind: SwarmRun\nmetadata:\n  name: demo\n"
        "spec:\n  goal: |\n    a\n    b\n  repository:\n    url: u\n"
    )


def test_what_is_dumped_loads_to_the_same() -> None:
    run = run_of(
        "spec: {goal: g, repository: {url: u, branch: b}, suspend: true, judge: {threshold: 0},\n"
        " gates: [{name: t, command: c, required: false}], budget: {cost: '1.50', duration: 1h},\n"
        " plan: {tasks: [{id: '1', title: t, instructions: i, role: test-writer}]}}"
    )
    (again,) = load(dump(run), "again")
    assert again == run


def test_a_status_keeps_what_is_false() -> None:
    run = run_of("spec: {goal: g, repository: {url: u}}")
    status = SwarmRunStatus(
        gates=[GateStatus(name="tests", passed=False)], agents=[AgentStatus(task="a", verified=False)]
    )
    shown = plain(run.model_copy(update={"status": status}))["status"]
    assert shown["gates"] == [{"name": "tests", "required": True, "passed": False}]
    assert shown["agents"][0]["verified"] is False
    assert shown["phase"] == "Pending"
