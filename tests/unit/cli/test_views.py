"""What is printed of a status: events, plan, story, final table, live view."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from swarmrun.api.run import ObjectMeta, Repository, SwarmRun, SwarmRunSpec
from swarmrun.api.status import (
    AgentPhase,
    AgentStatus,
    Condition,
    MergeHow,
    MergeStatus,
    Phase,
    PlannedTask,
    PlanStatus,
    ResultStatus,
    SwarmRunStatus,
)
from swarmrun.cli.dag import layers, plan_text, tree
from swarmrun.cli.events import events
from swarmrun.cli.live import view
from swarmrun.cli.names import name_from_goal
from swarmrun.cli.story import story
from swarmrun.cli.summary import duration, exit_code, rows, verdict

RUN = SwarmRun(
    metadata=ObjectMeta(name="demo"),
    spec=SwarmRunSpec(goal="Build it\nwell", repository=Repository(url="/r")),
)


def all_events(script: list[SwarmRunStatus]) -> list[str]:
    pairs = zip([None, *script], script, strict=False)
    return [line for before, after in pairs for line in events(before, after)]


# ---------------------------------------------------------------- events


def test_every_change_is_one_line_and_none_is_told_twice(script: list[SwarmRunStatus]) -> None:
    lines = all_events(script)
    assert len(lines) == len(set(lines))
    for expected in (
        "run  Planning",
        "run  plan  3 tasks, 1 contract  A URL shortener",
        'run  plan mended  id 1 became "1"',
        "storage  Running  turn 3  exec pytest -q",
        "tests  Running  attempt 2  turn 1",
        "api  refused  models.py: restored wholesale from one side",
        "api  merged Integrator  models.py (Integrator)",
        "storage  merged Clean",
        "run  note  model_turn waited 2 s: RateLimited",
        "run  gate pytest  passed (1 failed before: not counted)",
        "run  judged  43 (spread 6): main.py: import of storage is missing",
        "run  published  swarm/demo  dddddddddddd",
        "run  Succeeded  3/3  Published",
    ):
        assert expected in lines


def test_nothing_changed_is_nothing_to_tell(script: list[SwarmRunStatus]) -> None:
    assert all(events(status, status) == [] for status in script)


def test_an_event_is_one_line_whatever_a_model_wrote() -> None:
    agent = AgentStatus(task="a", phase=AgentPhase.RUNNING, turns=1, last_tool="exec 'a\nb\rc\x1b[2J'")
    (line,) = events(None, SwarmRunStatus(agents=[agent]))
    assert "\n" not in line
    assert "\x1b" not in line


def test_an_agent_that_waits_says_why() -> None:
    def status(message: str) -> SwarmRunStatus:
        return SwarmRunStatus(
            agents=[AgentStatus(task="a", phase=AgentPhase.RUNNING, turns=1, message=message)]
        )

    assert events(status(""), status("RateLimited, next try in 2 s")) == [
        "a  Running  turn 1  RateLimited, next try in 2 s"
    ]


def test_pending_agents_are_no_event() -> None:
    assert events(None, SwarmRunStatus(agents=[AgentStatus(task="a")])) == []


def test_waiting_and_going_on_are_events_of_the_same_phase() -> None:
    def status(reason: str) -> SwarmRunStatus:
        ready = Condition(type="Ready", status="False", reason=reason, message="")
        return SwarmRunStatus(phase=Phase.RUNNING, conditions=[ready])

    assert events(status("Running"), status("WaitingForModel")) == ["run  Running  WaitingForModel"]
    assert events(status("WaitingForModel"), status("Running")) == ["run  Running"]


# ---------------------------------------------------------------- the plan


def tasks(**needs: list[str]) -> list[PlannedTask]:
    return [PlannedTask(id=i, depends_on=d) for i, d in needs.items()]


def test_the_dag_shows_each_task_once_below_its_last_dependency() -> None:
    given = tasks(a=[], b=[], c=["a", "b"], d=["c"], e=["a"])
    drawn = tree(given, lambda t: t.id)
    assert sorted(line.lstrip("│├└─ ").split()[0] for line in drawn) == list("abcde")
    assert drawn == ["a", "├─ c  (also after b)", "│  └─ d", "└─ e", "b"]
    assert [[t.id for t in layer] for layer in layers(given)] == [["a", "b"], ["c", "e"], ["d"]]


@pytest.mark.parametrize("given", [tasks(a=["b"], b=["a"]), tasks(a=["nowhere"]), tasks(a=["a"])])
def test_a_broken_dag_is_still_drawn_whole(given: list[PlannedTask]) -> None:
    drawn = tree(given, lambda t: t.id)
    assert sorted(line.lstrip("│├└─ ").split()[0] for line in drawn) == [t.id for t in given]


def test_the_plan_shows_contracts_with_their_declaration(script: list[SwarmRunStatus]) -> None:
    plan = script[-1].plan
    assert plan
    text = plan_text(plan)
    assert "store  function  storage.py  by storage\n      def put(url: str) -> str: ..." in text
    assert "api  coder  API" in text


def test_what_is_one_is_said_as_one() -> None:
    status = SwarmRunStatus(agents=[AgentStatus(task="a", phase=AgentPhase.RUNNING, turns=1, tool_calls=1)])
    told = story(RUN.model_copy(update={"status": status}), "working")
    assert "a  coder  Running  1 turn  1 tool call  " in told
    plan = PlanStatus(tasks=tasks(a=[]), contracts=[])
    assert "1 task, 0 contracts" in events(None, SwarmRunStatus(plan=plan))[0]


@pytest.mark.parametrize(
    ("note", "said"),
    [
        ("solo: at most 1 of 1 tasks can run side by side", "one agent"),
        (
            "solo: at most 2 of 5 tasks can run side by side",
            "one agent: at most 2 of 5 tasks can run side by side",
        ),
    ],
)
def test_one_agent_is_no_mend(note: str, said: str) -> None:
    plan = PlanStatus(solo=True, tasks=tasks(a=[]), notes=[note])
    assert plan_text(plan).splitlines()[0] == said
    assert "mended" not in plan_text(plan)
    assert events(None, SwarmRunStatus(plan=plan)) == [f"run  plan  {said}"]
    assert [r.what for r in rows(SwarmRunStatus(plan=plan), "model")] == ["plan"]


def test_a_cancelled_agent_is_cancelled_once() -> None:
    agent = AgentStatus(
        task="sub", phase=AgentPhase.CANCELLED, turns=1, reason="Cancelled", message="cancelled"
    )
    assert events(None, SwarmRunStatus(agents=[agent])) == ["sub  Cancelled  turn 1"]


def test_paths_of_nobody_are_told_in_words() -> None:
    message = "ownership: a/formats.py; ownership: a/models.py"
    agent = AgentStatus(
        task="1", phase=AgentPhase.MERGED, turns=2, tool_calls=3, verified=True, message=message
    )
    (row,) = [r for r in rows(SwarmRunStatus(agents=[agent]), "model") if r.what == "coder 1"]
    assert row.outcome == (
        "Merged after 2 turns, 3 tool calls, verified; also changed a/formats.py, a/models.py, which no task owns"
    )


def test_the_final_score_has_its_row(script: list[SwarmRunStatus]) -> None:
    assert ("score", "91", "scripted") in table(script[-1])


def test_a_solo_plan_says_so() -> None:
    assert "one agent" in plan_text(PlanStatus(solo=True, tasks=tasks(a=[])))


# ---------------------------------------------------------------- the final table


def table(status: SwarmRunStatus, models: str = "scripted") -> list[tuple[str, str, str]]:
    return [(r.what, r.outcome, r.source) for r in rows(status, models)]  # type: ignore[arg-type]


def test_everything_the_field_met_has_its_row(script: list[SwarmRunStatus]) -> None:
    shown = table(script[-1])
    for expected in (
        ("plan mended", 'id 1 became "1"', "measured"),
        ("plan mended", "role test_writer became test-writer", "measured"),
        ("sandboxes", "bubblewrap", "measured"),
        ("merge api", "integrator refused: models.py: restored wholesale from one side", "measured"),
        ("merge api", "integrator refused: models.py: stub `pass  # TODO` in place of code", "measured"),
        ("merge api", "conflict in models.py resolved by Integrator", "measured"),
        ("gate pytest", "passed (1 failed before: not counted)", "measured"),
        ("judge, round 1", "43 (spread 6): main.py: import of storage is missing", "scripted"),
        ("judge, round 2", "91 (spread 2)", "scripted"),
        ("met on the way", "model_turn waited 2 s: RateLimited", "measured"),
        ("met on the way", "tests: attempt 1 ended PhantomAgent; one fresh attempt", "measured"),
        ("branch", "swarm/demo at dddddddddddd", "measured"),
        ("time", "1m15s, critical path 1m00s", "measured"),
    ):
        assert expected in shown
    assert (
        "test-writer tests",
        "Merged after 6 turns, 8 tool calls, attempt 2, verified",
        "measured",
    ) in shown


def test_what_a_model_said_is_never_marked_measured(script: list[SwarmRunStatus]) -> None:
    for what, _, source in table(script[-1], "model"):
        said_by_model = what in ("plan", "score", "tokens", "tokens standard") or what.startswith("judge")
        assert source == ("model" if said_by_model else "measured"), what


def test_missing_isolation_stands_out() -> None:
    (row,) = rows(SwarmRunStatus(isolation="none"), "model")
    assert row.bad
    assert "NOT isolated" in row.outcome


def test_parked_branches_and_unpublished_results_stand_out() -> None:
    status = SwarmRunStatus(
        phase=Phase.FAILED,
        merges=[MergeStatus(task="a", how=MergeHow.PARKED, reason="conflict in x.py")],
        result=ResultStatus(base_commit="a" * 40, commit="b" * 40),
    )
    assert [(r.outcome, r.bad) for r in rows(status, "model")] == [
        ("parked: conflict in x.py", True),
        ("nothing was published", True),
    ]


@pytest.mark.parametrize(
    ("phase", "reason", "succeeded", "code"),
    [
        ("Succeeded", "Published", "True", 0),
        ("Succeeded", "AlreadyPublished", "True", 0),
        ("Failed", "Incomplete", "False", 1),
        ("Succeeded", "Incomplete", "False", 1),
        ("Cancelled", "Cancelled", "False", 3),
        ("Failed", "BudgetExceeded", "False", 4),
        ("Running", "Running", "Unknown", 1),
    ],
)
def test_exit_codes_tell_how_it_ended(phase: str, reason: str, succeeded: str, code: int) -> None:
    conditions = [Condition(type="Succeeded", status=succeeded, reason=reason)]  # type: ignore[arg-type]
    assert exit_code(SwarmRunStatus(phase=Phase(phase), conditions=conditions)) == code


def test_the_verdict_is_one_sentence(script: list[SwarmRunStatus]) -> None:
    assert verdict(script[-1]) == "Succeeded (Published), 3/3 tasks merged, score 91"


def test_durations_read_well() -> None:
    assert [duration(s) for s in (0, 59, 60, 3599, 3600, 7325)] == [
        "0s",
        "59s",
        "1m00s",
        "59m59s",
        "1h00m",
        "2h02m",
    ]


# ---------------------------------------------------------------- story, live view


def test_the_story_tells_all_sections_and_what_to_do(script: list[SwarmRunStatus]) -> None:
    text = story(RUN.model_copy(update={"status": script[2]}), "stopped")
    for expected in (
        "default/demo",
        "goal        Build it …",
        "go on with  swarmrun resume demo",
        "storage  coder  Merged",
        "refused: models.py: restored wholesale from one side",
    ):
        assert expected in text
    assert "Judgements" not in text


def test_the_story_of_a_waiting_run_says_what_to_decide() -> None:
    ready = Condition(type="Ready", status="False", reason="AwaitingPublishApproval", message="")
    status = SwarmRunStatus(phase=Phase.AWAITING_APPROVAL, conditions=[ready])
    assert "swarmrun approve demo publish" in story(RUN.model_copy(update={"status": status}), "working")


def test_a_story_without_a_status_is_told_too() -> None:
    assert "Pending" in story(RUN, "stopped")


@pytest.mark.parametrize("width", [40, 120])
def test_the_live_view_draws_every_status_at_any_width(script: list[SwarmRunStatus], width: int) -> None:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    for status in [*script, SwarmRunStatus(), SwarmRunStatus(phase=Phase.AWAITING_APPROVAL)]:
        console.print(view(RUN, status, ["12:00:00 storage  Running"], datetime(2030, 1, 1, tzinfo=UTC)))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "storage" in text
    assert "exec pytest" in text if width == 120 else True


def test_markup_in_a_models_words_is_shown_not_obeyed() -> None:
    agent = AgentStatus(task="a", phase=AgentPhase.RUNNING, last_tool="[bold]x[/nonsense]")
    console = Console(file=io.StringIO(), width=120)
    console.print(view(RUN, SwarmRunStatus(agents=[agent]), [], datetime(2030, 1, 1, tzinfo=UTC)))
    assert "[bold]x[/nonsense]" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("goal", "name"),
    [
        ("Add a URL shortener to the API", "add-url-shortener-api"),
        ("Überall", "berall"),
        ("!!!", "run"),
        ("x" * 100, "x" * 40),
        ("the a an", "run"),
    ],
)
def test_a_goal_gives_a_name(goal: str, name: str) -> None:
    assert name_from_goal(goal) == name
