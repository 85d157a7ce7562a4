"""Does this cluster enforce NetworkPolicy? Tried by the chart's test from a Pod under the policy of a sandbox."""

from __future__ import annotations

import asyncio
import subprocess
import time

from swarmrun.findings import Finding
from swarmrun.ports import ExecResult
from swarmrun.sandbox.kubernetes import enforcement

ENFORCED_WITHIN = 20.0
"""Seconds until policies must hold, as for sandboxes."""
FORBIDDEN = ("169.254.169.254:80",)
"""The metadata address; the API server is tried besides."""


async def look() -> list[Finding]:
    """In a Pod that a policy closes both ways, as a sandbox's does."""
    began, clean = time.monotonic(), 0
    line = enforcement.command(FORBIDDEN)
    while True:
        result = await asyncio.to_thread(_shell, line)
        answered = enforcement.answered(result)
        waited = time.monotonic() - began
        if answered is None:
            said = f"the trial did not run: {result.stdout.strip()[-300:]}"
            return [Finding("network policy", "problem", said, "python3 and a shell are needed in the image")]
        # Twice: an address may miss one short trial for reasons of its own.
        clean = 0 if answered else clean + 1
        if clean == 2:
            said = f"enforced: neither API server nor {', '.join(FORBIDDEN)} answer a closed Pod"
            return [Finding("network policy", "ok", said)]
        if answered and waited > ENFORCED_WITHIN:
            return [
                Finding(
                    "network policy",
                    "problem",
                    f"not enforced: {', '.join(answered)} can be reached from a closed Pod after {waited:.0f} s",
                    "a network plug-in that enforces NetworkPolicy; or another policy of this namespace allows it "
                    "(they add up). A class may waive it: spec.pods.waiveNetworkPolicy",
                )
            ]
        await asyncio.sleep(1)


def _shell(line: str) -> ExecResult:
    began = time.monotonic()
    done = subprocess.run(
        ["sh", "-c", line], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30
    )
    return ExecResult(done.returncode, done.stdout, 0, "", time.monotonic() - began)
