import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmrun.api.plan import Acceptance, Plan, Role, Task
from swarmrun.api.run import Mode
from swarmrun.errors import Conflict, NotFound
from swarmrun.planning import check, graph


def test_waves_follow_dependencies_in_plan_order(plan_of):
    plan = plan_of("d", "a", "b", after={"d": ["a", "b"]})
    assert graph.waves(plan) == [["a", "b"], ["d"]]
    assert graph.order(plan) == ["a", "b", "d"]
    assert graph.dependants(plan, "a") == ["d"]


def test_a_cycle_has_no_order(plan_of):
    with pytest.raises(Conflict, match="a → b → a"):
        graph.order(plan_of("a", "b", after={"a": ["b"], "b": ["a"]}))


def test_a_lookup_that_misses_raises(plan_of):
    with pytest.raises(NotFound, match="no task 'x' in the plan; it has: a"):
        graph.task(plan_of("a"), "x")


def test_the_critical_path_is_weighed_by_estimates(plan_of, task_of):
    plan = plan_of(
        task_of("a", estimate=5),
        task_of("b", estimate=50),
        task_of("c", estimate=5, depends_on=["a"]),
        task_of("d", estimate=5, depends_on=["c"]),
    )
    assert graph.critical_path(plan) == (["b"], 50)


def edges_of(size: int, bits: list[bool]) -> Plan:
    pairs = list(itertools.combinations(range(size), 2))
    tasks = [
        Task(
            id=f"t{n}",
            title="t",
            instructions="x",
            depends_on=[f"t{a}" for (a, b), on in zip(pairs, bits, strict=True) if on and b == n],
        )
        for n in range(size)
    ]
    return Plan(tasks=tasks)


@given(
    st.integers(1, 6).flatmap(
        lambda n: st.tuples(
            st.just(n), st.lists(st.booleans(), min_size=n * (n - 1) // 2, max_size=n * (n - 1) // 2)
        )
    )
)
def test_the_width_is_the_largest_set_of_tasks_that_can_run_together(case):
    plan = edges_of(*case)
    before = graph.ancestors(plan)
    ids = [t.id for t in plan.tasks]
    largest = max(
        size
        for size in range(1, len(ids) + 1)
        for group in itertools.combinations(ids, size)
        if not any(a in before[b] or b in before[a] for a, b in itertools.combinations(group, 2))
    )
    assert graph.width(plan) == largest


@pytest.mark.parametrize(
    ("after", "alone"),
    [
        ({}, False),
        ({"d": ["a", "b", "c"]}, False),
        ({"b": ["a"], "c": ["b"], "d": ["c"]}, True),
        ({"c": ["a"], "d": ["b"]}, True),
    ],
)
def test_code_decides_whether_a_swarm_pays(plan_of, after, alone):
    assert graph.solo(plan_of("a", "b", "c", "d", after=after), Mode.AUTO)[0] is alone


def test_a_long_critical_path_goes_to_one_agent(plan_of, task_of):
    plan = plan_of(task_of("a", estimate=70), task_of("b", estimate=10), task_of("c", estimate=20))
    alone, why = graph.solo(plan, Mode.AUTO)
    assert alone
    assert why == "70 % of the estimated work lies on the critical path a"
    assert graph.solo(plan, Mode.SWARM) == (False, "mode is Swarm")
    assert graph.solo(plan_of("a", "b", "c"), Mode.SOLO)[0]


def test_solo_inherits_instructions_contracts_and_acceptance(plan_of, task_of, function):
    contract = function("def f(): ...", id="f", path="shop/a.py")
    plan = plan_of(
        task_of("b", depends_on=["a"], uses=["f"]), task_of("a", provides=["f"]), contracts=(contract,)
    )
    alone = graph.as_solo(plan)
    (task,) = alone.tasks
    assert (task.id, task.role, task.provides, task.owned_paths) == ("solo", Role.SOLO, ["f"], ["**"])
    assert task.instructions.index("Write a.") < task.instructions.index("Write b.")
    assert [a.command for a in task.acceptance] == ["pytest tests/test_a.py", "pytest tests/test_b.py"]
    assert check.check(alone) == []
    assert graph.as_solo(alone) is alone


def test_solo_of_a_large_plan_stays_within_the_schema(plan_of, task_of):
    many = [
        task_of(
            f"t{n}",
            instructions="x" * 16_000,
            acceptance=[Acceptance(description=f"{n}-{k} " + "y" * 400) for k in range(10)],
        )
        for n in range(40)
    ]
    alone = graph.as_solo(plan_of(*many))
    assert Plan.model_validate(alone.dump()) == alone
    assert "t39" in alone.tasks[0].instructions.lower()
