"""A pull request's text: plan, agents, merges, gates, score and cost, as Markdown."""

from __future__ import annotations

from swarmrun.api.resolve import Snapshot
from swarmrun.report import RunReport

MAX = 60_000
"""Characters; GitHub and GitLab take 65,536."""


def body(report: RunReport, snapshot: Snapshot) -> str:
    """Nothing in it that is not in the report: what was measured and what models said are told apart."""
    parts = [
        f"Made by SwarmRun `{report.name}`.",
        "## Goal\n\n" + _quote(snapshot.goal),
        _plan(report),
        _agents(report),
        _merges(report),
        _gates(report),
        _judgement(report),
        _cost(report),
    ]
    text = "\n\n".join(p for p in parts if p)
    return text if len(text) <= MAX else text[: MAX - 20] + "\n\n… cut"


def _plan(report: RunReport) -> str:
    if report.plan is None:
        return ""
    rows = "\n".join(
        f"- **{_cell(t.id)}** ({t.role}): {_cell(t.title)}"
        + (f", after {', '.join(t.depends_on)}" if t.depends_on else "")
        for t in report.plan.tasks
    )
    return f"## Plan\n\n{_cell(report.plan.summary)}\n\n{rows}"


def _agents(report: RunReport) -> str:
    rows = [
        (
            a.status.task,
            a.status.role,
            a.status.phase.value,
            {True: "yes", False: "**no**", None: ""}[a.status.verified],
            str(a.status.turns),
            str(a.status.tool_calls),
            str(a.status.attempts),
        )
        for a in report.agents
    ]
    return _table("Agents", ("task", "role", "phase", "verified", "turns", "tool calls", "attempts"), rows)


def _merges(report: RunReport) -> str:
    rows = [
        (m.task, m.how.value, ", ".join(f"{f.path} ({f.how.value})" for f in m.files), m.reason)
        for m in report.merges
    ]
    return _table("Merges", ("task", "how", "files that conflicted", "reason"), rows)


def _gates(report: RunReport) -> str:
    rows = [
        (
            g.name,
            "passed" if g.passed else "**failed**",
            str(len(g.new_failures)),
            str(len(g.baseline_failures)),
            ", ".join(g.flaky),
        )
        for g in report.gates
    ]
    return _table("Gates (measured)", ("gate", "result", "new failures", "failed before", "flaky"), rows)


def _judgement(report: RunReport) -> str:
    rows = [
        (str(j.round), str(j.score), str(j.spread), "yes" if j.kept else "undone", "; ".join(j.complaints))
        for j in report.judgements
    ]
    return _table(
        f"Judge (a model's answers, scored by code; threshold {report.threshold})",
        ("round", "score", "spread", "kept", "complaints"),
        rows,
    )


def _cost(report: RunReport) -> str:
    records = [*report.usage, *(u for a in report.agents for u in a.usage)]
    tokens = sum(u.total for u in records)
    return f"## Cost\n\n{tokens:,} tokens in {sum(u.calls for u in records)} model calls." if records else ""


def _table(title: str, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(_cell(c) for c in row) + " |" for row in rows]
    return f"## {title}\n\n" + "\n".join(lines)


def _cell(text: str) -> str:
    """Data from strangers: no table breaks, no HTML, nobody is mentioned."""
    text = " ".join(text.split())[:400]
    return text.replace("|", "\\|").replace("<", "&lt;").replace("@", "@\u200b")


def _quote(text: str) -> str:
    lines = text.strip()[:4000].replace("@", "@\u200b").replace("<", "&lt;").splitlines()
    return "\n".join(f"> {line}" for line in lines)
