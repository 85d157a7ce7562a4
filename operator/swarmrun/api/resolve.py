"""A run's values merged with its class's, once, when the run starts: the snapshot everything works from."""

from __future__ import annotations

import hashlib
import json
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from pydantic import Field

from swarmrun.api.base import ApiModel, Usd, seconds, usd
from swarmrun.api.egress import check_egress, merged
from swarmrun.api.plan import Criterion, Plan
from swarmrun.api.run import Budget, Gate, Mode, Publish, Repository, SandboxOptions, SwarmRun
from swarmrun.api.swarmclass import AgentRole, ModelTier, PodSettings, SwarmClass, Tier
from swarmrun.errors import InvalidResource

DEFAULT_TOKENS = 4_000_000
DEFAULT_DURATION = "2h"
DEFAULT_TURNS = 60
# The three numbers above are choices, not measurements: a swarm of four that uses all of them has run away.

DEFAULT_RUBRIC = (
    Criterion(id="works", question="Does the result do what the goal asks for, completely?", weight=40),
    Criterion(
        id="structure",
        question="Are the contracts kept and is the code structured so that it can be maintained?",
        weight=20,
    ),
    Criterion(
        id="tests",
        question="Do tests cover the behaviour asked for, and would they fail without it?",
        weight=25,
    ),
    Criterion(
        id="security",
        question="Is input validated and are secrets, injection and unsafe defaults handled with care?",
        weight=15,
    ),
)
"""The default rubric's four lines are the design's; the weights are a choice."""


class Limits(ApiModel):
    tokens: int = DEFAULT_TOKENS
    cost: Usd | None = None
    duration_seconds: int = seconds(DEFAULT_DURATION)
    turns: int = DEFAULT_TURNS


class Snapshot(ApiModel):
    """What one attempt of a run works from; later changes of the resource or the class do not reach it."""

    run: str
    """Instance id of the orchestration."""
    class_name: str = ""
    max_sandboxes: int | None = None
    """The class's cap, over all its runs."""
    name: str
    namespace: str = "default"
    generation: int = 1
    attempt: int = 1
    spec_hash: str = ""
    """SHA-256 over goal, repository and plan: the trailer on the commits."""
    goal: str
    repository: Repository
    publish: Publish
    branch: str
    """Where the result goes."""
    mode: Mode
    given_plan: Plan | None = None
    plan_approval: bool = False
    max_tasks: int = 12
    limits: Limits
    parallelism: int
    sandbox: SandboxOptions
    pods: PodSettings = Field(default_factory=PodSettings)
    gates: list[Gate]
    threshold: int
    rubric: list[Criterion]
    max_fix_rounds: int
    samples: int
    skills: list[str] = Field(default_factory=list[str])
    tiers: dict[Tier, ModelTier]
    roles: dict[AgentRole, Tier]
    guards: bool = True
    """False only for the negative control of the demo."""

    def task_branch(self, task: str) -> str:
        return f"swarm-tasks/{self.name}/{task}"


