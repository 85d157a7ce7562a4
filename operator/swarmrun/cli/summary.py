"""The table at a run's end: what happened, and who says so.

`measured` was found by code: git, tests, guards, the HTTP client. `model` (with a cassette `scripted`) is
what a model said.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Literal

from swarmrun.api.resolve import Snapshot
from swarmrun.api.run import SwarmRun
from swarmrun.api.status import (
    AgentPhase,
    AgentStatus,
    MergeHow,
    MergeStatus,
    Phase,
    ResultStatus,
    SwarmRunStatus,
)
from swarmrun.cli import wording
from swarmrun.cli.events import gate_outcome, judgement_outcome
from swarmrun.cli.typed import named
from swarmrun.cli.wording import count
from swarmrun.git import urls

Source = Literal["measured", "model", "scripted"]


@dataclass(frozen=True)
class Row:
    what: str
    outcome: str
    source: Source
    bad: bool = False
    """Needs the reader's eye."""


def models_source(snapshot: Snapshot) -> Source:
    """Who the run's models are: a recording, when any tier is one."""
    recorded = any(t.endpoint.startswith("cassette:") for t in snapshot.tiers.values())
    return "scripted" if recorded else "model"


def rows(status: SwarmRunStatus, models: Source) -> list[Row]:
    """Everything the table says, from the status alone."""
    return [
        *_plan_rows(status, models),
        *_isolation_row(status),
        *(row for agent in status.agents for row in _agent_rows(agent)),
        *(row for merge in status.merges for row in _merge_rows(merge)),
        *(
            Row(f"gate {g.name}", gate_outcome(g), "measured", g.required and not g.passed)
            for g in status.gates
        ),
        *(
            Row(f"judge, round {j.round}", judgement_outcome(j), models, not j.kept)
            for j in status.judgements
        ),
        *([Row("score", str(status.score), models)] if status.score is not None else []),
        *(Row("met on the way", note, "measured") for note in status.notes),
        *_usage_rows(status, models),
        *_result_rows(status),
    ]


def _plan_rows(status: SwarmRunStatus, models: Source) -> list[Row]:
    if status.plan is None:
        return []
    plan = status.plan
    size = wording.size(plan)
    return [
        Row("plan", f"{size}: {plan.summary}" if plan.summary else size, models),
        *(Row("plan mended", note, "measured") for note in wording.mended(plan)),
    ]


def _isolation_row(status: SwarmRunStatus) -> list[Row]:
    if not status.isolation:
        return []
    unsafe = status.isolation == "none"
    return [
        Row(
            "sandboxes",
            "NOT isolated (--unsafe-no-sandbox)" if unsafe else status.isolation,
            "measured",
            unsafe,
        )
    ]


def _agent_rows(agent: AgentStatus) -> list[Row]:
    parts = [
        f"{agent.phase.value} after {count(agent.turns, 'turn')}, {count(agent.tool_calls, 'tool call')}"
    ]
    if agent.attempts > 1:
        parts.append(f"attempt {agent.attempts}")
    if agent.verified is not None:
        parts.append("verified" if agent.verified else "UNVERIFIED")
    said = "; ".join(t for t in (", ".join(parts), wording.why(agent)) if t)
    bad = agent.verified is False or agent.phase.value in ("Failed", "Parked", "Skipped")
    return [Row(f"{agent.role} {agent.task}", said, "measured", bad)]


def _merge_rows(merge: MergeStatus) -> list[Row]:
    refused = [
        Row(f"merge {merge.task}", f"integrator refused: {reason}", "measured") for reason in merge.refused
    ]
    if merge.how is MergeHow.PARKED:
        said = "parked" + (f": {merge.reason}" if merge.reason else "")
    elif merge.files:
        said = "conflict in " + ", ".join(f"{f.path} resolved by {f.how.value}" for f in merge.files)
    else:
        said = merge.how.value.lower()
    if merge.reason and merge.how is not MergeHow.PARKED:
        said += f"; guards: {merge.reason}"
    return [*refused, Row(f"merge {merge.task}", said, "measured", merge.how is MergeHow.PARKED)]


