"""A run as a tree: the plan's DAG with agents and Pods, then those who work beside it."""

from __future__ import annotations

from swarmrun.api.run import SwarmRun
from swarmrun.api.status import AgentPhase, AgentStatus, PlannedTask, SwarmRunStatus
from swarmrun.cli import wording
from swarmrun.cli.dag import tree
from swarmrun.cli.kubectl.pods import RunPod
from swarmrun.cli.summary import verdict

_AT_WORK = (AgentPhase.STARTING, AgentPhase.RUNNING)


def run_tree(run: SwarmRun, pods: list[RunPod]) -> str:
    status = run.status or SwarmRunStatus()
    agents = {a.task: a for a in status.agents}
    planned = status.plan.tasks if status.plan else []
    solo = status.plan is not None and status.plan.solo
    drawn = [] if solo else planned

    def label(task: PlannedTask) -> str:
        agent = agents.get(task.id) or AgentStatus(task=task.id, role=task.role)
        return "  ".join([f"{task.id}  {task.title}".strip(), *_agent(agent), *_pods(pods, task.id)])

    lines = [f"{run.metadata.name}  {verdict(status)}"]
    lines += [f"  {line}" for line in tree(drawn, label)]
    ids = {t.id for t in drawn}
    beside = [a for a in status.agents if a.task not in ids]
    lines += [f"  {'  '.join([a.task, *_agent(a), *_pods(pods, a.task)])}" for a in beside]
    known = ids | {a.task for a in beside}
    others = [p for p in pods if p.task not in known]
    lines += [f"  {p.task or 'git'}  pod {p.name} {p.phase}" for p in others]
    return "\n".join(lines)


def _agent(agent: AgentStatus) -> list[str]:
    facts = [f"{agent.role} {agent.phase.value}"]
    if agent.attempts > 1:
        facts.append(f"attempt {agent.attempts}")
    if agent.turns:
        facts.append(wording.count(agent.turns, "turn"))
    if agent.phase in _AT_WORK and agent.last_tool:
        facts.append(agent.last_tool)
    said = wording.why(agent) if agent.phase not in _AT_WORK else ""
    return [f"[{', '.join(facts)}]", *([said] if said else [])]


def _pods(pods: list[RunPod], task: str) -> list[str]:
    return [f"pod {p.name} {p.phase}" for p in pods if p.task == task]
