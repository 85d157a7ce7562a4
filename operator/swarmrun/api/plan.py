"""A plan: tasks and the contracts between them. Written by the planner, or by the user in `spec.plan`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from swarmrun.api.base import ApiModel, RepoPath, TaskId


class Role(StrEnum):
    """Roles that may work on a task of a plan."""

    CODER = "coder"
    TEST_WRITER = "test-writer"
    RESEARCHER = "researcher"
    SOLO = "solo"


class ContractKind(StrEnum):
    FUNCTION = "function"
    CLASS = "class"
    """A class with behaviour: its methods are scaffolded as stubs."""
    DATA_MODEL = "data-model"
    """Complete from the start (dataclass, pydantic model, enum, interface, struct); frozen for all tasks."""
    ROUTE = "route"
    """`METHOD /path`; the declaration is the handler's signature."""
    FILE = "file"
    """A file that must exist; the declaration is its fixed content, or empty."""


class Contract(ApiModel):
    """What one task promises to others, as a declaration of the language itself."""

    id: TaskId
    """Unique within the plan."""
    kind: ContractKind = ContractKind.FUNCTION
    """What is declared. Default function."""
    path: RepoPath
    """File that holds it, relative to the repository's root."""
    declaration: Annotated[str, StringConstraints(max_length=8000)] = ""
    """Source text: imports it needs, then the signature(s); bodies are `...` (data models are complete).
    May be absent for routes and files alone."""
    description: Annotated[str, StringConstraints(max_length=2000)] = ""
    """What it means: units, errors, what an empty result says. Default: empty."""


class Acceptance(ApiModel):
    """One checkable criterion of a task."""

    description: Annotated[str, StringConstraints(max_length=500)]
    """What must hold, in one sentence."""
    command: Annotated[str, StringConstraints(max_length=1000)] = ""
    """Shell command that exits 0 when it holds; absent: a statement for the judge."""


class Task(ApiModel):
    """A vertical slice of the goal: code and its own tests, one agent, one branch."""

    id: TaskId
    """Unique within the plan; names branch and sandbox."""
    title: Annotated[str, StringConstraints(max_length=200)]
    """For people."""
    role: Role = Role.CODER
    """Who works on it. Default coder."""
    instructions: Annotated[str, StringConstraints(max_length=16000)]
    """What the agent is asked to do."""
    owned_paths: Annotated[list[RepoPath], Field(max_length=50)] = Field(default_factory=list[RepoPath])
    """Files or directories (ending in `/`, or globs) that only this task may change. Absent:
    for researchers alone."""
    depends_on: Annotated[list[TaskId], Field(max_length=50)] = Field(default_factory=list[TaskId])
    """Tasks that must be merged before this one starts. Default: none."""
    provides: Annotated[list[TaskId], Field(max_length=200)] = Field(default_factory=list[TaskId])
    """Contracts it implements. Default: none."""
    uses: Annotated[list[TaskId], Field(max_length=200)] = Field(default_factory=list[TaskId])
    """Contracts it may rely on. Default: none."""
    acceptance: Annotated[list[Acceptance], Field(max_length=10)] = Field(default_factory=list[Acceptance])
    """What must hold when it finishes: at least one, three to five are usual."""
    skills: Annotated[list[TaskId], Field(max_length=10)] = Field(default_factory=list[TaskId])
    """Skills its agent is given besides the run's. Default: none."""
    estimate: Annotated[int, Field(ge=1, le=100)] = 10
    """Turns the planner expects; used for the critical path and to divide budgets. Default 10."""


class Criterion(ApiModel):
    """One line of the judge's rubric, fixed when the plan is."""

    id: TaskId
    """Unique within the rubric."""
    question: Annotated[str, StringConstraints(max_length=500)]
    """Answered yes, no or unknown, with evidence."""
    weight: Annotated[int, Field(ge=1, le=100)] = 10
    """Share of the score, relative to the others. Default 10."""


class Plan(ApiModel):
    """The whole plan. Checked by `planning.check` before anyone works on it."""

    summary: Annotated[str, StringConstraints(max_length=4000)] = ""
    """What is built, and how it is cut."""
    language: Annotated[str, StringConstraints(max_length=40)] = ""
    """Main language, e.g. `python`; empty: told from the paths."""
    tasks: Annotated[list[Task], Field(min_length=1, max_length=100)]
    """The DAG's nodes."""
    contracts: Annotated[list[Contract], Field(max_length=200)] = Field(default_factory=list[Contract])
    """What tasks promise to each other."""
    criteria: Annotated[list[Criterion], Field(max_length=20)] = Field(default_factory=list[Criterion])
    """Added to the rubric of the run or its class."""
