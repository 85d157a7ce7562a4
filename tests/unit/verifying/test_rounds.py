from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmrun.verifying.rounds import RoundState, better, good

BASE = RoundState("c0", failing_required=1, breaches=1, open=frozenset({"a", "b"}), score=50, spread=10)


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({"failing_required": 0, "breaches": 5, "score": 10}, True),
        ({"failing_required": 2, "score": 100}, False),
        ({"breaches": 0, "open": frozenset("abc")}, True),
        ({"breaches": 2, "open": frozenset()}, False),
        ({"open": frozenset("a"), "score": 40}, True),
        ({"open": frozenset("abc"), "score": 99}, False),
        ({"score": 61}, True),
        ({"score": 60}, False),
        ({"score": 65, "spread": 20}, False),
        ({}, False),
    ],
)
def test_a_round_is_kept_by_gates_then_contracts_then_complaints_then_score_beyond_the_spread(change, kept):
    assert better(BASE, replace(BASE, **change))[0] is kept


STATES = st.builds(
    RoundState,
    st.just("c"),
    st.integers(0, 2),
    st.integers(0, 2),
    st.frozensets(st.sampled_from("abc")),
    st.integers(0, 100),
    st.integers(0, 20),
)


@given(STATES, STATES)
def test_two_rounds_are_never_better_than_each_other(one, other):
    assert not (better(one, other)[0] and better(other, one)[0])


def test_good_enough_needs_gates_contracts_and_score():
    fine = RoundState("c", 0, 0, frozenset(), 70)
    assert good(fine, 70)
    assert not good(replace(fine, score=69), 70)
    assert not good(replace(fine, failing_required=1), 70)
    assert not good(replace(fine, breaches=1), 70)
