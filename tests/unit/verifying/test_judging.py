import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmrun.api.plan import Acceptance, Criterion, Plan, Role, Task
from swarmrun.api.resolve import DEFAULT_RUBRIC
from swarmrun.errors import NotFound
from swarmrun.verifying.judging import (
    Answer,
    Evidence,
    answer_schema,
    cap,
    check_evidence,
    criteria,
    normalise_answers,
    permute,
    tally,
)

RUBRIC = list(DEFAULT_RUBRIC)
FILES = {
    "shop/a.py": b"import os\n\n\ndef f(url):\n    if not url:\n        raise ValueError(url)\n    return url\n"
}


def read(path: str) -> bytes:
    try:
        return FILES[path]
    except KeyError:
        raise NotFound(path) from None


def plan(*acceptance: Acceptance) -> Plan:
    return Plan(tasks=[Task(id="a", title="Storage", instructions="x", acceptance=list(acceptance))])


def test_criteria_are_the_rubric_the_plans_own_and_statements_without_a_command():
    given_plan = plan(
        Acceptance(description="codes are short"), Acceptance(description="green", command="pytest")
    )
    given_plan.criteria = [Criterion(id="fast", question="Is it fast?")]
    listed = criteria(RUBRIC, given_plan)
    assert [c.id for c in listed] == ["works", "structure", "tests", "security", "fast", "accept-a"]
    assert listed[-1].question == "Storage: do all of these hold? codes are short"
    assert listed[-1].weight == 40


def test_a_researchers_notes_are_not_judged():
    given_plan = plan(Acceptance(description="each question is answered"))
    given_plan.tasks[0].role = Role.RESEARCHER
    assert criteria(RUBRIC, given_plan) == list(RUBRIC)


def test_samples_see_the_criteria_in_orders_of_their_own():
    orders = [[c.id for c in permute(RUBRIC, sample)] for sample in range(4)]
    assert orders == [[c.id for c in permute(RUBRIC, sample)] for sample in range(4)]
    assert len({tuple(order) for order in orders}) > 1
    assert all(sorted(order) == sorted(c.id for c in RUBRIC) for order in orders)


def test_the_schema_is_strict():
    schema = answer_schema(RUBRIC)
    item = schema["properties"]["answers"]["items"]
    assert item["additionalProperties"] is False
    assert set(item["required"]) == set(item["properties"])
    assert item["properties"]["criterion"]["enum"] == ["works", "structure", "tests", "security"]


YES = {"criterion": "works", "answer": "yes", "evidence": [{"where": "shop/a.py:4", "quote": "def f(url):"}]}


@pytest.mark.parametrize(
    "raw",
    [
        {"answers": [YES]},
        [YES],
        {"works": {"answer": "Yes.", "evidence": "shop/a.py:4: def f(url):"}},
        {
            "answers": {
                "Works": {
                    "verdict": True,
                    "evidence": [{"file": "shop/a.py", "line": 4, "quote": "def f(url):"}],
                }
            }
        },
        json.dumps({"answers": [YES]}),
        f"I looked.\n```json\n{json.dumps({'answers': [YES]})}\n```",
        {"answers": [YES, {**YES, "answer": "no"}]},
        {"answers": [YES, {"criterion": "invented", "answer": "yes"}, 7, None]},
    ],
)
def test_answers_are_understood_and_what_is_missing_is_unknown(raw):
    answers = check_evidence(normalise_answers(raw, RUBRIC), read)
    assert [a.criterion for a in answers] == ["works", "structure", "tests", "security"]
    assert [a.verdict for a in answers] == ["yes", "unknown", "unknown", "unknown"]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=10)
    | st.sampled_from(["works", "yes", "a.py:1", "answers"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["answers", "criterion", "answer", "evidence", "where", "quote", "works"]), inner
        )
    ),
    max_leaves=10,
)


