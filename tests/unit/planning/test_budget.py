from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from swarmrun.api.plan import Plan, Task
from swarmrun.planning import budget


@given(
    st.lists(st.integers(1, 100), min_size=1, max_size=12),
    st.integers(1000, 10**9),
    st.none() | st.decimals(0, 10**6, places=6),
)
def test_what_is_given_out_never_exceeds_the_budget(estimates, tokens, cost):
    plan = Plan(
        tasks=[Task(id=f"t{n}", title="t", instructions="x", estimate=e) for n, e in enumerate(estimates)]
    )
    shares = [*budget.divide(plan, tokens, cost).values(), *budget.held_back(tokens, cost).values()]
    assert sum(s.tokens for s in shares) <= tokens
    assert sum(s.tokens for s in shares) > tokens - len(shares) - 1
    if cost is not None:
        assert sum((s.cost for s in shares if s.cost is not None), Decimal(0)) <= cost


def test_thirty_percent_are_held_back_and_the_rest_follows_the_estimates(plan_of, task_of):
    plan = plan_of(task_of("a", estimate=30), task_of("b", estimate=10))
    shares = budget.divide(plan, 1000, Decimal("4"))
    assert (shares["a"].tokens, shares["b"].tokens) == (525, 175)
    assert (shares["a"].cost, shares["b"].cost) == (Decimal("2.1"), Decimal("0.7"))
    assert sum(a.tokens for a in budget.held_back(1000, None).values()) == 300


def test_a_call_reserves_its_prompt_and_all_of_its_output():
    assert budget.reserve(100, 50, 150)
    assert not budget.reserve(100, 51, 150)
