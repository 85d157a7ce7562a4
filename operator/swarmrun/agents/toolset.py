"""All tools: who gets which, how they are shown to a model, and how one call is carried out."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Any

from agent_framework import FunctionInvocationContext, FunctionMiddleware, FunctionTool
from pydantic import ValidationError

from swarmrun.agents import files, shell
from swarmrun.agents.checks import FINISH, RUN_CHECKS, submit_plan_spec
from swarmrun.agents.edit import EDIT_FILE
from swarmrun.agents.near import unknown
from swarmrun.agents.patch import APPLY_PATCH
from swarmrun.agents.roles import RoleSpec
from swarmrun.agents.roles import role as role_named
from swarmrun.agents.tool import Hands, Tool, ToolContext, ToolOutcome
from swarmrun.agents.validate import explain, usage
from swarmrun.errors import NotFound, ToolRejected
from swarmrun.ports import Profile, Sandbox, ToolCall, ToolSpec

TOOLS: dict[str, Tool[Any]] = {
    t.name: t for t in (*files.TOOLS, EDIT_FILE, APPLY_PATCH, *shell.TOOLS, RUN_CHECKS, FINISH)
}
READ_ONLY = frozenset({"read_file", "search", "list_files"})
"""May run side by side with their neighbours in one turn."""
ENDS = frozenset({"finish", "submit_plan"})
"""Handled by the step `finish`, never by `execute`."""
EXECUTABLE = frozenset(TOOLS) | ENDS
"""Every name that something here or the step `finish` answers."""
PREVIEW = 100
"""Characters of a preview."""


def names(role: RoleSpec | str, profile: Profile, *, empty_repository: bool = False) -> tuple[str, ...]:
    """Tools of a role, `edit_file` being what the profile edits with."""
    spec = role if isinstance(role, RoleSpec) else role_named(role)
    if empty_repository and spec.ends_by == "submit_plan":
        return ("submit_plan",)
    return tuple(profile.edit_tool if name == EDIT_FILE.name else name for name in spec.tools)


def specs(role: RoleSpec | str, profile: Profile, *, empty_repository: bool = False) -> list[ToolSpec]:
    """Tools of a role as they are shown to a model. A planner of an empty repository has nothing to read."""
    wanted = names(role, profile, empty_repository=empty_repository)
    return [submit_plan_spec() if name == "submit_plan" else tool(name).spec() for name in wanted]


def tool(name: str) -> Tool[Any]:
    """Raises NotFound naming the nearest."""
    try:
        return TOOLS[name]
    except KeyError:
        raise NotFound(unknown("tool", name, TOOLS)) from None


class ToOwnSandbox(FunctionMiddleware):
    """Routes a call to its agent's sandbox. It must call on: a middleware that answers by itself skips the
    framework's validation of arguments."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands

    async def process(
        self, context: FunctionInvocationContext, call_next: Callable[[], Awaitable[None]]
    ) -> None:
        context.kwargs["hands"] = self._hands
        await call_next()


@lru_cache(maxsize=1)
def function_tools() -> dict[str, FunctionTool]:
    """The framework's tools, by name: its arguments' validation, telemetry and middleware."""
    return {t.name: _function_tool(t) for t in TOOLS.values() if t.body is not None}


def _function_tool(spec: Tool[Any]) -> FunctionTool:
    body = spec.body
    assert body is not None

    async def run(ctx: FunctionInvocationContext, **arguments: Any) -> ToolOutcome:
        try:
            return await body(spec.arguments.model_validate(arguments), ctx.kwargs["hands"])
        except (ToolRejected, NotFound) as exc:
            # Answered here: the framework would log it as a failed function, and it is none.
            return ToolOutcome(_with_next(str(exc)), ok=False)

    # Given as an object: annotations of this module are strings, which the framework need not resolve.
    run.__annotations__["ctx"] = FunctionInvocationContext
    return FunctionTool(name=spec.name, description=spec.description, func=run, input_model=spec.arguments)


async def execute(
    call: ToolCall,
    *,
    sandbox: Sandbox | None,
    key: str,
    context: ToolContext,
    middleware: Sequence[FunctionMiddleware] = (),
) -> ToolOutcome:
    """Carries out one call in the agent's own sandbox.

    What the model can mend becomes text with `ok=False`. SandboxLost and everything that is not the model's
    doing propagates. `sandbox` is None for an agent that has none (the planner of an empty repository): every
    call is told so. `middleware` runs outside of the routing, first one first. Raises ValueError for a call
    that ends the agent: it belongs to the step `finish`.
    """
    shown = preview(call)
    try:
        spec = _checked(call, context)
        if sandbox is None:
            ends = ", ".join(sorted(ENDS & set(names(context.role, context.profile))))
            raise ToolRejected(f"{call.name}: there is no sandbox here, nothing to look at. Call {ends}")
    except (ToolRejected, NotFound) as exc:
        return ToolOutcome(_with_next(str(exc)), ok=False, preview=shown)
    function = function_tools()[spec.name]
    invocation = FunctionInvocationContext(
        function=function, arguments=call.arguments, metadata={"call_id": call.call_id}
    )
    chain = [*middleware, ToOwnSandbox(Hands(sandbox, key, context))]

    async def step(depth: int) -> None:
        if depth < len(chain):
            await chain[depth].process(invocation, lambda: step(depth + 1))
        else:
            invocation.result = await function.invoke(
                context=invocation, tool_call_id=call.call_id, skip_parsing=True
            )

    try:
        await step(0)
    except TypeError as exc:
        # How the framework says that arguments do not fit; any other TypeError is a bug of ours.
        if not isinstance(exc.__cause__, ValidationError):
            raise
        return ToolOutcome(explain(spec, exc.__cause__, call.arguments), ok=False, preview=shown)
    done: ToolOutcome = invocation.result
    return ToolOutcome(done.text, done.ok, done.changed, shown)


def _checked(call: ToolCall, context: ToolContext) -> Tool[Any]:
    """The tool, or what is wrong with the call before any argument is looked at."""
    mine = names(context.role, context.profile)
    if call.name not in mine:
        if call.name in EXECUTABLE:
            raise ToolRejected(f"{call.name} is not for a {context.role.name}; you have {', '.join(mine)}")
        raise NotFound(unknown("tool", call.name, mine))
    if call.problem:
        raise ToolRejected(_broken(call))
    if call.name in ENDS:
        raise ValueError(f"{call.name} ends an agent and is not carried out as a tool")
    return tool(call.name)


def _broken(call: ToolCall) -> str:
    raw = call.raw.strip()
    sent = f" You sent: {raw[:300]}{'…' if len(raw) > 300 else ''}." if raw else ""
    shape = usage(tool(call.name)) if call.name in TOOLS else f"{call.name} with the arguments of its schema"
    return (
        f"{call.name} was not run: {call.problem.rstrip('.')}.{sent} Call it again as {shape}, with arguments that "
        "are one whole JSON object; split what is long into several calls"
    )


def _with_next(text: str) -> str:
    """Errors end with what to do; the bodies say it, this only closes the sentence."""
    return text if text.endswith((".", ")", "?")) else f"{text}."


def preview(call: ToolCall) -> str:
    """One line for people, at most 100 characters: `exec pytest -q`."""
    try:
        details = tool(call.name).preview(call.arguments)
    except NotFound:
        details = json.dumps(call.arguments, ensure_ascii=False) if call.name not in ENDS else ""
    line = " ".join(f"{call.name} {details}".split())
    return line if len(line) <= PREVIEW else line[: PREVIEW - 1] + "…"
