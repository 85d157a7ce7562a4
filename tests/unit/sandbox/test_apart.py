"""The server's own process is closed to what runs beside it under the same uid. (In a Pod: tests/cluster.)"""

from __future__ import annotations

import asyncio

import pytest

from swarmrun.ports import SandboxSpec
from swarmrun.sandbox import bubblewrap
from swarmrun.sandbox.process import ProcessProvider

REACH_IN = """
import os
def line(pid):
    return open(f"/proc/{pid}/cmdline", "rb").read().split(b"\\0")
server = [p for p in os.listdir("/proc") if p.isdigit() and b"python" in line(p)[0] and b"-I" in line(p)]
print(len(server))
tries = {
    "environ": lambda p: open(f"/proc/{p}/environ").read(),
    "memory": lambda p: open(f"/proc/{p}/mem", "rb"),
    "standard output": lambda p: open(f"/proc/{p}/fd/1", "w"),
    "my own": lambda p: open("/proc/self/environ").read(),
}
for name, attempt in tries.items():
    try:
        attempt(server[0])
        print("done", name)
    except PermissionError:
        print("refused", name)
"""


@pytest.mark.skipif(bool(bubblewrap.usable().problem), reason="no bubblewrap here: as root all is open")
def test_a_command_reads_nothing_of_its_server_and_writes_nothing_into_it(tmp_path):
    async def scenario():
        provider = ProcessProvider(tmp_path, b"k" * 32)
        it = SandboxSpec("run-task-a1-g1", run="run")
        try:
            while (state := await provider.ensure(it)).phase == "Starting":
                pass
            assert state.phase == "Ready", state
            box = await provider.connect(it.id)
            await box.write("p.py", REACH_IN.encode())
            return (await box.exec("python3 p.py")).stdout.splitlines()
        finally:
            await provider.release_run("run")

    assert asyncio.run(scenario()) == [
        "1",
        "refused environ",
        "refused memory",
        "refused standard output",
        "done my own",
    ]
