"""What a step or an agent is asked, in a line or two, for whoever looks at the engine's histories. Pure: only of
what the orchestration knows."""

from __future__ import annotations

from swarmrun.orchestration.inputs import AgentInput, AgentResult
from swarmrun.report import RunReport
from swarmrun.steps import (
    AgentRef,
    Amend,
    BoxRef,
    Call,
    Evidence,
    Finish,
    Merge,
    Order,
    PublishResult,
    Release,
    RunGates,
    Sample,
    SaveReport,
    StepModel,
    TakeCheckpoint,
    Tally,
    Turn,
)


def of_input(given: StepModel) -> str:
    match given:
        case Turn():
            news = f"\n{'; '.join(given.news)}" if given.news else ""
            return f"{who(given)}: turn {given.turn} of {given.max_turns}{news}"
        case Finish():
            return (
                f"{who(given)}: turn {given.turn}, {'finish' if given.index >= 0 else 'looked at as it is'}"
            )
        case Call():
            return f"{who(given)}: turn {given.turn}, {given.shown}"
        case TakeCheckpoint():
            return f"{who(given)}: turn {given.turn}, checkpoint since {given.since[:12]}"
        case RunGates():
            return f"round {given.round} on {given.commit[:12]}"
        case BoxRef():
            commit = str(getattr(given, "commit", ""))[:12]
            return f"sandbox {given.task}, attempt {given.attempt}, generation {given.generation} {commit}".strip()
        case Order():
            return f"{', '.join(given.heads)} onto {given.integration[:12]}"
        case Merge():
            return f"{given.task} ({given.head[:12]}) into {given.integration[:12]}"
        case Amend():
            return f"{given.task}: contract {given.issue.contract}: {given.issue.problem}"
        case Sample():
            return f"judge, round {given.round}, sample {given.sample} on {given.commit[:12]}"
        case Tally():
            return f"judge, round {given.round}: {len(given.samples)} samples"
        case Evidence():
            return f"{given.name}: {given.text}"
        case SaveReport():
            return "the run's report"
        case PublishResult():
            return f"{given.commit[:12]} beside {given.base_branch}"
        case Release():
            return f"sandbox {given.task}" if given.task else "everything of the run"
        case _:
            return "the run"


def of_agent(given: AgentInput) -> str:
    """Of an attempt, and of its next life."""
    told = f": {given.title}" if given.title else ""
    life = f", from turn {given.turn}" if given.turn > 1 else ""
    return f"{who(given)}, attempt {given.attempt}{life}{told}"


def of_result(result: AgentResult) -> str:
    """How an attempt ended."""
    how = " ".join(filter(None, (result.status, result.reason, result.commit[:12])))
    return f"{how} after {result.turns} turns, {result.tool_calls} tool calls\n{result.message}".strip()


def of_report(report: RunReport) -> str:
    """How a run ended."""
    score = "" if report.score is None else f", score {report.score}"
    return f"{report.phase.value} ({report.reason}){score}: {report.message}"


def who(given: AgentRef) -> str:
    return f"{given.role} {given.task}"
