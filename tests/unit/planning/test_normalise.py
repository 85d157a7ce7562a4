import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swarmrun.api.plan import Plan, Role
from swarmrun.planning.normalise import normalise

TASK = {"id": "a", "title": "A", "instructions": "Do it.", "ownedPaths": ["a.py"], "acceptance": ["works"]}


def plan_with(*tasks, **more):
    return {"summary": "s", "tasks": list(tasks), **more}


def accepted(raw) -> Plan:
    result = normalise(raw)
    assert result.errors == []
    assert result.plan is not None
    return result.plan


def test_integer_ids_become_strings_and_references_follow():
    plan = accepted(plan_with({**TASK, "id": 1}, {**TASK, "id": 2, "dependsOn": [1]}))
    assert [t.id for t in plan.tasks] == ["1", "2"]
    assert plan.tasks[1].depends_on == ["1"]


def test_what_was_mended_is_noted():
    notes = normalise(plan_with({**TASK, "id": 1, "role": "test_writer"})).notes
    assert 'task id 1 became "1"' in notes
    assert "task 1: role 'test_writer' became test-writer" in notes


def test_ids_become_dns_labels_and_references_use_the_same_map():
    plan = accepted(
        plan_with(
            {**TASK, "id": "Storage_API", "provides": "Link_Store"},
            {**TASK, "id": "cli", "depends_on": "Storage_API", "uses": ["Link_Store"]},
            contracts=[{"id": "Link_Store", "kind": "class", "path": "s.py", "declaration": "class S: ..."}],
        )
    )
    assert plan.tasks[0].id == "storage-api"
    assert plan.tasks[1].depends_on == ["storage-api"]
    assert plan.tasks[1].uses == plan.tasks[0].provides == [plan.contracts[0].id] == ["link-store"]


def test_two_ids_that_become_the_same_are_an_error():
    errors = normalise(plan_with({**TASK, "id": "Storage_API"}, {**TASK, "id": "storage-api"})).errors
    assert any("two tasks have the id 'storage-api'" in e for e in errors)


@pytest.mark.parametrize(
    "written", ["test_writer", "Test Writer", "testWriter", "TEST-WRITER", ["test-writer"]]
)
def test_roles_fold(written):
    assert accepted(plan_with({**TASK, "role": written})).tasks[0].role is Role.TEST_WRITER


def test_an_unknown_role_is_a_loud_error_that_names_the_known_ones():
    result = normalise(plan_with({**TASK, "role": "wizard"}))
    assert result.plan is None
    assert result.errors == [
        "task a: unknown role 'wizard'; known roles: coder, test-writer, researcher, solo"
    ]


@pytest.mark.parametrize(
    "dependency",
    ["store", {"id": "store"}, {"task": "store", "why": "x"}, {"title": "The Store"}, "The Store", ["store"]],
)
def test_dependencies_may_be_objects_or_titles(dependency):
    plan = accepted(
        plan_with({**TASK, "id": "store", "title": "The Store"}, {**TASK, "dependsOn": [dependency]})
    )
    assert plan.tasks[1].depends_on == ["store"]


def test_a_task_that_depends_on_itself_is_an_error():
    assert "task a depends on itself" in normalise(plan_with({**TASK, "dependsOn": ["a"]})).errors[0]


def test_duplicate_dependencies_count_once():
    result = normalise(plan_with({**TASK, "id": "b"}, {**TASK, "dependsOn": ["b", "b", "b"]}))
    assert result.plan is not None
    assert result.plan.tasks[1].depends_on == ["b"]
    assert any("stood twice" in note for note in result.notes)


def test_a_text_where_a_list_is_expected_is_one_entry():
    plan = accepted(plan_with({**TASK, "ownedPaths": "./shop//a.py", "acceptance": "- one\n- two"}))
    assert plan.tasks[0].owned_paths == ["shop/a.py"]
    assert [a.description for a in plan.tasks[0].acceptance] == ["one", "two"]


def test_list_wrapped_single_values_are_unwrapped():
    plan = accepted(plan_with({**TASK, "id": ["a"], "role": ["coder"], "estimate": [5]}))
    assert (plan.tasks[0].id, plan.tasks[0].role, plan.tasks[0].estimate) == ("a", Role.CODER, 5)


def test_snake_and_camel_case_are_the_same():
    plan = accepted(
        plan_with({"id": "a", "title": "A", "instructions": "x", "owned_paths": ["a"], "depends_on": None})
    )
    assert plan.tasks[0].owned_paths == ["a"]


def test_unknown_fields_are_left_out_with_a_note():
    result = normalise(plan_with({**TASK, "priority": "high"}))
    assert "task 1: unknown fields left out: priority" in result.notes


@pytest.mark.parametrize(
    "wrap",
    [
        lambda p: {"plan": p},
        lambda p: {"result": {"plan": p}},
        lambda p: [p],
        json.dumps,
        lambda p: json.dumps({"plan": json.dumps(p)}),
        lambda p: f"Here it is:\n```json\n{json.dumps(p, indent=1)}\n```\nGood luck!",
        lambda p: f'<think>maybe {{"tasks": []}} or not</think>{json.dumps(p)}',
        lambda p: {**p, "tasks": json.dumps(p["tasks"])},
        lambda p: {**p, "tasks": {t["id"]: t for t in p["tasks"]}},
        lambda p: p["tasks"],
    ],
)
def test_a_plan_is_found_however_it_is_wrapped(wrap):
    assert [t.id for t in accepted(wrap(plan_with(TASK))).tasks] == ["a"]


