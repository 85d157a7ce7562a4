import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmrun.api.plan import Plan
from swarmrun.planning.check import check, check_replan, joined
from swarmrun.planning.paths import overlap, owns


def test_a_sound_plan_has_no_errors(plan_of, function, task_of):
    contract = function("def f() -> int: ...", id="f", path="shop/a.py")
    plan = plan_of(task_of("a", provides=["f"]), task_of("b", uses=["f"]), contracts=(contract,))
    assert check(plan) == []


def test_a_cycle_is_named_as_a_path(plan_of):
    errors = check(plan_of("a", "b", "c", after={"a": ["b"], "b": ["c"], "c": ["a"]}))
    assert errors == ["the tasks a → b → c → a wait for each other in a ring: remove one dependency"]


def test_an_unknown_dependency_names_the_known_tasks(plan_of):
    assert check(plan_of("a", "b", after={"b": ["x"]})) == [
        "task b depends on the unknown task x; known: a, b"
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("shop/a.py", "shop/a.py"),
        ("shop/", "shop/a.py"),
        ("shop", "shop/deep/a.py"),
        ("shop/*.py", "shop/a.py"),
        ("**/*.py", "shop/a.py"),
        ("tests/test_*.py", "tests/test_api*.py"),
        ("shop/**", "shop/*/x.py"),
        ("shop/[ab].py", "shop/b.py"),
        ("./shop/a.py", "shop/a.py"),
    ],
)
def test_two_tasks_that_may_run_together_must_not_own_the_same_path(plan_of, task_of, one, other):
    plan = plan_of(task_of("a", owned_paths=[one]), task_of("b", owned_paths=[other]))
    assert any("may run at the same time and both own" in e for e in check(plan))
    assert (
        check(plan_of(task_of("a", owned_paths=[one]), task_of("b", owned_paths=[other], depends_on=["a"])))
        == []
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("shop/a.py", "shop/b.py"),
        ("shop/", "shopping/a.py"),
        ("shop/*.py", "shop/deep/a.py"),
        ("shop/*.py", "shop/*.ts"),
        ("tests/test_a*.py", "tests/test_b*.py"),
        ("docs/**/*.md", "src/**/*.md"),
    ],
)
def test_paths_that_cannot_meet_do_not_overlap(one, other):
    assert not overlap(one, other)
    assert not overlap(other, one)


SEGMENT = st.text("ab", min_size=1, max_size=3)
PATH = st.lists(SEGMENT, min_size=1, max_size=3).map("/".join)
PATTERN = st.lists(st.text("ab*?", min_size=1, max_size=3) | st.just("**"), min_size=1, max_size=3).map(
    "/".join
)


@given(PATTERN, PATTERN, PATH)
def test_two_patterns_that_own_one_path_overlap(one, other, path):
    if owns(one, path) and owns(other, path):
        assert overlap(one, other)
        assert overlap(other, one)


def test_tasks_that_are_ordered_through_another_may_share_a_path(plan_of, task_of):
    plan = plan_of(
        task_of("a", owned_paths=["x.py"]),
        task_of("b", depends_on=["a"]),
        task_of("c", depends_on=["b"], owned_paths=["x.py"]),
    )
    assert check(plan) == []


def test_researchers_own_nothing_and_writers_something(plan_of, task_of):
    plan = plan_of(task_of("look", role="researcher", owned_paths=[]), task_of("b", owned_paths=[]))
    assert check(plan) == ["task b (coder) owns no paths: list the files or directories it writes"]


@pytest.mark.parametrize("broad", [".", "**", "./", "*", "**/*"])
def test_owning_everything_is_refused_unless_there_is_one_task(plan_of, task_of, broad):
    assert check(plan_of(task_of("a", owned_paths=[broad]))) == []
    errors = check(plan_of(task_of("a", owned_paths=[broad]), "b"))
    assert errors == [f"task a owns {broad}, which is everything: name its files and directories"]


