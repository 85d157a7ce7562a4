"""`run_checks`, and the calls that end an agent: `finish` and `submit_plan`."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from swarmrun.agents.tool import Arguments, Hands, Tool, ToolOutcome, plain_schema
from swarmrun.api.plan import Plan, Role
from swarmrun.errors import ToolRejected
from swarmrun.ports import ToolCall, ToolSpec
from swarmrun.steps import ContractIssue


class RunChecks(Arguments):
    which: Literal["acceptance", "tests", "lint"] = Field(
        description="This task's acceptance checks, the repository's tests, or its linters."
    )


async def run_checks(arguments: RunChecks, hands: Hands) -> ToolOutcome:
    if hands.context.run_checks is None:
        raise ToolRejected("there are no checks for this task; run what you need with exec")
    # Tests leave caches and snapshots behind: the tree may have changed.
    return ToolOutcome(await hands.context.run_checks(arguments.which), changed=True)


RUN_CHECKS = Tool(
    "run_checks",
    "Run the checks that count at the end. Failures are marked `new` (yours to mend) or `baseline` (there before).",
    RunChecks,
    run_checks,
    lambda a: str(a.get("which", "")),
)


class Issue(BaseModel):
    model_config = ConfigDict(extra="ignore")

    contract: str = Field(description="Id of the contract.")
    problem: str = Field(description="Why it cannot hold as it is.")
    proposal: str = Field(default="", description="The declaration as it should be.")


def _lenient_list(value: Any) -> Any:
    """`null`, one object, or a list written as a JSON string: models send all of them."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else []
        except json.JSONDecodeError:
            return value
    if value is None:
        return []
    return [value] if isinstance(value, dict) else value


class Finish(Arguments):
    summary: str = Field(
        min_length=1, description="What was done and what others must know: names, behaviour, decisions."
    )
    contract_issues: Annotated[list[Issue], BeforeValidator(_lenient_list)] = Field(
        default_factory=list[Issue], description="Contracts that cannot hold as they are; usually none."
    )
    blocked: str = Field(default="", description="Only when the task cannot be done: what stands in the way.")


class FinishRequest(BaseModel):
    """What an agent says at its end. A claim: what counts is what code finds."""

    summary: str
    contract_issues: list[ContractIssue]
    blocked: str = ""


FINISH = Tool(
    "finish",
    "End the task. The work is checked by code: stubs, syntax, paths, contracts, acceptance, tests. What fails "
    "comes back as this call's result, to be mended. Call it alone.",
    Finish,
    None,
    lambda a: str(a.get("summary", "")),
)


def parse_finish(call: ToolCall) -> FinishRequest:
    """Raises ToolRejected with what the call must look like."""
    arguments = {k: v for k, v in call.arguments.items() if v is not None}
    try:
        asked = Finish.model_validate(arguments)
    except ValidationError as exc:
        from swarmrun.agents.validate import explain

        raise ToolRejected(explain(FINISH, exc, arguments)) from exc
    issues = [ContractIssue(**issue.model_dump()) for issue in asked.contract_issues]
    return FinishRequest(summary=asked.summary, contract_issues=issues, blocked=asked.blocked)


def submit_plan_spec() -> ToolSpec:
    """Its schema is the plan's own. The answer is normalised and checked by `planning`, not here."""
    return ToolSpec(
        "submit_plan",
        "Hand in the plan and end. It is checked by code; errors come back as this call's result.",
        plan_schema(),
    )


def plan_schema() -> dict[str, Any]:
    """JSON schema of a plan as a model is asked for it: descriptions kept, bounds left to the checks."""
    schema = _without_bounds(plain_schema(Plan.model_json_schema(by_alias=True)))
    role = schema["properties"]["tasks"]["items"]["properties"]["role"]
    # Whether one agent does it all is decided by code.
    role["enum"] = [name for name in role["enum"] if name != Role.SOLO]
    return schema


_BOUNDS = frozenset({"maxLength", "minLength", "maxItems", "pattern", "default"})
"""Servers that compile schemas to grammars choke on large bounds and on some patterns."""


def _without_bounds(node: Any, *, names: bool = False) -> Any:
    if isinstance(node, list):
        return [_without_bounds(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        k: _without_bounds(v, names=k == "properties" and not names)
        for k, v in node.items()
        if names or k not in _BOUNDS
    }


def submitted_plan(call: ToolCall) -> dict[str, Any]:
    """The plan as it came, out of `{"plan": …}` or a JSON string where the model wrapped it so."""
    plan: Any = call.arguments
    while isinstance(plan, dict) and set(plan) == {"plan"}:
        plan = plan["plan"]
        if isinstance(plan, str):
            try:
                plan = json.loads(plan)
            except json.JSONDecodeError as exc:
                raise ToolRejected(
                    f"submit_plan: the plan is not JSON ({exc.msg} at line {exc.lineno}). Send it as the "
                    "call's arguments: summary, tasks, contracts, criteria"
                ) from exc
    if not isinstance(plan, dict):
        raise ToolRejected("submit_plan: the arguments are the plan: summary, tasks, contracts, criteria")
    return plan