@pytest.mark.parametrize(
    "raw", [None, "", "I cannot do that.", 7, [], {}, {"tasks": []}, {"tasks": None}, '{"tasks": [']
)
def test_an_answer_without_a_plan_says_what_is_expected(raw):
    result = normalise(raw)
    assert result.plan is None
    assert "task" in result.errors[0]


def test_contracts_may_be_a_mapping_by_id():
    plan = accepted(
        plan_with(
            {**TASK, "provides": ["store"]},
            contracts={
                "store": {"path": "s.py", "type": "dataclass", "code": "```python\nclass S: ...\n```"}
            },
        )
    )
    assert plan.contracts[0].id == "store"
    assert plan.contracts[0].kind == "data-model"
    assert plan.contracts[0].declaration == "class S: ..."


def test_a_contract_inside_a_task_is_moved_to_the_contracts():
    given_inside = {"id": "store", "path": "s.py", "signature": "def f() -> None: ..."}
    plan = accepted(plan_with({**TASK, "provides": [given_inside]}))
    assert plan.tasks[0].provides == ["store"]
    assert plan.contracts[0].path == "s.py"


def test_a_contract_may_name_its_provider():
    contract = {"id": "c", "path": "s.py", "declaration": "x = 1", "providedBy": "a", "usedBy": ["b"]}
    plan = accepted(plan_with(TASK, {**TASK, "id": "b"}, contracts=[contract]))
    assert plan.tasks[0].provides == ["c"]
    assert plan.tasks[1].uses == ["c"]


def test_a_task_that_uses_a_contract_depends_on_nothing():
    contract = {"id": "c", "path": "s.py", "declaration": "x = 1", "providedBy": "a"}
    plan = accepted(plan_with(TASK, {**TASK, "id": "b", "uses": ["c"]}, contracts=[contract]))
    assert plan.tasks[1].depends_on == []


def test_over_long_texts_are_clipped_with_a_note_but_declarations_are_refused():
    result = normalise(plan_with({**TASK, "instructions": "x" * 20_000}))
    assert result.plan is not None
    assert len(result.plan.tasks[0].instructions) == 16_000
    assert any("was cut from 20000 to 16000" in n for n in result.notes)
    contract = {"id": "c", "path": "s.py", "declaration": "x = 1\n" * 2000}
    assert "at most 8000" in normalise(plan_with(TASK, contracts=[contract])).errors[0]


def test_acceptance_may_be_objects_under_other_names():
    plan = accepted(
        plan_with({**TASK, "acceptance_criteria": None, "acceptance": [{"criterion": "x", "cmd": "y"}]})
    )
    assert (plan.tasks[0].acceptance[0].description, plan.tasks[0].acceptance[0].command) == ("x", "y")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["a", "b", "Storage_API", "coder", "test_writer", "a.py", "é", "\ud800", "\0", "-", "{", "[1"]
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(
    (
        *(
            "id",
            "title",
            "role",
            "instructions",
            "ownedPaths",
            "depends_on",
            "provides",
            "uses",
            "acceptance",
        ),
        *(
            "estimate",
            "kind",
            "path",
            "declaration",
            "description",
            "name",
            "weight",
            "question",
            "providedBy",
        ),
    )
)
ROW = st.dictionaries(NAMES, JSON, max_size=8)
PLAN = st.fixed_dictionaries(
    {"tasks": st.lists(ROW, max_size=4) | JSON},
    optional={"contracts": st.lists(ROW, max_size=3) | JSON, "criteria": JSON, "summary": JSON, "plan": JSON},
)
FEW = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@FEW
@given(JSON | PLAN)
def test_it_never_raises_and_has_a_plan_exactly_when_there_are_no_errors(raw):
    result = normalise(raw)
    assert (result.plan is None) == bool(result.errors)


@FEW
@given(PLAN)
def test_what_is_accepted_has_unique_ids_and_is_its_own_normal_form(raw):
    plan = normalise(raw).plan
    if plan is None:
        return
    for ids in ([t.id for t in plan.tasks], [c.id for c in plan.contracts], [c.id for c in plan.criteria]):
        assert len(set(ids)) == len(ids)
    again = normalise(plan.dump())
    assert again.errors == []
    assert again.plan == plan


@FEW
@given(st.text(max_size=200) | JSON.map(lambda v: json.dumps(v, default=str)))
def test_no_text_makes_it_raise(text):
    normalise(text)


def test_a_nest_without_end_and_an_endless_number_do_no_harm():
    normalise("[" * 100_000)
    normalise('{"tasks": ' * 5_000)
    nest: object = "x"
    for _ in range(5_000):
        nest = [nest]
    normalise(plan_with({**TASK, "title": nest, "ownedPaths": nest, "role": nest}))
    normalise(plan_with({**TASK, "estimate": 10**5000, "title": 10**5000}))