@pytest.mark.parametrize("name", ["plan", "judge", "integrate-a", "fix-1"])
def test_ids_of_the_run_itself_are_reserved(plan_of, name):
    assert "is reserved for the run itself" in check(plan_of(name))[0]


def test_too_many_tasks_are_refused(plan_of):
    assert "at most 2 are allowed" in check(plan_of("a", "b", "c"), max_tasks=2)[0]


def test_empty_instructions_and_missing_acceptance_are_refused(plan_of, task_of):
    errors = check(plan_of(task_of("a", instructions=" ", acceptance=[])))
    assert [e.split(":")[0] for e in errors] == ["task a has no instructions", "task a has no acceptance"]


def test_each_contract_has_one_provider_that_owns_its_file(plan_of, task_of, function):
    one = function("def f(): ...", id="f", path="shop/x.py")
    errors = check(plan_of("a", contracts=(one,)))
    assert errors == ["contract f is provided by no task: list it in one task's provides"]
    errors = check(plan_of(task_of("a", provides=["f"]), task_of("b", provides=["f"]), contracts=(one,)))
    assert errors == ["contract f is provided by a and b: keep it in one task"]
    errors = check(plan_of(task_of("a", provides=["f"]), contracts=(one,)))
    assert "does not own: add shop/x.py" in errors[0]


def test_a_data_model_is_frozen_and_needs_no_owner(plan_of, task_of, function):
    model = function("class M:\n    x: int", id="m", path="shop/models.py", kind="data-model")
    assert check(plan_of(task_of("a", provides=["m"]), contracts=(model,))) == []


def test_used_contracts_must_exist(plan_of, task_of):
    assert "uses the unknown contract nope" in check(plan_of(task_of("a", uses=["nope"])))[0]


def test_a_route_names_its_method_and_path(plan_of, task_of, function):
    bare = function("def create(): ...", id="r", kind="route")
    assert "route without METHOD /path" in check(plan_of(task_of("a", provides=["r"]), contracts=(bare,)))[0]
    told = bare.model_copy(update={"description": "POST /links creates one"})
    assert check(plan_of(task_of("a", provides=["r"]), contracts=(told,))) == []


@pytest.mark.parametrize("path", ["/etc/passwd", "../x.py", "a/../../x", ".git/hooks/"])
def test_paths_outside_of_the_repository_are_refused(plan_of, task_of, path):
    assert len(check(plan_of(task_of("a", owned_paths=[path])))) == 1


def test_paths_fit_the_repository(plan_of, task_of, function):
    existing = ["shop/a.py", "README"]
    assert "README is a file" in check(plan_of(task_of("a", owned_paths=["README/x"])), existing=existing)[0]
    inside = function("def f(): ...", id="f", path="shop")
    errors = check(
        plan_of(task_of("a", provides=["f"], owned_paths=["shop"]), contracts=(inside,)), existing=existing
    )
    assert "which is a directory: name a file" in errors[0]


def test_duplicate_ids_are_told_and_do_not_crash(plan_of, task_of):
    assert "two tasks have the id a: give each its own" in check(plan_of(task_of("a"), task_of("a")))


def test_a_replan_may_name_what_was_kept_but_not_change_it(plan_of, task_of, function):
    f = function("def f(): ...", id="f", path="shop/a.py")
    g = function("def g(): ...", id="g", path="shop/b.py")
    kept = Plan(tasks=[task_of("a", provides=["f"])], contracts=[f, g])
    new = plan_of(task_of("c", depends_on=["a"], uses=["f"]))
    assert check_replan(new, kept) == []
    assert [t.id for t in joined(new, kept).tasks] == ["a", "c"]
    assert [c.id for c in joined(new, kept).contracts] == ["f"], "nobody is bound to g any more"
    changed = f.model_copy(update={"declaration": "def f(x): ..."})
    assert "is worked on already" in check_replan(plan_of("c", contracts=(changed,)), kept)[0]
    assert "has started already" in check_replan(plan_of(task_of("a", title="Another")), kept)[0]
