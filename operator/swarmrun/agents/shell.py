"""Commands in the sandbox: `exec` and what still runs of it, `process`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from swarmrun.agents.tool import Arguments, Hands, Tool, ToolOutcome
from swarmrun.errors import NotFound, ToolRejected
from swarmrun.ports import ExecResult

CAP = 10_000
"""Characters of output the model sees of one command: the first and the last half."""
ENVIRONMENT = {"PAGER": "cat", "GIT_PAGER": "cat", "COLUMNS": "120", "TERM": "dumb", "NO_COLOR": "1"}
"""No pager may wait for a key, no colours cost tokens."""


class Exec(Arguments):
    command: str = Field(min_length=1, description="Shell command. Standard input is closed.")
    workdir: str = Field(default=".", description="Directory, relative to the repository.")
    timeout_s: float = Field(
        default=120, gt=0, description="Seconds to wait, at most 900; what runs longer goes on as a process."
    )
    background: bool = Field(default=False, description="Do not wait, e.g. for a server.")


async def exec_(arguments: Exec, hands: Hands) -> ToolOutcome:
    if not arguments.command.strip():
        raise ToolRejected("the command is empty; give the shell command to run")
    limit = hands.context.max_exec_seconds
    if arguments.timeout_s > limit:
        raise ToolRejected(
            f"timeout_s={arguments.timeout_s:g} is too long, at most {limit:g}; use background=true and poll"
        )
    try:
        result = await hands.sandbox.exec(
            arguments.command,
            key=hands.key,
            workdir=arguments.workdir,
            timeout_s=arguments.timeout_s,
            env=ENVIRONMENT,
            background=arguments.background,
            cap=CAP,
        )
    except NotFound as exc:
        raise NotFound(exc.message, mend="give a workdir that exists; `.` is the repository") from exc
    return _outcome(result, background=arguments.background)


class Process(Arguments):
    id: str = Field(description="As exec named it, e.g. `p3`.")
    action: Literal["poll", "kill"] = "poll"
    wait_s: float = Field(default=10, ge=0, le=900, description="Seconds to wait for its end (poll).")


async def process(arguments: Process, hands: Hands) -> ToolOutcome:
    try:
        if arguments.action == "kill":
            result = await hands.sandbox.kill(arguments.id)
        else:
            result = await hands.sandbox.poll(arguments.id, wait_s=arguments.wait_s, cap=CAP)
    except NotFound as exc:
        raise NotFound(
            exc.message, mend="processes end with their sandbox; start it again with exec"
        ) from exc
    return _outcome(result, polled=True)


def _outcome(result: ExecResult, *, background: bool = False, polled: bool = False) -> ToolOutcome:
    if result.exit_code is None:
        name = result.process
        if background:
            head = f"started as {name}: poll or kill it with process"
        else:
            verb = "still running" if polled else "still running as"
            head = f"{verb} {'' if polled else name + ' '}after {result.seconds:.0f} s: poll or kill"
    else:
        head = f"exit {result.exit_code} in {result.seconds:.1f} s"
    output = result.stdout.rstrip()
    # The exit code is a finding, not a failure of the tool: `ok` stays true.
    return ToolOutcome(f"{head}\n{output}" if output else f"{head}, no output", changed=True)


TOOLS = (
    Tool(
        "exec",
        "Run a shell command in the repository. Shows its exit code and the first and last 5,000 characters of "
        "its output.",
        Exec,
        exec_,
        lambda a: str(a.get("command", "")),
    ),
    Tool(
        "process",
        "Poll or kill a command that still runs.",
        Process,
        process,
        lambda a: f"{a.get('action', 'poll')} {a.get('id', '')}",
    ),
)