def spec_hash(run: SwarmRun) -> str:
    """Same goal, repository, base branch and given plan: same hash. Formatting and defaults do not count."""
    spec = run.spec
    parts = [
        spec.goal,
        spec.repository.url,
        spec.repository.branch or "",
        spec.publish.branch or "",
        [t.dump() for t in spec.plan.tasks],
        [c.dump() for c in spec.plan.contracts],
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def resolve(
    run: SwarmRun,
    cls: SwarmClass,
    *,
    instance: str,
    attempt: int = 1,
    guards: bool = True,
    own_machine: bool = False,
) -> Snapshot:
    """Raises InvalidResource where the run leaves what the class allows.

    `own_machine`: the run's author and the class's are one person, who may open their own network.
    """
    spec, given = run.spec, cls.spec
    check_namespace(run.metadata.namespace, cls)
    check_repository(spec.repository.url, cls)
    threshold = spec.judge.threshold if spec.judge.threshold is not None else given.judge.threshold
    if threshold < given.judge.threshold:
        raise InvalidResource(
            f"spec.judge.threshold is {threshold}, SwarmClass {cls.metadata.name} asks for at least "
            f"{given.judge.threshold}",
            field="spec.judge.threshold",
            mend=f"use {given.judge.threshold} or more",
            reason="BelowClassThreshold",
        )
    parallelism = spec.parallelism or given.parallelism
    _at_most("spec.parallelism", parallelism, given.parallelism, cls)
    return Snapshot(
        run=instance,
        class_name=cls.metadata.name,
        max_sandboxes=given.max_sandboxes,
        name=run.metadata.name,
        namespace=run.metadata.namespace,
        generation=run.metadata.generation,
        attempt=attempt,
        spec_hash=spec_hash(run),
        goal=spec.goal,
        repository=spec.repository,
        publish=spec.publish,
        branch=spec.publish.branch or f"swarm/{run.metadata.name}",
        mode=spec.mode,
        given_plan=spec.plan.given(),
        plan_approval=spec.plan.approval,
        max_tasks=spec.plan.max_tasks,
        limits=_limits(spec.budget, given.ceilings, cls),
        parallelism=parallelism,
        sandbox=_sandbox(spec.sandbox, given.sandbox, cls, own_machine),
        pods=given.pods,
        gates=spec.gates or given.gates,
        threshold=threshold,
        rubric=[
            *(spec.judge.rubric or given.judge.rubric or DEFAULT_RUBRIC),
            # A given plan carries its criteria itself; beside the planner's they join the rubric.
            *([] if spec.plan.tasks else spec.plan.criteria),
        ],
        max_fix_rounds=spec.judge.max_fix_rounds,
        samples=spec.judge.samples,
        skills=list(spec.skills),
        tiers={tier: given.models.tier(tier) for tier in Tier},
        roles={role: given.tier_of(role) for role in AgentRole},
        guards=guards,
    )


def check_namespace(namespace: str, cls: SwarmClass) -> None:
    """Whether the class lets runs of this namespace use it."""
    allowed = cls.spec.allowed_namespaces
    if allowed and not any(fnmatchcase(namespace, pattern) for pattern in allowed):
        raise InvalidResource(
            f"SwarmClass {cls.metadata.name} is not for runs in namespace {namespace}",
            field="spec.className",
            mend="name another class, or ask the platform team to add the namespace to spec.allowedNamespaces",
            reason="NamespaceNotAllowed",
        )


def check_repository(url: str, cls: SwarmClass) -> None:
    """Whether the class allows this URL's scheme and host."""
    scheme, host = scheme_and_host(url)
    allowed = cls.spec.repositories
    if scheme not in allowed.schemes:
        raise InvalidResource(
            f"spec.repository.url {url!r}: scheme {scheme!r} is not allowed by SwarmClass {cls.metadata.name}",
            field="spec.repository.url",
            mend=f"allowed: {', '.join(allowed.schemes)}",
            reason="RepositoryNotAllowed",
        )
    if scheme != "file" and allowed.hosts and not any(fnmatchcase(host, h.lower()) for h in allowed.hosts):
        raise InvalidResource(
            f"spec.repository.url {url!r}: host {host!r} is not allowed by SwarmClass {cls.metadata.name}",
            field="spec.repository.url",
            mend=f"allowed: {', '.join(allowed.hosts)}",
            reason="RepositoryNotAllowed",
        )


def scheme_and_host(url: str) -> tuple[str, str]:
    """`git@host:path` is ssh, a path is file; as git reads them."""
    if "://" in url:
        parts = urlsplit(url)
        return parts.scheme.lower(), (parts.hostname or "").lower()
    head, colon, _ = url.partition(":")
    if colon and "/" not in head and len(head) > 1:
        return "ssh", head.rpartition("@")[2].lower()
    return "file", ""


def _at_most(field: str, value: int, ceiling: int, cls: SwarmClass) -> None:
    if value > ceiling:
        raise InvalidResource(
            f"{field} is {value}, SwarmClass {cls.metadata.name} allows at most {ceiling}",
            field=field,
            mend=f"use {ceiling} or less, or ask for another class",
            reason="AboveCeiling",
        )


def _limits(budget: Budget, ceilings: Budget, cls: SwarmClass) -> Limits:
    tokens = budget.tokens or ceilings.tokens or DEFAULT_TOKENS
    if ceilings.tokens:
        _at_most("spec.budget.tokens", tokens, ceilings.tokens, cls)
    turns = budget.turns_per_task or ceilings.turns_per_task or DEFAULT_TURNS
    if ceilings.turns_per_task:
        _at_most("spec.budget.turnsPerTask", turns, ceilings.turns_per_task, cls)
    duration = seconds(budget.duration or ceilings.duration or DEFAULT_DURATION)
    if ceilings.duration:
        _at_most("spec.budget.duration (seconds)", duration, seconds(ceilings.duration), cls)
    if budget.cost and ceilings.cost and usd(budget.cost) > usd(ceilings.cost):
        raise InvalidResource(
            f"spec.budget.cost is {budget.cost}, SwarmClass {cls.metadata.name} allows at most {ceilings.cost}",
            field="spec.budget.cost",
            mend=f"use {ceilings.cost} or less, or ask for another class",
            reason="AboveCeiling",
        )
    return Limits(tokens=tokens, turns=turns, duration_seconds=duration, cost=budget.cost or ceilings.cost)


def _sandbox(
    asked: SandboxOptions, given: SandboxOptions, cls: SwarmClass, own_machine: bool
) -> SandboxOptions:
    if not own_machine:
        check_egress(asked.egress, given.egress, cls.metadata.name)
    limits = given.resources
    for name in ("cpu", "memory", "disk", "pids"):
        mine, ceiling = getattr(asked.resources, name), getattr(limits, name)
        if mine is not None and ceiling is not None and amount(mine) > amount(ceiling):
            raise InvalidResource(
                f"spec.sandbox.resources.{name} is {mine}, SwarmClass {cls.metadata.name} allows at most {ceiling}",
                field=f"spec.sandbox.resources.{name}",
                mend=f"use {ceiling} or less, or ask for another class",
                reason="AboveCeiling",
            )
    resources = limits.model_copy(update=asked.resources.model_dump(exclude_none=True))
    env = {e.name: e for e in [*given.env, *asked.env]}
    return SandboxOptions(
        image=asked.image or given.image,
        setup=asked.setup or given.setup,
        resources=resources,
        env=list(env.values()),
        egress=merged(asked.egress, given.egress),
    )


def amount(quantity: str | int) -> float:
    """Kubernetes quantities as far as the schema lets them through: `500m`, `2`, `512Mi`, `4Gi` (in Mi)."""
    text = str(quantity)
    for suffix, factor in (("Mi", 1.0), ("Gi", 1024.0), ("m", 0.001)):
        if text.endswith(suffix):
            return float(text.removesuffix(suffix)) * factor
    return float(text)