def _usage_rows(status: SwarmRunStatus, models: Source) -> list[Row]:
    usage = status.usage
    made = []
    for tier in usage.tiers:
        cost = f"${tier.cost}" if tier.cost is not None else "price unknown"
        tokens = f"{tier.input:,} in ({tier.cached:,} cached), {tier.output:,} out"
        made.append(Row(f"tokens {tier.tier}", f"{tokens}, {count(tier.calls, 'call')}, {cost}", models))
    if usage.tokens:
        cost = f"${usage.cost}" if usage.cost is not None else "cost unknown (a model has no price)"
        made.append(
            Row("tokens", f"{usage.tokens:,}, {usage.cache_hit_percent} % cache hits, {cost}", models)
        )
    if usage.wall_seconds:
        path = (
            f", critical path {duration(usage.critical_path_seconds)}" if usage.critical_path_seconds else ""
        )
        made.append(Row("time", f"{duration(usage.wall_seconds)}{path}", "measured"))
    return made


def _result_rows(status: SwarmRunStatus) -> list[Row]:
    if status.result and status.result.branch:
        said = f"{status.result.branch} at {status.result.commit[:12]}"
        if status.result.beside:
            said += " (beside the wanted branch, which holds somebody else's commits)"
        made = [Row("branch", said, "measured")]
        if status.result.pull_request:
            made.append(Row("pull request", status.result.pull_request, "measured"))
        return made
    return [Row("branch", "nothing was published", "measured", True)] if status.phase.terminal else []


def verdict(status: SwarmRunStatus) -> str:
    """One sentence: how it ended."""
    ready = status.condition("Ready")
    reason = ready.reason if ready and ready.reason != status.phase.value else ""
    said = f"{status.phase.value}" + (f" ({reason})" if reason else "")
    if status.progress:
        said += f", {status.progress} tasks merged"
    if status.score is not None:
        said += f", score {status.score}"
    if ready and ready.message:
        said += f": {ready.message}"
    return said


def next_commands(run: SwarmRun, status: SwarmRunStatus) -> list[str]:
    """What the reader may want to type now."""
    name = named(run.metadata.name, run.metadata.namespace)
    if not status.phase.terminal:
        return [f"swarmrun resume {name}"]
    # Whoever wants in the result what was parked all the same edits it.
    tasks = {t.id for t in status.plan.tasks} if status.plan else set[str]()
    phases = (AgentPhase.PARKED, AgentPhase.FAILED)
    left = [a.task for a in status.agents if a.phase in phases and a.commit and a.task in tasks]
    by_hand = [f"swarmrun merge {name} {task} --checkout {task}" for task in left[:1]]
    if status.result and status.result.branch:
        return [*by_hand, f"swarmrun diff {name}", git_diff(run.spec.repository.url, status.result)]
    return [f"swarmrun describe {name}", f"swarmrun logs {name}", *by_hand]


def git_diff(url: str, result: ResultStatus) -> str:
    """The published branch with git alone: where the repository is, or in any clone of it."""
    address, base = urls.parse(url), result.base_commit[:12]
    if address.scheme == "file":
        return shlex.join(["git", "-C", address.path, "diff", f"{base}..{result.branch}"])
    fetch = shlex.join(["git", "fetch", address.git, result.branch])
    return f"{fetch} && git diff {base} FETCH_HEAD"


EXIT_FAILED, EXIT_CANCELLED, EXIT_BUDGET = 1, 3, 4


def exit_code(status: SwarmRunStatus) -> int:
    """0 succeeded, 1 failed or incomplete, 3 cancelled, 4 budget."""
    succeeded = status.condition("Succeeded")
    if status.phase is Phase.CANCELLED:
        return EXIT_CANCELLED
    if succeeded and succeeded.reason == "BudgetExceeded":
        return EXIT_BUDGET
    if status.phase is Phase.SUCCEEDED and (succeeded is None or succeeded.status == "True"):
        return 0
    return EXIT_FAILED


def duration(seconds: int) -> str:
    """`1h02m`, `3m05s`, `12s`."""
    if seconds >= 3600:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"
    return f"{seconds // 60}m{seconds % 60:02d}s" if seconds >= 60 else f"{seconds}s"
