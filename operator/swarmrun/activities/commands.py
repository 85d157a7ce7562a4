"""Commands of ours in a sandbox: they end, one way or the other."""

from __future__ import annotations

from dataclasses import replace

from swarmrun.ports import ExecResult, Sandbox


async def run_to_end(
    box: Sandbox, command: str, *, timeout_s: float, key: str = "", cap: int = 10_000
) -> ExecResult:
    """A command that is killed with all its children after `timeout_s` seconds (`exec` leaves it running, for
    an agent to poll). Then `timed_out` is set, there is no exit code, and the output is what came until then."""
    done = await box.exec(command, key=key, timeout_s=timeout_s, cap=cap)
    if not done.timed_out or not done.process:
        return done
    killed = await box.kill(done.process)
    return replace(done, process="", stdout=killed.stdout or done.stdout)