@given(JSON | st.text(max_size=100))
def test_no_answer_makes_it_raise(raw):
    answers = check_evidence(normalise_answers(raw, RUBRIC), read)
    assert len(answers) == len(RUBRIC)
    assert 0 <= tally([answers], RUBRIC).score <= 100


@pytest.mark.parametrize(
    ("where", "quote", "note"),
    [
        ("shop/a.py:4", "def f(url):", ""),
        ("./shop/a.py:2", "L4: def f( url ):", ""),
        ("shop/a.py:4-7", "if not url:\n        raise ValueError(url)", ""),
        ("shop/a.py#L4", "def f(url):", ""),
        ("pytest", "", ""),
        ("gate:pytest", "", ""),
        ("shop/a.py:1", "return url", "the quote is not at shop/a.py:1"),
        ("shop/a.py:4", "def g(url):", "the quote is not at shop/a.py:4"),
        ("shop/a.py:99", "def f(url):", "shop/a.py has 7 lines, not 99"),
        ("shop/b.py:1", "import os", "shop/b.py does not exist"),
        ("shop/a.py:4", ")", "nothing is quoted from shop/a.py:4"),
        ("ruff", "", "ruff is neither path:line nor a gate that passed"),
        ("", "", "evidence is neither path:line nor a gate that passed"),
    ],
)
def test_a_yes_counts_only_with_evidence_that_holds(where, quote, note):
    (answer,) = check_evidence([Answer("works", "yes", (Evidence(where, quote),))], read, {"pytest"})
    assert (answer.verdict, answer.note) == ("unknown" if note else "yes", note)


def test_one_piece_of_evidence_that_holds_is_enough_and_a_no_needs_none():
    both = (Evidence("x.py:1", "nothing"), Evidence("shop/a.py:1", "import os"))
    assert [a.verdict for a in check_evidence([Answer("w", "yes", both), Answer("w", "no")], read)] == [
        "yes",
        "no",
    ]
    assert check_evidence([Answer("w", "yes")], read)[0].note == "yes without evidence"


def answers(**verdicts):
    return [Answer(c.id, verdicts.get(c.id, "yes"), reason=f"because {c.id}") for c in RUBRIC]


def test_the_majority_of_the_samples_makes_the_score():
    result = tally([answers(), answers(tests="no"), answers(tests="no", works="unknown")], RUBRIC)
    assert result.verdicts == {"works": "yes", "structure": "yes", "tests": "no", "security": "yes"}
    assert result.score == 75
    assert result.spread == 100 - 55
    assert result.closed == ["works", "structure", "security"]
    assert result.open == ["tests"]
    assert result.complaints == ["tests: because tests"]


def test_without_a_majority_a_criterion_is_unknown_and_worth_half():
    result = tally([answers(works="yes"), answers(works="no")], RUBRIC)
    assert result.verdicts["works"] == "unknown"
    assert result.score == 80
    assert (
        tally(
            [answers(**dict.fromkeys(("works", "structure", "tests", "security"), "unknown"))], RUBRIC
        ).score
        == 50
    )


def test_complaints_come_by_weight_and_name_the_place():
    sample = [
        Answer("tests", "no", (Evidence("tests/test_a.py:3"),), "no edge cases"),
        Answer("works", "unknown", note="yes without evidence"),
    ]
    assert tally([sample], RUBRIC).complaints[:2] == [
        "works: not shown: yes without evidence",
        "tests: no edge cases (tests/test_a.py:3)",
    ]


def test_no_samples_are_worth_nothing_certain():
    assert tally([], RUBRIC).score == 50
    assert tally([], []).score == 0


def test_a_required_gate_with_new_failures_cannot_reach_the_threshold():
    assert cap(95, ["pytest"], [], 70) == (69, "gate pytest")
    assert cap(95, [], ["store"], 70) == (69, "contract store")
    assert cap(40, ["pytest"], [], 70) == (40, "")
    assert cap(95, [], [], 70) == (95, "")
