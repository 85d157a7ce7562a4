from swarmrun.planning import render
from swarmrun.planning.normalise import normalise


def test_the_same_plan_gives_the_same_bytes(plan_of, task_of, function):
    contract = function("def f() -> int: ...", id="f", description="Counts.")
    plan = plan_of(task_of("a", provides=["f"]), task_of("b", uses=["f"]), contracts=(contract,))
    again = normalise(plan.dump()).plan
    assert again is not None
    assert render.contracts(plan) == render.contracts(again)
    assert render.contracts(plan) == (
        "### f (function) in `shop/a.py`, provided by a, used by b\nCounts.\n"
        "```python\ndef f() -> int: ...\n```"
    )


def test_a_fence_inside_a_declaration_does_not_end_it(plan_of, function):
    text = render.contracts(plan_of("a", contracts=(function('"""\n```x```\n"""'),)))
    assert text.count("````") == 2


def test_the_dag_shows_waves_contracts_and_the_critical_path(plan_of, task_of, function):
    contract = function("import os\n\n@cache\ndef f(a: int) -> int: ...", id="f")
    plan = plan_of(task_of("a", provides=["f"]), "b", task_of("c", depends_on=["a"]), contracts=(contract,))
    text = render.dag(plan)
    assert "wave 1  (2 side by side)\n├─ a  A  [coder, ~10 turns]" in text
    assert "└─ c  C  [coder, ~10 turns]\n      after a" in text
    assert "critical path: a → c (20 of 30 turns), at most 2 side by side" in text
    assert "f  shop/a.py  def f(a: int) -> int  ← a" in text


def test_a_task_tells_what_it_owns_and_when_it_is_accepted(task_of):
    text = render.task(task_of("a", uses=["f"], depends_on=["b"]))
    assert "change nothing else): shop/a.py" in text
    assert "- its tests pass (`pytest tests/test_a.py`)" in text
